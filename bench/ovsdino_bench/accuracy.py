"""mIoU of one or several backends on the same images, through the same Segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino_bench.folder import LabelledImage
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.metrics import confusion, iou_per_class, mean_iou
from ovsdino_runtime.segmenter import Question, Segmenter


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What one backend reached.

    Attributes:
        backend: what ran.
        names: the classes.
        counts: pixels by (true, predicted) class, int64 [C, C].
    """

    backend: str
    names: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def miou(self) -> float:
        """Mean IoU in [0, 1]."""
        return mean_iou(self.counts)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON takes them; IoU is null where a class never occurs."""
        values = iou_per_class(self.counts)
        return {
            "backend": self.backend,
            "miou": self.miou,
            "iou": {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(self.names, values, strict=True)
            },
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


def compare(
    bundle: Bundle, backends: Sequence[Backend], images: Sequence[LabelledImage], classes: Sequence[str]
) -> Comparison:
    """Run every backend over the images and count.

    Args:
        bundle: geometry and text embeddings, the same for all.
        backends: what turns windows into features; the first is the reference for agreement.
        images: pictures with ground truth.
        classes: names in label order; `label=prompt|prompt` as on the command line.

    Raises:
        DataError: labels and picture differ in size, or labels cannot be read.
        ImageError: a picture cannot be read.
    """
    segmenters = [Segmenter(bundle, backend) for backend in backends]
    question: Question = segmenters[0].ask(classes, "none")
    counts = [np.zeros((len(question.names),) * 2, dtype=np.int64) for _ in backends]
    same = np.zeros(len(backends), dtype=np.int64)
    pixels = 0
    for item in tqdm(images, desc="accuracy", unit="image"):
        truth = item.truth()
        results = [segmenter.segment(item.image, question).labels for segmenter in segmenters]
        if truth.shape != results[0].shape:
            raise DataError(f"{item.image} is {results[0].shape}, but its labels are {truth.shape}")
        for index, labels in enumerate(results):
            counts[index] += confusion(truth, labels, len(question.names))
            same[index] += int((labels == results[0]).sum())
        pixels += truth.size
    return Comparison(
        images=len(images),
        accuracies=tuple(
            Accuracy(backend=backend.name, names=question.names, counts=count)
            for backend, count in zip(backends, counts, strict=True)
        ),
        label_agreement={
            backend.name: float(agreeing / pixels) for backend, agreeing in zip(backends, same, strict=True)
        },
    )
