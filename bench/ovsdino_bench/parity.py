"""How far every form of a model agrees with PyTorch FP32, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino_bench.bootstrap import miou_interval
from ovsdino_bench.recorded import Recorded, RecordedImage
from ovsdino_runtime.backends import Backend, NoBackend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError, InferenceError
from ovsdino_runtime.manifest import Manifest
from ovsdino_runtime.metrics import Gate, confusion, mean_iou, patch_cosines
from ovsdino_runtime.preprocess import resized_hw
from ovsdino_runtime.render import Labels
from ovsdino_runtime.segmenter import EncodedImage, Question, Segmenter
from ovsdino_runtime.windows import WindowGrid

_WORST = 5  # images named in a report
GATE_FIELDS = ("cosine_mean", "cosine_p1", "label_agreement", "delta_miou_points")


@dataclass(frozen=True, kw_only=True)
class Form:
    """One runnable form of a bundle.

    Attributes:
        name: what a report calls it: `onnx-fp32-cpu`.
        precision: whose gates it must meet: fp32, fp16 or int8.
        backend: what runs it.
    """

    name: str
    precision: str
    backend: Backend


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How one form agrees with PyTorch FP32 over all images.

    Attributes:
        form: what ran.
        precision: see `Form`.
        cosine_mean: mean of the per-patch cosines.
        cosine_p1: 1st percentile of the per-patch cosines.
        cosine_min: the worst patch.
        relative_frobenius: ||form - PyTorch|| / ||PyTorch||, over all images.
        label_agreement: share of pixels with PyTorch's label.
        miou: of PyTorch and of the form, in [0, 1]; None without ground truth.
        delta_miou_points: the form's mIoU less PyTorch's, in points of 100; None without ground truth.
        delta_interval_95: its block-bootstrap interval, in points; None without ground truth.
        worst: the images whose labels differ most: file and agreement.
    """

    form: str
    precision: str
    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    relative_frobenius: float
    label_agreement: float
    miou: tuple[float, float] | None
    delta_miou_points: float | None
    delta_interval_95: tuple[float, float] | None
    worst: tuple[tuple[str, float], ...]

    def failures(self, gate: Gate) -> list[str]:
        """Return what misses the gate, one sentence each; empty if it is met."""
        found = gate.missed(self.cosine_mean, self.cosine_p1, self.label_agreement)
        if self.delta_miou_points is not None and not self.delta_miou_points >= -gate.delta_miou_points:
            found.append(
                f"mIoU falls by {-self.delta_miou_points:.3f} points, the gate is {gate.delta_miou_points}"
            )
        return found

    def as_dict(self, gate: Gate) -> dict[str, Any]:
        """Return the figures as JSON takes them, with the gate and what misses it."""
        return {
            "form": self.form,
            "precision": self.precision,
            "cosine_mean": self.cosine_mean,
            "cosine_p1": self.cosine_p1,
            "cosine_min": self.cosine_min,
            "relative_frobenius": self.relative_frobenius,
            "label_agreement": self.label_agreement,
            "miou": None if self.miou is None else {"pytorch": self.miou[0], "form": self.miou[1]},
            "delta_miou_points": self.delta_miou_points,
            "delta_interval_95_points": None
            if self.delta_interval_95 is None
            else list(self.delta_interval_95),
            "worst_images": [{"file": file, "label_agreement": share} for file, share in self.worst],
            "gate": {name: getattr(gate, name) for name in GATE_FIELDS},
            "missed": self.failures(gate),
        }


class _Tally:
    """What one form's images add up to."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.cosines: list[NDArray[np.float64]] = []
        self.difference = self.size = 0.0
        self.same: list[tuple[str, int, int]] = []
        self.counts: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(
        self,
        image: RecordedImage,
        features: NDArray[np.float32],
        labels: tuple[NDArray[np.integer], NDArray[np.integer]],
    ) -> None:
        reference, found = labels
        self.cosines.append(patch_cosines(image.features, features))
        difference = (features - image.features).astype(np.float64)
        self.difference += float((difference**2).sum())
        self.size += float((image.features.astype(np.float64) ** 2).sum())
        self.same.append((image.file, int((reference == found).sum()), found.size))
        if image.truth is not None:
            self.counts.append(
                (
                    confusion(image.truth, reference, self.classes),
                    confusion(image.truth, found, self.classes),
                )
            )

    def parity(self, form: Form, block: int) -> Parity:
        cosines = np.concatenate(self.cosines)
        agreeing = sum(same for _, same, _ in self.same) / sum(size for _, _, size in self.same)
        shares = sorted(((file, same / size) for file, same, size in self.same), key=lambda item: item[1])
        miou = delta = interval = None
        if self.counts:
            before = np.stack([counts for counts, _ in self.counts])
            after = np.stack([counts for _, counts in self.counts])
            miou = (mean_iou(before.sum(axis=0)), mean_iou(after.sum(axis=0)))
            delta = 100 * (miou[1] - miou[0])
            low, high = miou_interval(after, block=block, baseline=before)
            interval = (100 * low, 100 * high)
        return Parity(
            form=form.name,
            precision=form.precision,
            cosine_mean=float(cosines.mean()),
            cosine_p1=float(np.percentile(cosines, 1)),
            cosine_min=float(cosines.min()),
            relative_frobenius=float(np.sqrt(self.difference / max(self.size, 1e-30))),
            label_agreement=agreeing,
            miou=miou,
            delta_miou_points=delta,
            delta_interval_95=interval,
            worst=tuple(shares[:_WORST]),
        )


def measure_parity(
    bundle: Bundle, reference: Recorded, forms: Sequence[Form], block: int = 1
) -> tuple[Parity, ...]:
    """Run every form on the recorded windows and return how it agrees with PyTorch.

    The same Segmenter turns PyTorch's and the form's features into labels, so that only the backend differs.

    Args:
        bundle: geometry.
        reference: what PyTorch gave, with the classes.
        forms: what to hold against it.
        block: neighbouring images that count as one sample of the interval.

    Raises:
        DataError: the reference is of another model, or damaged.
        InferenceError: a form fails, or its features are of another shape.
    """
    reference.check(bundle.manifest)
    question = reference.question
    segmenter = Segmenter(bundle, NoBackend())
    tallies = [_Tally(len(question.names)) for _ in forms]
    for image in tqdm(reference, "parity", total=len(reference), unit="image"):
        grid = recorded_grid(reference, bundle.manifest, image)
        expected = labels_of(segmenter, image.features, grid, question)
        for form, tally in zip(forms, tallies, strict=True):
            features = features_of(form.name, form.backend, image)
            tally.add(image, features, (expected, labels_of(segmenter, features, grid, question)))
    return tuple(tally.parity(form, block) for form, tally in zip(forms, tallies, strict=True))


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


def gate_of(precision: str, gates: Mapping[str, Gate], changes: Mapping[str, float]) -> Gate:
    """Return the gate of a precision, some fields changed."""
    return replace(gates[precision], **changes)
