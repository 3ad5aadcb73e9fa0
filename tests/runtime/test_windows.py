"""Windows: where they lie, and that merging is the linear map it claims to be."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsdino_runtime import labels as labels_module
from ovsdino_runtime.labels import count_labels
from ovsdino_runtime.pixels import PAD_RGB
from ovsdino_runtime.preprocess import resized_hw
from ovsdino_runtime.windows import Axis, WindowGrid


def axis(length: int, output: int | None = None, patches: int = 32) -> Axis:
    return Axis(output_px=output or length, resized_px=length, window_px=448, stride_px=224, patches=patches)


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (448, (0,)),
        (341, (0,)),
        (597, (0, 149)),
        (671, (0, 223)),
        (673, (0, 224, 225)),
        (796, (0, 224, 348)),
        (896, (0, 224, 448)),
    ],
)
def test_windows_start_where_the_protocol_says(length: int, starts: tuple[int, ...]) -> None:
    assert axis(length).starts == starts


@pytest.mark.parametrize(
    ("size_hw", "resized", "windows"),
    [
        ((480, 640), (448, 597), 2),
        ((427, 640), (448, 671), 2),
        ((333, 500), (448, 673), 3),
        ((1080, 1920), (448, 796), 3),
        ((1024, 2048), (448, 896), 3),
        ((1000, 6000), (341, 2048), 9),
    ],
)
def test_images_have_the_protocols_sizes_and_window_counts(
    size_hw: tuple[int, int], resized: tuple[int, int], windows: int
) -> None:
    assert resized_hw(size_hw, 448, 2048) == resized
    grid = WindowGrid.plan(size_hw, resized, window_px=448, stride_px=224, grid_hw=(32, 32))
    assert grid.count == windows


@settings(max_examples=80, deadline=None)
@given(
    length=st.integers(1, 400),
    output=st.integers(1, 400),
    window=st.integers(2, 64),
    stride=st.integers(1, 64),
    patches=st.integers(1, 12),
)
def test_every_pixel_is_a_convex_combination_of_the_patches_of_its_cell(
    length: int, output: int, window: int, stride: int, patches: int
) -> None:
    stride = min(stride, window)
    line = Axis(output_px=output, resized_px=length, window_px=window, stride_px=stride, patches=patches)
    assert line.weights.min() >= 0
    np.testing.assert_allclose(line.weights.sum(axis=1), 1, atol=1e-12)
    assert [cell.start for cell in line.cells] == [0, *(cell.stop for cell in line.cells[:-1])]
    assert line.cells[-1].stop == output
    for cell in line.cells:
        outside = np.delete(line.weights[cell.start : cell.stop], cell.support, axis=1)
        assert not outside.any()


def test_stitching_the_windows_of_a_map_gives_the_map_back() -> None:
    """A linear ramp is bilinear everywhere but in the clamped half patch along window borders."""
    grid = WindowGrid.plan((448, 896), (448, 896), window_px=448, stride_px=224, grid_hw=(32, 32))
    centres = (np.arange(32) + 0.5) * 14
    maps = np.stack([np.broadcast_to(start + centres, (1, 32, 32)) for start in grid.columns.starts]).astype(
        np.float32
    )
    merged = grid.merge(grid.stack(maps))[0]
    ramp = np.arange(896) + 0.5
    inside = np.ones(896, dtype=bool)
    for start in grid.columns.starts:
        inside[start : start + 7] = inside[start + 441 : start + 448] = False
    np.testing.assert_allclose(
        merged[:, inside], np.broadcast_to(ramp[inside], (448, inside.sum())), rtol=1e-5
    )


def test_cutting_keeps_the_order_of_windows_and_pads_with_the_mean_colour() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    grid = WindowGrid.plan((20, 30), (20, 30), window_px=24, stride_px=12, grid_hw=(2, 2))
    windows = grid.cut(image)
    assert grid.columns.starts == (0, 6)
    np.testing.assert_array_equal(windows[1, :20], image[:, 6:30])
    assert (windows[0, 20:] == np.array(PAD_RGB)).all()


def test_an_image_of_another_size_than_planned_is_refused() -> None:
    grid = WindowGrid.plan((20, 30), (20, 30), window_px=24, stride_px=12, grid_hw=(2, 2))
    with pytest.raises(ValueError, match="planned for 20x30"):
        grid.cut(np.zeros((30, 20, 3), dtype=np.uint8))


def test_the_best_of_each_group_is_merged_without_a_plane_for_every_prompt() -> None:
    grid = WindowGrid.plan((300, 400), (300, 400), window_px=100, stride_px=50, grid_hw=(8, 8))
    rng = np.random.default_rng(0)
    stacked = grid.stack(rng.normal(size=(grid.count, 30, 8, 8)).astype(np.float32))
    groups = np.array([0, 0, 1, *[2] * 27])
    whole = grid.merge(stacked)
    tracemalloc.start()
    found = grid.merge(stacked, groups)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, [whole[groups == group].max(axis=0) for group in range(3)])
    assert peak < 2.5 * found.nbytes


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 300), st.integers(1, 200), st.integers(0, 9))
def test_labels_are_counted_exactly(height: int, width: int, classes: int, at_once: int, seed: int) -> None:
    kind = np.uint8 if classes <= 256 else np.uint16
    labels = np.random.default_rng(seed).integers(0, classes, (height, width)).astype(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_module, "_COUNTED_PX", at_once)
        counts = count_labels(labels, classes)
    assert list(counts) == np.bincount(labels.ravel(), minlength=classes).tolist()


def test_frames_of_one_size_share_what_depends_on_the_size_alone() -> None:
    sizes = {"window_px": 100, "stride_px": 50, "grid_hw": (8, 8)}
    first = WindowGrid.plan((300, 400), (300, 400), **sizes)
    assert WindowGrid.plan((300, 400), (300, 400), **sizes) is first
    for side in range(100, 110):
        WindowGrid.plan((side, side), (side, side), **sizes)
    assert WindowGrid.plan((300, 400), (300, 400), **sizes) is not first  # no more than a few are kept
