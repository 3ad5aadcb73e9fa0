"""Labelled pictures: a folder of pictures and label PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ovsdino_bench.datasets.adapter import Files, Inventory, by_stem, contents
from ovsdino_bench.label_maps import ImageWithMap, LabelTable, places_of
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.inputs import pictures_by_stem
from ovsdino_runtime.queries import asked_name

UNLABELLED = "-"
_MOST_NAMES = 255  # values of 8 bits but 255, which is unlabelled


class LabelledImage(Protocol):
    """One picture and its ground truth."""

    @property
    def image(self) -> Path:
        """The picture's file."""

    def truth(self) -> NDArray[np.uint8]:
        """Return the label map, uint8 [H, W]: places among the classes that count, 255 for unlabelled.

        Raises:
            DataError: it cannot be read.
        """


def labelled_folder(folder: Path, classes: Sequence[str]) -> tuple[ImageWithMap, ...]:
    """Return the pictures of a complete folder; see `open_folder`."""
    return open_folder(folder, classes)[0]


def open_folder(
    folder: Path, classes: Sequence[str], *, partial: bool = False
) -> tuple[tuple[ImageWithMap, ...], int]:
    """Return the pictures of `folder/images` with their labels in `folder/labels`, and how many lack one.

    Args:
        folder: holds `images/` and `labels/`; a label has its picture's name and ends in .png. Hidden
            files are passed over.
        classes: the names, in the order of the label values; `-` for values that are unlabelled.
        partial: whether what is there is measured although pictures or labels are missing.

    Raises:
        DataError: a folder, a picture or a label is missing, or there are too many names.
    """
    if len(classes) > _MOST_NAMES:
        raise DataError(f"{len(classes)} names for labels of 8 bits; at most {_MOST_NAMES} can be told apart")
    images, labels = folder / "images", folder / "labels"
    for needed in (images, labels):
        if not needed.is_dir():
            raise DataError(f"{folder} has no {needed.name}/ folder; expected images/ and labels/ in it")
    found = pictures_by_stem(images)
    lone = [path for stem, path in by_stem(contents(labels), ".png").items() if stem not in found]
    inventory = Inventory.of(
        [
            *(Files(image=path, labels=labels / f"{path.stem}.png") for path in found.values()),
            *(Files(image=images / path.name, labels=path) for path in lone),
        ]
    )
    missing = inventory.missing(folder)
    if missing and not (partial and inventory.complete):
        rest = "; --partial measures what is there" if inventory.complete else ""
        raise DataError(f"{folder} is not complete: {'; '.join(missing)}{rest}")
    places = places_of([not is_unlabelled(name) for name in classes])
    table = LabelTable.of(
        {value: int(places[value]) for value in range(len(classes))},
        f"there are names for 0 to {len(classes) - 1} and 255 is unlabelled; name all values, "
        f"{UNLABELLED} for those that are unlabelled too",
    )
    complete = (
        ImageWithMap(image=item.image, labels=item.labels, table=table) for item in inventory.complete
    )
    return tuple(complete), inventory.incomplete


def is_unlabelled(name: str) -> bool:
    """Return whether a name of a data set says that its value is unlabelled: `-`, or `label=-`."""
    return asked_name(name) == UNLABELLED
