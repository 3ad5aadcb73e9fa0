"""How scores and labels that a baked graph gives agree with what they must be, and which gates they miss."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.metrics import Gate, label_figures

_SEEN_SHARE, _LEAST_OF_A_CLASS = 0.005, 0.5  # of the places


def scores_agreement(
    reference: NDArray[np.float32], found: NDArray[np.float32], gate: Gate
) -> tuple[dict[str, float], list[str]]:
    """Return how cosines [n, C, h, w] agree, and what misses the gate.

    Features whose cosine is c lie sqrt(2 - 2c) apart, and no cosine with a unit vector can differ by
    more: that is what the gate on features means for scores. Labels are held to theirs where they are clear,
    see `leads_of`.
    """
    limit = math.sqrt(2 - 2 * gate.cosine_p1)
    difference = float(np.abs(found - reference).max())
    failures = (
        []
        if difference <= limit
        else [f"the largest difference of a cosine is {difference:.6f}, the gate is {limit:.6f}"]
    )
    best = reference.argmax(axis=1), found.argmax(axis=1)
    labels, missed = labels_agreement(*best, gate, leads_of(reference))
    return {"score_difference_max": difference, **labels}, failures + missed


def leads_of(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return by how much the best class leads the next, float [n, …], for cosines [n, C, …].

    Ours: a label is clear (see `ovsdino_runtime.metrics.Agreement`) where this is at least the gate's reach.
    That takes two classes' text vectors to lie 1 apart, a cosine of 0.5, where those of CLIP lie nearer.
    """
    if scores.shape[1] == 1:
        return np.full_like(scores[:, 0], np.inf)
    best = np.partition(scores, -2, axis=1)
    lead: NDArray[np.floating] = best[:, -1] - best[:, -2]
    return lead


def labels_agreement(
    reference: NDArray[np.generic],
    found: NDArray[np.generic],
    gate: Gate,
    leads: NDArray[np.floating] | None = None,
) -> tuple[dict[str, float], list[str]]:
    """Return how labels [n, H, W] agree, and what misses the gate.

    Args:
        reference: what they must be.
        found: what they are.
        gate: what they are held to.
        leads: the reference's, see `leads_of`; where nobody knows them, every label counts.
    """
    same = np.asarray(found == reference)
    if leads is None:
        share = float(same.mean())
        return {"label_agreement": share}, gate.missed_labels(share)
    figures = label_figures(same, leads >= gate.reach)
    return figures, gate.missed_clear_labels(figures["clear_label_agreement"])


def classes_agreement(
    reference: NDArray[np.generic], found: NDArray[np.generic]
) -> tuple[dict[str, float], list[str]]:
    """Return how labels [n, H, W] agree class by class, and what is missed.

    Ours: where one class covers nearly all, an answer that is always this one would pass every gate on the
    share of labels. So each class that covers half a percent must be found on half of its places, clear or
    not.
    """
    numbers, sizes = np.unique(reference, return_counts=True)
    seen = numbers[sizes >= _SEEN_SHARE * reference.size]
    shares = [float((found[reference == number] == number).mean()) for number in seen]
    figures = {"classes_seen": float(len(seen)), "class_agreement_min": min(shares, default=1.0)}
    return figures, [
        f"class {number} is found on {share:.1%} of its places, at least half are needed"
        for number, share in zip(seen, shares, strict=True)
        if share < _LEAST_OF_A_CLASS
    ]
