"""The ways that are timed against each other: forms of a bundle and named alternatives in PyTorch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovsdino_bench.failures import Failures
from ovsdino_bench.forms import FORMS, runnable
from ovsdino_bench.measured import CheckpointSource
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.extras import needing
from ovsdino_runtime.preprocess import load_image
from ovsdino_runtime.question import Question
from ovsdino_runtime.render import Labels, save_labels, save_overlay
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import Vocabulary

ALTERNATIVES: Mapping[str, str] = {
    "pytorch-eager": "PyTorch, FP32, all windows in one batch",
    "pytorch-bf16": "PyTorch under bfloat16 autocast",
    "pytorch-fp16": "PyTorch under FP16 autocast, CUDA only",
    "torch-compile": "PyTorch, FP32, torch.compile",
    "mmseg-style": "PyTorch, FP32, windows one at a time into C x H x W logits",
}
TIMED_FORMS = tuple(name for name in FORMS if not name.endswith("-emulated"))  # emulation proves, it is slow
STAGES = ("decode", "resize", "windows", "backbone", "text", "merge", "write", "total")
Classes = Sequence[str] | Vocabulary


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way from a picture to labels.

    Attributes:
        name: a form, or one of `ALTERNATIVES`.
        segmenter: the bundle's text and geometry, with the way's backend.
    """

    name: str
    segmenter: Segmenter

    @property
    def engine(self) -> Any:
        """The `TrtEngine` that computes its features; None where TensorRT does not."""
        return getattr(self.segmenter.backend, "engine", None)

    @property
    def largest_batch(self) -> int | None:
        """The most windows that its engine takes at once; None where nothing limits it."""
        return None if self.engine is None else int(self.engine.profile.most)

    def run(self, picture: Path, classes: Classes, folder: Path) -> dict[str, float]:
        """Read, segment, draw and write one picture; return milliseconds by stage, and in all.

        Args:
            picture: the file.
            classes: names, or a vocabulary.
            folder: where labels and overlay go.

        Raises:
            ImageError, InferenceError, VocabularyError: see `Segmenter`.
        """
        start = time.perf_counter()
        pixels = load_image(picture)
        decoded = time.perf_counter()
        labels, names, background, timings = self._labels(pixels, classes)
        segmented = time.perf_counter()
        save_labels(folder / "labels.png", labels, names, background_index=background)
        save_overlay(folder / "overlay.png", pixels, labels, names, background_index=background)
        end = time.perf_counter()
        return {
            **timings,
            "decode": 1000 * (decoded - start),
            "write": 1000 * (end - segmented),
            "total": 1000 * (end - start),
        }

    def _labels(
        self, pixels: Any, classes: Classes
    ) -> tuple[Labels, tuple[str, ...], int | None, dict[str, float]]:
        if self.name != "mmseg-style":
            found = self.segmenter.segment(pixels, classes)
            return found.labels, found.names, found.background_index, dict(found.timings_ms)
        start = time.perf_counter()
        question = self.segmenter.ask(classes)
        asked = time.perf_counter()
        encoded = self.segmenter.encode(pixels)
        before = time.perf_counter()
        device = "cuda" if "cuda" in self.segmenter.backend.name else "cpu"
        labels = _usual(encoded.features, question, encoded.grid, device)
        timings = {
            **encoded.timings_ms,
            "text": 1000 * (asked - start),
            "merge": 1000 * (time.perf_counter() - before),
        }
        return labels, question.names, question.background_index, timings


def open_way(name: str, bundle: Bundle, source: CheckpointSource | None, *, known: bool = False) -> Way:
    """Open a form or an alternative.

    Args:
        name: one of `TIMED_FORMS` or `ALTERNATIVES`.
        bundle: geometry and text of all ways.
        source: the checkpoint that alternatives run.
        known: whether the checkpoint is known to be the bundle's, and need not be held against it.

    Raises:
        BackendUnavailable: it cannot be had here.
        BundleError: the form's graph cannot be loaded.
        CheckpointError: the checkpoint cannot be used, or is not the bundle's.
        DataError: there is no such way, or an alternative has no checkpoint.
        InferenceError: PyTorch cannot take the model.
    """
    if name in TIMED_FORMS:
        return Way(name=name, segmenter=Segmenter(bundle, FORMS[name].open(bundle)))
    if name not in ALTERNATIVES:
        ways = ", ".join((*TIMED_FORMS, *ALTERNATIVES))
        raise DataError(f"there is no way called {name!r} to time; there are {ways}")
    if source is None:
        raise DataError(f"{name} runs a checkpoint in PyTorch; name it with --checkpoint")
    with needing("bench", f"timing {name}"):
        from ovsdino_bench.alternatives import open_alternative  # noqa: PLC0415 - torch is optional
    backend = open_alternative(name, source, None if known else bundle)
    return Way(name=name, segmenter=Segmenter(bundle, backend))


def open_all(bundle: Bundle, failures: Failures) -> tuple[list[Way], dict[str, str]]:
    """Return the forms that run here, and for the others why they cannot be had; see `runnable`."""
    opened, missing = runnable(bundle, failures, TIMED_FORMS)
    return [Way(name=name, segmenter=Segmenter(bundle, item)) for name, item in opened.items()], missing


def _usual(features: Any, question: Question, grid: Any, device: str) -> Labels:
    """Return labels as segmentation frameworks merge windows: where the model ran, a GPU's on the GPU."""
    import torch  # noqa: PLC0415 - torch is optional

    from ovsdino_bench.merging import usual_labels  # noqa: PLC0415 - needs torch

    windows, text = (torch.from_numpy(item).to(device) for item in (features, question.embeddings))
    maps = torch.einsum("ndhw,pd->nphw", windows, text)
    small = len(question.names) <= 256
    groups: Labels = question.groups.astype(np.uint8) if small else question.groups.astype(np.uint16)
    return groups[usual_labels(maps, grid)]
