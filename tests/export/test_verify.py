"""The proof that a graph computes what PyTorch computes: what passes and what must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ovsdino_export.output_agreement import classes_agreement, labels_agreement, leads_of, scores_agreement
from ovsdino_export.verify import (
    golden_windows,
    load_golden,
    run_onnx,
    save_golden,
    verify_features,
    verify_labels,
    verify_scores,
)
from ovsdino_runtime.errors import BundleError, ParityError
from ovsdino_runtime.metrics import GATES
from tests.runtime.pickles import put_pickle

SIDE, DIM = 32, 6
BIAS = np.full(DIM, 20, np.float32)
WEIGHT = np.random.default_rng(0).normal(size=(DIM, 3, 4, 4)).astype(np.float32)
EMBEDDINGS = np.eye(DIM, dtype=np.float32)


def _write(path: Path, weight: NDArray[np.float32] = WEIGHT, batch: str | int = "batch") -> Path:
    """Write a graph whose features are one convolution of the pixels by 4 x 4 patches."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight", "bias"], ["features"], strides=[4, 4]),
    ]
    graph = helper.make_graph(
        nodes,
        "patches",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, DIM, 8, 8])],
        initializer=[numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def _features(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    patches = windows.reshape(len(windows), 8, 4, 8, 4, 3).astype(np.float32)
    return np.einsum("nirjsc,dcrs->ndij", patches, WEIGHT, optimize=True) + BIAS[:, None, None]


@given(side=st.integers(1, 100), seed=st.integers(0, 3))
def test_golden_windows_are_seeded_different_and_reach_both_ends(side: int, seed: int) -> None:
    windows = golden_windows(side, seed)
    assert windows.shape == (4, side, side, 3)
    assert windows.dtype == np.uint8
    assert np.array_equal(windows, golden_windows(side, seed))
    assert set(np.unique(windows[3])) <= {0, 255}
    if side >= 32:
        assert len({window.tobytes() for window in windows}) == 4
        assert set(np.unique(windows[3])) == {0, 255}
        assert not np.array_equal(windows, golden_windows(side, seed + 1))


def test_scenes_are_smooth_where_noise_is_not() -> None:
    windows = golden_windows(112).astype(np.float64)
    steps = np.abs(np.diff(windows, axis=2)).mean(axis=(1, 2, 3))
    assert steps[0] < steps[2] / 4
    assert steps[1] < steps[2] / 4


def test_compact_golden_inputs_are_a_scene_and_the_blocks_with_rounded_features(tmp_path: Path) -> None:
    windows = golden_windows(SIDE)
    features = _features(windows)
    sizes = []
    for compact in (False, True):
        save_golden(tmp_path / "golden.npz", windows, features, compact=compact)
        sizes.append((tmp_path / "golden.npz").stat().st_size)
    kept, rounded = load_golden(tmp_path / "golden.npz")
    np.testing.assert_array_equal(kept, windows[[0, 3]])
    assert rounded.dtype == np.float32
    cosines = (rounded * features[[0, 3]]).sum(1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 1 - 2e-7
    assert sizes[1] < sizes[0] / 2


def test_a_graph_that_computes_the_reference_passes_and_says_how_well(tmp_path: Path) -> None:
    windows = golden_windows(SIDE)
    found = verify_features(_write(tmp_path / "image.onnx"), windows, _features(windows), EMBEDDINGS)
    assert found.cosine_min > 0.999999
    assert found.label_agreement == 1


def test_a_graph_with_slightly_wrong_weights_is_refused(tmp_path: Path) -> None:
    wrong = WEIGHT + np.random.default_rng(1).normal(0, 0.02, WEIGHT.shape).astype(np.float32)
    windows = golden_windows(SIDE)
    with pytest.raises(ParityError, match=r"mean patch cosine is 0\.99\d+, the gate is 0\.99999"):
        verify_features(_write(tmp_path / "image.onnx", wrong), windows, _features(windows), EMBEDDINGS)


def test_a_graph_that_gives_nan_is_refused(tmp_path: Path) -> None:
    windows = golden_windows(SIDE)
    path = _write(tmp_path / "image.onnx", np.full_like(WEIGHT, np.nan))
    with pytest.raises(ParityError, match="nan"):
        verify_features(path, windows, _features(windows), EMBEDDINGS)


def test_a_graph_whose_batch_is_fixed_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "image.onnx", batch=1)
    with pytest.raises(ParityError, match="does not run on a batch of 3"):
        run_onnx(path, golden_windows(SIDE))


def test_a_graph_of_another_output_shape_is_refused(tmp_path: Path) -> None:
    windows = golden_windows(SIDE)
    with pytest.raises(ParityError, match=r"\(4, 6, 8, 8\) where PyTorch gives \(4, 6, 8, 4\)"):
        verify_features(_write(tmp_path / "i.onnx"), windows, _features(windows)[..., :4], EMBEDDINGS)


def test_scores_that_differ_or_are_nan_are_refused(tmp_path: Path) -> None:
    windows = golden_windows(SIDE)
    scores = _features(windows)
    path = _write(tmp_path / "scores.onnx")
    assert verify_scores(path, windows, scores)["label_agreement"] == 1
    with pytest.raises(ParityError, match="largest difference of a cosine"):
        verify_scores(path, windows, scores + np.float32(0.1) * (np.arange(8) == 3))
    with pytest.raises(ParityError, match="nan"):
        verify_scores(_write(tmp_path / "nan.onnx", np.full_like(WEIGHT, np.nan)), windows, scores)


def test_labels_that_differ_in_too_many_pixels_are_refused(tmp_path: Path) -> None:
    windows = golden_windows(SIDE)
    path = _write(tmp_path / "labels.onnx")
    labels = _features(windows).astype(np.float32)
    found = run_onnx(path, windows)
    assert verify_labels(path, windows, found)["label_agreement"] == 1
    with pytest.raises(ParityError, match="label agreement"):
        verify_labels(path, windows, np.where(np.arange(8) == 0, labels + 1, found))


def test_the_lead_is_that_of_the_best_class_over_the_next() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    ranked = np.sort(scores, axis=1)
    np.testing.assert_allclose(leads_of(scores), ranked[:, -1] - ranked[:, -2])
    assert np.isinf(leads_of(scores[:, :1])).all()


def test_labels_are_held_to_the_gate_where_one_class_leads_clearly() -> None:
    gate = GATES["fp16"]
    scores = np.zeros((1, 3, 10, 10), np.float32)
    scores[:, 0], scores[:, 1] = 0.5, 0.5 - 2 * gate.reach
    scores[:, 1, :2] = 0.5 - gate.reach / 2  # a fifth of the places lies within rounding
    rounded = scores.copy()
    rounded[:, 1, :2] += gate.reach
    figures, failures = scores_agreement(scores, rounded, gate)
    assert failures == []
    assert figures["label_agreement"] == pytest.approx(0.8)
    assert (figures["clear_label_agreement"], figures["clear_share"]) == (1, pytest.approx(0.8))
    rounded[:, 1, 5] += 2.5 * gate.reach
    figures, failures = scores_agreement(scores, rounded, gate)
    assert failures == ["clear label agreement is 0.875000, the gate is 0.995"]
    labels, found = scores.argmax(axis=1), rounded.argmax(axis=1)
    assert labels_agreement(labels, found, gate, leads_of(scores))[1] == failures
    known_to_nobody, failures = labels_agreement(labels, found, gate)
    assert known_to_nobody == {"label_agreement": pytest.approx(0.7)}
    assert failures == ["label agreement is 0.700000, the gate is 0.995"]


def test_golden_windows_come_back_from_their_file(tmp_path: Path) -> None:
    windows = golden_windows(SIDE)
    save_golden(tmp_path / "golden.npz", windows, _features(windows))
    read, features = load_golden(tmp_path / "golden.npz")
    assert np.array_equal(read, windows)
    assert np.array_equal(features, _features(windows))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"text"])
def test_a_broken_golden_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(BundleError, match="no golden windows"):
        load_golden(tmp_path / "golden.npz")


@pytest.mark.parametrize("part", ["windows", "features", None])
def test_a_pickle_in_a_golden_file_is_refused_and_not_executed(tmp_path: Path, part: str | None) -> None:
    path, marker, windows = tmp_path / "golden.npz", tmp_path / "executed", golden_windows(SIDE)
    save_golden(path, windows, _features(windows))
    put_pickle(path, part, marker)
    with pytest.raises(BundleError, match=r"golden\.npz holds no golden windows"):
        load_golden(path)
    assert not marker.exists()


def test_a_class_that_is_lost_fails_however_little_it_covers() -> None:
    labels = np.zeros((2, 20, 20), np.int32)
    labels[0, 0, :5] = 2  # 0.6 %
    assert classes_agreement(labels, labels) == ({"classes_seen": 2, "class_agreement_min": 1}, [])
    figures, failures = classes_agreement(labels, np.zeros_like(labels))
    assert figures["class_agreement_min"] == 0
    assert failures == ["class 2 is found on 0.0% of its places, at least half are needed"]
    many = np.arange(400, dtype=np.int32).reshape(1, 20, 20)  # none covers enough to be held to
    assert classes_agreement(many, many) == ({"classes_seen": 0, "class_agreement_min": 1}, [])
    labels[0, 0, 3:] = 0  # 0.4 %: too few to say
    assert classes_agreement(labels, np.zeros_like(labels))[1] == []
