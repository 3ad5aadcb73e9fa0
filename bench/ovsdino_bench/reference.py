"""The usual, slow, obviously right way from a picture to labels (docs/protocol.md, steps 1, 3 and 4).

The runtime's fast way is tested against it. In PyTorch; scores are float64, one window after another,
with the whole C x H x W array in memory, as the field's own code does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovsdino_runtime.pixels import PAD_RGB
from ovsdino_runtime.windows import WindowGrid


def scores_of(
    image: NDArray[np.uint8],
    features: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    embeddings: NDArray[np.float32],
    *,
    short_side_px: int,
    long_side_px: int,
    window_px: int,
    stride_px: int,
) -> NDArray[np.float64]:
    """Return the score of every name at every pixel of a picture, float64 [P, H, W].

    Args:
        image: uint8 [H, W, 3], RGB.
        features: gives a window's features, float32 [1, D, h, w], for uint8 [1, window, window, 3].
        embeddings: unit text embeddings, float32 [P, D].
        short_side_px: 448 in the protocol.
        long_side_px: 2048 in the protocol.
        window_px: 448 in the protocol.
        stride_px: 224 in the protocol.
    """
    height, width = image.shape[:2]
    scale = min(long_side_px / max(height, width), short_side_px / min(height, width))
    tall, wide = max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
    resized = cv2.resize(image, (wide, tall), interpolation=cv2.INTER_LINEAR)
    maps = []
    for top, bottom, left, right in _boxes((tall, wide), window_px, stride_px):
        window = np.full((1, window_px, window_px, 3), PAD_RGB, dtype=np.uint8)
        window[0, : bottom - top, : right - left] = resized[top:bottom, left:right]
        maps.append(np.einsum("dhw,pd->phw", features(window)[0], embeddings))
    return _merged(np.stack(maps), (tall, wide), (height, width), window_px, stride_px)


def merged_scores(maps: NDArray[np.float32], grid: WindowGrid) -> NDArray[np.float64]:
    """Return the class scores of every pixel, float64 [C, H, W].

    Args:
        maps: patch scores of the windows, [n, C, h, w], in row-major order of the windows.
        grid: sizes and geometry only; its fast matrices are not used.
    """
    resized = (grid.rows.resized_px, grid.columns.resized_px)
    return _merged(maps, resized, grid.size_hw, grid.rows.window_px, grid.rows.stride_px)


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


def _boxes(size_hw: tuple[int, int], window: int, stride: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield top, bottom, left and right of every window on a picture, in row-major order."""
    height, width = size_hw
    for row in range(max(height - window + stride - 1, 0) // stride + 1):
        for column in range(max(width - window + stride - 1, 0) // stride + 1):
            bottom, right = min(row * stride + window, height), min(column * stride + window, width)
            yield max(bottom - window, 0), bottom, max(right - window, 0), right


def _merged(
    maps: NDArray[np.float32],
    resized_hw: tuple[int, int],
    size_hw: tuple[int, int],
    window: int,
    stride: int,
) -> NDArray[np.float64]:
    total = torch.zeros((maps.shape[1], *resized_hw), dtype=torch.float64)
    count = torch.zeros(resized_hw, dtype=torch.float64)
    for number, (top, bottom, left, right) in enumerate(_boxes(resized_hw, window, stride)):
        scores = _resize(torch.from_numpy(maps[number]).double(), (window, window))
        total[:, top:bottom, left:right] += scores[:, : bottom - top, : right - left]
        count[top:bottom, left:right] += 1
    return _resize(total / count, size_hw).numpy()


def _resize(scores: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(scores[None], size=size_hw, mode="bilinear", align_corners=False)[0]
