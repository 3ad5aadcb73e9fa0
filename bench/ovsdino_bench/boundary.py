"""How well predicted boundaries lie on true ones: the boundary F-score, by class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.metrics import IGNORE

TOLERANCE = 0.0075  # of the image's diagonal: 4.5 px at 480 x 360
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class BoundaryCounts:
    """Boundary pixels by class; they add over images.

    Attributes:
        found: pixels of predicted boundaries, int64 [C].
        found_right: those of them within the tolerance of a true boundary, int64 [C].
        true: pixels of true boundaries, int64 [C].
        true_met: those of them within the tolerance of a predicted boundary, int64 [C].
    """

    found: NDArray[np.int64]
    found_right: NDArray[np.int64]
    true: NDArray[np.int64]
    true_met: NDArray[np.int64]

    @classmethod
    def none(cls, classes: int) -> BoundaryCounts:
        """Return the counts of no image."""
        zero = np.zeros(classes, dtype=np.int64)
        return cls(found=zero, found_right=zero, true=zero, true_met=zero)

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(
            found=self.found + other.found,
            found_right=self.found_right + other.found_right,
            true=self.true + other.true,
            true_met=self.true_met + other.true_met,
        )

    def f_score(self) -> NDArray[np.float64]:
        """Return the F-score by class in [0, 1], float64 [C]; NaN where a class has no boundary at all."""
        precision = self.found_right / np.maximum(self.found, 1)
        recall = self.true_met / np.maximum(self.true, 1)
        score = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        score[(self.found == 0) & (self.true == 0)] = np.nan
        return score


def count_boundaries(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> BoundaryCounts:
    """Count the boundary pixels of one image.

    A class's boundary is its outermost ring of pixels; the image's border is none. Pixels within
    the tolerance of an unlabelled region are left out, on both sides: nobody knows what is right there.

    Args:
        truth: integer [H, W]; 255 is unlabelled.
        predicted: integer [H, W] in [0, classes).
        classes: number of classes.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"labels of {truth.shape} cannot be compared with predictions of {predicted.shape}")
    limit = TOLERANCE * math.hypot(*truth.shape)
    judged = _distance_to(truth == IGNORE) > limit
    rows = np.zeros((4, classes), dtype=np.int64)
    for index in range(classes):
        masks = truth == index, predicted == index
        box = _box_around(masks[0] | masks[1])
        if box is None:
            continue
        true, found = (_ring(mask[box]) for mask in masks)
        near_true, near_found = _distance_to(true) <= limit, _distance_to(found) <= limit
        rows[:, index] = [
            int((found & judged[box]).sum()),
            int((found & judged[box] & near_true).sum()),
            int((true & judged[box]).sum()),
            int((true & judged[box] & near_found).sum()),
        ]
    return BoundaryCounts(found=rows[0], found_right=rows[1], true=rows[2], true_met=rows[3])


def _box_around(mask: Mask) -> tuple[slice, slice] | None:
    """Return the rows and columns that hold a mask and one pixel around it; None if it is empty.

    Both rings of a class lie in it, and so do the distances between them.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if width == 0:
        return None
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)


def _ring(mask: Mask) -> Mask:
    inner = cv2.erode(mask.astype(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return np.asarray(mask & (inner == 0))


def _distance_to(mask: Mask) -> NDArray[np.float32]:
    """Return each pixel's Euclidean distance to the mask, float32 [H, W]; infinite if it is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance, dtype=np.float32)
