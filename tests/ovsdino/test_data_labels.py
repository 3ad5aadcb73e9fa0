"""Masks, maps and area averages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsdino.data.labels import (
    NO_CLASS,
    UNLABELLED,
    Box,
    Labels,
    labels_of_map,
    labels_of_masks,
    overlap_matrix,
)


@given(st.integers(1, 200), st.integers(1, 64))
def test_every_cell_is_an_average_and_every_pixel_counts_alike(pixels: int, cells: int) -> None:
    matrix = overlap_matrix(pixels, cells)
    assert matrix.shape == (cells, pixels)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(matrix.sum(axis=0), cells / pixels, atol=1e-4)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
def test_class_shares_are_the_mean_of_a_map_enlarged_to_a_common_multiple(
    side: int, cells: int, seed: int
) -> None:
    """The reference repeats each pixel `cells` times: then every cell holds a whole number of them."""
    rng = np.random.default_rng(seed)
    index_map = rng.integers(0, 3, (side + 3, side + 2))
    index_map[rng.random(index_map.shape) < 0.2] = 255
    box, flip = Box(int(rng.integers(0, 4)), int(rng.integers(0, 3)), side), bool(rng.integers(0, 2))
    found = labels_of_map(index_map, 3).shares(box, cells, flip)
    part = index_map[box.top : box.top + side, box.left : box.left + side]
    if flip:
        part = part[:, ::-1]
    large = np.repeat(np.repeat(part, cells, axis=0), cells, axis=1)
    blocks = large.reshape(cells, side, cells, side).transpose(0, 2, 1, 3).reshape(cells, cells, -1)
    known = (blocks < 3).sum(axis=2)
    np.testing.assert_allclose(found.weights / 255, known / side**2, atol=1 / 255)
    covered = {index: (blocks == index).sum(axis=2) / np.maximum(known, 1) for index in range(3)}
    for index, targets in zip(found.classes, found.targets, strict=True):
        np.testing.assert_allclose(targets / 255, covered[int(index)], atol=1 / 255)
    missing = set(covered) - set(found.classes.tolist())
    assert all(covered[index].max() <= 0.5 / 255 + 1e-6 for index in missing)


def test_255_is_unlabelled() -> None:
    labels = labels_of_map(np.array([[0, 1, 255], [255, 255, 255]]), 2)
    assert labels.classes == (0, 1)
    np.testing.assert_array_equal(labels.labelled, [[True, True, False], [False] * 3])
    np.testing.assert_array_equal(labels.masks[1], [[False, True, False], [False] * 3])


@pytest.mark.parametrize("value", [2, 254, 300, -1])
def test_a_value_without_a_name_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=f"the value {value}"):
        labels_of_map(np.array([[0, 1, value]]), 2)


def test_255_stays_unlabelled_where_there_are_more_names_than_that() -> None:
    labels = labels_of_map(np.array([[254, 255, 256]]), 1000)
    assert labels.classes == (254, 256)


def test_instances_of_a_class_become_one_mask_and_bare_pixels_are_background_not_unknown() -> None:
    masks = np.zeros((3, 2, 4), dtype=np.bool_)
    masks[0, 0, 0] = masks[1, 1, 1] = masks[2, 0, :2] = True
    ignore = np.zeros((2, 4), dtype=np.bool_)
    ignore[:, 0] = True
    labels = labels_of_masks([(7, masks[0]), (7, masks[1]), (3, masks[2])], ignore)
    assert labels.classes == (7, 3)
    np.testing.assert_array_equal(labels.masks[0], masks[0] | masks[1])
    # Ignored is only what no instance explains.
    np.testing.assert_array_equal(labels.labelled, [[True] * 4, [False, True, True, True]])


def test_the_smaller_of_two_overlapping_masks_lies_on_top() -> None:
    large, small = np.ones((4, 4), dtype=np.bool_), np.zeros((4, 4), dtype=np.bool_)
    small[1:3, 1:3] = True
    ignore = np.zeros((4, 4), dtype=np.bool_)
    for masks in ([(0, large), (1, small)], [(1, small), (0, large)]):
        found = labels_of_masks(masks, ignore).index_map(Box(0, 0, 4))
        np.testing.assert_array_equal(found, np.where(small, 1, 0))


def test_renumbering_merges_drops_and_unlabels() -> None:
    labels = labels_of_map(np.array([[0, 1, 2, 3, 255]]), 4).renumbered((5, 5, UNLABELLED, NO_CLASS))
    assert labels.classes == (5,)
    np.testing.assert_array_equal(labels.masks, [[[True, True, False, False, False]]])
    np.testing.assert_array_equal(labels.labelled, [[True, True, False, True, False]])
    np.testing.assert_array_equal(labels.renumbered([0] * 6).index_map(Box(0, 0, 1)), [[0]])


def test_an_image_without_any_class_has_labels_all_the_same() -> None:
    nothing = labels_of_masks([], np.zeros((3, 5), dtype=np.bool_))
    shares = nothing.shares(Box(0, 1, 3), 2, flip=False)
    assert nothing.size_hw == (3, 5)
    assert shares.targets.shape == (0, 2, 2)
    assert (shares.weights == 255).all()
    assert isinstance(nothing, Labels)
    with pytest.raises(ValueError, match=r"broadcast|shape"):
        labels_of_masks([(0, np.zeros((2, 2), dtype=np.bool_))], np.zeros((3, 5), dtype=np.bool_))
