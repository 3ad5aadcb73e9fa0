"""Which pixels belong to which class, and what share of a coarser cell they cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.metrics import IGNORE

UNLABELLED, NO_CLASS = -1, -2  # in the place of a class number: nobody knows; known to be none of them

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """A square of pixels: `side` rows and columns from (`top`, `left`)."""

    top: int
    left: int
    side: int

    def of(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return this part of the last two axes of an array."""
        return array[..., self.top : self.top + self.side, self.left : self.left + self.side]


@dataclass(frozen=True)
class Labels:
    """The masks of an image's classes.

    Attributes:
        classes: P different class indices.
        masks: bool [P, H, W]; they may overlap (a person on a bicycle in COCO).
        labelled: bool [H, W]; False where nobody knows what a pixel is.
    """

    classes: tuple[int, ...]
    masks: Mask
    labelled: Mask

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.labelled.shape[0]), int(self.labelled.shape[1])

    def renumbered(self, rows: Sequence[int]) -> Labels:
        """Return the same masks under other numbers.

        Args:
            rows: the new number of class i. UNLABELLED makes its pixels unlabelled, NO_CLASS
                leaves them labelled as none. Classes that get the same number become one.
        """
        merged: dict[int, Mask] = {}
        labelled = self.labelled
        for index, mask in zip(self.classes, self.masks, strict=True):
            row = rows[index]
            if row == UNLABELLED:
                labelled = labelled & ~mask
            elif row != NO_CLASS:
                merged[row] = merged[row] | mask if row in merged else mask
        return Labels(tuple(merged), _stack(list(merged.values()), self.size_hw), labelled)

    def index_map(self, box: Box | None = None) -> NDArray[np.int64]:
        """Return one class per pixel, int64 [H, W]; -1 where there is none.

        Ours: where masks overlap, the smallest lies on top, since it is what the larger one holds.

        Args:
            box: the part wanted, which gives int64 [side, side]; None for the whole image.
        """
        masks = self.masks if box is None else box.of(self.masks)
        labelled = self.labelled if box is None else box.of(self.labelled)
        found = np.full(labelled.shape, -1, dtype=np.int64)
        areas = self.masks.sum(axis=(1, 2))
        for place in np.argsort(-areas, kind="stable"):
            found[masks[place].astype(np.bool_)] = self.classes[place]
        found[~labelled.astype(np.bool_)] = -1
        return found

    def shares(self, box: Box, cells: int, flip: bool) -> ClassShares:
        """Return what each class covers in the cells of a part of the image.

        Args:
            box: which part.
            cells: rows and columns of cells.
            flip: whether left and right are exchanged.
        """
        labelled = box.of(self.labelled).astype(np.float32)
        step = overlap_matrix(box.side, cells)
        known = step @ labelled @ step.T
        covered = step @ (box.of(self.masks).astype(np.float32) * labelled) @ step.T
        share = np.divide(covered, known, out=np.zeros_like(covered), where=known > 1e-6)
        targets, weights = _to_bytes(share), _to_bytes(known)
        if flip:
            targets, weights = targets[..., ::-1], weights[..., ::-1]
        here = targets.reshape(len(targets), -1).any(axis=1) if len(targets) else np.zeros(0, np.bool_)
        classes = np.array(self.classes, dtype=np.int64)[here]
        return ClassShares(classes, np.ascontiguousarray(targets[here]), np.ascontiguousarray(weights))


@dataclass(frozen=True)
class ClassShares:
    """What a view's classes cover, on the grid of the losses.

    Attributes:
        classes: int64 [P], the classes that cover something.
        targets: uint8 [P, m, m], the covered share of each cell's labelled area, in 1/255.
        weights: uint8 [m, m], the labelled share of each cell, in 1/255.
    """

    classes: NDArray[np.int64]
    targets: NDArray[np.uint8]
    weights: NDArray[np.uint8]


def labels_of_map(index_map: NDArray[np.integer], classes: int) -> Labels:
    """Return the labels of a map that names one class per pixel.

    Args:
        index_map: integer [H, W]; 255 means "unlabelled".
        classes: how many classes there are.

    Raises:
        ValueError: another value has no class.
    """
    outside = index_map[((index_map < 0) | (index_map >= classes)) & (index_map != IGNORE)]
    if outside.size:
        raise ValueError(f"it holds the value {int(outside[0])}")
    labelled = (index_map < classes) & (index_map != IGNORE)
    present = tuple(int(value) for value in np.unique(index_map[labelled]))
    masks = [index_map == value for value in present]
    return Labels(present, _stack(masks, (index_map.shape[0], index_map.shape[1])), labelled)


def labels_of_masks(masks: Sequence[tuple[int, Mask]], ignore: Mask) -> Labels:
    """Return the labels of instance masks; those of one class become one mask.

    What no mask covers is no unknown: it is background for every class.

    Args:
        masks: class and bool [H, W] of each instance.
        ignore: bool [H, W], what is unlabelled where no instance covers it.
    """
    merged: dict[int, Mask] = {}
    for index, mask in masks:
        merged[index] = merged[index] | mask if index in merged else mask
    size = (ignore.shape[0], ignore.shape[1])
    stacked = _stack(list(merged.values()), size)
    return Labels(tuple(merged), stacked, ~ignore | stacked.any(axis=0))


def overlap_matrix(pixels: int, cells: int) -> NDArray[np.float32]:
    """Return the exact area average along one axis, float32 [cells, pixels]; rows sum to 1."""
    edges = np.arange(cells + 1) * (pixels / cells)
    starts = np.arange(pixels)
    upper = np.minimum(edges[1:, None], starts + 1)
    lower = np.maximum(edges[:-1, None], starts)
    overlap = np.clip(upper - lower, 0, None) * (cells / pixels)
    matrix: NDArray[np.float32] = overlap.astype(np.float32)
    return matrix


def _to_bytes(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return levels


def _stack(masks: list[Mask], size_hw: tuple[int, int]) -> Mask:
    return np.stack(masks) if masks else np.zeros((0, *size_hw), dtype=np.bool_)
