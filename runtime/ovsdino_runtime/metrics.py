"""How well two results agree: mIoU, feature agreement, and the gates that decide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

IGNORE = 255
_PATCHES = 4096  # looked at at once: each has a cosine with every one of some hundred names
_SAME_VECTOR = 1e-6  # names whose vectors lie nearer than this have the same one


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What an artifact of one precision must reach against PyTorch FP32.

    Attributes:
        cosine_mean: least mean of the per-patch cosines.
        cosine_p1: least 1st percentile of the per-patch cosines.
        label_agreement: least share of pixels with the same label.
        delta_miou_points: largest loss of mIoU, in points of 100.
    """

    cosine_mean: float
    cosine_p1: float
    label_agreement: float
    delta_miou_points: float

    @property
    def reach(self) -> float:
        """How far a feature of unit norm lies from its reference where its cosine just meets the mean's gate.

        Features whose cosine is c lie sqrt(2 - 2c) apart.
        """
        return math.sqrt(max(0.0, 2 - 2 * self.cosine_mean))

    def missed(self, cosine_mean: float, cosine_p1: float, label_agreement: float) -> list[str]:
        """Return which figures miss their part of the gate, one sentence each."""
        return [*self.missed_cosines(cosine_mean, cosine_p1), *self.missed_labels(label_agreement)]

    def missed_cosines(self, mean: float, p1: float) -> list[str]:
        """Return which of the figures on features miss their part of the gate, one sentence each."""
        return [
            *_below("mean patch cosine", mean, self.cosine_mean),
            *_below("1st percentile of patch cosines", p1, self.cosine_p1),
        ]

    def missed_labels(self, label_agreement: float) -> list[str]:
        """Return a sentence if labels agree less than they must, else nothing."""
        return _below("label agreement", label_agreement, self.label_agreement)

    def missed_clear_labels(self, agreement: float) -> list[str]:
        """Return a sentence if clear labels agree less than labels must, else nothing; see `Agreement`."""
        return _below("clear label agreement", agreement, self.label_agreement)


def _below(name: str, value: float, least: float) -> list[str]:
    # Not `value < least`, so that NaN fails.
    return [] if value >= least else [f"{name} is {value:.6f}, the gate is {least}"]


GATES: Mapping[str, Gate] = {
    "fp32": Gate(cosine_mean=0.99999, cosine_p1=0.9999, label_agreement=0.9995, delta_miou_points=0.02),
    "fp16": Gate(cosine_mean=0.9995, cosine_p1=0.995, label_agreement=0.995, delta_miou_points=0.05),
    "int8": Gate(cosine_mean=0.99, cosine_p1=0.95, label_agreement=0.985, delta_miou_points=0.5),
}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How two sets of features and the labels made from them agree.

    A patch's label is clear where rounding that meets the gate on cosines cannot change it. Ours: labels are
    gated where they are clear. Which of some hundred names is best lies within rounding on much of noise, and
    a share of all patches would refuse what is ten times closer than the gate on cosines asks for.

    Attributes:
        cosine_mean: mean of the per-patch cosines.
        cosine_p1: 1st percentile of the per-patch cosines.
        cosine_min: the worst patch.
        relative_frobenius: ||candidate - reference|| / ||reference||.
        label_agreement: share of patches with the same best class.
        clear_label_agreement: the same of the patches whose label is clear; 1 where none is.
        clear_share: share of patches whose label is clear.
    """

    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    relative_frobenius: float
    label_agreement: float
    clear_label_agreement: float
    clear_share: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)

    def failures(self, gate: Gate) -> list[str]:
        """Return what misses the gate, one sentence each; empty if it is met."""
        return [
            *gate.missed_cosines(self.cosine_mean, self.cosine_p1),
            *gate.missed_clear_labels(self.clear_label_agreement),
        ]


def agreement(
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    reach: float = 0.0,
) -> Agreement:
    """Return how a candidate's features agree with the reference's.

    Args:
        reference: float32 [B, D, h, w].
        candidate: the same shape; may hold NaN or Inf, which then fail every gate.
        embeddings: float32 [C, D], the classes whose argmax a patch's label is.
        reach: a label is clear where the reference must move at least so far before another class is best;
            see `Gate.reach`. By default every label is.

    Raises:
        ValueError: the shapes differ.
    """
    left, right = _patches(reference, candidate)
    if not np.all(np.isfinite(right)):
        nan = float("nan")
        return Agreement(
            cosine_mean=nan,
            cosine_p1=nan,
            cosine_min=nan,
            relative_frobenius=nan,
            label_agreement=nan,
            clear_label_agreement=nan,
            clear_share=nan,
        )
    cosines = _cosines(left, right)
    return Agreement(
        cosine_mean=float(cosines.mean()),
        cosine_p1=float(np.percentile(cosines, 1)),
        cosine_min=float(cosines.min()),
        relative_frobenius=float(np.linalg.norm(right - left) / max(float(np.linalg.norm(left)), 1e-30)),
        **label_figures(*_labels(left, right, embeddings.astype(np.float64), reach)),
    )


def label_figures(same: NDArray[np.bool_], clear: NDArray[np.bool_]) -> dict[str, float]:
    """Return the shares of labels that are the same, of all and of the clear ones, and how many are clear.

    Args:
        same: whether a place has the reference's label, of any shape.
        clear: whether that label is clear, the same shape.
    """
    return {
        "label_agreement": float(same.mean()),
        "clear_label_agreement": float(same[clear].mean()) if clear.any() else 1.0,
        "clear_share": float(clear.mean()),
    }


def _labels(
    left: NDArray[np.float64], right: NDArray[np.float64], text: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each patch whether its best class is the same on both sides, and whether that is clear.

    Between two classes whose vectors lie d apart a label changes once the feature has moved by its lead over
    the other class, divided by d.
    """
    squares = (text**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * text @ text.T, 0))
    apart[apart < _SAME_VECTOR] = np.nan  # the class itself, and what can never be told from it
    same, clear = [], []
    for first in range(0, len(left), _PATCHES):
        part = slice(first, first + _PATCHES)
        scores = left[part] @ text.T
        best = scores.argmax(axis=1)
        lead = scores[np.arange(len(scores)), best][:, None] - scores
        same.append(best == (right[part] @ text.T).argmax(axis=1))
        clear.append(~(lead / apart[best] < reach).any(axis=1))
    return np.concatenate(same), np.concatenate(clear)


def patch_cosines(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of every patch with its reference, float64 [B * h * w]; see `agreement`.

    Raises:
        ValueError: the shapes differ.
    """
    return _cosines(*_patches(reference, candidate))


def _patches(
    reference: NDArray[np.float32], candidate: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference.shape != candidate.shape:
        raise ValueError(f"features of {reference.shape} cannot be compared with {candidate.shape}")
    dim = reference.shape[1]
    left, right = (
        np.moveaxis(features, 1, -1).reshape(-1, dim).astype(np.float64)
        for features in (reference, candidate)
    )
    return left, right


def _cosines(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: NDArray[np.float64] = (left * right).sum(axis=1) / np.maximum(norms, 1e-30)
    return cosines


def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Return pixel counts by (true, predicted) class, int64 [classes, classes]; adds over images.

    Args:
        truth: integer [H, W]; 255 is ignored.
        predicted: integer [H, W] in [0, classes).
        classes: number of classes.

    Raises:
        ValueError: the sizes differ, or a label is outside the classes.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"labels of {truth.shape} cannot be compared with predictions of {predicted.shape}")
    counted = truth != IGNORE
    true, found = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for name, values in (("label", true), ("prediction", found)):
        if values.size and (values.min() < 0 or values.max() >= classes):
            worst = int(values.max() if values.max() >= classes else values.min())
            raise ValueError(f"{name} {worst} is outside the {classes} classes")
    return np.bincount(true * classes + found, minlength=classes * classes).reshape(classes, classes)


def iou_per_class(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return intersection over union by class, float64 [C]; NaN where a class never occurs."""
    intersection = np.diag(counts).astype(np.float64)
    union = counts.sum(axis=0) + counts.sum(axis=1) - np.diag(counts)
    iou = np.full(len(counts), np.nan)
    np.divide(intersection, union, out=iou, where=union > 0)
    return iou


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Return mIoU in [0, 1] over the classes that occur; NaN if none does (docs/protocol.md, step 5)."""
    values = iou_per_class(counts)
    return float(np.nanmean(values)) if np.any(np.isfinite(values)) else float("nan")
