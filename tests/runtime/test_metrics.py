"""mIoU against scikit-learn, agreement and gates against planted differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score

from ovsdino_runtime.metrics import (
    GATES,
    IGNORE,
    Agreement,
    agreement,
    confusion,
    iou_per_class,
    mean_iou,
)


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(2, 9), seed=st.integers(0, 2**32 - 1))
def test_confusion_and_iou_equal_scikit_learn(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (17, 23)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = IGNORE
    found = rng.integers(0, classes, truth.shape).astype(np.uint8)
    counts = confusion(truth, found, classes)
    kept = truth != IGNORE
    labels = list(range(classes))
    np.testing.assert_array_equal(counts, confusion_matrix(truth[kept], found[kept], labels=labels))
    expected = jaccard_score(truth[kept], found[kept], labels=labels, average=None, zero_division=0)
    occurring = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    np.testing.assert_allclose(iou_per_class(counts)[occurring], expected[occurring])
    assert math.isclose(mean_iou(counts), expected[occurring].mean())


def test_a_class_that_never_occurs_does_not_count() -> None:
    counts = confusion(np.array([[0, 1]]), np.array([[0, 1]]), 3)
    assert math.isnan(iou_per_class(counts)[2])
    assert mean_iou(counts) == 1.0
    assert math.isnan(mean_iou(np.zeros((2, 2), dtype=np.int64)))


@pytest.mark.parametrize(("truth", "found"), [([[3]], [[0]]), ([[0]], [[7]])])
def test_a_label_outside_the_classes_is_refused(truth: list[list[int]], found: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="outside the 2 classes"):
        confusion(np.array(truth), np.array(found), 2)


def features(seed: int) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(2, 8, 5, 5))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_equal_features_pass_every_gate_and_noise_fails_the_right_ones() -> None:
    reference, text = features(0), features(1)[0, :, 0].T
    for gate in GATES.values():
        assert agreement(reference, reference, text).failures(gate) == []
    noisy = reference + np.random.default_rng(2).normal(scale=2e-3, size=reference.shape).astype(np.float32)
    measured = agreement(reference, noisy, text)
    assert 0.9999 < measured.cosine_mean < 0.99999
    assert any("mean patch cosine" in line for line in measured.failures(GATES["fp32"]))
    assert not any("cosine" in line for line in measured.failures(GATES["fp16"]))


@pytest.mark.parametrize("form", GATES)
def test_every_figure_is_held_to_its_own_limit_and_meets_it_exactly(form: str) -> None:
    gate = GATES[form]
    limits = gate.cosine_mean, gate.cosine_p1, gate.label_agreement
    assert gate.missed(*limits) == []
    names = "mean patch cosine", "1st percentile of patch cosines", "label agreement"
    for place, (name, limit) in enumerate(zip(names, limits, strict=True)):
        figures = [1.0, 1.0, 1.0]
        figures[place] = math.nextafter(limit, 0)
        said = f"{name} is {figures[place]:.6f}, the gate is {limit}"
        assert gate.missed(*figures) == [said]
        assert gate.missed_cosines(*figures[:2]) == ([said] if place < 2 else [])
        assert gate.missed_labels(figures[2]) == ([said] if place == 2 else [])


def test_an_agreement_is_held_to_the_gate_by_its_mean_its_percentile_and_its_clear_labels() -> None:
    gate = GATES["int8"]
    met = Agreement(
        cosine_mean=gate.cosine_mean,
        cosine_p1=gate.cosine_p1,
        cosine_min=0.0,  # of one patch
        relative_frobenius=1.0,
        label_agreement=0.0,  # most of the labels may be unclear
        clear_label_agreement=gate.label_agreement,
        clear_share=0.1,
    )
    assert met.failures(gate) == []
    below = {name: math.nextafter(getattr(met, name), 0) for name in ("cosine_mean", "cosine_p1")}
    assert replace(met, **below).failures(gate) == [
        "mean patch cosine is 0.990000, the gate is 0.99",
        "1st percentile of patch cosines is 0.950000, the gate is 0.95",
    ]
    assert replace(met, clear_label_agreement=0.98).failures(gate) == [
        "clear label agreement is 0.980000, the gate is 0.985"
    ]


@pytest.mark.parametrize("form", GATES)
@settings(max_examples=25, deadline=None)
@given(classes=st.integers(1, 60), dim=st.integers(2, 12), seed=st.integers(0, 2**32 - 1))
def test_what_just_meets_the_gate_on_cosines_keeps_every_clear_label(
    form: str, classes: int, dim: int, seed: int
) -> None:
    rng, gate = np.random.default_rng(seed), GATES[form]
    reference, text = _unit(rng.normal(size=(300, dim))), _unit(rng.normal(size=(classes, dim)))
    sideways = rng.normal(size=reference.shape)
    sideways = _unit(sideways - (sideways * reference).sum(axis=1, keepdims=True) * reference)
    cosine = 1 - 0.98 * (1 - gate.cosine_mean)
    moved = cosine * reference + math.sqrt(1 - cosine**2) * sideways
    measured = agreement(_as_features(reference), _as_features(moved), text.astype(np.float32), gate.reach)
    assert measured.clear_label_agreement == 1
    assert measured.failures(gate) == []


def test_among_many_names_labels_of_all_places_would_refuse_what_the_gate_on_cosines_takes() -> None:
    rng, gate = np.random.default_rng(0), GATES["fp16"]
    reference, text = _unit(rng.normal(size=(2000, 16))), _unit(rng.normal(size=(400, 16)))
    moved = _unit(reference + rng.normal(scale=2e-3, size=reference.shape))
    given = _as_features(reference), _as_features(moved), text.astype(np.float32)
    measured = agreement(*given, gate.reach)
    assert measured.cosine_mean > 0.99995  # a tenth of what the gate lets pass
    assert measured.label_agreement < gate.label_agreement
    assert 0.2 < measured.clear_share < 1
    assert measured.failures(gate) == []
    every = agreement(*given)
    assert (every.clear_share, every.clear_label_agreement) == (1, measured.label_agreement)


def test_clear_labels_that_are_lost_miss_the_gate_and_a_name_s_double_makes_none_unclear() -> None:
    rng, gate = np.random.default_rng(0), GATES["fp16"]
    reference, text = _unit(rng.normal(size=(1000, 8))), _unit(rng.normal(size=(5, 8))).astype(np.float32)
    lost = reference.copy()
    lost[:20] *= -1
    measured = agreement(_as_features(reference), _as_features(lost), text, gate.reach)
    assert any("clear label agreement is 0.9" in failure for failure in measured.failures(gate))
    doubled = np.concatenate([text, text[2:3]])
    again = agreement(_as_features(reference), _as_features(lost), doubled, gate.reach)
    assert again.clear_share == pytest.approx(measured.clear_share)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _as_features(patches: np.ndarray) -> np.ndarray:
    """Return patches [n, D] as features float32 [1, D, n, 1]."""
    return np.ascontiguousarray(patches.T[None, :, :, None], dtype=np.float32)


def test_features_that_are_not_finite_fail_every_gate() -> None:
    reference, text = features(0), features(1)[0, :, 0].T
    broken = reference.copy()
    broken[0, 0, 0, 0] = np.inf
    for gate in GATES.values():
        assert len(agreement(reference, broken, text).failures(gate)) == 3


def test_features_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        agreement(features(0), features(0)[:1], features(1)[0, :, 0].T)
