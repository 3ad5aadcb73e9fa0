"""`ovsdino-export trt` as a person runs it, with and without TensorRT, and without torch."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ovsdino_export import cli
from ovsdino_export.builder import BuildOptions
from ovsdino_export.dry_run import Plan, plan_build, plan_lines
from ovsdino_export.graph_source import graph_of
from ovsdino_export.inspection import half_share
from ovsdino_export.trtexec import trtexec_command
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import ExportError
from ovsdino_runtime.sidecar import BatchProfile
from tests.standins.half_bundle import write_half_bundle
from tests.standins.release import install

BLOCKED = (
    *("torch", "torchvision", "timm", "open_clip", "transformers", "safetensors"),
    *("onnxscript", "onnx_ir", "polygraphy"),
)
TARGET = Path("some.engine")
ROOT = Path(__file__).parents[2]
ON_A_DEVICE = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
if sys.argv[1] != "none":
    from tests.standins.release import modules
    sys.modules.update(modules(sys.argv[1]))
else:
    sys.modules["tensorrt"] = None
sys.argv = ["ovsdino-export", *sys.argv[2:]]
from ovsdino_export.cli import main
main()
"""


@pytest.fixture
def half_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return write_half_bundle(tiny_bundle, tmp_path / "bundle")


def _plan(bundle: Bundle) -> Plan:
    graph = graph_of(bundle, "fp16")
    return plan_build(graph.path, graph.islands, BuildOptions(), TARGET)


def _on_a_device(release: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ON_A_DEVICE, release, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovsdino-export", "trt", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_where_torch_timm_and_open_clip_cannot_be_imported_an_engine_is_built(
    half_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = _on_a_device("10.3", "trt", half_bundle, "--fp16", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert Path(document["engine"]).is_file()
    assert document["sidecar"]["machine"]["tensorrt"] == "10.3.0"
    assert document["sidecar"]["parity"]["label_agreement"] == 1


def test_without_tensorrt_a_build_is_one_line_and_a_dry_run_works(half_bundle: Path) -> None:
    done = _on_a_device("none", "trt", half_bundle)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: there is no TensorRT here; on x86 install ovsdino[tensorrt]")
    assert "Jetson" in line
    assert not (half_bundle / "engines").exists()
    done = _on_a_device("none", "trt", half_bundle, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "FP16, 14 nodes" in done.stdout


WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
sys.argv = ["ovsdino-export", *sys.argv[2:]]
from ovsdino_export.cli import main
main()
"""


@pytest.mark.parametrize(
    ("absent", "words", "error"),
    [
        ("onnx", ("trt", "HALF", "--fp16", "--dry-run"), 'looking at a build needs onnx, not installed here; '
         'run pip install "onnx>=1.17"'),
        ("onnx,onnxruntime", ("trt", "HALF", "--dry-run"), 'pip install "onnx>=1.17"'),
        ("onnx,onnxruntime", ("trt", "WHOLE", "--dry-run"), 'pip install "onnx>=1.17" onnxruntime'),
        ("onnx,onnxruntime", ("trt", "WHOLE", "--fp32", "--dry-run"), 'pip install "onnx>=1.17"'),
        ("onnx,onnxruntime", ("trt", "WHOLE", "--classes", "car", "--out", "c.onnx", "--dry-run"),
         'pip install "onnx>=1.17" onnxruntime'),
        ("onnx,onnxruntime", ("fp16", "WHOLE"), 'deriving FP16 needs onnx and onnxruntime, not installed '
         'here; run pip install "onnx>=1.17" onnxruntime'),
        ("onnx,tensorrt", ("trt", "HALF"), "take JetPack's own through an environment made with "
         "`python3 -m venv --system-site-packages` (docs/edge.md)"),
    ],
)  # fmt: skip
def test_what_is_advised_is_what_is_missing_and_no_more(
    absent: str, words: tuple[str, ...], error: str, half_bundle: Path, tiny_bundle: Path
) -> None:
    places = {"HALF": str(half_bundle), "WHOLE": str(tiny_bundle)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, absent, *(places.get(word, word) for word in words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith(error), line
    assert ("[tensorrt]" in line) == ("tensorrt" in absent)


def test_an_engine_is_described_in_words(
    half_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path / "cache", "11.4")
    assert _run(monkeypatch, half_bundle, "--batch", "1/2/4", "--builder-level", 2) == 0
    printed = capsys.readouterr()
    assert "nvidia-l4-8.9-trt11.4.0.106-fp16.engine: " in printed.out
    assert "batches of 1 to 4" in printed.out
    assert "layers of the network: " in printed.out
    assert "TensorRT's inspector: 93% of the engine's layers touch FP16" in printed.out
    assert "agreement with PyTorch: cosine_mean " in printed.out
    assert "running golden inputs" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--fp16", "--fp32"),
        ("--batch", "1/2"),
        ("--batch", "3/2/9"),
        ("--batch", "0/1/2"),
        ("--batch", "a/b/c"),
        ("--builder-level", "6"),
        ("--workspace", "0"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    half_bundle: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    assert _run(monkeypatch, half_bundle, *arguments) == 2


def test_a_dry_run_says_what_would_be_built_and_holds_the_graph_against_the_operators(
    half_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert _run(monkeypatch, half_bundle, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["input"] == "image uint8 [B, 28, 28, 3]"
    assert plan["output"] == "features float [B, 4, 4, 4]"
    assert plan["profile"] == {"least": 1, "usual": 3, "most": 9}
    assert plan["islands"] == [{"node": "Divide", "op": "Div", "reason": "the final normalisation"}]
    assert plan["operators"]["Div"] == 2
    assert plan["memory_mb"]["buffers"] == pytest.approx(9 * (28 * 28 * 3 + 4 * 4 * 4 * 4) / 1e6)
    # At the largest point the image's planes lie in memory twice, in half precision.
    assert plan["memory_mb"]["activations"] == pytest.approx(9 * 2 * 28 * 28 * 3 * 2 / 1e6)
    assert not (half_bundle / "engines").exists()
    words = plan_lines(_plan(Bundle.open(half_bundle)))
    assert "        1 x Div: the final normalisation" in words
    assert any(line.startswith("TensorRT 11.x: trtexec ") for line in words)


def test_every_option_of_the_builder_stands_in_the_plan_by_itself(
    half_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned(*words: object) -> dict[str, Any]:
        assert _run(monkeypatch, half_bundle, *words, "--dry-run", "--json") == 0
        plan: dict[str, Any] = json.loads(capsys.readouterr().out)
        return plan

    plain = planned()
    for words, added in (
        (("--workspace", 512), "--memPoolSize=workspace:512M"),
        (("--builder-level", 5), "--builderOptimizationLevel=5"),
        (("--builder-level", 0), "--builderOptimizationLevel=0"),
        (("--hardware-compatible",), "--hardwareCompatibilityLevel=ampere+"),
        (("--version-compatible",), "--versionCompatible"),
    ):
        plan = planned(*words)
        for release, command in plan["trtexec"].items():
            assert shlex.split(command) == [*shlex.split(plain["trtexec"][release]), added]
        assert {**plan, "trtexec": None} == {**plain, "trtexec": None}
    plan = planned("--batch", "2/4/5", "--fp32")
    assert plan["profile"] == {"least": 2, "usual": 4, "most": 5}
    assert (plan["precision"], plan["graph"]) == ("fp32", str(half_bundle / "image.onnx"))
    assert (plain["precision"], plain["graph"]) == ("fp16", str(half_bundle / "image.fp16.onnx"))


def test_every_option_reaches_the_builder(
    half_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    assert _run(monkeypatch, half_bundle) == 0
    options = ("--workspace", 512, "--builder-level", 5, "--hardware-compatible", "--version-compatible")
    assert _run(monkeypatch, half_bundle, *options, "--batch", "2/4/5") == 0
    plain, told = trt.built
    assert (plain["pools"], plain["level"], plain["hardware"], plain["flags"]) == ({}, 3, "NONE", [])
    assert told["pools"] == {"WORKSPACE": 512 << 20}
    assert (told["level"], told["hardware"]) == (5, "AMPERE_PLUS")
    assert told["flags"] == ["VERSION_COMPATIBLE"]
    assert [shape[0] for shape in told["profile"]["image"]] == [2, 4, 5]


def test_a_dry_run_refuses_fp32_beyond_the_islands_and_other_operators(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    unexplained = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "a", islands=()))
    with pytest.raises(ExportError, match="the graph computes FP32 in Divide, which no recorded island"):
        _plan(unexplained)
    other = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "b"))
    model = onnx.load(other.path / "image.fp16.onnx")
    model.graph.node[8].CopyFrom(
        onnx.helper.make_node("CenterCropPad", ["square", "crop"], ["height"], name="Height", axes=[2, 3])
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([4, 4]), "crop"))
    onnx.save(model, str(other.path / "image.fp16.onnx"))
    with pytest.raises(ExportError, match="CenterCropPad 'Height' is no operator"):
        _plan(other)


def test_an_fp16_graph_whose_islands_the_manifest_does_not_name_is_refused(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    import dataclasses

    bundle = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "a"))
    for precisions in ({}, {"fp16": {}}, {"fp16": {"islands": [{"op": "Div"}]}}, {"fp16": {"islands": 3}}):
        nameless = Bundle(bundle.path, dataclasses.replace(bundle.manifest, precisions=precisions))
        with pytest.raises(ExportError, match="does not name the FP32 islands"):
            graph_of(nameless, "fp16")


def test_the_trtexec_lines_differ_only_in_what_the_releases_take() -> None:
    options = BuildOptions(
        profile=BatchProfile(least=1, usual=3, most=9),
        workspace_mb=2048,
        builder_level=4,
        hardware_compatible=True,
        version_compatible=True,
    )
    ten, eleven = (
        shlex.split(trtexec_command(release, Path("a b.onnx"), Path("e"), "image", (448, 448, 3), options))
        for release in (10, 11)
    )
    assert set(ten) - set(eleven) == {"--stronglyTyped"}
    assert not set(eleven) - set(ten)
    assert "--onnx=a b.onnx" in ten
    assert "--maxShapes=image:9x448x448x3" in eleven
    assert "--memPoolSize=workspace:2048M" in eleven
    assert not any("fp16" in word for word in eleven)


@pytest.mark.parametrize(
    ("layers", "share"),
    [
        ([{"Inputs": [{"Format/Datatype": "Half"}], "Outputs": [{"Format/Datatype": "Float"}]}], 1.0),
        ([{"Inputs": [], "Outputs": [{"Format/Datatype": "Row major linear FP32"}]}], 0.0),
        (
            [{"Outputs": [{"DataType": "Half", "Format": "Linear"}]}, {"Outputs": [{"DataType": "Float"}]}],
            0.5,
        ),
        ([{"Outputs": [{"DataType": "Int32"}]}], None),
        (["only a name"], None),
        (None, None),
    ],
)
def test_the_inspectors_share_is_read_in_the_words_of_10_and_of_11(
    layers: list[object] | None, share: float | None
) -> None:
    assert half_share(json.dumps({"Layers": layers})) == share
    assert half_share("no JSON") is None
