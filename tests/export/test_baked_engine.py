"""Engines of baked graphs, and of a bundle with a real backbone."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ovsdino_export import cli
from ovsdino_export.baked_engine import build_baked_engine, read_baked
from ovsdino_export.builder import BuildOptions
from ovsdino_export.classes_engine import build_classes_engine
from ovsdino_export.engine import build_engine
from ovsdino_export.large_graph import save_proto
from ovsdino_export.pipeline import export_onnx
from ovsdino_export.verify import SCENES, golden_windows
from ovsdino_runtime.backends.ort import open_session
from ovsdino_runtime.backends.trt import open_trt
from ovsdino_runtime.background import Background
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.bundle_writing import revised_bundle
from ovsdino_runtime.engines import find_engine, sidecar_of
from ovsdino_runtime.errors import BackendUnavailable, ExportError, OutputError, ParityError
from ovsdino_runtime.files import sha256_of
from tests.standins.release import install

FP32 = BuildOptions(precision="fp32")


@pytest.fixture(scope="module")
def small_bundle(tiny_checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "small"
    return export_onnx(tiny_checkpoint.path, out, text=tiny_checkpoint.text)


@pytest.fixture(params=["scores uint8-nhwc", "labels float-nchw"])
def baked_file(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path: Path) -> Path:
    """A graph as `ovsdino-export onnx --classes` writes it, from the tiny bundle's and three vectors."""
    output, kind = request.param.split()
    model = onnx.load(tiny_bundle / "image.onnx")
    graph, nodes = model.graph, list(model.graph.node)
    vectors = np.random.default_rng(0).normal(size=(3, 4, 1, 1)).astype(np.float32)
    graph.initializer.append(
        numpy_helper.from_array(vectors / np.linalg.norm(vectors, axis=1)[:, None], "text")
    )
    nodes.append(helper.make_node("Conv", ["features", "text"], ["scores"]))
    given = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3, 4, 4])
    if output == "labels":
        nodes.append(helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0))
        nodes.append(helper.make_node("Cast", ["best"], ["labels"], to=TensorProto.INT32))
        given = helper.make_tensor_value_info("labels", TensorProto.INT32, ["batch", 4, 4])
    if kind == "float-nchw":
        del nodes[:2]
        graph.initializer.append(numpy_helper.from_array(np.array(255, np.float32), "white"))
        nodes.insert(0, helper.make_node("Mul", ["image", "white"], ["planes"]))
        del graph.input[:]
        graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 28, 28]))
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.output.append(given)
    model.metadata_props.add(key="class_names", value='["car", "road", "vehicle"]')
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, tmp_path / "cars.onnx")
    return tmp_path / "cars.onnx"


@pytest.mark.parametrize("release", ["10.3", "11.4"])
def test_a_bundle_of_a_real_backbone_becomes_an_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_bundle: Bundle, release: str
) -> None:
    install(monkeypatch, tmp_path, release)
    built = build_engine(small_bundle, FP32)
    assert built.sidecar.parity["cosine_mean"] > 0.99999
    assert built.sidecar.built["layers"]["half"] == 0
    assert built.sidecar.built["layers"]["full"] > 100


def test_weights_in_a_second_file_are_part_of_what_an_engine_was_built_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_bundle: Bundle
) -> None:
    install(monkeypatch, tmp_path / "cache", "10.16")
    path = shutil.copytree(small_bundle.path, tmp_path / "bundle", ignore=shutil.ignore_patterns("engines"))
    model = onnx.load(path / "image.onnx")
    with revised_bundle(Bundle.open(path), without=("image.onnx",)) as staged:
        save_proto(model, staged / "image.onnx", external_data_bytes=0)
    built = build_engine(Bundle.open(path), FP32)
    assert built.sidecar.onnx == {name: sha256_of(path / name) for name in ("image.onnx", "image.onnx.data")}
    assert built.sidecar.parity["cosine_mean"] > 0.99999
    with open_trt(Bundle.open(path), "fp32") as backend:
        assert backend.file.path == built.path

    model.graph.initializer[0].CopyFrom(_negated(model.graph.initializer[0]))
    with revised_bundle(Bundle.open(path), without=("image.onnx", "image.onnx.data")) as staged:
        save_proto(model, staged / "image.onnx", external_data_bytes=0)
    with pytest.raises(BackendUnavailable, match=r"it was built from image\.onnx\.data"):
        open_trt(Bundle.open(path), "fp32")


def _negated(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name)


def test_an_fp16_graph_is_derived_if_need_be_and_its_layers_are_held_against_its_islands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_bundle: Bundle
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.13")
    path = shutil.copytree(small_bundle.path, tmp_path / "bundle", ignore=shutil.ignore_patterns("engines"))
    built = build_engine(Bundle.open(path), BuildOptions())
    bundle = Bundle.open(path)
    islands = bundle.manifest.precisions["fp16"]["islands"]
    assert list(built.sidecar.islands) == islands
    assert built.sidecar.onnx == {"image.fp16.onnx": sha256_of(path / "image.fp16.onnx")}
    layers = built.sidecar.built["layers"]
    assert layers["half"] > 50
    assert 0 < layers["full"] <= len(islands)
    assert built.sidecar.parity["cosine_mean"] > 0.9995

    trt.built.clear()
    trt.faults["wrong builds"] = 1
    wider = build_engine(bundle, BuildOptions())
    revised = Bundle.open(path)
    assert revised.manifest.precisions["fp16"]["widened"] == 1
    assert list(wider.sidecar.islands) == revised.manifest.precisions["fp16"]["islands"]
    assert len(wider.sidecar.islands) > len(islands)
    machine = wider.sidecar.machine
    assert find_engine(revised, machine, "fp16").path == path / "engines" / wider.path.name


def _content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path in it."""
    return {str(item.relative_to(folder)): item.read_bytes() for item in folder.rglob("*") if item.is_file()}


@pytest.mark.parametrize("derived_before", [False, True])
def test_a_build_that_fails_with_every_widening_leaves_the_bundle_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_bundle: Bundle, derived_before: bool
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.13")
    path = shutil.copytree(small_bundle.path, tmp_path / "bundle", ignore=shutil.ignore_patterns("engines"))
    if derived_before:
        build_engine(Bundle.open(path), BuildOptions())
    before = _content(path)
    assert any(name.startswith("engines") for name in before) == derived_before
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    trt.built.clear()
    trt.faults["wrong builds"] = 9
    with pytest.raises(
        ParityError, match=r"also after 3 widenings of the FP32 islands: .*nothing was written"
    ):
        build_engine(Bundle.open(path), BuildOptions())
    assert len(trt.built) == 4
    assert _content(path) == before
    assert not list((tmp_path / "scratch").iterdir())
    assert {item.name for item in tmp_path.iterdir()} == {"bundle", "cache", "scratch"}
    if derived_before:  # and what was built before still serves
        with open_trt(Bundle.open(path), "fp16") as backend:
            assert backend.file.path.parent == path / "engines"


def test_an_engine_of_classes_that_needs_wider_islands_leaves_the_bundle_and_its_engines_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_bundle: Bundle
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.13")
    path = shutil.copytree(small_bundle.path, tmp_path / "bundle", ignore=shutil.ignore_patterns("engines"))
    build_engine(Bundle.open(path), BuildOptions())
    before = _content(path)
    trt.built.clear()
    trt.faults["wrong builds"] = 1
    engine, _ = build_classes_engine(
        Bundle.open(path),
        ["car", "road"],
        tmp_path / "cars.onnx",
        output="scores",
        background=Background(kind="none"),
        options=BuildOptions(),
    )
    assert len(trt.built) == 2
    assert any(island["reason"].startswith("widened") for island in engine.sidecar.islands)
    assert engine.sidecar.parity["clear_label_agreement"] > 0.995
    assert _content(path) == before


def test_a_file_that_gives_labels_alone_is_tried_on_scenes_and_one_that_gives_scores_on_noise_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, baked_file: Path
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    session, seen = open_session(baked_file, "cpu"), set[bytes]()

    def compute(batch: np.ndarray) -> np.ndarray:
        seen.update(item.tobytes() for item in batch)
        (result,) = session.run(None, {"image": batch})
        return np.asarray(result)

    trt.faults["compute"] = compute
    built = build_baked_engine(read_baked(baked_file), FP32)
    labels = onnx.load(baked_file).graph.output[0].name == "labels"
    assert len(seen) == (SCENES if labels else len(golden_windows(28)))
    assert ("clear_share" in built.sidecar.parity) != labels


def test_a_baked_graph_becomes_an_engine_beside_it_that_says_what_it_was_held_against(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, baked_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path / "cache", "10.3")
    monkeypatch.setattr(sys, "argv", ["ovsdino-export", "trt", str(baked_file), "--fp32", "--batch", "1/1/2"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert "agreement with ONNX Runtime CPU on the same graph: " in capsys.readouterr().out
    engine = baked_file.with_name("cars-nvidia-l4-8.9-trt10.3.0-fp32.engine")
    written = json.loads(sidecar_of(engine).read_text())
    assert written["sha256"] == sha256_of(engine)
    assert written["onnx"] == {"cars.onnx": sha256_of(baked_file)}
    assert written["built"]["class_names"] == ["car", "road", "vehicle"]
    assert written["parity"]["label_agreement"] == 1


def test_a_dry_run_of_a_baked_graph_names_its_input(
    monkeypatch: pytest.MonkeyPatch, baked_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ovsdino-export", "trt", str(baked_file), "--fp32", "--dry-run"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "input   image " in printed
    assert "cars-GPU-COMPUTE-trtVERSION-fp32.engine" in printed


def test_an_engine_whose_outputs_differ_from_onnx_runtimes_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, baked_file: Path
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    outputs = onnx.load(baked_file).graph.output[0].type.tensor_type
    shape = [dim.dim_value for dim in outputs.shape.dim[1:]]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(outputs.elem_type)
    trt.faults["compute"] = lambda batch: np.full((len(batch), *shape), 7, dtype)
    with pytest.raises(ParityError, match="does not compute what ONNX Runtime CPU"):
        build_baked_engine(read_baked(baked_file), FP32)
    assert {path.name for path in tmp_path.iterdir()} == {"cars.onnx", "cache"}


def test_where_the_engine_could_not_be_written_no_build_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, baked_file: Path
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    monkeypatch.setattr("os.access", lambda path, mode: mode == os.F_OK)
    with pytest.raises(OutputError, match=f"nowhere: not into {tmp_path};"):
        build_baked_engine(read_baked(baked_file), FP32)
    assert trt.built == []


def test_an_fp32_graph_asked_for_in_fp16_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, baked_file: Path
) -> None:
    install(monkeypatch, tmp_path / "cache", "10.3")
    with pytest.raises(ExportError, match=r"computes nothing in it; pass --fp32, derive"):
        build_baked_engine(read_baked(baked_file), BuildOptions())


def test_other_files_are_no_baked_graphs(tmp_path: Path, small_bundle: Bundle) -> None:
    broken = tmp_path / "broken.onnx"
    with pytest.raises(ExportError, match="there is no file"):
        read_baked(broken)
    broken.write_bytes(b"not a graph")
    with pytest.raises(ExportError, match="is no baked graph"):
        read_baked(broken)
    with pytest.raises(ExportError, match=r"is no baked graph .*name the bundle's folder"):
        read_baked(small_bundle.path / "image.onnx")
