"""Counts and mIoU against scikit-learn and against the slow way, on arrays of any kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, jaccard_score

from ovsdino_bench.bootstrap import miou_interval
from ovsdino_bench.boundary import count_boundaries
from ovsdino_bench.confusions import ClassSums, Confusions, entries_of
from ovsdino_bench.results import BackendCounts, boundaries_of
from ovsdino_runtime.metrics import confusion, iou_per_class, mean_iou


@st.composite
def labelled(draw: st.DrawFn) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], int]:
    """Truths with 255 in them and predictions of a few images of different sizes, and how many classes."""
    classes = draw(st.integers(2, 6))  # scikit-learn warns of one
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
    truths = [random.choice([*range(classes), 255], size) for size in sizes]
    return truths, [random.integers(0, classes, size) for size in sizes], classes


@settings(deadline=None)
@given(labelled())
def test_counts_and_iou_are_scikit_learn_s(
    data: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], int],
) -> None:
    truths, found, classes = data
    parts = [entries_of(confusion(true, guess, classes)) for true, guess in zip(truths, found, strict=True)]
    counts = Confusions.of_images(parts, classes)
    true = np.concatenate([item.ravel() for item in truths])
    guess = np.concatenate([item.ravel() for item in found])[true != 255]
    true = true[true != 255]
    if true.size == 0:
        assert np.isnan(mean_iou(counts.total()))
        return
    labels = list(range(classes))
    np.testing.assert_array_equal(counts.total(), confusion_matrix(true, guess, labels=labels))
    occurring = sorted({*true.tolist(), *guess.tolist()})
    iou = jaccard_score(true, guess, labels=occurring, average=None)
    np.testing.assert_allclose(iou_per_class(counts.total())[occurring], iou, rtol=1e-14)
    assert mean_iou(counts.total()) == pytest.approx(iou.mean(), rel=1e-14)


@settings(deadline=None)
@given(labelled())
def test_sparse_counts_are_the_dense_ones(
    data: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], int],
) -> None:
    truths, found, classes = data
    dense = np.stack([confusion(true, guess, classes) for true, guess in zip(truths, found, strict=True)])
    sparse = Confusions.of(dense)
    np.testing.assert_array_equal(sparse.dense(), dense)
    np.testing.assert_array_equal(sparse.total(), dense.sum(axis=0))
    one, other = sparse.sums(), ClassSums.of(dense)
    for name in ("right", "true", "found"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(deadline=None)
@given(labelled())
def test_boundaries_add_up_over_images(
    data: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], int],
) -> None:
    truths, found, classes = data
    parts = [BackendCounts.of(true, guess, guess, classes) for true, guess in zip(truths, found, strict=True)]
    total = boundaries_of([part.boundary for part in parts], classes)
    rings = [count_boundaries(true, guess, classes) for true, guess in zip(truths, found, strict=True)]
    for name in ("found", "found_right", "true", "true_met"):
        np.testing.assert_array_equal(
            getattr(total, name), np.sum([getattr(ring, name) for ring in rings], axis=0)
        )
    assert all(part.same == true.size for part, true in zip(parts, truths, strict=True))


@pytest.mark.parametrize("block", [1, 3])
def test_the_interval_is_that_of_drawing_the_images_one_by_one(block: int) -> None:
    random = np.random.default_rng(5)
    counts = random.integers(0, 50, (11, 4, 4)).astype(np.int64)
    counts[:, 3] = counts[:, :, 3] = 0  # a class that never occurs
    starts = np.arange(0, len(counts), block)
    runs = [counts[start : start + block].sum(axis=0) for start in starts]
    draws = np.random.default_rng(0)
    values = [
        mean_iou(np.sum([runs[place] for place in draws.integers(0, len(runs), len(runs))], axis=0))
        for _ in range(300)
    ]
    expected = np.percentile(values, [2.5, 97.5])
    assert miou_interval(Confusions.of(counts).sums(), block=block, draws=300) == pytest.approx(
        tuple(expected)
    )


@pytest.mark.parametrize("entries", [[[3, 0, 0, 1]], [[0, 2, 0, 1]], [[0, 0, -1, 1]]])
def test_entries_outside_the_images_and_classes_are_refused(entries: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="outside 3 images and 2 classes"):
        Confusions(images=3, classes=2, entries=np.array(entries, dtype=np.int64))
