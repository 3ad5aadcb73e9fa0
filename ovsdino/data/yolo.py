"""Data as YOLO's polygon text: a line an instance, class index and points relative to the image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsdino.data.labels import Labels, Mask, labels_of_masks
from ovsdino.data.polygons import polygon_mask
from ovsdino.data.samples import Source, file_bytes
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.inputs import pictures_by_stem

YOLO_NAMES = "classes.txt"  # what annotation tools list the names in
_SLACK = 0.01  # how far outside the image a point may lie, relative to its side; it is clipped


@dataclass(frozen=True)
class YoloSample:
    """A photograph and its text file; without one, the photograph shows no object."""

    image: Path
    label: Path | None
    classes: int

    def labels(self, size_hw: tuple[int, int]) -> Labels:
        """Return the labels.

        Raises:
            DataError: a line is no polygon, or of a class without name.
        """
        masks = [self._instance(line, number, size_hw) for number, line in self._lines()]
        return labels_of_masks(masks, np.zeros(size_hw, dtype=np.bool_))

    def shown(self) -> frozenset[int]:
        """Return the classes of the file's lines.

        Raises:
            DataError: a line is no polygon, or of a class without name.
        """
        return frozenset(self._parsed(line, number)[0] for number, line in self._lines())

    def content(self) -> Iterable[bytes]:
        """Yield the bytes of both files."""
        yield file_bytes(self.image)
        yield file_bytes(self.label) if self.label else b""

    def _lines(self) -> list[tuple[int, str]]:
        text = file_bytes(self.label).decode("utf-8", "replace") if self.label else ""
        return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]

    def _instance(self, line: str, number: int, size_hw: tuple[int, int]) -> tuple[int, Mask]:
        index, points = self._parsed(line, number)
        scale = np.tile((size_hw[1], size_hw[0]), len(points) // 2)
        return index, polygon_mask([np.clip(points, 0, 1) * scale], size_hw)

    def _parsed(self, line: str, number: int) -> tuple[int, NDArray[np.float64]]:
        """Return class and coordinates of a line."""
        where = f"{self.label} line {number}"
        words = line.split()
        try:
            index, points = int(words[0]), np.array(words[1:], dtype=np.float64)
        except ValueError as error:
            raise DataError(f"{where} is not a class index and numbers: {line[:40]!r}") from error
        if not 0 <= index < self.classes:
            raise DataError(f"{where} names class {index}, but there are {self.classes} class names")
        if len(points) == 4:
            raise DataError(f"{where} is a box, not a polygon; segmentation needs polygon labels")
        if len(points) < 6 or len(points) % 2:
            raise DataError(f"{where} has {len(points)} coordinates; a polygon needs three points or more")
        if not np.all((points >= -_SLACK) & (points <= 1 + _SLACK)):
            raise DataError(f"{where} has a coordinate outside 0..1; YOLO's are relative to the image")
        return index, points


def read_yolo(folder: Path, names: tuple[str, ...]) -> Source:
    """Return the data of `folder/images` and `folder/labels`, paired by the stems of their names.

    As is YOLO's habit, an image without a text file shows no object, and a text file without an image
    is left out; the source's notes name both.

    Args:
        folder: holds both folders.
        names: class names, by index.

    Raises:
        DataError: a folder is missing or empty, or no label has an image.
    """
    images = pictures_by_stem(folder / "images")
    label_folder = folder / "labels"
    if not label_folder.is_dir():
        raise DataError(f"no folder {label_folder}; YOLO's text files belong there, named as their images")
    labels = {path.stem: path for path in sorted(label_folder.glob("*.txt")) if path.name != YOLO_NAMES}
    if not set(labels) & set(images):
        raise DataError(f"{label_folder} holds no .txt file named as an image; YOLO's polygons belong there")
    samples = tuple(YoloSample(path, labels.get(stem), len(names)) for stem, path in images.items())
    bare = [path.name for stem, path in images.items() if stem not in labels]
    lost = [path.name for stem, path in labels.items() if stem not in images]
    notes = []
    if bare:
        notes.append(f"{folder}: {_listed(bare)} without a text file, taken as showing no object")
    if lost:
        notes.append(f"{folder}: {_listed(lost)} without an image, left out")
    return Source(f"yolo:{folder}", names, samples, tuple(notes))


def _listed(names: list[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more are"
