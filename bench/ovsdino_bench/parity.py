"""How far every form of a model agrees with PyTorch FP32, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino_bench.bootstrap import miou_interval
from ovsdino_bench.confusions import Confusions, Counts, entries_of
from ovsdino_bench.failures import OF_ONE, Failures
from ovsdino_bench.plain_json import finite
from ovsdino_bench.recorded import Recorded, RecordedImage
from ovsdino_bench.recorded_windows import features_of, labels_of, recorded_grid
from ovsdino_runtime.backends import Backend, NoBackend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.metrics import Gate, confusion, mean_iou, patch_cosines
from ovsdino_runtime.segmenter import Segmenter

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
        cosine_mean: mean of the per-patch cosines; like all figures on features NaN, which misses every
            gate, where the form's are not finite.
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
        """Return the figures as JSON takes them, None where not finite, with the gate and what misses it."""
        return {
            "form": self.form,
            "precision": self.precision,
            "cosine_mean": finite(self.cosine_mean),
            "cosine_p1": finite(self.cosine_p1),
            "cosine_min": finite(self.cosine_min),
            "relative_frobenius": finite(self.relative_frobenius),
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
        self.before: list[Counts] = []
        self.after: list[Counts] = []

    def add(
        self,
        image: RecordedImage,
        features: NDArray[np.float32],
        labels: tuple[NDArray[np.integer], NDArray[np.integer]],
    ) -> None:
        reference, found = labels
        with np.errstate(invalid="ignore", over="ignore"):  # features may be anything
            self.cosines.append(patch_cosines(image.features, features))
            difference = (features - image.features).astype(np.float64)
            self.difference += float((difference**2).sum())
        self.size += float((image.features.astype(np.float64) ** 2).sum())
        self.same.append((image.file, int((reference == found).sum()), found.size))
        if image.truth is not None:
            self.before.append(entries_of(confusion(image.truth, reference, self.classes)))
            self.after.append(entries_of(confusion(image.truth, found, self.classes)))

    def parity(self, form: Form, block: int) -> Parity:
        cosines = np.concatenate(self.cosines)
        agreeing = sum(same for _, same, _ in self.same) / sum(size for _, _, size in self.same)
        shares = sorted(((file, same / size) for file, same, size in self.same), key=lambda item: item[1])
        miou = delta = interval = None
        before, after = (Confusions.of_images(parts, self.classes) for parts in (self.before, self.after))
        if before.entries.size:  # else no pixel has a true label
            miou = (mean_iou(before.total()), mean_iou(after.total()))
            delta = 100 * (miou[1] - miou[0])
            low, high = miou_interval(after.sums(), block=block, baseline=before.sums())
            interval = (100 * low, 100 * high)
        with np.errstate(invalid="ignore"):  # as above
            mean, first, least = cosines.mean(), np.percentile(cosines, 1), cosines.min()
        return Parity(
            form=form.name,
            precision=form.precision,
            cosine_mean=float(mean),
            cosine_p1=float(first),
            cosine_min=float(least),
            relative_frobenius=float(np.sqrt(self.difference / max(self.size, 1e-30))),
            label_agreement=agreeing,
            miou=miou,
            delta_miou_points=delta,
            delta_interval_95=interval,
            worst=tuple(shares[:_WORST]),
        )


def measure_parity(
    bundle: Bundle, reference: Recorded, forms: Sequence[Form], failures: Failures, block: int = 1
) -> tuple[Parity, ...]:
    """Run every form on the recorded windows and return how it agrees with PyTorch.

    The same Segmenter turns PyTorch's and the form's features into labels, so that only the backend differs.

    Args:
        bundle: geometry.
        reference: what PyTorch gave, with the classes.
        forms: what to hold against it, each of a name of its own.
        failures: takes a form that fails, or whose features are of another shape; it is left out from there.
        block: neighbouring images that count as one sample of the interval.

    Raises:
        DataError: the reference is of another model, or damaged.
    """
    reference.check(bundle.manifest)
    question = reference.question
    segmenter = Segmenter(bundle, NoBackend())
    tallies = {form.name: _Tally(len(question.names)) for form in forms}
    for image in tqdm(reference, "parity", total=len(reference), unit="image"):
        if not tallies:
            break
        grid = recorded_grid(reference, bundle.manifest, image)
        expected = labels_of(segmenter, image.features, grid, question)
        for form in forms:
            if form.name not in tallies:
                continue
            try:
                features = features_of(form.name, form.backend, image)
            except OF_ONE as error:
                failures.add(form.name, image.file, error)
                del tallies[form.name]
                continue
            found = labels_of(segmenter, features, grid, question)
            tallies[form.name].add(image, features, (expected, found))
    return tuple(tallies[form.name].parity(form, block) for form in forms if form.name in tallies)


def how_frames_were_taken(block: int) -> str:
    """Return what an interval takes images for, for people."""
    if block == 1:
        return "frames taken as independent (block 1)"
    return f"runs of {block} neighbouring frames drawn together"


def gate_of(precision: str, gates: Mapping[str, Gate], changes: Mapping[str, float]) -> Gate:
    """Return the gate of a precision, some fields changed."""
    return replace(gates[precision], **changes)
