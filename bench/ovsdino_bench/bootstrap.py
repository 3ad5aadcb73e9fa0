"""Confidence intervals of mIoU where neighbouring frames are much alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovsdino_bench.confusions import ClassSums


def miou_interval(
    counts: NDArray[np.int64] | ClassSums,
    *,
    block: int,
    baseline: NDArray[np.int64] | ClassSums | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return a confidence interval of mIoU, or of its gain over a baseline, in [0, 1] units.

    A block bootstrap: runs of neighbouring frames are drawn with replacement, since frames of one
    drive are no independent samples. With a baseline both are drawn alike, so what is common cancels.
    NaN where no class ever occurs.

    Args:
        counts: confusion counts by image in the order of the frames, int64 [N, C, C], or their sums
            where that array would be large.
        block: frames a run; 1 if the images are independent.
        baseline: counts of another model on the same images; the interval is of the difference.
        level: share of the draws inside the interval.
        draws: number of draws.
        seed: of the draws.

    Raises:
        ValueError: there are no images, the baseline's differ, or the block is not positive.
    """
    sums = counts if isinstance(counts, ClassSums) else ClassSums.of(counts)
    others = ClassSums.of(baseline) if isinstance(baseline, np.ndarray) else baseline
    if len(sums.true) == 0 or block < 1:
        raise ValueError("an interval needs images and a positive block")
    if others is not None and others.true.shape != sums.true.shape:
        raise ValueError(
            f"counts of {sums.true.shape} cannot be compared with a baseline of {others.true.shape}"
        )
    runs = -(-len(sums.true) // block)
    random = np.random.default_rng(seed)
    times = np.stack([np.bincount(random.integers(0, runs, runs), minlength=runs) for _ in range(draws)])
    values = _miou_of_draws(times, sums, block)
    if others is not None:
        values = values - _miou_of_draws(times, others, block)
    if np.isnan(values).all():
        return float("nan"), float("nan")
    outside = 100 * (1 - level) / 2
    low, high = np.nanpercentile(values, [outside, 100 - outside])
    return float(low), float(high)


def _miou_of_draws(times: NDArray[np.intp], sums: ClassSums, block: int) -> NDArray[np.float64]:
    """Return the mIoU of every draw, float64 [draws]; NaN where no class occurs.

    Args:
        times: how often a draw takes each run of frames, [draws, runs].
        sums: by frame.
        block: frames a run.
    """
    starts = np.arange(0, len(sums.true), block)
    # Counts of pixels are far below 2^53: their products in float64 are exact.
    drawn = [
        times.astype(np.float64) @ np.add.reduceat(part, starts, axis=0).astype(np.float64)
        for part in (sums.right, sums.true, sums.found)
    ]
    right, true, found = drawn
    union = true + found - right
    iou = np.divide(right, union, out=np.zeros_like(right), where=union > 0)
    occurring = (union > 0).sum(axis=1)
    values = np.full(len(iou), np.nan)
    np.divide(iou.sum(axis=1), occurring, out=values, where=occurring > 0)
    return values
