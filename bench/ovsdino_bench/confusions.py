"""Confusion counts of many images, kept sparse: of 171 x 171 pairs of classes an image has a few hundred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ClassSums:
    """What mIoU needs of the confusions, by image and class.

    Attributes:
        right: pixels of the class that were found, int64 [N, C].
        true: pixels of the class, int64 [N, C].
        found: pixels taken for the class, int64 [N, C].
    """

    right: Counts
    true: Counts
    found: Counts

    @classmethod
    def of(cls, counts: Counts) -> ClassSums:
        """Return the sums of dense counts by image and (true, predicted) class, int64 [N, C, C]."""
        return cls(
            right=np.diagonal(counts, axis1=1, axis2=2), true=counts.sum(axis=2), found=counts.sum(axis=1)
        )


@dataclass(frozen=True, kw_only=True)
class Confusions:
    """Pixels by image and (true, predicted) class.

    Attributes:
        images: N, the number of images.
        classes: C, the number of classes.
        entries: int64 [K, 4], one row for each count above zero: image, true class, predicted class,
            pixels.
    """

    images: int
    classes: int
    entries: Counts

    def __post_init__(self) -> None:
        """Refuse entries that name an image or a class that there is not.

        Raises:
            ValueError: they do.
        """
        if self.entries.ndim != 2 or self.entries.shape[1] != 4 or self.entries.dtype != np.int64:
            raise ValueError(
                f"entries of {self.entries.dtype} {self.entries.shape}; they must be int64 [K, 4]"
            )
        ends = np.array([self.images, self.classes, self.classes])
        if (self.entries < 0).any() or (self.entries[:, :3] >= ends).any():
            raise ValueError(f"an entry lies outside {self.images} images and {self.classes} classes")

    @classmethod
    def of(cls, counts: Counts) -> Confusions:
        """Return dense counts, int64 [N, C, C], in this form."""
        image, true, found = np.nonzero(counts)
        entries = np.stack([image, true, found, counts[image, true, found]], axis=1).astype(np.int64)
        return cls(images=len(counts), classes=counts.shape[1], entries=entries)

    @classmethod
    def of_images(cls, parts: Sequence[Counts], classes: int) -> Confusions:
        """Return the counts of several images.

        Args:
            parts: for each image int64 [k, 3]: true class, predicted class, pixels.
            classes: number of classes.
        """
        rows = [np.insert(part, 0, number, axis=1) for number, part in enumerate(parts)]
        entries = np.concatenate([np.zeros((0, 4), dtype=np.int64), *rows])
        return cls(images=len(parts), classes=classes, entries=entries)

    def dense(self) -> Counts:
        """Return the counts by image, int64 [N, C, C]; large for many classes."""
        counts = np.zeros((self.images, self.classes, self.classes), dtype=np.int64)
        image, true, found, pixels = self.entries.T
        np.add.at(counts, (image, true, found), pixels)
        return counts

    def total(self) -> Counts:
        """Return the counts over all images, int64 [C, C]."""
        counts = np.zeros((self.classes, self.classes), dtype=np.int64)
        _, true, found, pixels = self.entries.T
        np.add.at(counts, (true, found), pixels)
        return counts

    def sums(self) -> ClassSums:
        """Return what mIoU needs of them."""
        image, true, found, pixels = self.entries.T
        right, by_true, by_found = (np.zeros((self.images, self.classes), dtype=np.int64) for _ in range(3))
        np.add.at(by_true, (image, true), pixels)
        np.add.at(by_found, (image, found), pixels)
        same = true == found
        np.add.at(right, (image[same], true[same]), pixels[same])
        return ClassSums(right=right, true=by_true, found=by_found)


def entries_of(counts: Counts) -> Counts:
    """Return one image's counts above zero, int64 [k, 3]: true class, predicted class, pixels.

    Args:
        counts: int64 [C, C].
    """
    true, found = np.nonzero(counts)
    return np.stack([true, found, counts[true, found]], axis=1).astype(np.int64)
