"""What `--data` takes: `coco:JSON:IMAGES`, `folder:DIR:NAMES`, `yolo:DIR`, and how a part is held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ovsdino.data.coco import read_coco
from ovsdino.data.folder import read_folder
from ovsdino.data.samples import Source
from ovsdino.data.yolo import YOLO_NAMES, read_yolo
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.queries import parse_classes, parse_value_names, read_classes_file, read_value_names
from ovsdino_runtime.vocabulary import vocabulary

GRAMMAR = "coco:JSON:IMAGES[:NAMES], folder:DIR:NAMES or yolo:DIR[:NAMES]"


def read_source(spec: str) -> Source:
    """Return the data that a specification names.

    `coco:JSON:IMAGES[:NAMES]` is an instance JSON and its images; NAMES may give `label=prompt`
    for some of its categories. `folder:DIR:NAMES` is DIR/images and DIR/labels (PNG); NAMES are the
    classes by pixel value. `yolo:DIR[:NAMES]` is DIR/images and DIR/labels (text); NAMES are those of
    a classes.txt there by default, or COCO's 80. NAMES is a file with a name a line, or names with
    commas between; `label=prompt` asks the text encoder for another name (`bicyclist=rider`), `-` makes
    a class unlabelled, and `background` is no class but known to be none of the others.

    Raises:
        DataError: the specification, or what it names, is not as it should be.
        VocabularyError: the names are no class list.
    """
    kind, *fields = spec.split(":")
    least, most = {"coco": (2, 3), "folder": (2, 2), "yolo": (1, 2)}.get(kind, (0, -1))
    if not least <= len(fields) <= most or not all(fields):
        raise DataError(f"{spec!r} is no data specification; write {GRAMMAR}")
    if kind == "coco":
        return read_coco(Path(fields[0]), Path(fields[1]), _names(fields[2]) if len(fields) == 3 else ())
    if kind == "folder":
        return read_folder(Path(fields[0]), _names(fields[1], by_value=True))
    folder = Path(fields[0])
    return _yolo(folder, _names(fields[1], by_value=True) if len(fields) == 2 else None)


def _yolo(folder: Path, names: tuple[str, ...] | None) -> Source:
    """Return YOLO's data; where nobody gave names, a note says which are taken."""
    if names is not None:
        return read_yolo(folder, names)
    lists = (folder / "labels" / YOLO_NAMES, folder / YOLO_NAMES)
    listed = next((path for path in lists if path.is_file()), None)
    source = read_yolo(folder, coco_names() if listed is None else read_value_names(listed))
    taken = "COCO's 80, in their order" if listed is None else f"those in {listed}"
    note = f"{source.spec}: the names are {taken}; others go behind it, as in yolo:DIR:NAMES"
    return replace(source, notes=(*source.notes, note))


def coco_names() -> tuple[str, ...]:
    """Return COCO's 80 object names in the order of their indices."""
    return tuple(query.label for query in vocabulary("coco_object").queries)


def held_out(samples: int, fraction: float, blocks: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices to train on and those held out.

    Ours: `blocks` runs of neighbours, evenly spread, are held out. Neighbouring frames of a video are
    nearly equal, so single frames held out at random would be known from training.

    Args:
        samples: how many there are.
        fraction: share to hold out, in [0, 1); above 0 at least one sample is held out.
        blocks: number of runs.

    Raises:
        DataError: nothing would be left to train on.
    """
    wanted = min(samples, max(1, round(samples * fraction))) if fraction > 0 else 0
    if wanted >= samples:
        raise DataError(f"{samples} images leave none to train on when {wanted} are held out; give more")
    fewer = _runs(samples, min(wanted, samples - wanted), blocks)
    others = tuple(index for index in range(samples) if index not in fewer)
    few = tuple(sorted(fewer))
    return (others, few) if len(few) == wanted else (few, others)


def _runs(samples: int, wanted: int, blocks: int) -> frozenset[int]:
    """Return runs of neighbours, evenly spread: at most half of all, so that each fits into its part."""
    blocks = min(blocks, wanted)
    found: set[int] = set()
    for block in range(blocks):
        length = wanted // blocks + (block < wanted % blocks)
        # The middle of the block-th part of the list, so that the runs lie apart.
        start, stop = (np.array((block, block + 1)) * samples) // blocks
        first = int(start + (stop - start - length) // 2)
        found.update(range(first, first + length))
    return frozenset(found)


def _names(text: str, *, by_value: bool = False) -> tuple[str, ...]:
    path = Path(text)
    if "," not in text and path.is_file():
        return read_value_names(path) if by_value else read_classes_file(path)
    if "," not in text and ("/" in text or path.suffix):
        raise DataError(f"no file of class names at {text}")
    return parse_value_names(text) if by_value else parse_classes(text)
