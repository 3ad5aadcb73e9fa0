"""Observations and what is said of them: percentiles, ratios pair by pair, an interval of a ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_PERCENTILES = (50, 90, 95, 99)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return min, mean, p50, p90, p95, p99 and max.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a summary needs an observation")
    array = np.asarray(values, dtype=np.float64)
    percentiles = np.percentile(array, _PERCENTILES).tolist()
    named = {f"p{rank}": value for rank, value in zip(_PERCENTILES, percentiles, strict=True)}
    return {"min": float(array.min()), "mean": float(array.mean()), **named, "max": float(array.max())}


def pair_ratios(values: Sequence[float], baseline: Sequence[float]) -> dict[str, float]:
    """Return min, median and max of value / baseline, pair by pair.

    Raises:
        ValueError: there are none, or not as many of both.
    """
    ratios = sorted(value / base for value, base in zip(values, baseline, strict=True))
    if not ratios:
        raise ValueError("a ratio needs a pair")
    return {"min": ratios[0], "median": float(np.median(ratios)), "max": ratios[-1]}


def median_ratio_interval(
    before: Sequence[float], after: Sequence[float], *, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Return a confidence interval of median(after) / median(before): a percentile bootstrap.

    Both are drawn with replacement apart from each other, since they are of different runs.

    Args:
        before: observations of one run.
        after: of the other.
        level: share of the draws inside the interval.
        draws: number of draws.
        seed: of the draws.

    Raises:
        ValueError: one of them is empty.
    """
    if not before or not after:
        raise ValueError("an interval needs observations of both")
    random = np.random.default_rng(seed)
    medians = [
        np.median(random.choice(np.asarray(values, dtype=np.float64), (draws, len(values))), axis=1)
        for values in (before, after)
    ]
    outside = 100 * (1 - level) / 2
    low, high = np.percentile(medians[1] / medians[0], [outside, 100 - outside])
    return float(low), float(high)
