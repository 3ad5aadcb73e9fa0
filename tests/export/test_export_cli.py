"""`ovsdino-export` as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.checkpoint import CheckpointInfo, save_checkpoint
from ovsdino.model import OVSDINO
from ovsdino_export import cli
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.manifest import BackboneInfo
from ovsdino_runtime.metrics import agreement
from tests.export.conftest import BACKBONE, Asked

WITHOUT_TORCH = """
import sys
for name in ("torch", "onnx", "timm", "open_clip", "onnxruntime", "onnxscript"):
    sys.modules[name] = None
sys.argv = ["ovsdino-export", *sys.argv[1:]]
from ovsdino_export.cli import main
main()
"""


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovsdino-export", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def _text(tiny_checkpoint) -> list[object]:
    source = tiny_checkpoint.text
    return ["--text-embeddings", source.embeddings, "--text-names", source.names]


def _without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False
    )


def test_help_needs_no_torch_and_shows_the_command() -> None:
    result = _without_torch("onnx", "--help")
    assert result.returncode == 0
    assert "--text-embeddings" in result.stdout
    assert "onnx" in _without_torch("--help").stdout


def test_without_its_extra_an_export_says_which_one_to_install(tmp_path: Path) -> None:
    result = _without_torch("onnx", str(tmp_path), "--out", str(tmp_path / "b"))
    assert result.returncode == 1
    assert result.stderr.startswith("error: exporting needs torch")
    assert "ovsdino[export,cpu]" in result.stderr


def test_a_bundle_is_written_and_described_as_json(
    tiny_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    status = _run(monkeypatch, "onnx", tiny_checkpoint.path, "--out", out, *_text(tiny_checkpoint), "--json")
    printed = capsys.readouterr()
    assert status == 0
    result = json.loads(printed.out)
    assert result["names"] == 6
    assert result["parity"]["fp32"]["label_agreement"] == 1
    assert set(result["files"]) == {"image.onnx", "vocabulary.npz", "golden.npz"}
    assert Bundle.open(out).manifest.license == "not stated"
    assert "tracing the image graph" in printed.err


def test_a_baked_graph_is_written_and_described_in_words(
    tiny_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "baked.onnx"
    status = _run(
        monkeypatch,
        "onnx",
        tiny_checkpoint.path,
        "--out",
        out,
        *_text(tiny_checkpoint),
        *("--classes", "cars, road", "--output", "scores", "--input", "float-nchw"),
    )
    printed = capsys.readouterr()
    assert status == 0
    assert out.is_file()
    assert f"{out}: car, road\n" in printed.out
    assert "agreement with PyTorch: score_difference_max" in printed.out
    assert "'cars' -> car" in printed.err


@pytest.fixture
def bare_checkpoint(build_model: Callable[..., OVSDINO], tmp_path: Path) -> Path:
    """A checkpoint of another text encoder, whose backbone's weights have gone from where they lay."""
    model, weights = build_model(backbone_trainable_blocks=0), load_backbone_weights(BACKBONE, "random:0")
    gone = str(tmp_path / "gone.safetensors")
    info = CheckpointInfo(
        model=model.config,
        backbone=BackboneInfo(name=BACKBONE, source=gone, fingerprint=weights.fingerprint),
        trained_names=("car", "unicorn"),
        text_model="open_clip small tagged",
        license="the checkpoint's",
    )
    save_checkpoint(tmp_path / "checkpoint", model, info)
    return tmp_path / "checkpoint"


@dataclass(frozen=True)
class Traced:
    """What was to be traced."""

    module: nn.Module
    example: Tensor
    output_name: str
    metadata: Mapping[str, str]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[Traced]:
    """Stands for tracing, which takes seconds, and for its proof; returns what was to be traced."""
    asked: list[Traced] = []
    weight = onnx.numpy_helper.from_array(
        np.random.default_rng(0).normal(size=(4, 256)).astype("f"), "weight"
    )
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", length])
        for name, length in (("rows", 4), ("products", 256))
    ]
    product = onnx.helper.make_node("MatMul", ["rows", "weight"], ["products"])
    graph = onnx.helper.make_graph([product], "a product", ends[:1], ends[1:], [weight])
    opsets = [onnx.helper.make_opsetid("", 20)]

    def trace(
        module: nn.Module, example: Tensor, *, input_name: str, output_name: str, metadata: Mapping[str, str]
    ) -> ir.Model:
        asked.append(Traced(module, example, output_name, metadata))
        made: ir.Model = ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))
        return made

    for module in ("pipeline", "baking"):
        monkeypatch.setattr(f"ovsdino_export.{module}.trace", trace)
    whole = agreement(np.ones((1, 2, 1, 1), "f"), np.ones((1, 2, 1, 1), "f"), np.ones((1, 2), "f"))
    monkeypatch.setattr("ovsdino_export.pipeline.verify_features", lambda *_: whole)
    monkeypatch.setattr("ovsdino_export.baking.verify_labels", lambda *_: {"label_agreement": 1.0})
    return asked


NAMED = ("--backbone-weights", "random:0", "--text-model", "small", "--text-pretrained", "tagged")


def test_every_option_of_a_bundle_arrives(
    bare_checkpoint: Path,
    text_encoder: list[Asked],
    traced: list[Traced],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write_text_encoder(folder: Path, *, model: str, pretrained: str) -> dict[str, float]:
        (folder / "text.onnx").write_text(f"{model} {pretrained}")
        return {"cosine_min": 0.5}

    monkeypatch.setattr("ovsdino_export.text.export_text_encoder", write_text_encoder)
    common = ("onnx", bare_checkpoint, "--out", tmp_path / "bundle")
    assert _run(monkeypatch, *common, *NAMED[2:]) == 1
    assert "gone.safetensors" in capsys.readouterr().err
    assert _run(monkeypatch, *common, *NAMED[:4]) == 1
    assert "trained for the text encoder open_clip small tagged, but" in capsys.readouterr().err
    options = ("--vocabulary", "camvid", "--vocabulary", "voc20", "--text-encoder", "--half-weights")
    named = ("--name", "My model", "--license", "CC0-1.0", "--json")
    assert _run(monkeypatch, *common, *NAMED, *options, *named) == 0
    bundle = Bundle.open(tmp_path / "bundle")
    assert (bundle.manifest.name, bundle.manifest.license) == ("My model", "CC0-1.0")
    assert bundle.manifest.text_model == "open_clip small tagged"
    assert bundle.file("text.onnx").read_text() == "small tagged"
    assert [(asked.model, asked.pretrained) for asked in text_encoder] == [("small", "tagged")]
    table = bundle.embeddings()
    assert {key: item.names for key, item in table.sets.items() if key == "extra"} == {"extra": ("unicorn",)}
    assert set(table.sets) == {"camvid", "voc20", "extra"}
    (weight,) = onnx.load(bundle.file("image.onnx")).graph.initializer
    assert weight.data_type == onnx.TensorProto.FLOAT16
    assert traced[0].metadata == {"name": "My model", "license": "CC0-1.0"}


def test_every_option_of_a_baked_graph_arrives(
    bare_checkpoint: Path,
    text_encoder: list[Asked],
    traced: list[Traced],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "baked.onnx"
    options = ("--output", "labels", "--input", "float-nchw", "--background", "sky|wall")
    named = ("--classes", "cars,unicorn", "--license", "CC0-1.0")
    assert _run(monkeypatch, "onnx", bare_checkpoint, "--out", out, *NAMED, *options, *named) == 0
    assert out.is_file()
    assert text_encoder == [Asked(("car", "unicorn", "sky", "wall"), "small", "tagged")]
    (graph,) = traced
    assert (graph.example.dtype, graph.example.shape) == (torch.float32, (1, 3, 64, 64))
    assert graph.output_name == "labels"
    with torch.inference_mode():
        labels = graph.module(graph.example)
    assert (labels.dtype, labels.shape) == (torch.int32, (1, 64, 64))
    assert json.loads(graph.metadata["class_names"]) == ["car", "unicorn", "background"]
    assert graph.metadata["input"].startswith("float32 [batch, 3, height, width]")
    assert graph.metadata["license"] == "CC0-1.0"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "labels"),
        ("--input", "float-nchw"),
        ("--background", "auto"),
        ("--classes", "car", "--text-encoder"),
        ("--classes", "car", "--name", "x"),
        ("--classes", "car", "--output", "pictures"),
        ("--text-names", "names.json"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    assert _run(monkeypatch, "onnx", tmp_path, "--out", tmp_path / "b", *arguments) == 2
    assert not (tmp_path / "b").exists()


def test_what_a_user_got_wrong_is_one_line_and_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "onnx", tmp_path / "nothing", "--out", tmp_path / "b") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.removeprefix("\r").strip().startswith("error: no checkpoint at")
    assert not (tmp_path / "b").exists()


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ovsdino_runtime import __version__

    assert _run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"ovsdino-export {__version__}\n"
