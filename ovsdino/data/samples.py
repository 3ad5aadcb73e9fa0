"""Photographs with labels, whatever layout they are stored in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ovsdino.data.labels import Labels
from ovsdino_runtime.errors import DataError, ImageError
from ovsdino_runtime.preprocess import load_image


class Sample(Protocol):
    """One photograph and the means to read its labels."""

    @property
    def image(self) -> Path:
        """The photograph."""

    def labels(self, size_hw: tuple[int, int]) -> Labels:
        """Return the labels.

        Args:
            size_hw: the photograph's height and width.

        Raises:
            DataError: the labels are missing, broken, or of another size.
        """

    def shown(self) -> frozenset[int]:
        """Return the indices of the classes that the labels hold, without drawing them.

        Raises:
            DataError: the labels are missing or broken.
        """

    def content(self) -> Iterable[bytes]:
        """Yield what the photograph and its labels consist of, to recognise changed data."""


@dataclass(frozen=True)
class Source:
    """A data set in one place.

    Attributes:
        spec: what it was asked for by.
        names: class names by index, as the data set gives them; `label=prompt` asks the text
            encoder for something else than the label, `-` makes a class unlabelled, `background`
            is known to be none of the others.
        samples: photographs in a fixed order, in which neighbours may be frames of one video.
        notes: what the person who trains should know about it.
        dense: whether every pixel has a class, as in label maps; False for the masks of some objects.
    """

    spec: str
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    dense: bool = False


def read_sample(sample: Sample) -> tuple[NDArray[np.uint8], Labels]:
    """Return a photograph, uint8 [H, W, 3] RGB, and its labels.

    Raises:
        DataError: one of them cannot be read, or they differ in size.
    """
    try:
        image = load_image(sample.image)
    except ImageError as error:
        raise DataError(f"training image: {error}") from error
    size = (image.shape[0], image.shape[1])
    return image, sample.labels(size)


def file_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
