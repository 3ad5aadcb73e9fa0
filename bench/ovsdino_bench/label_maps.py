"""Label PNGs, and what their values mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovsdino_runtime.errors import DataError
from ovsdino_runtime.metrics import IGNORE

LabelMap = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """What the values of label PNGs stand for.

    Attributes:
        places: uint8 [256], what each value becomes; 255 is unlabelled.
        known: bool [256], whether the value may occur.
        expected: what may occur, as the second half of a sentence for an error.
    """

    places: LabelMap
    known: NDArray[np.bool_]
    expected: str

    @classmethod
    def of(cls, places: Mapping[int, int], expected: str) -> LabelTable:
        """Return the table in which each value becomes its place; 255 stays unless it has one too."""
        table = np.full(256, IGNORE, dtype=np.uint8)
        known = np.zeros(256, dtype=np.bool_)
        for value, place in {IGNORE: IGNORE, **places}.items():
            table[value], known[value] = place, True
        return cls(places=table, known=known, expected=expected)

    def apply(self, values: LabelMap, where: Path) -> LabelMap:
        """Return the label map with every value at its place, uint8 [H, W].

        Args:
            values: uint8 [H, W].
            where: the file they are from.

        Raises:
            DataError: a value may not occur.
        """
        outside = np.flatnonzero(~self.known & (np.bincount(values.ravel(), minlength=256) > 0))
        if outside.size:
            raise DataError(f"{where} holds the value {outside[0]}, but {self.expected}")
        return self.places[values]


@dataclass(frozen=True, kw_only=True)
class ImageWithMap:
    """One picture and its label PNG.

    Attributes:
        image: the picture's file.
        labels: the label PNG.
        table: what its values mean.
    """

    image: Path
    labels: Path
    table: LabelTable

    def truth(self) -> LabelMap:
        """Return the label map, uint8 [H, W]: places among the classes that count, 255 for unlabelled.

        Raises:
            DataError: the file cannot be read, is no index map, or holds a value that may not occur.
        """
        return self.table.apply(read_label_map(self.labels), self.labels)


def read_label_map(path: Path) -> LabelMap:
    """Return the numbers in a label PNG, uint8 [H, W]; of a palette picture the indices.

    Raises:
        DataError: the file cannot be read or is no 8-bit index map.
    """
    try:
        with Image.open(path) as picture:
            values = np.array(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the labels {path}: {error}") from error
    if values.ndim != 2 or values.dtype != np.uint8:
        raise DataError(f"{path} is no 8-bit index map: it is {values.dtype} {values.shape}")
    return values


def places_of(counted: Sequence[bool]) -> LabelMap:
    """Return the place of each index among those that count, uint8 [256]; 255 for all others."""
    places = np.full(256, IGNORE, dtype=np.uint8)
    places[: len(counted)][list(counted)] = np.arange(sum(counted))
    return places
