"""A data set as a folder of pictures, label PNGs and class names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovsdino_runtime.errors import DataError
from ovsdino_runtime.metrics import IGNORE

_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One picture and its ground truth.

    Attributes:
        image: the picture's file.
        labels: the label PNG; its values are indices into the classes.
        classes: number of classes.
    """

    image: Path
    labels: Path
    classes: int

    def truth(self) -> NDArray[np.uint8]:
        """Return the label map, uint8 [H, W].

        255 is ignored, and so is the first value after the classes, which data sets like CamVid use for
        "unlabelled".

        Raises:
            DataError: the file cannot be read, is no index map, or holds another value.
        """
        try:
            with Image.open(self.labels) as picture:
                values = np.array(picture)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"cannot read the labels {self.labels}: {error}") from error
        if values.ndim != 2 or values.dtype != np.uint8:
            raise DataError(f"{self.labels} is no 8-bit index map: it is {values.dtype} {values.shape}")
        values = np.where(values == self.classes, np.uint8(IGNORE), values)
        outside = (values != IGNORE) & (values > self.classes)
        if outside.any():
            raise DataError(
                f"{self.labels} holds the value {int(values[outside][0])}, "
                f"but there are {self.classes} classes and 255 for ignore"
            )
        return np.asarray(values, dtype=np.uint8)


def labelled_folder(folder: Path, classes: Sequence[str]) -> tuple[LabelledImage, ...]:
    """Return the pictures of `folder/images` with their labels in `folder/labels`, by name.

    Args:
        folder: holds `images/` and `labels/`; a label has its picture's name and ends in .png.
        classes: the classes, in the order of the label values.

    Raises:
        DataError: a folder or a label is missing, or there is no picture.
    """
    images, labels = folder / "images", folder / "labels"
    for needed in (images, labels):
        if not needed.is_dir():
            raise DataError(f"{folder} has no {needed.name}/ folder; expected images/ and labels/ in it")
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in _PICTURES)
    if not found:
        raise DataError(f"{images} holds no pictures ({', '.join(sorted(_PICTURES))})")
    missing = [path.name for path in found if not (labels / f"{path.stem}.png").is_file()]
    if missing:
        raise DataError(
            f"{labels} lacks the labels of {len(missing)} of {len(found)} pictures: {missing[0]}, …"
        )
    return tuple(
        LabelledImage(image=path, labels=labels / f"{path.stem}.png", classes=len(classes)) for path in found
    )
