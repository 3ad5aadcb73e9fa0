"""The runtime's exact merging against the slow reference, over sizes, strides and class counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovsdino_bench import reference
from ovsdino_runtime.labels import argmax_labels
from ovsdino_runtime.preprocess import resized_hw
from ovsdino_runtime.windows import WindowGrid

TOLERANCE = 1e-5
SHARED = Path(__file__).parents[2].parent / "shared"
BACKBONE = SHARED / "weights" / "dav2_vits14_backbone_fp16.safetensors"


def assert_equal_as_defined(scores: NDArray[np.float64], found: NDArray[np.intp]) -> None:
    """The same label wherever the margin is clear; elsewhere a class whose score is as good."""
    best = scores.max(axis=0)
    own = np.take_along_axis(scores, found[None], axis=0)[0]
    limit = TOLERANCE * np.abs(scores).max()
    assert np.all(best - own <= limit)
    if len(scores) > 1:
        second = np.partition(scores, -2, axis=0)[-2]
        clear = best - second > limit
        np.testing.assert_array_equal(found[clear], scores.argmax(axis=0)[clear])


def smooth_maps(rng: np.random.Generator, windows: int, classes: int, side: int) -> NDArray[np.float32]:
    """Scores with regions, as features give them, and a few planes that are all but equal."""
    coarse = rng.normal(size=(windows, classes, 3, 3))
    index = np.minimum(np.arange(side) * 3 // side, 2)
    maps = coarse[:, :, index][:, :, :, index] + 0.2 * rng.normal(size=(windows, classes, side, side))
    if classes > 3:
        maps[:, 3] = maps[:, 1]
    return maps.astype(np.float32)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.tuples(st.integers(1, 190), st.integers(1, 190)),
    stride=st.integers(3, 48),
    side=st.sampled_from([2, 4, 7, 8]),
    classes=st.one_of(st.integers(1, 40), st.integers(41, 1203)),
    seed=st.integers(0, 2**32 - 1),
)
def test_fast_labels_equal_the_slow_reference(
    size: tuple[int, int], stride: int, side: int, classes: int, seed: int
) -> None:
    if classes > 40:  # the slow way takes all of C x H x W in float64
        size = (size[0] % 40 + 1, size[1] % 40 + 1)
    resized = resized_hw(size, 56, 128 if classes > 40 else 256)
    grid = WindowGrid.plan(size, resized, window_px=56, stride_px=stride, grid_hw=(side, side))
    maps = smooth_maps(np.random.default_rng(seed), grid.count, classes, side)
    scores = reference.merged_scores(maps, grid)
    np.testing.assert_allclose(grid.merge(grid.stack(maps)), scores, atol=2e-5)
    assert_equal_as_defined(scores, argmax_labels(grid.stack(maps), grid))


@pytest.mark.parametrize(
    ("size", "classes", "patches"),
    [
        ((360, 480), 11, 32),
        ((333, 500), 1203, 32),
        ((1000, 6000), 7, 28),
        ((1024, 2048), 19, 32),
        ((5000, 1), 5, 32),
        ((1, 1), 5, 28),
        ((448, 448), 2, 64),
    ],
)
def test_fast_labels_equal_the_slow_reference_at_the_protocols_own_sizes(
    size: tuple[int, int], classes: int, patches: int
) -> None:
    grid = WindowGrid.plan(
        size, resized_hw(size, 448, 2048), window_px=448, stride_px=224, grid_hw=(patches, patches)
    )
    maps = smooth_maps(np.random.default_rng(7), grid.count, classes, patches)
    assert_equal_as_defined(reference.merged_scores(maps, grid), argmax_labels(grid.stack(maps), grid))


def test_a_class_that_is_second_best_on_every_patch_can_still_win_between_them() -> None:
    grid = WindowGrid.plan((56, 56), (56, 56), window_px=56, stride_px=28, grid_hw=(1, 2))
    maps = np.array([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.9, 0.9]]]], dtype=np.float32)
    found = argmax_labels(grid.stack(maps), grid)
    assert set(found[0]) == {0, 1, 2}
    assert_equal_as_defined(reference.merged_scores(maps, grid), found)


def test_ties_go_to_the_lowest_index() -> None:
    grid = WindowGrid.plan((60, 90), (60, 90), window_px=56, stride_px=28, grid_hw=(4, 4))
    maps = np.repeat(smooth_maps(np.random.default_rng(1), grid.count, 1, 4), 5, axis=1)
    assert not argmax_labels(grid.stack(maps), grid).any()


@pytest.mark.real
@pytest.mark.skipif(not BACKBONE.is_file(), reason="the real images and weights are not here")
@pytest.mark.parametrize("classes", [2, 171, 1203])
def test_fast_labels_equal_the_slow_reference_on_features_of_photographs(classes: int) -> None:
    import torch

    from ovsdino.backbone_weights import load_backbone_weights
    from ovsdino.config import ModelConfig
    from ovsdino.model import OVSDINO
    from ovsdino_runtime.preprocess import load_image, resize

    name = "vit_small_patch14_dinov2"
    torch.manual_seed(0)
    model = OVSDINO(ModelConfig(backbone=name, backbone_trainable_blocks=0)).eval()
    model.load_backbone(load_backbone_weights(name, str(BACKBONE)))
    image = load_image(sorted((SHARED / "data" / "camvid" / "val" / "images").iterdir())[0])
    size = image.shape[:2]
    target = resized_hw(size, 448, 2048)
    grid = WindowGrid.plan(size, target, window_px=448, stride_px=224, grid_hw=(32, 32))
    with torch.inference_mode():
        features = model(torch.from_numpy(grid.cut(resize(image, target)))).embeddings.numpy()
    # random heads leave all patches much alike: without their mean the classes take turns
    features = features - features.mean(axis=(0, 2, 3), keepdims=True)
    text = np.random.default_rng(classes).normal(size=(classes, features.shape[1])).astype(np.float32)
    maps = np.einsum("ndhw,cd->nchw", features, text, optimize=True)
    found = argmax_labels(grid.stack(maps), grid)
    assert len(np.unique(found)) >= min(classes, 5)
    assert_equal_as_defined(reference.merged_scores(maps, grid), found)
