"""Merged scores to a label map, exactly, without an array of classes x height x width.

Labels are found one row of cells at a time. A pixel's score is a convex combination of the patch scores
around it, with the same weights for every class. So where the same patches contribute (a cell), class c
can only win against class b if S_c - S_b >= 0 on at least one of those patches. With b a class that is
good all over the cell, few candidates are left, and only they are merged at full resolution; the
result is the exact argmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.windows import Axis, WindowGrid

_SLACK = 2e-6  # of the largest score: FP32 rounding must not drop a candidate
_SPAN_CELLS = 4  # cells merged at once: wide enough for matrix products, narrow enough to have few candidates
_COUNTED_PX = 1 << 22  # at once
_GATHER_LIMIT = 1 << 20  # numbers gathered at a time

Patches = NDArray[np.float32]


def argmax_labels(stacked: Patches, grid: WindowGrid) -> NDArray[np.uint16 | np.uint32]:
    """Return the plane with the highest merged score at every pixel, [H, W]; uint16 where that suffices.

    Equal to the argmax over `grid.merge(stacked)`, but for planes whose scores differ by rounding
    alone. Ties go to the lowest index.

    Args:
        stacked: S of `WindowGrid.stack`, float32 [P, windows_y * h, windows_x * w].
        grid: the windows.
    """
    labels: NDArray[np.uint16 | np.uint32]
    labels = np.zeros(grid.size_hw, dtype=np.uint16 if len(stacked) <= 1 << 16 else np.uint32)
    if len(stacked) == 1:
        return labels
    slack = _SLACK * max(float(np.abs(stacked).max()), 1e-30)
    spans, support = _spans(grid.columns), _padded_support(grid.columns)
    weights = grid.rows.weights_fp32
    last = np.ascontiguousarray(stacked.transpose(1, 2, 0))  # planes last: argmax and products are fastest so
    for row in grid.rows.cells:
        band = last[row.support]
        possible = _candidates(band, support, slack)
        # Stacks of small products, not a few large ones: BLAS would spread those over threads, which for
        # such sizes costs more than it saves.
        merged = np.matmul(weights[row.start : row.stop, row.support], band.transpose(1, 0, 2))
        for span in spans:
            out = labels[row.start : row.stop, span.start : span.stop]
            planes = np.flatnonzero(possible[span.cells].any(axis=0))
            if len(planes) == 1:
                out[:] = planes[0]
            else:
                out[:] = planes[span.winners(merged[span.support][:, :, planes])]
    return labels


def count_labels(labels: NDArray[np.uint8] | NDArray[np.uint16], classes: int) -> tuple[int, ...]:
    """Return how many pixels each class has.

    Args:
        labels: [H, W], each below `classes`.
        classes: how many there are.
    """
    counts = np.zeros(classes, dtype=np.int64)
    rows = max(1, _COUNTED_PX // labels.shape[1])
    for start in range(0, len(labels), rows):
        part = labels[start : start + rows]
        if part.dtype == np.uint8:  # OpenCV counts in FP32, exact up to 2^24, and needs no wider copy
            counts += cv2.calcHist([part], [0], None, [classes], [0, classes]).ravel().astype(np.int64)
        else:
            counts += np.bincount(part.ravel(), minlength=classes)
    return tuple(counts.tolist())


@dataclass(frozen=True)
class _Span:
    """Neighbouring cells of the horizontal axis.

    Attributes:
        start: first pixel.
        stop: one past the last pixel.
        cells: which cells of the axis.
        support: the k patches that contribute to any of its pixels.
        weights: what each pixel takes of them, float32 [n, k].
    """

    start: int
    stop: int
    cells: slice
    support: NDArray[np.intp]
    weights: Patches

    def winners(self, merged: Patches) -> NDArray[np.intp]:
        """Return the best plane of each pixel, [rows, n], for rows that are merged already, [k, rows, p]."""
        best: NDArray[np.intp] = np.matmul(self.weights, merged.transpose(1, 0, 2)).argmax(axis=2)
        return best


@lru_cache(maxsize=2)
def _spans(axis: Axis) -> tuple[_Span, ...]:
    cells, spans = axis.cells, []
    for first, end in pairwise([*range(0, len(cells), _SPAN_CELLS), len(cells)]):
        start, stop = cells[first].start, cells[end - 1].stop
        support = np.unique(np.concatenate([cell.support for cell in cells[first:end]]))
        weights = axis.weights_fp32[start:stop, support]
        spans.append(_Span(start, stop, slice(first, end), support, weights))
    return tuple(spans)


@lru_cache(maxsize=2)
def _padded_support(axis: Axis) -> NDArray[np.intp]:
    """Return the contributing patches of the Q cells, [Q, k]; a cell with fewer repeats its first."""
    widest = max(len(cell.support) for cell in axis.cells)
    padded = np.empty((len(axis.cells), widest), dtype=np.intp)
    for row, cell in zip(padded, axis.cells, strict=True):
        row[:] = cell.support[0]
        row[: len(cell.support)] = cell.support
    return padded


def _candidates(band: Patches, support: NDArray[np.intp], slack: float) -> NDArray[np.bool_]:
    """Return which planes may win in each cell of a row of cells, bool [Q, P].

    Args:
        band: the patches that this row of cells uses, [k_y, windows_x * w, P].
        support: the columns that each cell uses, [Q, k_x].
        slack: how far below the bound rounding may carry a winner.
    """
    good = band.sum(axis=0)[support].sum(axis=1)  # [Q, P]
    rival = good.argmax(axis=1)  # a plane that is good all over the cell
    at_rival = band[:, support, rival[:, None]]  # [k_y, Q, k_x]
    highest = band.max(axis=0)[support].max(axis=1)  # [Q, P]
    possible: NDArray[np.bool_]
    possible = highest >= at_rival.min(axis=(0, 2))[:, None] - slack  # coarse: by the extremes
    cell, plane = np.nonzero(possible)
    step = max(1, _GATHER_LIMIT // (at_rival.shape[0] * at_rival.shape[2]))
    for begin in range(0, len(cell), step):
        here, own = cell[begin : begin + step], plane[begin : begin + step]
        lead = band[:, support[here], own[:, None]] - at_rival[:, here]
        possible[here, own] = lead.max(axis=(0, 2)) >= -slack  # fine: patch by patch
    return possible
