"""The story: image -> windows -> features -> scores -> labels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from ovsdino_runtime.backends import Backend
from ovsdino_runtime.backends.selection import DeviceChoice, PrecisionChoice, choose_backend
from ovsdino_runtime.background import Background
from ovsdino_runtime.builtin import open_bundle
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import BundleError, InferenceError
from ovsdino_runtime.labels import argmax_labels, count_labels
from ovsdino_runtime.preprocess import as_rgb, load_image, resize, resized_hw
from ovsdino_runtime.question import Question, prepare_question
from ovsdino_runtime.text import TextEmbeddings
from ovsdino_runtime.vocabulary import ClassQuery, Vocabulary
from ovsdino_runtime.windows import WindowGrid

Labels = NDArray[np.uint8] | NDArray[np.uint16]
Picture = Path | str | NDArray[np.generic] | PIL.Image.Image


@dataclass(frozen=True, kw_only=True)
class EncodedImage:
    """An image's features; any number of questions can be asked of them.

    Attributes:
        features: float32 [n, D, h, w], L2-normalised, windows in row-major order.
        grid: where the windows lie.
        timings_ms: milliseconds by stage.
    """

    features: NDArray[np.float32]
    grid: WindowGrid
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """A label for every pixel.

    Attributes:
        labels: [H, W], indices into `names`; uint8 up to 256 names, else uint16.
        names: labels in output order, as in the question.
        background_index: index of the background in `names`, or None.
        area_px: pixels by class.
        timings_ms: milliseconds by stage.
        scores: cosines of the classes, float32 [C, H, W], if they were asked for.
    """

    labels: Labels
    names: tuple[str, ...]
    background_index: int | None
    area_px: tuple[int, ...]
    timings_ms: dict[str, float]
    scores: NDArray[np.float32] | None = None

    @property
    def area_share(self) -> tuple[float, ...]:
        """Share of the image by class, in [0, 1]."""
        return tuple(area / self.labels.size for area in self.area_px)


class Segmenter:
    """Segments images into any classes the bundle's text side can express.

    Attributes:
        bundle: what is served.
        backend: what runs the image graph.
        text: names to embeddings.
        note: what a person should know about the choice of the backend, or None.
    """

    def __init__(self, bundle: Bundle, backend: Backend, note: str | None = None) -> None:
        self.bundle = bundle
        self.backend = backend
        self.note = note
        self.text = TextEmbeddings(bundle)

    @classmethod
    def open(
        cls,
        bundle: Path | str | None = None,
        device: DeviceChoice = "auto",
        precision: PrecisionChoice = "auto",
    ) -> Segmenter:
        """Open a bundle on a device; see `choose_backend`.

        Args:
            bundle: its folder; None takes the small one inside the package.
            device: where to compute.
            precision: what to compute in.

        Raises:
            BundleError: the bundle is missing, changed or broken.
            BackendUnavailable: the device cannot be had.
        """
        opened = open_bundle(bundle)
        return cls(opened, *choose_backend(opened, device, precision))

    def ask(
        self, classes: Sequence[str | ClassQuery] | Vocabulary, background: Background | str = "auto"
    ) -> Question:
        """Prepare classes to look for.

        Args:
            classes: names as people write them, or a benchmark's vocabulary, which uses its own vectors.
            background: what happens to pixels of none of the classes, see `parse_background`.

        Raises:
            VocabularyError: a name is unknown, twice there or missing, or the policy makes no sense.
            TypeError: `classes` is one text instead of a list.
        """
        return prepare_question(self.text, classes, background)

    def encode(self, image: Picture) -> EncodedImage:
        """Return an image's features, all windows in one batch.

        Args:
            image: a file, a Pillow image, or an array [H, W], [H, W, 3] or [H, W, 4].

        Raises:
            ImageError: the picture cannot be read.
            InferenceError: the backend fails, or its features are not finite.
            BundleError: the graph's features are not of the shape that the manifest says.
        """
        timings: dict[str, float] = {}
        manifest = self.bundle.manifest
        with _timed(timings, "decode"):
            pixels = load_image(image) if isinstance(image, (str, Path)) else as_rgb(image)
        size = (pixels.shape[0], pixels.shape[1])
        target = resized_hw(size, manifest.short_side_px, manifest.long_side_px)
        with _timed(timings, "resize"):
            resized = resize(pixels, target)
        with _timed(timings, "windows"):
            grid = WindowGrid.plan(
                size,
                target,
                window_px=manifest.window_px,
                stride_px=manifest.stride_px,
                grid_hw=manifest.grid_hw,
            )
            windows = grid.cut(resized)
        with _timed(timings, "backbone"):
            features = self.backend.features(windows)
        expected = (grid.count, manifest.embedding_dim, *manifest.grid_hw)
        if features.shape != expected:
            raise BundleError(
                f"the manifest of {self.bundle.path} promises features of {expected}, "
                f"{self.backend.name} gave {features.shape}; export the bundle again"
            )
        if not np.isfinite(features).all():
            raise InferenceError(
                f"{self.backend.name} gave features that are not finite; use another --device, or export "
                "the bundle again"
            )
        return EncodedImage(features=features, grid=grid, timings_ms=timings)

    def segment(
        self,
        image: Picture | EncodedImage,
        classes: Sequence[str | ClassQuery] | Vocabulary | Question,
        *,
        background: Background | str = "auto",
        scores: bool = False,
    ) -> Segmentation:
        """Return the best class of every pixel.

        Args:
            image: see `encode`, or what `encode` returned.
            classes: see `ask`, or what `ask` returned.
            background: see `ask`; not used with a ready question.
            scores: whether to return the cosines too, which takes C x H x W floats.

        Raises:
            ImageError: the picture cannot be read.
            VocabularyError: see `ask`.
        """
        timings: dict[str, float] = {}
        with _timed(timings, "text"):
            question = classes if isinstance(classes, Question) else self.ask(classes, background)
        encoded = image if isinstance(image, EncodedImage) else self.encode(image)
        with _timed(timings, "merge"):
            stacked = encoded.grid.stack(_scores(encoded.features, question))
            groups = question.groups
            if question.threshold is not None:  # a plane of its own, the same everywhere
                stacked = np.concatenate([stacked, np.full_like(stacked[:1], question.threshold)])
                groups = np.append(groups, groups[-1] + 1)
            small = len(question.names) <= 256
            classes_of: Labels = groups.astype(np.uint8) if small else groups.astype(np.uint16)
            labels: Labels = classes_of[argmax_labels(stacked, encoded.grid)]
        merged = None
        if scores:
            with _timed(timings, "scores"):
                merged = encoded.grid.merge(stacked, groups)
        return Segmentation(
            labels=labels,
            names=question.names,
            background_index=question.background_index,
            area_px=count_labels(labels, len(question.names)),
            timings_ms={**encoded.timings_ms, **timings},
            scores=merged,
        )


def _scores(features: NDArray[np.float32], question: Question) -> NDArray[np.float32]:
    """Return the cosines of every patch, [n, P, h, w]."""
    count, dim, height, width = features.shape
    flat = question.embeddings @ features.reshape(count, dim, height * width)
    return flat.reshape(count, len(question.embeddings), height, width)


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    timings[stage] = (time.perf_counter() - start) * 1000
