"""Graphs with their vocabulary inside, against the model, its text vectors and NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

import ovsdino_export.baking
from ovsdino.checkpoint import load_checkpoint
from ovsdino_export.baking import Baked, export_baked
from ovsdino_export.operators import check_file
from ovsdino_export.verify import golden_windows, run_onnx
from ovsdino_runtime.background import parse_background
from ovsdino_runtime.errors import ExportError, OutputError, ParityError, VocabularyError

CLASSES = ("cars", "vehicle=bus|truck", "sky")
SIDE = 64


@pytest.fixture(scope="module")
def windows() -> NDArray[np.uint8]:
    return golden_windows(SIDE, seed=7)  # not those of the export itself


@pytest.fixture(scope="module")
def cosines(tiny_checkpoint, windows: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Each name's cosines, [n, h, w], from the model and the vectors alone."""
    model, _ = load_checkpoint(tiny_checkpoint.path)
    with torch.inference_mode():
        features = model(torch.from_numpy(windows)).embeddings.numpy()
    with np.load(tiny_checkpoint.text.embeddings) as data:
        vectors = data["street"]
    names = json.loads(tiny_checkpoint.text.names.read_text())["street"]
    return {name: np.tensordot(features, vector, (1, 0)) for name, vector in zip(names, vectors, strict=True)}


def _metadata(path: Path) -> dict[str, str]:
    return {item.key: item.value for item in onnx.load(path).metadata_props}


def _upsampled(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    size = (SIDE, SIDE)
    return np.stack([cv2.resize(window, size, interpolation=cv2.INTER_LINEAR) for window in scores])


@pytest.fixture(scope="module")
def scores_graph(tiny_checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Baked:
    out = tmp_path_factory.mktemp("baked") / "scores.onnx"
    return export_baked(tiny_checkpoint.path, out, CLASSES, text=tiny_checkpoint.text, license="CC0-1.0")


@pytest.fixture(scope="module")
def labels_graph(tiny_checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Baked:
    out = tmp_path_factory.mktemp("baked") / "folder"
    return export_baked(
        tiny_checkpoint.path,
        out,
        CLASSES,
        text=tiny_checkpoint.text,
        output="labels",
        input="float-nchw",
        background=parse_background("roads|tree"),
    )


def test_scores_are_cosines_and_a_class_of_synonyms_has_its_best(scores_graph, cosines, windows) -> None:
    found = run_onnx(scores_graph.path, windows)
    expected = [cosines["car"], np.maximum(cosines["bus"], cosines["truck"]), cosines["sky"]]
    assert found.shape == (4, 3, 32, 32)
    assert np.allclose(found, np.stack(expected, axis=1), atol=1e-5)


def test_labels_are_the_best_prompts_class_after_upsampling(labels_graph, cosines, windows) -> None:
    inputs = windows.astype(np.float32).transpose(0, 3, 1, 2) / 255
    found = run_onnx(labels_graph.path, inputs)
    upsampled = {name: _upsampled(scores) for name, scores in cosines.items()}
    classes = [("car",), ("bus", "truck"), ("sky",), ("road", "tree")]
    best = [np.max([upsampled[name] for name in names], axis=0) for names in classes]
    assert found.shape == (4, SIDE, SIDE)
    assert found.dtype == np.int32
    assert (found == np.argmax(best, axis=0)).mean() > 0.9995
    assert len(np.unique(found)) > 1


def test_a_baked_graph_is_one_file_that_says_what_it_is(scores_graph, labels_graph) -> None:
    assert [item.name for item in scores_graph.path.parent.iterdir()] == ["scores.onnx"]
    assert labels_graph.path.name == "model.onnx"
    assert labels_graph.class_names == ("car", "vehicle", "sky", "background")
    assert scores_graph.notes == ("'cars' -> car",)
    assert labels_graph.notes == ("'cars' -> car", "background: 'roads' -> road")
    said = _metadata(scores_graph.path)
    assert json.loads(said["class_names"]) == ["car", "vehicle", "sky"]
    assert json.loads(said["class_prompts"]) == [["car"], ["bus", "truck"], ["sky"]]
    assert said["input"].startswith("uint8 [batch, height, width, 3], RGB, 0 to 255")
    assert said["license"] == "CC0-1.0"
    assert _metadata(labels_graph.path)["input"].startswith("float32 [batch, 3, height, width], RGB, 0 to 1")


def test_baked_graphs_keep_to_the_operators(scores_graph, labels_graph) -> None:
    check_file(scores_graph.path)
    check_file(labels_graph.path)


def test_the_figures_of_a_baked_graph_are_measured(scores_graph, labels_graph) -> None:
    assert 0 < scores_graph.parity["score_difference_max"] < 1e-4
    assert labels_graph.parity["label_agreement"] >= 0.9995


def test_a_baked_graph_that_computes_something_else_is_not_written(
    tiny_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ovsdino_export.baking.reference_labels
    monkeypatch.setattr(ovsdino_export.baking, "reference_labels", lambda *given: right(*given)[:, ::-1])
    with pytest.raises(ParityError, match=r"^b\.onnx does not compute .* label agreement"):
        export_baked(
            tiny_checkpoint.path,
            tmp_path / "b.onnx",
            ("car", "sky"),
            text=tiny_checkpoint.text,
            output="labels",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held", ["notes.txt", "manifest.json", "engines/a.engine", "model.onnx.sidecar"])
def test_a_folder_of_other_things_is_left_as_it_is(tiny_checkpoint, tmp_path: Path, held: str) -> None:
    mine = tmp_path / "folder" / held
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match=r"folder holds \S+ and perhaps more; name a file ending in \.onnx"):
        export_baked(tiny_checkpoint.path, tmp_path / "folder", CLASSES, text=tiny_checkpoint.text)
    assert mine.read_text() == "mine"
    mine.rename(tmp_path / "file")
    with pytest.raises(OutputError, match="file is a file; name a file ending in"):
        export_baked(tiny_checkpoint.path, tmp_path / "file", CLASSES, text=tiny_checkpoint.text)


def test_an_earlier_graph_in_a_folder_is_replaced(tiny_checkpoint, tmp_path: Path) -> None:
    for classes in (CLASSES, ("sky", "cars")):
        baked = export_baked(
            tiny_checkpoint.path, tmp_path / "folder", classes, text=tiny_checkpoint.text, license="CC0-1.0"
        )
        assert [item.name for item in (tmp_path / "folder").iterdir()] == ["model.onnx"]
        assert json.loads(_metadata(baked.path)["class_names"])[-1] == baked.class_names[-1]


def test_a_graph_too_large_for_one_file_asks_for_a_folder(tiny_checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"give a folder instead of b\.onnx"):
        export_baked(
            tiny_checkpoint.path,
            tmp_path / "b.onnx",
            ("car",),
            text=tiny_checkpoint.text,
            external_data_bytes=1000,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("classes", "background", "complaint"),
    [
        (("car", "zebra"), "none", "zebra"),
        (("car", "cars"), "none", "same class"),
        ((), "none", "empty"),
        (("car",), "threshold:0.2", "threshold cannot be baked"),
    ],
)
def test_classes_that_make_no_sense_are_refused(
    tiny_checkpoint, tmp_path: Path, classes: tuple[str, ...], background: str, complaint: str
) -> None:
    with pytest.raises(VocabularyError, match=complaint):
        export_baked(
            tiny_checkpoint.path,
            tmp_path / "b.onnx",
            classes,
            text=tiny_checkpoint.text,
            background=parse_background(background),
        )
