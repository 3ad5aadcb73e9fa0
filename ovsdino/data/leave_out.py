"""Names left out of a training, so that they test what the model makes of words it never learned."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ovsdino.data.labels import Labels
from ovsdino.data.samples import Sample, Source
from ovsdino_runtime.errors import DataError, VocabularyError
from ovsdino_runtime.vocabulary import resolve


def leave_out(
    sources: Sequence[Source], names: Sequence[str], known: Collection[str], *, open_vocabulary: bool
) -> tuple[Source, ...]:
    """Return data sets without some classes.

    Ours: of masks of objects, every image that shows one of the classes is left out. In label maps, where
    nearly every image may show them, their pixels become unlabelled.

    Args:
        sources: the data sets.
        names: the classes, as `--classes` takes them.
        known: names that have an embedding.
        open_vocabulary: whether any name can be embedded.

    Raises:
        DataError: a class is in no data set, every image of one would go, or labels are broken.
        VocabularyError: a name is unknown.
    """
    asked = {
        query.label: frozenset(query.prompts)
        for query in resolve(names, known, open_vocabulary=open_vocabulary).queries
    }
    unwanted = frozenset[str]().union(*asked.values())
    found: set[str] = set()
    remaining = []
    for source in sources:
        prompts = [_prompts(name, known, open_vocabulary) for name in source.names]
        gone = frozenset(index for index, group in enumerate(prompts) if group & unwanted)
        found |= frozenset[str]().union(*(prompts[index] for index in gone))
        remaining.append(_without(source, gone))
    missing = sorted(label for label, group in asked.items() if not group & found)
    if missing:
        raise DataError(
            f"{missing[0]!r} should be left out, but no data set has it; name classes of the data"
        )
    return tuple(remaining)


def read_labels(sample: Sample) -> Labels:
    """Return a sample's labels without decoding its photograph.

    Raises:
        DataError: image or labels cannot be read.
    """
    return sample.labels(_upright_size(sample.image))


def _without(source: Source, gone: frozenset[int]) -> Source:
    if not gone:
        return source
    names = tuple("-" if index in gone else name for index, name in enumerate(source.names))
    if source.dense:
        return replace(source, names=names)
    bar = tqdm(source.samples, "looking for left-out names", unit="image", leave=False, delay=1)
    kept = tuple(sample for sample in bar if gone.isdisjoint(sample.shown()))
    if not kept:
        raise DataError(f"every image of {source.spec} shows a name that is left out; leave out fewer")
    note = f"{source.spec}: {len(source.samples) - len(kept)} images show names that are left out"
    return replace(source, names=names, samples=kept, notes=(*source.notes, note))


def _prompts(name: str, known: Collection[str], open_vocabulary: bool) -> frozenset[str]:
    """Return what a data set's name asks the text encoder for; nothing for what is no class."""
    try:
        return frozenset(resolve([name], known, open_vocabulary=open_vocabulary).queries[0].prompts)
    except VocabularyError:  # refused, with the data set's name, where the classes are put together
        return frozenset()


def _upright_size(path: Path) -> tuple[int, int]:
    """Return height and width after EXIF orientation."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return (width, height) if turned else (height, width)
