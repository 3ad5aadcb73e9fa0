"""What is measured: pictures with ground truth, and the classes that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovsdino_bench.datasets import adapter_of
from ovsdino_bench.datasets.adapter import Inventory
from ovsdino_bench.folder import LabelledImage, is_unlabelled
from ovsdino_bench.label_maps import ImageWithMap
from ovsdino_runtime.background import BACKGROUND, parse_background
from ovsdino_runtime.class_lists import vocabulary
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.queries import asked_name
from ovsdino_runtime.question import Question
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import Vocabulary

OWN_DATA = "data"  # what reports and files call data that is no benchmark


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Pictures with ground truth, and the classes they are asked for.

    Attributes:
        name: the benchmark's canonical name, or "data".
        source: how a person named it.
        images: pictures with ground truth, in order.
        classes: a benchmark's vocabulary, or names in the order of the places in the ground truth.
        published: how many images figures in the literature are over; 0 where nothing is published.
        left_out: images that lack a file and are not measured.
        values: of own data the names in the order of the label values, those of no class included.
        notes: what is to be known of the images.
    """

    name: str
    source: str
    images: Sequence[LabelledImage]
    classes: Vocabulary | tuple[str, ...]
    published: int = 0
    left_out: int = 0
    values: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_background(self) -> bool:
        """Whether the ground truth has a background, as its last class."""
        return isinstance(self.classes, Vocabulary) and self.classes.has_background

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes' labels in the order of the places in the ground truth."""
        if isinstance(self.classes, Vocabulary):
            names = tuple(query.label for query in self.classes.queries)
            return (*names, BACKGROUND) if self.has_background else names
        return tuple(name.partition("=")[0].strip() for name in self.classes)

    def policy(self, background: str | None) -> str:
        """Return the background policy that is used.

        Args:
            background: as in `parse_background`; None takes the list of common stuff where the
                benchmark has a background, else none.

        Raises:
            DataError: the policy does not go with the benchmark.
            VocabularyError: it makes no sense.
        """
        if background is None:
            return "list" if self.has_background else "none"
        none = parse_background(background).kind == "none"
        if self.has_background and none:
            raise DataError(
                f"{self.name} counts its background, and with --background none nothing could be it; choose "
                "list, threshold:T or names, or measure the benchmark without background"
            )
        if not self.has_background and not none:
            raise DataError(f"{self.name} has no background class; leave out --background {background}")
        return background

    def question(self, segmenter: Segmenter, background: str | None = None) -> Question:
        """Prepare the classes.

        Args:
            segmenter: holds the text embeddings.
            background: see `policy`.

        Raises:
            VocabularyError: a name is unknown, or the policy makes no sense.
            DataError: the policy does not go with the benchmark.
        """
        question = segmenter.ask(self.classes, self.policy(background))
        if len(question.names) != len(self.labels):
            raise ValueError(f"{len(question.names)} names for the {len(self.labels)} labels of {self.name}")
        return question


def open_benchmark(name: str, folder: Path, *, partial: bool = False) -> Benchmark:
    """Return a benchmark from the folder in which it was unpacked.

    Args:
        name: its name, in any spelling.
        folder: where it lies.
        partial: whether what is there is measured although something is missing.

    Raises:
        DataError: there is no such benchmark, the folder holds something else, or something is missing.
    """
    adapter = adapter_of(name)
    root = adapter.root(folder)
    inventory = Inventory.take(adapter, root)
    lacks = inventory.lacks(adapter, root)
    if lacks is not None and not (partial and inventory.complete):
        made = (
            f"; `ovsdino-bench prepare {adapter.name} {folder}` makes label maps from {adapter.raw}"
            if adapter.raw and inventory.without_labels
            else ""
        )
        rest = "; --partial measures what is there" if inventory.complete else ""
        raise DataError(f"{lacks}; {root} should hold {adapter.expected}{made}{rest}")
    return Benchmark(
        name=adapter.name,
        source=str(folder),
        images=tuple(
            ImageWithMap(image=item.image, labels=item.labels, table=adapter.table)
            for item in inventory.complete
        ),
        classes=vocabulary(adapter.name),
        published=len(inventory.complete)
        if len(inventory.complete) in adapter.published
        else adapter.published[0],
        left_out=inventory.incomplete,
    )


def own_data(
    source: str,
    images: Sequence[LabelledImage],
    names: Sequence[str],
    left_out: int = 0,
    notes: Sequence[str] = (),
) -> Benchmark:
    """Return pictures of one's own as something to measure.

    Args:
        source: how a person named them.
        images: pictures with ground truth.
        names: in the order of the label values; `label=prompt|prompt`, `-` for values without a class.
        left_out: images that lack a file and are not among them.
        notes: what is to be known of the images.

    Raises:
        DataError: a class is called background.
    """
    classes = tuple(name for name in names if not is_unlabelled(name))
    if any(asked_name(name).lower() == BACKGROUND for name in classes):
        raise DataError(
            f"{source} has a class called {BACKGROUND!r}, which is no thing to look for; write - for its "
            "value, and it is not measured, or name what it shows, as in rest=sky|wall"
        )
    return Benchmark(
        name=OWN_DATA,
        source=source,
        images=images,
        classes=classes,
        left_out=left_out,
        values=tuple(names),
        notes=tuple(notes),
    )
