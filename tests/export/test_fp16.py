"""`ovsdino-export fp16`: the bundle gains an FP16 graph that is proven, or stays as it was."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from PIL import Image

from ovsdino_export import cli
from ovsdino_export.evidence import evenly
from ovsdino_export.fp16 import write_fp16
from ovsdino_export.graph_source import graph_of, graphs_of
from ovsdino_export.half_arithmetic import HalfBackend, run_plain
from ovsdino_export.islands import WIDENINGS
from ovsdino_export.pipeline import export_onnx
from ovsdino_export.typed_graph import casts_of
from ovsdino_export.verify import load_golden
from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, IMAGE_GRAPH_FP16, MANIFEST, Bundle
from ovsdino_runtime.errors import ExportError, InferenceError, ParityError
from ovsdino_runtime.metrics import GATES, agreement

if TYPE_CHECKING:
    from conftest import TinyCheckpoint


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: TinyCheckpoint) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export_onnx(tiny_checkpoint.path, folder, text=tiny_checkpoint.text)
    return folder


@pytest.fixture
def bundle(tmp_path: Path, exported: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 150, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_the_bundle_gains_a_graph_of_half_the_size_that_agrees_with_pytorch(
    bundle: Path, picture: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(cli.main, "fp16", bundle, "--images", picture, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    opened = Bundle.open(bundle)  # every file has its hash in the manifest
    assert opened.file(IMAGE_GRAPH_FP16).stat().st_size < 0.65 * opened.file(IMAGE_GRAPH).stat().st_size
    record = opened.manifest.precisions["fp16"]
    assert said["islands"] == record["islands"]
    assert {island["op"] for island in record["islands"]} >= {"LayerNormalization", "ReduceL2"}
    assert "emulated" in record["arithmetic"]
    assert "3 windows of 1 pictures" in record["evidence"]
    assert [block["fusable"] for block in record["attention"]] == [True] * 6
    model = onnx.load(opened.file(IMAGE_GRAPH_FP16))
    assert casts_of(model).count == record["casts"]
    windows, features = load_golden(opened.file(GOLDEN))
    found = agreement(features, HalfBackend(model).features(windows), opened.embeddings().embeddings)
    assert not found.failures(GATES["fp16"])
    assert found.cosine_mean == pytest.approx(record["parity"]["cosine_mean"], abs=1e-3)


def test_the_line_for_people_says_what_stays_in_fp32_and_why(
    bundle: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(cli.main, "fp16", bundle, "--fp32-op", "Gelu") == 0
    out = capsys.readouterr().out
    assert "13 x LayerNormalization sums squares" in out
    assert "x asked for by operator" in out
    assert "(0 needless)" in out
    assert "6 of 6 attentions stay fusable" in out


def test_deriving_it_again_replaces_it_and_keeps_what_a_device_built(bundle: Path) -> None:
    first, _ = write_fp16(Bundle.open(bundle))
    (bundle / "engines").mkdir()
    (bundle / "engines" / "x.engine").write_bytes(b"plan")
    second, _ = write_fp16(first, fp32_ops=["Softmax"])
    assert (bundle / "engines" / "x.engine").read_bytes() == b"plan"
    assert second.manifest.files[IMAGE_GRAPH] == first.manifest.files[IMAGE_GRAPH]
    assert second.manifest.files[IMAGE_GRAPH_FP16] != first.manifest.files[IMAGE_GRAPH_FP16]
    assert not any(name.startswith("engines") for name in second.manifest.files)


def test_a_bundle_may_be_the_current_folder(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle)
    found, _ = write_fp16(Bundle.open("."))
    assert (found.path.resolve(), found.has(IMAGE_GRAPH_FP16)) == (bundle.resolve(), True)


def test_a_lack_of_memory_is_one_line(bundle: Path) -> None:
    class Session:
        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="image")]

        def run(self, wanted: object, feeds: object) -> None:
            raise Exception("std::bad_alloc\nand more")

    with pytest.raises(InferenceError, match=r"failed on the graph: std::bad_alloc; .* on a larger machine$"):
        run_plain(Session(), None, np.zeros((2, 2, 3), np.uint8))


def test_a_wider_graph_lies_elsewhere_until_the_bundle_is_to_keep_it(bundle: Path) -> None:
    shipped, _ = write_fp16(Bundle.open(bundle), fp32_ops=["Softmax"])
    before = {item.name: item.read_bytes() for item in bundle.iterdir()}
    with graphs_of(shipped, "fp16") as graphs:
        assert graphs(0) == graph_of(shipped, "fp16")
        wider, wider_still = graphs(1), graphs(2)
        assert wider is not None
        assert wider_still is not None
        assert len(wider_still.islands) > len(wider.islands) > len(graph_of(shipped, "fp16").islands)
        assert {item.name: item.read_bytes() for item in bundle.iterdir()} == before
        content = wider.path.read_bytes()
        kept = wider.kept()
        assert graphs(3) is not None
        assert graphs(4) is None
    assert not wider.path.exists()
    assert kept.path == bundle / IMAGE_GRAPH_FP16
    assert kept.path.read_bytes() == content
    assert kept.islands == wider.islands
    assert kept.kept() is kept
    opened = Bundle.open(bundle)  # every file has its hash in the manifest
    assert kept.hashes == {IMAGE_GRAPH_FP16: opened.manifest.files[IMAGE_GRAPH_FP16].sha256}
    record = opened.manifest.precisions["fp16"]
    assert record["widened"] == 1
    widened = [island for island in record["islands"] if island["reason"].startswith("widened")]
    assert len(widened) >= WIDENINGS[0] * 100 / 2
    assert sum(island["reason"] == "asked for by operator" for island in record["islands"]) == 6


@pytest.mark.parametrize(
    ("record", "unsaid"),
    [
        ({"widened": "often"}, "how often the islands were widened"),
        ({"widened": None}, "how often the islands were widened"),
        ({"islands": 3}, "which nodes stay in FP32, and why"),
        ({"islands": [{"node": "Div_9"}]}, "which nodes stay in FP32, and why"),
    ],
)
def test_a_manifest_that_does_not_say_how_fp16_was_derived_is_one_error_with_the_remedy(
    bundle: Path, record: dict[str, object], unsaid: str
) -> None:
    opened = Bundle.open(bundle)
    files = {**opened.manifest.files, IMAGE_GRAPH_FP16: opened.manifest.files[IMAGE_GRAPH]}
    manifest = dataclasses.replace(opened.manifest, files=files, precisions={"fp16": record})
    said = f"the manifest of {bundle} does not say {unsaid} in .*; derive it again with `ovsdino-export fp16 "
    with pytest.raises(ExportError, match=said), graphs_of(Bundle(bundle, manifest), "fp16") as graphs:
        graphs(1)


def test_what_misses_the_gates_leaves_the_bundle_as_it_was(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {item.name: item.read_bytes() for item in bundle.iterdir()}
    monkeypatch.setattr(
        "ovsdino_export.precision.GATES",
        {"fp16": type(GATES["fp16"])(cosine_mean=1.1, cosine_p1=0, label_agreement=0, delta_miou_points=1)},
    )
    with pytest.raises(ParityError, match=r"the gate is 1\.1"):
        write_fp16(Bundle.open(bundle))
    assert {item.name: item.read_bytes() for item in bundle.iterdir()} == before
    assert [item.name for item in bundle.parent.iterdir() if item.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fp32-node", "Nothing_1"], "the graph has no node of that name"),
        (["--fp32-op", "Sigmoid"], "the graph has no such operator"),
        (["--images", "missing.jpg"], "missing.jpg"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str],
    message: str,
    bundle: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = (bundle / MANIFEST).read_bytes()
    assert call(cli.main, "fp16", bundle, *words) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert message in errors[0]
    assert (bundle / MANIFEST).read_bytes() == manifest


def test_it_runs_without_torch(bundle: Path) -> None:
    blocked = (
        "import sys\n"
        "for name in ('torch', 'timm', 'open_clip', 'transformers'): sys.modules[name] = None\n"
        "from ovsdino_export.cli import main\n"
        f"sys.argv = ['ovsdino-export', 'fp16', {str(bundle)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "agreement with FP32" in done.stdout


@pytest.mark.parametrize("classes", [(), ("--classes", "car,road")])
def test_a_dry_run_derives_the_graph_a_build_would_derive_and_leaves_the_bundle_as_it_is(
    bundle: Path,
    classes: tuple[str, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {item.name: item.read_bytes() for item in bundle.iterdir()}
    graph = bundle.parent / "cars.onnx" if classes else bundle / IMAGE_GRAPH_FP16
    words = ("trt", bundle, "--fp16", "--dry-run", *classes, *(("--out", graph) if classes else ()))
    assert call(cli.main, *words, "--json") == 0
    said = capsys.readouterr()
    plan = json.loads(said.out)
    assert plan["graph"] == str(graph)
    assert f"--onnx={graph} " in plan["trtexec"]["11.x"]
    assert f"`ovsdino-export fp16 {bundle}` keeps one" in said.err
    assert {item.name: item.read_bytes() for item in bundle.iterdir()} == before
    assert not (bundle.parent / "cars.onnx").exists()
    _, half = write_fp16(Bundle.open(bundle))
    assert [island.as_dict() for island in half.islands] == plan["islands"][: len(half.islands)]
    shutil.rmtree(bundle)
    bundle.mkdir()
    for name, content in before.items():
        (bundle / name).write_bytes(content)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert call(cli.main, *words) == 1
    assert "cannot be derived or widened here: there is no ONNX Runtime" in capsys.readouterr().err


def test_an_even_choice_has_both_ends() -> None:
    assert evenly(list(range(10)), 4) == [0, 3, 6, 9]
    assert evenly([5], 4) == [5]
    assert evenly(list(range(3)), 8) == [0, 1, 2]


@pytest.mark.parametrize(
    "fields", [{"decoder_stride": 1}, {"gate": False}, {"layers": "sparse"}, {"head": "linear"}]
)
def test_every_kind_of_model_meets_the_gates(
    fields: dict[str, object],
    tmp_path: Path,
    tiny_checkpoint: TinyCheckpoint,
    build_model: Callable[..., object],
    write_checkpoint: Callable[..., Path],
) -> None:
    if fields.get("head") == "linear":
        fields = {**fields, "gate": False, "alignment": False}
    checkpoint = write_checkpoint(tmp_path / "checkpoint", build_model(**fields))
    made = export_onnx(checkpoint, tmp_path / "bundle", text=tiny_checkpoint.text)
    _, half = write_fp16(made)
    assert not half.parity.failures(GATES["fp16"])
    assert half.widened == 0
