"""Marks on the pixels that differ: on all of them however small the picture is shown, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from ovsdino_bench.panels import marked


@pytest.mark.parametrize("size_hw", [(30, 50), (640, 480), (1500, 2600), (2, 3000)])
def test_marks_lie_on_the_differing_pixels_and_nowhere_else(size_hw: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    differs = np.zeros(size_hw, dtype=bool)
    places = [tuple(random.integers(0, size_hw)) for _ in range(4)] + [
        (0, 0),
        (size_hw[0] - 1, size_hw[1] - 1),
    ]
    for row, column in places:
        differs[row, column] = True
    shown = marked(pixels, differs)
    assert max(shown.shape) == min(640, max(size_hw))
    is_mark = shown[..., 0] != shown[..., 1]
    scale = np.array(shown.shape[:2]) / size_hw
    near = np.zeros_like(is_mark)
    for place in places:
        row, column = (np.array(place) * scale).astype(int)
        assert is_mark[row, column]
        near[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = True
    assert not (is_mark & ~near).any()
    assert shown[~is_mark].max(initial=0) <= 128, "dim"


def test_where_nothing_differs_the_photograph_is_grey_and_its_parts_stay_where_they_are() -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[10:20, 30:50] = 255
    shown = marked(pixels, np.zeros((40, 60), dtype=bool))
    assert (shown == shown[..., :1]).all()
    np.testing.assert_array_equal(shown[..., 0] > 0, pixels[..., 0] > 0)
