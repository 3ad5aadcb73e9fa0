"""Where windows lie on an image, and the linear map from their patches to its pixels.

Upsampling a window's scores, adding windows up, dividing by their count and resizing to the
original image are all linear and act on rows and columns apart. Folded together they are one matrix
per axis: the merged score map of a class is `rows.weights @ S @ columns.weights.T`, where S holds
the patch scores of all windows, stacked as the windows lie (docs/protocol.md, steps 3 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.pixels import PAD_RGB

_SIZES_KEPT = 2  # sizes of pictures whose matrices are kept: the frames of a camera are all of one


@dataclass(frozen=True)
class Cell:
    """A run of output pixels on one axis that the same patches contribute to.

    Attributes:
        start: first pixel.
        stop: one past the last pixel.
        support: indices of the contributing patches, ascending.
    """

    start: int
    stop: int
    support: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of the sliding window.

    Attributes:
        output_px: length of the original image.
        resized_px: length after resizing, L.
        window_px: side of a window.
        stride_px: distance between windows.
        patches: patches along one window, h.
    """

    output_px: int
    resized_px: int
    window_px: int
    stride_px: int
    patches: int

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First pixel of every window; a last window may repeat the one before (docs/protocol.md, step 3)."""
        length, window, stride = self.resized_px, self.window_px, self.stride_px
        count = max(length - window + stride - 1, 0) // stride + 1
        return tuple(max(min(i * stride + window, length) - window, 0) for i in range(count))

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """What every patch contributes to every output pixel, [output_px, windows * patches].

        Rows are non-negative and sum to 1.
        """
        up = bilinear(self.patches, self.window_px)
        merged = np.zeros((self.resized_px, len(self.starts) * self.patches))
        count = np.zeros((self.resized_px, 1))
        for number, start in enumerate(self.starts):
            stop = min(start + self.window_px, self.resized_px)
            own = slice(number * self.patches, (number + 1) * self.patches)
            merged[start:stop, own] += up[: stop - start]
            count[start:stop] += 1
        return bilinear(self.resized_px, self.output_px, merged / count)

    @cached_property
    def weights_fp32(self) -> NDArray[np.float32]:
        """`weights` in the precision that scores are merged in."""
        return self.weights.astype(np.float32)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The axis cut where the set of contributing patches changes.

        A run whose patches are all among its neighbour's joins it: a larger support is still valid.
        """
        used = self.weights > 0
        changes = np.flatnonzero((used[1:] != used[:-1]).any(axis=1)) + 1
        edges = [0, *changes.tolist(), len(used)]
        cells: list[Cell] = []
        for start, stop in pairwise(edges):
            support = np.flatnonzero(used[start])
            if cells:
                last = cells[-1]
                union = np.union1d(last.support, support)
                if len(union) == max(len(last.support), len(support)):
                    cells[-1] = Cell(last.start, stop, union)
                    continue
            cells.append(Cell(start, stop, support))
        return tuple(cells)


@dataclass(frozen=True, kw_only=True)
class WindowGrid:
    """All windows of one image, in row-major order.

    Attributes:
        rows: the vertical axis.
        columns: the horizontal axis.
    """

    rows: Axis
    columns: Axis

    @classmethod
    @lru_cache(maxsize=_SIZES_KEPT)
    def plan(
        cls,
        size_hw: tuple[int, int],
        resized_hw: tuple[int, int],
        *,
        window_px: int,
        stride_px: int,
        grid_hw: tuple[int, int],
    ) -> WindowGrid:
        """Return the windows of an image.

        Args:
            size_hw: size of the original image, in which the labels are.
            resized_hw: its size after resizing.
            window_px: side of a window.
            stride_px: distance between windows.
            grid_hw: patches that one window gives.
        """
        rows, columns = (
            Axis(
                output_px=size_hw[axis],
                resized_px=resized_hw[axis],
                window_px=window_px,
                stride_px=stride_px,
                patches=grid_hw[axis],
            )
            for axis in (0, 1)
        )
        return cls(rows=rows, columns=columns)

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Size of the original image."""
        return self.rows.output_px, self.columns.output_px

    def cut(self, resized: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the windows of a resized image, uint8 [n, window, window, 3].

        Ours: where the image is shorter than a window, the mean colour fills the bottom and right;
        what is computed there never reaches a pixel.

        Args:
            resized: uint8 [H', W', 3], RGB.

        Raises:
            ValueError: the image is not of the size that was planned.
        """
        if resized.shape != (self.rows.resized_px, self.columns.resized_px, 3):
            raise ValueError(
                f"windows were planned for {self.rows.resized_px}x{self.columns.resized_px} RGB, "
                f"but the array is {resized.shape}"
            )
        side = self.rows.window_px
        windows = np.empty((self.count, side, side, 3), dtype=np.uint8)
        corners = ((top, left) for top in self.rows.starts for left in self.columns.starts)
        for window, (top, left) in zip(windows, corners, strict=True):
            crop = resized[top : top + side, left : left + side]
            if crop.shape != window.shape:
                window[:] = PAD_RGB
            window[: crop.shape[0], : crop.shape[1]] = crop
        return windows

    def stack(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return S, the windows' patch maps side by side, [P, windows_y * h, windows_x * w].

        Args:
            maps: [n, P, h, w], windows in the order of `cut`.
        """
        down, across = len(self.rows.starts), len(self.columns.starts)
        _, planes, height, width = maps.shape
        tiled = maps.reshape(down, across, planes, height, width).transpose(2, 0, 3, 1, 4)
        return np.ascontiguousarray(tiled).reshape(planes, down * height, across * width)

    def merge(
        self, stacked: NDArray[np.float32], groups: NDArray[np.integer] | None = None
    ) -> NDArray[np.float32]:
        """Return the merged maps at the original size, [P, H, W], or each group's best, [C, H, W].

        This is the one place that makes an array of that size; labels do not need it.

        Args:
            stacked: S of `stack`.
            groups: the group of each plane, ascending from 0 without gaps; None for one each.
        """
        rows, columns = self.rows.weights_fp32, self.columns.weights_fp32
        numbers = list(range(len(stacked))) if groups is None else groups.tolist()
        merged = np.empty((numbers[-1] + 1, *self.size_hw), dtype=np.float32)
        last = -1
        for number, plane in zip(numbers, stacked, strict=True):
            if number == last:
                np.maximum(merged[number], rows @ plane @ columns.T, out=merged[number])
            else:
                np.matmul(rows @ plane, columns.T, out=merged[number])
            last = number
        return merged


def bilinear(source: int, target: int, values: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the matrix of bilinear resizing with align_corners False, [target, source].

    Args:
        source: length before.
        target: length after.
        values: [source, n]; if given, the matrix applied to it is returned, [target, n].
    """
    if values is None:
        values = np.eye(source)
    position = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0)
    low = np.minimum(position.astype(np.intp), source - 1)
    high = np.minimum(low + 1, source - 1)
    share = (position - low)[:, None]
    blended: NDArray[np.float64] = values[low] * (1.0 - share) + values[high] * share
    return blended
