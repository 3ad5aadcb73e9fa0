"""A reference: what PyTorch computes of some images in a file, and the command that records it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench import cli
from ovsdino_bench.recorded import Recorded, record
from ovsdino_export.int8 import write_int8
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import sha256_of
from tests.bench.painted import NAMES, SIZES
from tests.runtime.pickles import put_pickle

WEIGHTS = "model.safetensors"


def test_what_is_recorded_reads_back_as_it_was(tiny_bundle: Path, recorded: Path, painted: Path) -> None:
    opened = Recorded.open(recorded)
    assert len(opened) == len(SIZES)
    assert opened.question.names == NAMES
    bundle = Bundle.open(tiny_bundle)
    opened.check(bundle.manifest)
    backend = open_backend(bundle, "cpu")
    for image, size in zip(opened, SIZES, strict=True):
        assert image.size_hw == size
        np.testing.assert_array_equal(backend.features(image.windows), image.features)
        truth = np.array(Image.open(painted / "labels" / image.file))
        np.testing.assert_array_equal(image.truth, truth)


def test_a_reference_of_another_model_a_newer_schema_and_other_files_are_refused(
    tiny_bundle: Path, recorded: Path, tmp_path: Path
) -> None:
    bundle, opened = Bundle.open(tiny_bundle), Recorded.open(recorded)
    images = list(opened)
    other = tmp_path / "other.npz"
    record(other, bundle.manifest, opened.question, {"model": {"score_scale": 3.0}}, images)
    with pytest.raises(DataError, match=r"whose backbone is None"):
        Recorded.open(other).check(bundle.manifest)
    record(other, bundle.manifest, opened.question, {"schema": 2}, images)
    with pytest.raises(DataError, match="schema 2, this version reads up to 1"):
        Recorded.open(other)
    other.write_bytes(recorded.read_bytes()[:1000])
    for wrong in (other, tiny_bundle / "golden.npz"):
        with pytest.raises(DataError, match="holds no reference"):
            Recorded.open(wrong)
    with pytest.raises(DataError, match=r"there is no file .*missing\.npz; `ovsdino-bench reference --out "):
        Recorded.open(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("about", "holds no reference"),
        ("text", "holds no reference"),
        ("1/windows", "is damaged"),
        ("1/features", "is damaged"),
        ("1/truth", "is damaged"),
    ],
)
def test_a_pickle_in_a_reference_is_refused_and_not_executed(
    recorded: Path, tmp_path: Path, part: str, said: str
) -> None:
    path, marker = Path(shutil.copy(recorded, tmp_path / "spoiled.npz")), tmp_path / "executed"
    put_pickle(path, part, marker)
    with pytest.raises(DataError, match=rf"spoiled\.npz {said}"):
        list(Recorded.open(path))
    assert not marker.exists()


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[object, ...]:
    """Options that name an exported bundle, with its FP16 graph, and its checkpoint."""
    import torch

    from ovsdino.backbone_weights import load_backbone_weights
    from ovsdino.checkpoint import CheckpointInfo, save_checkpoint
    from ovsdino.config import ModelConfig
    from ovsdino.model import OVSDINO
    from ovsdino_export.class_vectors import TextSource
    from ovsdino_export.fp16 import write_fp16
    from ovsdino_export.pipeline import export_onnx
    from ovsdino_runtime.manifest import BackboneInfo

    torch.manual_seed(0)
    config = ModelConfig(backbone="test_vit", window_px=64, embedding_dim=8, alignment=False)
    model = OVSDINO(config)
    weights = load_backbone_weights("test_vit", "random:0")
    model.load_backbone(weights)
    info = CheckpointInfo(
        model=config,
        backbone=BackboneInfo(name="test_vit", source="random:0", fingerprint=weights.fingerprint),
    )
    save_checkpoint(tmp_path / "checkpoint", model, info)
    vectors = np.random.default_rng(1).normal(size=(len(NAMES), 8)).astype(np.float32)
    np.savez(tmp_path / "text.npz", street=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    (tmp_path / "names.json").write_text(json.dumps({"street": NAMES}))
    text = TextSource(embeddings=tmp_path / "text.npz", names=tmp_path / "names.json")
    write_fp16(export_onnx(tmp_path / "checkpoint", tmp_path / "bundle", text=text))
    capsys.readouterr()
    return ("--bundle", tmp_path / "bundle", "--checkpoint", tmp_path / "checkpoint")


def test_pytorch_is_recorded_by_a_command_and_the_exported_bundle_meets_its_gates(
    tmp_path: Path,
    painted: Path,
    told: tuple[object, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "reference.npz"
    assert (
        call(cli.main, "reference", *told, "--data", painted, "--classes", ",".join(NAMES), "--out", out) == 0
    )
    assert "3 images" in capsys.readouterr().out
    write_int8(Bundle.open(tmp_path / "bundle"), sorted((painted / "images").iterdir()))
    assert call(cli.main, "parity", "--bundle", tmp_path / "bundle", "--reference", out, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["reference"]["sha256"] == sha256_of(out)
    assert report["reference"]["checkpoint_sha256"] == sha256_of(tmp_path / "checkpoint" / WEIGHTS)
    forms = {item["form"]: item for item in report["forms"]}
    assert set(forms) >= {"onnx-fp32-cpu", "onnx-fp16-emulated", "onnx-int8-cpu"}
    assert forms["onnx-fp32-cpu"]["cosine_mean"] > 0.9999999
    assert 0.999 < forms["onnx-fp16-emulated"]["cosine_mean"] < 1
    assert 0.99 < forms["onnx-int8-cpu"]["cosine_mean"] < forms["onnx-fp16-emulated"]["cosine_mean"]
    # pictures without ground truth have no mIoU
    images = ("--images", painted / "images", "--classes", "car,road", "--limit", 1, "--out", out)
    assert call(cli.main, "reference", *told, *images) == 0
    assert call(cli.main, "parity", "--bundle", tmp_path / "bundle", "--reference", out) == 0
    assert "over 1 images" in capsys.readouterr().out
    assert call(cli.main, "reference", *told, "--out", out) == 2


def test_a_checkpoint_that_is_not_the_bundles_is_refused_before_anything_is_recorded_or_timed(
    tmp_path: Path,
    painted: Path,
    told: tuple[object, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    from ovsdino.checkpoint import load_checkpoint, save_checkpoint

    model, info = load_checkpoint(tmp_path / "checkpoint")
    with torch.no_grad():
        model.score_scale *= 2
    save_checkpoint(tmp_path / "other", model, info)
    other = (*told[:2], "--checkpoint", tmp_path / "other")
    for words in (
        ("reference", *other, "--data", painted, "--classes", ",".join(NAMES)),
        (
            *("latency", *other, "--image", painted / "images" / "0.png", "--classes", "car"),
            *("--form", "onnx-fp32-cpu", "--against", "pytorch-eager"),
        ),
    ):
        out = tmp_path / f"{words[0]}.out"
        assert call(cli.main, *words, "--out", out) == 1
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert said[0].startswith("error: ")
        assert "its score scale is " in said[0]
        assert not out.exists()


def test_latency_says_which_checkpoint_it_ran_and_which_the_reference_is_of(
    tmp_path: Path,
    painted: Path,
    told: tuple[object, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference, out = tmp_path / "reference.npz", tmp_path / "l.json"
    picture = painted / "images" / "0.png"
    asked = ("--images", picture, "--classes", "car,road", "--out", reference)
    assert call(cli.main, "reference", *told, *asked) == 0
    ways = ("--form", "onnx-fp32-cpu", "--against", "pytorch-eager", "--reference", reference)
    counts = ("--runs", 1, "--warmup", 0, "--cold", 1, "--batches", "2")
    assert (
        call(cli.main, "latency", *told, "--image", picture, "--classes", "car", *ways, *counts, "--out", out)
        == 0
    ), capsys.readouterr().err
    report = json.loads(out.read_text())
    weights = sha256_of(tmp_path / "checkpoint" / WEIGHTS)
    assert report["checkpoint_sha256"] == report["agreement"]["reference_checkpoint_sha256"] == weights
    assert report["agreement"]["reference_sha256"] == sha256_of(reference)
    agreeing = {item["way"]: item["cosine_mean"] for item in report["agreement"]["ways"]}
    assert min(agreeing.values()) > 0.99999
    assert set(report["cold_start"]) == set(agreeing) == {"onnx-fp32-cpu", "pytorch-eager"}
    assert (report["failed"], report["engines"]) == ([], {})


def test_a_picture_that_cannot_be_read_costs_a_reference_only_itself(
    tmp_path: Path,
    painted: Path,
    told: tuple[object, ...],
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = shutil.copytree(painted, tmp_path / "damaged")
    names = sorted(path.name for path in (damaged / "images").iterdir())
    (damaged / "images" / names[1]).write_bytes(b"no picture")
    data = ("--data", damaged, "--classes", ",".join(NAMES), "--out", tmp_path / "two.npz")
    assert call(cli.main, "reference", *told, *data) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 1 of 3 images could not be recorded, the others are; the first: ")
    two = Recorded.open(tmp_path / "two.npz")
    assert [image.file for image in two] == [names[0], names[2]]
    assert [item["image"] for item in two.about["failed"]] == [names[1]]
    for name in names:
        (damaged / "images" / name).write_bytes(b"no picture")
    (tmp_path / "two.npz").unlink()
    assert call(cli.main, "reference", *told, *data) == 1
    assert "none of 3 images could be recorded" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "two.npz").exists()
