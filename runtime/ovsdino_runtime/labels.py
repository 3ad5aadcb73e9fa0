"""Merged scores to a label map, exactly, without an array of classes x height x width.

A pixel's score is a convex combination of the patch scores around it, with the same weights for every
class. So where the same patches contribute (a cell), class c can only win against class b if
S_c - S_b >= 0 on at least one of those patches. With b a class that is good all over the cell, few
candidates are left, and only they are merged at full resolution; the result is the exact argmax.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.windows import Axis, Cell, WindowGrid

_SLACK = 2e-6  # of the largest score: FP32 rounding must not drop a candidate
_GATHER_LIMIT = 1 << 20  # numbers gathered at a time


def argmax_labels(stacked: NDArray[np.float32], grid: WindowGrid) -> NDArray[np.intp]:
    """Return the plane with the highest merged score at every pixel, [H, W].

    Equal to the argmax over `grid.merge(stacked)`, but for planes whose scores differ by rounding
    alone. Ties go to the lowest index.

    Args:
        stacked: S of `WindowGrid.stack`, float32 [P, windows_y * h, windows_x * w].
        grid: the windows.
    """
    labels = np.zeros(grid.size_hw, dtype=np.intp)
    if len(stacked) == 1:
        return labels
    slack = _SLACK * max(float(np.abs(stacked).max()), 1e-30)
    columns = _Columns(grid.columns)
    row_weights = grid.rows.weights.astype(np.float32)
    for row in grid.rows.cells:
        band = np.ascontiguousarray(stacked[:, row.support])
        candidates = _candidates(band, columns, slack)
        weights = row_weights[row.start : row.stop, row.support]
        _fill(labels[row.start : row.stop], band, weights, columns, candidates)
    return labels


class _Columns:
    """The cells of the horizontal axis as rectangular arrays, Q cells.

    Attributes:
        cells: the cells.
        support: [Q, k] contributing patches; the first is repeated where a cell has fewer.
        weights: [Q, n, k], what each of a cell's pixels takes of them; zero beyond its own.
    """

    def __init__(self, axis: Axis) -> None:
        self.cells: Sequence[Cell] = axis.cells
        patches = max(len(cell.support) for cell in self.cells)
        pixels = max(cell.stop - cell.start for cell in self.cells)
        self.support = np.zeros((len(self.cells), patches), dtype=np.intp)
        self.weights = np.zeros((len(self.cells), pixels, patches), dtype=np.float32)
        for number, cell in enumerate(self.cells):
            used = len(cell.support)
            self.support[number] = cell.support[0]
            self.support[number, :used] = cell.support
            own = axis.weights[cell.start : cell.stop][:, cell.support]
            self.weights[number, : cell.stop - cell.start, :used] = own


def _candidates(band: NDArray[np.float32], columns: _Columns, slack: float) -> list[NDArray[np.intp]]:
    """Return, for every cell of a row of cells, the planes that may win, ascending.

    Args:
        band: [P, k_y, windows_x * w], the patches that this row of cells uses.
        columns: the cells along it.
        slack: how far below the bound rounding may carry a winner.
    """
    total = band.sum(axis=1)[:, columns.support].sum(axis=2)  # [P, Q]
    rival = total.argmax(axis=0)  # a plane that is good all over the cell, [Q]
    cells = np.arange(len(rival))
    at_rival = band[rival[:, None], :, columns.support]  # [Q, k_x, k_y]
    highest = band.max(axis=1)[:, columns.support].max(axis=2)  # [P, Q]
    possible = highest >= at_rival.min(axis=(1, 2)) - slack  # coarse: by the extremes
    plane, cell = np.nonzero(possible)
    keep = np.empty(len(plane), dtype=np.bool_)
    step = max(1, _GATHER_LIMIT // (at_rival.shape[1] * at_rival.shape[2]))
    for start in range(0, len(plane), step):
        part = slice(start, start + step)
        own = band[plane[part, None], :, columns.support[cell[part]]]
        keep[part] = (own - at_rival[cell[part]]).max(axis=(1, 2)) >= -slack  # fine: patch by patch
    plane, cell = plane[keep], cell[keep]
    order = np.argsort(cell, kind="stable")  # planes stay ascending within a cell
    return np.split(plane[order], np.searchsorted(cell[order], cells[1:]))


def _fill(
    labels: NDArray[np.intp],
    band: NDArray[np.float32],
    row_weights: NDArray[np.float32],
    columns: _Columns,
    candidates: list[NDArray[np.intp]],
) -> None:
    """Write the winners of a row of cells into `labels`, [rows, W].

    Cells with a similar number of candidates are merged together, as one product of matrices.
    """
    buckets: dict[int, list[int]] = {}
    for number, planes in enumerate(candidates):
        if len(planes) == 1:
            cell = columns.cells[number]
            labels[:, cell.start : cell.stop] = planes[0]
        else:
            buckets.setdefault(1 << (len(planes) - 1).bit_length(), []).append(number)
    if not buckets:
        return
    merged_rows = np.tensordot(band, row_weights, axes=(1, 1))  # [P, windows_x * w, rows]
    for size, numbers in buckets.items():
        per_cell = size * len(row_weights) * columns.weights.shape[1]
        step = max(1, _GATHER_LIMIT // per_cell)
        for start in range(0, len(numbers), step):
            _fill_cells(labels, merged_rows, columns, candidates, numbers[start : start + step], size)


def _fill_cells(
    labels: NDArray[np.intp],
    merged_rows: NDArray[np.float32],
    columns: _Columns,
    candidates: list[NDArray[np.intp]],
    numbers: list[int],
    size: int,
) -> None:
    # A cell with fewer candidates repeats its last one: the first maximum is the same.
    planes = np.stack(
        [np.pad(candidates[number], (0, size - len(candidates[number])), mode="edge") for number in numbers]
    )
    rows = merged_rows.shape[2]
    patches = merged_rows[
        planes[:, None, None, :],
        columns.support[numbers][:, :, None, None],
        np.arange(rows)[None, None, :, None],
    ]  # [cells, k_x, rows, size]: the candidates are last, where argmax is fastest
    flat = patches.reshape(len(numbers), -1, rows * size)
    scores = columns.weights[numbers] @ flat
    winners = scores.reshape(len(numbers), -1, rows, size).argmax(axis=3)  # [cells, pixels, rows]
    for index, number in enumerate(numbers):
        cell = columns.cells[number]
        own = winners[index, : cell.stop - cell.start].T
        labels[:, cell.start : cell.stop] = planes[index][own]
