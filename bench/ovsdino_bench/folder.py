"""Labelled pictures: a folder of pictures and label PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovsdino_runtime.errors import DataError
from ovsdino_runtime.inputs import PICTURE_SUFFIXES
from ovsdino_runtime.metrics import IGNORE

UNLABELLED = "-"


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


@dataclass(frozen=True, kw_only=True)
class ImageWithMap:
    """One picture and its label PNG.

    Attributes:
        image: the picture's file.
        labels: the label PNG; its values are indices into the names.
        counted: for each name whether it is a class; the others are unlabelled.
    """

    image: Path
    labels: Path
    counted: tuple[bool, ...]

    def truth(self) -> NDArray[np.uint8]:
        """Return the label map, uint8 [H, W]: places among the classes that count, 255 for unlabelled.

        Raises:
            DataError: the file cannot be read, is no index map, or holds a value without a name.
        """
        try:
            with Image.open(self.labels) as picture:
                values = np.array(picture)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"cannot read the labels {self.labels}: {error}") from error
        if values.ndim != 2 or values.dtype != np.uint8:
            raise DataError(f"{self.labels} is no 8-bit index map: it is {values.dtype} {values.shape}")
        names = len(self.counted)
        outside = (values != IGNORE) & (values >= names)
        if outside.any():
            raise DataError(
                f"{self.labels} holds the value {int(values[outside][0])}, but there are names for 0 to "
                f"{names - 1} and 255 is unlabelled; name all values, - for those that are unlabelled too"
            )
        truth: NDArray[np.uint8] = places_of(self.counted)[values]
        return truth


def places_of(counted: Sequence[bool]) -> NDArray[np.uint8]:
    """Return the place of each index among those that count, uint8 [256]; 255 for all others."""
    places = np.full(256, IGNORE, dtype=np.uint8)
    places[: len(counted)][list(counted)] = np.arange(sum(counted))
    return places


def labelled_folder(folder: Path, classes: Sequence[str]) -> tuple[ImageWithMap, ...]:
    """Return the pictures of `folder/images` with their labels in `folder/labels`, by name.

    Args:
        folder: holds `images/` and `labels/`; a label has its picture's name and ends in .png.
        classes: the names, in the order of the label values; `-` for values that are unlabelled.

    Raises:
        DataError: a folder or a label is missing, or there is no picture.
    """
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
    counted = tuple(name != UNLABELLED for name in classes)
    return tuple(
        ImageWithMap(image=path, labels=labels / f"{path.stem}.png", counted=counted) for path in found
    )
