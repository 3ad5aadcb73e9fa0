"""Labelled pictures: a folder of pictures and label PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ovsdino_bench.label_maps import ImageWithMap, LabelTable, places_of
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.inputs import PICTURE_SUFFIXES

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
    """Return the pictures of `folder/images` with their labels in `folder/labels`, by name.

    Args:
        folder: holds `images/` and `labels/`; a label has its picture's name and ends in .png.
        classes: the names, in the order of the label values; `-` for values that are unlabelled.

    Raises:
        DataError: a folder or a label is missing, there is no picture, or there are too many names.
    """
    if len(classes) > _MOST_NAMES:
        raise DataError(f"{len(classes)} names for labels of 8 bits; at most {_MOST_NAMES} can be told apart")
    images, labels = folder / "images", folder / "labels"
    for needed in (images, labels):
        if not needed.is_dir():
            raise DataError(f"{folder} has no {needed.name}/ folder; expected images/ and labels/ in it")
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not found:
        raise DataError(f"{images} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    missing = [path.name for path in found if not (labels / f"{path.stem}.png").is_file()]
    if missing:
        raise DataError(
            f"{labels} lacks the labels of {len(missing)} of {len(found)} pictures: {missing[0]}, …"
        )
    places = places_of([name != UNLABELLED for name in classes])
    table = LabelTable.of(
        {value: int(places[value]) for value in range(len(classes))},
        f"there are names for 0 to {len(classes) - 1} and 255 is unlabelled; name all values, "
        f"{UNLABELLED} for those that are unlabelled too",
    )
    return tuple(ImageWithMap(image=path, labels=labels / f"{path.stem}.png", table=table) for path in found)
