"""Data as a folder of images and a folder of label PNGs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovsdino.data.labels import Labels, labels_of_map
from ovsdino.data.samples import Source, file_bytes
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.inputs import pictures_by_stem
from ovsdino_runtime.metrics import IGNORE
from ovsdino_runtime.queries import asked_name

_INDEX_MODES = ("L", "P", "I", "I;16", "1")


@dataclass(frozen=True)
class FolderSample:
    """A photograph and a label PNG whose pixel values are class indices."""

    image: Path
    label: Path
    classes: int

    def labels(self, size_hw: tuple[int, int]) -> Labels:
        """Return the labels; 255 means "unlabelled".

        Raises:
            DataError: the PNG is unreadable, in colour, of another size than the photograph, or holds
                a value without a name.
        """
        values = self._values()
        if values.shape != size_hw:
            raise DataError(
                f"{self.label} is {values.shape[1]}x{values.shape[0]} px, but {self.image.name} is "
                f"{size_hw[1]}x{size_hw[0]}; a label must be as large as its image"
            )
        index_map = values.astype(np.int64)
        try:
            return labels_of_map(index_map, self.classes)
        except ValueError as error:
            raise DataError(
                f"{self.label}: {error}, but there are names for 0 to {self.classes - 1} and 255 is "
                "unlabelled; name all values, - for those that are unlabelled too"
            ) from error

    def shown(self) -> frozenset[int]:
        """Return the class indices among the PNG's values.

        Raises:
            DataError: the PNG is unreadable or in colour.
        """
        return frozenset(int(value) for value in np.unique(self._values()) if value < self.classes)

    def _values(self) -> NDArray[np.generic]:
        try:
            with Image.open(self.label) as opened:
                if opened.mode not in _INDEX_MODES:
                    raise DataError(
                        f"{self.label} is a {opened.mode} image, but a label holds one class index per "
                        "pixel; save it with one 8- or 16-bit channel"
                    )
                return np.asarray(opened)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"cannot read the label {self.label}: {error}") from error

    def content(self) -> Iterable[bytes]:
        """Yield the bytes of both files."""
        yield file_bytes(self.image)
        yield file_bytes(self.label)


def read_folder(folder: Path, names: tuple[str, ...]) -> Source:
    """Return the data of `folder/images` and `folder/labels`, paired by the stems of their names.

    Args:
        folder: holds both folders.
        names: class names, by pixel value.

    Raises:
        DataError: a folder is missing or empty, a file has no partner, or a class has the value 255.
    """
    if len(names) > IGNORE and asked_name(names[IGNORE]) != "-":
        raise DataError(
            f"{folder}: the value {IGNORE} is unlabelled, but it is called {names[IGNORE]!r}; "
            "put - in that place"
        )
    images = pictures_by_stem(folder / "images")
    label_folder = folder / "labels"
    if not label_folder.is_dir():
        raise DataError(f"no folder {label_folder}; label PNGs belong there, named as their images")
    labels = {
        path.stem: path
        for path in sorted(label_folder.iterdir())
        if path.suffix.lower() == ".png" and not path.name.startswith(".")
    }
    for stem, path in images.items():
        if stem not in labels:
            raise DataError(f"{path} has no label: {label_folder / (stem + '.png')} is missing")
    for stem, path in labels.items():
        if stem not in images:
            raise DataError(f"{path} has no image of that name in {folder / 'images'}")
    samples = tuple(FolderSample(path, labels[stem], len(names)) for stem, path in images.items())
    return Source(f"folder:{folder}", names, samples, dense=True)
