"""Confidence intervals of mIoU where neighbouring frames are much alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.metrics import mean_iou


def miou_interval(
    counts: NDArray[np.int64],
    *,
    block: int,
    baseline: NDArray[np.int64] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a confidence interval of mIoU, or of its gain over a baseline, in [0, 1] units.

    A block bootstrap: runs of neighbouring frames are drawn with replacement, since frames of one
    drive are no independent samples. With a baseline both are drawn alike, so what is common cancels.

    Args:
        counts: confusion counts by image in the order of the frames, int64 [N, C, C].
        block: frames a run; 1 if the images are independent.
        baseline: counts of another model on the same images; the interval is of the difference.
        level: share of the draws inside the interval.
        draws: number of draws.
        seed: of the draws.

    Raises:
        ValueError: there are no images, the baseline's differ, or the block is not positive.
    """
    if len(counts) == 0 or block < 1:
        raise ValueError("an interval needs images and a positive block")
    if baseline is not None and baseline.shape != counts.shape:
        raise ValueError(f"counts of {counts.shape} cannot be compared with a baseline of {baseline.shape}")
    starts = np.arange(0, len(counts), block)
    runs = np.add.reduceat(counts, starts, axis=0)
    others = None if baseline is None else np.add.reduceat(baseline, starts, axis=0)
    random = np.random.default_rng(seed)
    values = np.empty(draws)
    for draw in range(draws):
        chosen = random.integers(0, len(runs), len(runs))
        values[draw] = mean_iou(runs[chosen].sum(axis=0))
        if others is not None:
            values[draw] -= mean_iou(others[chosen].sum(axis=0))
    outside = 100 * (1 - level) / 2
    low, high = np.nanpercentile(values, [outside, 100 - outside])
    return float(low), float(high)
