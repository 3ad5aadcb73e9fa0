"""What forms of a bundle make of the windows that a reference holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovsdino_bench.recorded import Recorded, RecordedImage
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.errors import DataError, InferenceError
from ovsdino_runtime.manifest import Manifest
from ovsdino_runtime.preprocess import resized_hw
from ovsdino_runtime.question import Question
from ovsdino_runtime.render import Labels
from ovsdino_runtime.segmenter import EncodedImage, Segmenter
from ovsdino_runtime.windows import WindowGrid


def features_of(form: str, backend: Backend, image: RecordedImage) -> NDArray[np.float32]:
    """Return a form's features of the windows PyTorch saw, float32 [n, D, h, w].

    Raises:
        InferenceError: it fails, or its features are of another shape than PyTorch's.
    """
    features = backend.features(image.windows)
    if features.shape != image.features.shape:
        raise InferenceError(
            f"{form} gave features of {features.shape} for {image.file}, PyTorch gave "
            f"{image.features.shape}; build or export that form again"
        )
    return features


def labels_of(
    segmenter: Segmenter, features: NDArray[np.float32], grid: WindowGrid, question: Question
) -> Labels:
    """Return the labels that features give, [H, W].

    What is not finite counts as zero: it misses every gate by its cosines, a label it has none.
    """
    finite = EncodedImage(features=np.nan_to_num(features, posinf=0, neginf=0), grid=grid)
    return segmenter.segment(finite, question).labels


def recorded_grid(reference: Recorded, manifest: Manifest, image: RecordedImage) -> WindowGrid:
    """Return where the windows of a recorded image lie.

    Raises:
        DataError: its features are not of these windows.
    """
    grid = grid_of(manifest, image.size_hw)
    if image.features.shape != (grid.count, manifest.embedding_dim, *manifest.grid_hw):
        raise DataError(f"{reference.path}: features of {image.file} do not fit the bundle's windows")
    return grid


def grid_of(manifest: Manifest, size_hw: tuple[int, int]) -> WindowGrid:
    """Return where the windows of an image of a size lie."""
    return WindowGrid.plan(
        size_hw,
        resized_hw(size_hw, manifest.short_side_px, manifest.long_side_px),
        window_px=manifest.window_px,
        stride_px=manifest.stride_px,
        grid_hw=manifest.grid_hw,
    )
