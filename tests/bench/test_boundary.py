"""The boundary F-score against a brute-force count, and the block bootstrap against known cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovsdino_bench.bootstrap import miou_interval
from ovsdino_bench.boundary import TOLERANCE, BoundaryCounts, count_boundaries
from ovsdino_runtime.metrics import IGNORE, confusion, mean_iou


def ring(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    height, width = mask.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if mask[y, x]
        and any(
            0 <= y + dy < height and 0 <= x + dx < width and not mask[y + dy, x + dx]
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )
    ]


def near(point: tuple[int, int], others: list[tuple[int, int]], limit: float) -> bool:
    return any(math.dist(point, other) <= limit for other in others)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), unlabelled=st.booleans())
def test_counts_equal_a_count_pixel_by_pixel(seed: int, unlabelled: bool) -> None:
    rng = np.random.default_rng(seed)
    shape, classes = (18, 140), 3  # a tolerance of 1.06 px
    truth, found = (np.kron(rng.integers(0, classes, (3, 20)), np.ones((6, 7), dtype=int)) for _ in range(2))
    if unlabelled:
        truth[4:9, 30:50] = IGNORE
    limit = TOLERANCE * math.hypot(*shape)
    unknown = [tuple(point) for point in np.argwhere(truth == IGNORE)]
    counts = count_boundaries(truth, found, classes)
    for index in range(classes):
        true, predicted = ring(truth == index), ring(found == index)
        judged_true = [point for point in true if not near(point, unknown, limit)]
        judged_found = [point for point in predicted if not near(point, unknown, limit)]
        assert counts.true[index] == len(judged_true)
        assert counts.found[index] == len(judged_found)
        assert counts.true_met[index] == sum(near(point, predicted, limit) for point in judged_true)
        assert counts.found_right[index] == sum(near(point, true, limit) for point in judged_found)


def test_equal_maps_score_one_and_a_class_without_boundaries_counts_nowhere() -> None:
    labels = np.zeros((40, 60), dtype=np.uint8)
    labels[10:30, 20:40] = 1
    score = count_boundaries(labels, labels, 3).f_score()
    np.testing.assert_allclose(score[:2], 1)
    assert math.isnan(score[2])


def test_a_shifted_object_scores_less_the_further_it_is() -> None:
    def shifted(by: int) -> float:
        truth, found = (np.zeros((360, 480), dtype=np.uint8) for _ in range(2))
        truth[100:200, 100:200] = 1
        found[100:200, 100 + by : 200 + by] = 1
        return float(count_boundaries(truth, found, 2).f_score()[1])

    assert shifted(0) == shifted(4) == 1  # within 4.5 px
    assert shifted(4) > shifted(8)
    assert shifted(300) == 0


def test_counts_add_over_images() -> None:
    rng = np.random.default_rng(0)
    parts = [count_boundaries(*rng.integers(0, 2, (2, 20, 30)), 2) for _ in range(3)]
    total = sum(parts, BoundaryCounts.none(2))
    np.testing.assert_array_equal(total.found, np.sum([part.found for part in parts], axis=0))


def frames(number: int, noise: float, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    counts = []
    for _ in range(number):
        truth = rng.integers(0, 3, (20, 20))
        found = np.where(rng.random(truth.shape) < noise, rng.integers(0, 3, truth.shape), truth)
        counts.append(confusion(truth, found, 3))
    return np.stack(counts)


def test_the_interval_holds_the_figure_and_narrows_with_more_frames() -> None:
    few, many = frames(10, 0.3, 0), frames(160, 0.3, 0)
    for counts in (few, many):
        low, high = miou_interval(counts, block=2, draws=400)
        assert low < mean_iou(counts.sum(axis=0)) < high
    width = [high - low for low, high in (miou_interval(item, block=2, draws=400) for item in (few, many))]
    assert width[1] < width[0] / 2


def test_frames_that_repeat_do_not_narrow_the_interval_if_the_block_spans_them() -> None:
    single = frames(20, 0.3, 1)
    low, high = miou_interval(single, block=1, draws=500)
    repeated = miou_interval(np.repeat(single, 8, axis=0), block=8, draws=500)
    assert repeated == pytest.approx((low, high))


def test_a_paired_interval_sees_a_gain_that_two_separate_ones_would_hide() -> None:
    rng = np.random.default_rng(0)
    worse, better = [], []
    for noise in rng.uniform(0.1, 0.8, 30):  # frames differ much, the gain in each is small
        truth = rng.integers(0, 3, (40, 40))
        wrong = rng.random(truth.shape)
        other = (truth + 1) % 3
        worse.append(confusion(truth, np.where(wrong < noise, other, truth), 3))
        better.append(confusion(truth, np.where(wrong < noise - 0.03, other, truth), 3))
    gain = miou_interval(np.stack(better), block=1, baseline=np.stack(worse), draws=400)
    assert gain[0] > 0
    separate = [miou_interval(np.stack(item), block=1, draws=400) for item in (worse, better)]
    assert separate[0][1] > separate[1][0]


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs images"):
        miou_interval(np.zeros((0, 2, 2), dtype=np.int64), block=1)
    with pytest.raises(ValueError, match="cannot be compared"):
        miou_interval(frames(3, 0.1, 0), block=1, baseline=frames(2, 0.1, 0))
