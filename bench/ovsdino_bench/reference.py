"""The usual, slow, obviously right way from window scores to labels (docs/protocol.md, steps 3-4).

The runtime's fast way is tested against it. In PyTorch; everything is float64, one window after another,
with the whole C x H x W array in memory, as the field's own code does it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovsdino_runtime.windows import WindowGrid


def merged_scores(maps: NDArray[np.float32], grid: WindowGrid) -> NDArray[np.float64]:
    """Return the class scores of every pixel, float64 [C, H, W].

    Args:
        maps: patch scores of the windows, [n, C, h, w], in row-major order of the windows.
        grid: sizes and geometry only; its fast matrices are not used.
    """
    window, stride = grid.rows.window_px, grid.rows.stride_px
    height, width = grid.rows.resized_px, grid.columns.resized_px
    total = torch.zeros((maps.shape[1], height, width), dtype=torch.float64)
    count = torch.zeros((height, width), dtype=torch.float64)
    number = 0
    for row in range(max(height - window + stride - 1, 0) // stride + 1):
        for column in range(max(width - window + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + window, height), min(column * stride + window, width)
            top, left = max(bottom - window, 0), max(right - window, 0)
            scores = _resize(torch.from_numpy(maps[number]).double(), (window, window))
            total[:, top:bottom, left:right] += scores[:, : bottom - top, : right - left]
            count[top:bottom, left:right] += 1
            number += 1
    return _resize(total / count, grid.size_hw).numpy()


def labels(
    scores: NDArray[np.float64], groups: Sequence[int], threshold: float | None = None
) -> NDArray[np.intp]:
    """Return the label of every pixel, [H, W].

    Args:
        scores: [P, H, W] of `merged_scores`.
        groups: for each of the P planes the class it belongs to, ascending; a class's best plane counts.
        threshold: where the best score is below it, the label is one past the last class.
    """
    classes = [scores[np.asarray(groups) == group].max(axis=0) for group in sorted(set(groups))]
    if threshold is not None:
        classes.append(np.full(scores.shape[1:], threshold))
    best: NDArray[np.intp] = np.stack(classes).argmax(axis=0)
    return best


def _resize(scores: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(scores[None], size=size_hw, mode="bilinear", align_corners=False)[0]
