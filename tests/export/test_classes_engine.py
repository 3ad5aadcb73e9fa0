"""A bundle and some classes become a graph, and an engine, that gives scores or labels; without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from ovsdino_export import cli
from ovsdino_export.baked_engine import read_baked
from ovsdino_export.builder import BuildOptions
from ovsdino_export.bundle_baking import asked_of, bake, expected_outputs
from ovsdino_export.classes_engine import build_classes_engine, proof_of
from ovsdino_export.engine_report import engine_lines
from ovsdino_export.graph_source import graph_of
from ovsdino_export.verify import run_onnx
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.background import Background, parse_background
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.engines import sidecar_of
from ovsdino_runtime.errors import ExportError, OutputError, ParityError, VocabularyError
from ovsdino_runtime.segmenter import Segmenter
from tests.standins.half_bundle import write_half_bundle
from tests.standins.release import install

CLASSES = ["cars", "vehicle=bus|truck", "road"]
NONE = Background(kind="none")
_COLOURS = np.random.default_rng(8).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
WINDOWS = _COLOURS.repeat(7, axis=1).repeat(7, axis=2)  # a colour a patch, so that all classes occur


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("classes", [CLASSES, ["car", "road"]])
@pytest.mark.parametrize("output", ["scores", "labels"])
def test_a_baked_bundle_gives_what_the_runtime_gives_for_a_window(
    bundle: Bundle, tmp_path: Path, output: str, classes: list[str]
) -> None:
    graph = graph_of(bundle, "fp32")
    asked = asked_of(graph.bundle, classes, NONE)
    path = bake(graph, asked, output, tmp_path / "cars.onnx")  # type: ignore[arg-type]
    found = run_onnx(path, WINDOWS)
    segmenter = Segmenter(bundle, open_backend(bundle, "cpu"))
    for window, result in zip(WINDOWS, found, strict=True):
        whole = segmenter.segment(window, classes, background="none", scores=True)
        assert whole.scores is not None
        if output == "labels":  # the runtime does the same at the size of the window
            best = np.sort(whole.scores, axis=0)
            clear = best[-1] - best[-2] > 1e-5
            np.testing.assert_array_equal(result[clear], whole.labels[clear])
            assert result.dtype == np.int32
            assert len(np.unique(found)) == len(classes)
        else:
            assert result.shape == (len(classes), 4, 4)
    features = open_backend(bundle, "cpu").features(WINDOWS)
    wanted = expected_outputs(features, asked, output, 28)  # type: ignore[arg-type]
    if output == "scores":
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    else:
        assert (found == wanted).mean() > 0.999


def test_a_background_is_a_last_class_and_a_threshold_cannot_be_baked(bundle: Bundle, tmp_path: Path) -> None:
    graph = graph_of(bundle, "fp32")
    asked = asked_of(graph.bundle, ["car"], parse_background("sky|wall"))
    assert [query.label for query in asked.queries] == ["car", "background"]
    baked = read_baked(bake(graph, asked, "labels", tmp_path / "car.onnx"))
    assert baked.class_names == ("car", "background")
    assert set(np.unique(run_onnx(baked.path, WINDOWS))) <= {0, 1}
    with pytest.raises(ExportError, match="a threshold cannot be baked"):
        asked_of(graph.bundle, ["car"], parse_background("threshold:0.2"))
    with pytest.raises(VocabularyError, match="spaceship"):
        asked_of(graph.bundle, ["spaceship"], NONE)


def test_the_islands_of_an_fp16_graph_and_what_is_added_are_noted(bundle: Bundle, tmp_path: Path) -> None:
    graph = graph_of(bundle, "fp16")
    baked = read_baked(bake(graph, asked_of(graph.bundle, CLASSES, NONE), "labels", tmp_path / "cars.onnx"))
    names = {island["node"] for island in baked.islands}
    assert names >= {island["node"] for island in graph.islands}
    added = [node.name for node in onnx.load(baked.path).graph.node if node.name.startswith("Baked")]
    assert added
    assert names >= set(added)
    assert all(island["reason"] for island in baked.islands)


@pytest.mark.parametrize("release", ["10.3", "10.13", "10.16", "11.4"])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_every_release_builds_an_engine_of_classes_held_against_pytorch_s_features(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle, release: str, precision: str
) -> None:
    install(monkeypatch, tmp_path / "cache", release)
    engine, notes = build_classes_engine(
        bundle,
        CLASSES,
        tmp_path / "cars.onnx",
        output="labels",
        background=NONE,
        options=BuildOptions(precision=precision),  # type: ignore[arg-type]
    )
    assert engine.path.name == f"cars-nvidia-l4-8.9-trt{engine.sidecar.machine.tensorrt}-{precision}.engine"
    assert sidecar_of(engine.path).is_file()
    assert engine.sidecar.built["reference"] == "PyTorch"
    assert engine.sidecar.built["class_names"] == ["car", "vehicle", "road"]
    assert engine.sidecar.parity["label_agreement"] > 0.99
    assert any("cars" in note for note in notes)
    assert list(engine.sidecar.onnx) == ["cars.onnx"]
    assert engine_lines(engine)[-1].startswith(
        "weak evidence: on the inputs of this proof one of the 3 classes"
    )


def test_an_engine_that_always_gives_the_commonest_class_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    graph = graph_of(bundle, "fp32")
    asked = asked_of(graph.bundle, ["building", "dog"], NONE)
    proof = proof_of(graph, asked, "labels")
    shares = np.array([(proof.outputs == number).mean() for number in range(2)])
    assert shares.min() > 0.005
    assert proof.leads is not None
    monkeypatch.setattr(  # as where the gate on clear labels sees one class alone
        "ovsdino_export.classes_engine.expected_leads",
        lambda *arguments: np.where(proof.outputs == shares.argmax(), 1.0, 0.0),
    )
    trt.faults["compute"] = lambda batch: np.full((len(batch), 28, 28), shares.argmax(), np.int32)
    with pytest.raises(ParityError, match=r"class \d is found on 0\.0% of its places"):
        build_classes_engine(
            bundle,
            ["building", "dog"],
            tmp_path / "cars.onnx",
            output="labels",
            background=NONE,
            options=BuildOptions(precision="fp32"),
        )
    assert not list(tmp_path.glob("cars*"))


def test_an_engine_of_classes_that_misses_the_gate_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    trt.faults["compute"] = lambda batch: np.zeros((len(batch), 28, 28), np.int32)
    options = BuildOptions(precision="fp32")
    with pytest.raises(ParityError, match="does not compute what PyTorch computes"):
        build_classes_engine(
            bundle, CLASSES, tmp_path / "cars.onnx", output="labels", background=NONE, options=options
        )
    assert not list(tmp_path.glob("cars*"))
    trt.faults.clear()
    build = partial(build_classes_engine, bundle, output="labels", background=NONE, options=options)
    build(CLASSES, tmp_path / "cars.onnx")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("cars*")}
    assert len(before) == 3
    trt.faults["compute"] = lambda batch: np.zeros((len(batch), 28, 28), np.int32)
    with pytest.raises(ParityError):
        build(["tree", "road"], tmp_path / "cars.onnx")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("cars*")} == before


def test_why_no_wider_islands_could_be_had_is_said_beside_the_gate_that_was_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    trt.faults["compute"] = lambda batch: np.zeros((len(batch), 28, 28), np.int32)

    def no_more(*_: object, **__: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("ovsdino_export.fp16.derive_fp16", no_more)
    said = r"label agreement is .*wider islands cannot be had: the disk is full"
    with pytest.raises(ParityError, match=said):
        build_classes_engine(
            bundle,
            CLASSES,
            tmp_path / "cars.onnx",
            output="labels",
            background=NONE,
            options=BuildOptions(precision="fp16"),
        )
    assert not list(tmp_path.glob("cars*"))


@pytest.mark.parametrize(
    ("classes", "out", "said"), [(["crs"], "a.onnx", "crs"), (["cars"], "f", "is a folder")]
)
def test_what_is_mistyped_is_said_before_a_graph_is_derived(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_bundle: Path,
    classes: list[str],
    out: str,
    said: str,
) -> None:
    install(monkeypatch, tmp_path / "cache", "10.3")
    (tmp_path / "f").mkdir()
    monkeypatch.setattr("ovsdino_export.fp16.derive_fp16", lambda *given, **named: pytest.fail("derived"))
    with pytest.raises((VocabularyError, OutputError), match=said):
        build_classes_engine(
            Bundle.open(tiny_bundle),
            classes,
            tmp_path / out,
            output="labels",
            background=NONE,
            options=BuildOptions(precision="fp16"),
        )


def test_weights_too_large_for_one_file_are_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    monkeypatch.setattr("ovsdino_export.bundle_baking.EXTERNAL_DATA_BYTES", 1)
    graph = graph_of(bundle, "fp32")
    with pytest.raises(ExportError, match="too much for one ONNX file"):
        bake(graph, asked_of(graph.bundle, CLASSES, NONE), "labels", tmp_path / "cars.onnx")
    assert not list(tmp_path.glob("*cars*"))


def test_the_command_plans_and_builds_and_says_what_does_not_go_together(
    call: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "cars.onnx"
    words = ("trt", bundle.path, "--fp16", "--classes", "cars,road", "--out", out)
    assert call(cli.main, *words, "--dry-run") == 0
    said = capsys.readouterr().out
    assert f"trtexec --onnx={out} --saveEngine={tmp_path / 'cars-GPU'}" in said
    assert said.startswith(f"{out}: FP16")  # not where the plan was tried
    assert "labels" in said
    assert not out.exists()
    install(monkeypatch, tmp_path / "cache", "11.4")
    assert call(cli.main, *words, "--output", "scores", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert Path(document["engine"]).is_file()
    assert document["sidecar"]["built"]["class_names"] == ["car", "road"]
    assert call(cli.main, "trt", bundle.path, "--classes", "cars") == 2
    assert call(cli.main, "trt", bundle.path, "--output", "scores") == 2


def test_every_option_of_classes_stands_in_the_plan(
    call: Callable[..., int], tmp_path: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("trt", bundle.path, "--classes", "cars,road", "--out", tmp_path / "cars.onnx")
    found = {}
    for options in ((), ("--output", "scores", "--background", "sky|wall", "--workspace", 512, "--fp32")):
        assert call(cli.main, *words, *options, "--dry-run", "--json") == 0
        plan = json.loads(capsys.readouterr().out)
        found[bool(options)] = plan["output"], plan["precision"], "workspace:512M" in plan["trtexec"]["10.x"]
    assert found == {
        False: ("labels int32 [B, 28, 28]", "fp16", False),
        True: ("scores float [B, 3, 4, 4]", "fp32", True),
    }


def test_a_dry_run_of_classes_needs_no_torch_and_no_tensorrt(bundle: Bundle, tmp_path: Path) -> None:
    blocked = (
        "import sys\n"
        "for name in ('torch', 'timm', 'open_clip', 'transformers', 'tensorrt'): sys.modules[name] = None\n"
        "from ovsdino_export.cli import main\n"
        f"sys.argv = ['ovsdino-export', 'trt', {str(bundle.path)!r}, '--classes', 'cars', '--dry-run', "
        f"'--out', {str(tmp_path / 'cars.onnx')!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
