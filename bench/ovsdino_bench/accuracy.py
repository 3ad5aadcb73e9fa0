"""mIoU of one or several backends on the same images, through the same Segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino_bench.bootstrap import miou_interval
from ovsdino_bench.boundary import BoundaryCounts, count_boundaries
from ovsdino_bench.folder import UNLABELLED, LabelledImage
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.bundle import IMAGE_GRAPH, Bundle
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.manifest import Manifest
from ovsdino_runtime.metrics import confusion, iou_per_class, mean_iou
from ovsdino_runtime.segmenter import Question, Segmenter

_MISTAKES = 3  # classes that a class is mistaken for, in a report


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What one backend reached.

    Attributes:
        backend: what ran.
        names: the classes.
        counts: pixels by image and (true, predicted) class, int64 [N, C, C].
        boundaries: boundary pixels by class, over all images.
    """

    backend: str
    names: tuple[str, ...]
    counts: NDArray[np.int64]
    boundaries: BoundaryCounts

    @property
    def miou(self) -> float:
        """Mean IoU in [0, 1]."""
        return mean_iou(self.counts.sum(axis=0))

    def as_dict(self, block: int = 1) -> dict[str, Any]:
        """Return the figures as JSON takes them; null where a class never occurs.

        Args:
            block: neighbouring images that count as one sample, see `miou_interval`.
        """
        score = self.boundaries.f_score()
        known = score[np.isfinite(score)]
        return {
            "backend": self.backend,
            "miou": self.miou,
            "miou_interval_95": list(miou_interval(self.counts, block=block)),
            "block": block,
            "iou": _by_name(self.names, iou_per_class(self.counts.sum(axis=0))),
            "boundary_f_mean": float(known.mean()) if known.size else None,
            "boundary_f": _by_name(self.names, score),
            "taken_for": _taken_for(self.names, self.counts.sum(axis=0)),
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Accuracy of every backend, and how far their labels agree with the first one's.

    Attributes:
        images: number of images.
        accuracies: one a backend, in the order given.
        label_agreement: by backend name, share of pixels with the first backend's label.
    """

    images: int
    accuracies: tuple[Accuracy, ...]
    label_agreement: Mapping[str, float]

    def as_dict(self, block: int = 1) -> dict[str, Any]:
        """Return the figures as JSON takes them; `block` as in `Accuracy.as_dict`."""
        return {
            "images": self.images,
            "backends": [item.as_dict(block) for item in self.accuracies],
            "label_agreement_with_first": dict(self.label_agreement),
        }


def measure(
    bundle: Bundle, backends: Sequence[Backend], images: Sequence[LabelledImage], classes: Sequence[str]
) -> Comparison:
    """Run every backend over the images and count.

    Args:
        bundle: geometry and text embeddings, the same for all.
        backends: what turns windows into features; the first is the reference for agreement.
        images: pictures with ground truth.
        classes: names in label order; `label=prompt|prompt` as on the command line,
            `-` for values that are unlabelled.

    Raises:
        DataError: labels and picture differ in size, or labels cannot be read.
        ImageError: a picture cannot be read.
    """
    segmenters = [Segmenter(bundle, backend) for backend in backends]
    question: Question = segmenters[0].ask([name for name in classes if name != UNLABELLED], "none")
    classes_asked = len(question.names)
    counts: list[list[NDArray[np.int64]]] = [[] for _ in backends]
    boundaries = [BoundaryCounts.none(classes_asked) for _ in backends]
    same = np.zeros(len(backends), dtype=np.int64)
    pixels = 0
    for item in tqdm(images, desc="accuracy", unit="image"):
        truth = item.truth()
        results = [segmenter.segment(item.image, question).labels for segmenter in segmenters]
        if truth.shape != results[0].shape:
            raise DataError(f"{item.image} is {results[0].shape}, but its labels are {truth.shape}")
        for index, labels in enumerate(results):
            counts[index].append(confusion(truth, labels, classes_asked))
            boundaries[index] += count_boundaries(truth, labels, classes_asked)
            same[index] += int((labels == results[0]).sum())
        pixels += truth.size
    return Comparison(
        images=len(images),
        accuracies=tuple(
            Accuracy(backend=backend.name, names=question.names, counts=np.stack(count), boundaries=ring)
            for backend, count, ring in zip(backends, counts, boundaries, strict=True)
        ),
        label_agreement={
            backend.name: float(agreeing / pixels) for backend, agreeing in zip(backends, same, strict=True)
        },
    )


def describe(manifest: Manifest, data: str) -> dict[str, Any]:
    """Return what was measured, as JSON takes it.

    Args:
        manifest: the bundle's.
        data: how the data were named.
    """
    recorded = manifest.provenance
    return {
        "data": data,
        "model": {
            "name": manifest.name,
            "backbone": manifest.backbone.name,
            "grid_hw": list(manifest.grid_hw),
            "steps": recorded.get("steps_done"),
            "scalars": recorded.get("scalars"),
            "image_graph_sha256": manifest.files[IMAGE_GRAPH].sha256,
        },
    }


def _taken_for(names: Sequence[str], counts: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Return for each class the classes most of its pixels are mistaken for, with their share of them."""
    mistaken: dict[str, dict[str, float]] = {}
    for place, name in enumerate(names):
        shares = counts[place] / max(1, counts[place].sum())
        shares[place] = 0
        most = [other for other in np.argsort(-shares, kind="stable")[:_MISTAKES] if shares[other] > 0]
        mistaken[name] = {names[other]: float(shares[other]) for other in most}
    return mistaken


def _by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    return {
        name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)
    }
