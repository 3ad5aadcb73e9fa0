"""A checkpoint measured without a bundle gives what it gives beside the bundle exported from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from ovsdino.config import ModelConfig
from ovsdino.model import OVSDINO
from ovsdino.publish import publish
from ovsdino.teacher import load_sam
from ovsdino.torch_backend import TorchBackend
from ovsdino_bench.measured import CheckpointSource, open_measured
from ovsdino_bench.same_model import check_same_model, load_same_model
from ovsdino_export.class_vectors import TextSource
from ovsdino_export.pipeline import export_onnx
from ovsdino_runtime.errors import BackendUnavailable, CheckpointError
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.manifest import BackboneInfo

if TYPE_CHECKING:
    from tests.bench.conftest import Ran

BACKBONE = "test_vit"  # timm's own tiny ViT
NAMES = ("car", "road", "sky")
WITHOUT_ENCODER = {"encoder": False, "gate": False, "alignment": False, "backbone_trainable_blocks": 0}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return _written(tmp_path / "checkpoint")


def _written(folder: Path, **changes: object) -> Path:
    torch.manual_seed(0)
    fields = {"backbone": BACKBONE, "window_px": 64, "embedding_dim": 16, "norm_groups": 16, **changes}
    model = OVSDINO(ModelConfig.from_dict(fields, "the test"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("score_"):  # or features would hardly depend on the image
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    weights = load_backbone_weights(BACKBONE, "random:0")
    save_checkpoint(
        folder,
        model.eval(),
        CheckpointInfo(
            model=model.config,
            backbone=BackboneInfo(name=BACKBONE, source="random:0", fingerprint=weights.fingerprint)
            if model.config.encoder
            else None,
            complete=True,
            trained_names=NAMES,
        ),
    )
    return folder


@pytest.fixture
def text(tmp_path: Path) -> TextSource:
    vectors = np.random.default_rng(1).normal(size=(len(NAMES), 16)).astype(np.float32)
    np.savez(tmp_path / "text.npz", street=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    (tmp_path / "names.json").write_text(json.dumps({"street": NAMES}))
    return TextSource(embeddings=tmp_path / "text.npz", names=tmp_path / "names.json")


def noise(folder: Path) -> None:
    """Write two pictures of noise, and labels of noise."""
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(2):
        picture = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        labels = random.integers(0, 3, (64, 96), dtype=np.uint8)
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")


def test_a_checkpoint_alone_is_measured_as_beside_its_bundle(
    checkpoint: Path, text: TextSource, tmp_path: Path, bench: Callable[..., Ran]
) -> None:
    noise(tmp_path / "data")
    bundle = export_onnx(checkpoint, tmp_path / "bundle", text=text)
    data = ("--data", tmp_path / "data", "--classes", ",".join(NAMES), "--json", "--device", "cpu")
    beside = bench("accuracy", "--bundle", bundle.path, "--checkpoint", checkpoint, *data)
    alone = bench(
        *("accuracy", "--checkpoint", checkpoint, "--text-embeddings", text.embeddings),
        *("--text-names", text.names, *data),
    )
    assert alone.code == 0, alone.err
    report, both = json.loads(alone.out), json.loads(beside.out)
    assert report["backends"] == both["backends"][:1]
    assert report["backends"][0]["backend"] == "torch-cpu"
    assert 0 < report["backends"][0]["miou"] < 1
    assert report["model"]["checkpoint_sha256"] == sha256_of(checkpoint / "model.safetensors")
    assert report["model"]["image_graph_sha256"] is None
    assert both["model"]["image_graph_sha256"] == sha256_of(bundle.path / "image.onnx")
    assert {**report["model"], "image_graph_sha256": ""} == {**both["model"], "image_graph_sha256": ""}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(
    checkpoint: Path, text: TextSource, tmp_path: Path, bench: Callable[..., Ran]
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "a.png")
    Image.new("L", (64, 64)).save(tmp_path / "labels" / "a.png")
    done = bench(
        *("accuracy", "--checkpoint", checkpoint, "--text-embeddings", text.embeddings),
        *("--text-names", text.names, "--data", tmp_path, "--classes", "car", "--device", "cuda"),
    )
    assert done.code == 1
    assert "sees no GPU here" in done.error


def test_tensorrt_is_not_answered_by_pytorch(checkpoint: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"'tensorrt' was asked for.*--bundle"):
        open_measured(None, CheckpointSource(path=checkpoint), "tensorrt")


def test_a_model_without_encoder_is_measured_with_sams_features(
    text: TextSource, tmp_path: Path, tiny_sam: Path, bench: Callable[..., Ran]
) -> None:
    checkpoint = _written(tmp_path / "without", **WITHOUT_ENCODER)
    noise(tmp_path / "data")
    asked = (
        *("accuracy", "--checkpoint", checkpoint, "--text-embeddings", text.embeddings),
        *("--text-names", text.names, "--data", tmp_path / "data", "--classes", ",".join(NAMES), "--json"),
    )
    done = bench(*asked, "--sam", tiny_sam)
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["backends"]
    assert found["backend"] == "torch-cpu-sam"
    assert 0 < found["miou"] < 1
    refused = bench(*asked)
    assert refused.code == 1
    assert "name the SAM it was trained with by --sam" in refused.error
    unknown = bench(*asked, "--sam", tmp_path / "nowhere")
    assert unknown.code == 1
    assert "cannot load the SAM" in unknown.error
    assert "--teacher" not in unknown.error


def test_sams_features_stand_beside_the_encoders(
    checkpoint: Path, text: TextSource, tmp_path: Path, tiny_sam: Path, bench: Callable[..., Ran]
) -> None:
    bundle = export_onnx(checkpoint, tmp_path / "bundle", text=text)
    noise(tmp_path / "data")
    done = bench(
        *(
            "accuracy",
            "--bundle",
            bundle.path,
            "--checkpoint",
            checkpoint,
            "--sam",
            tiny_sam,
            "--device",
            "cpu",
        ),
        *("--data", tmp_path / "data", "--classes", ",".join(NAMES), "--json"),
    )
    assert done.code == 0, done.err
    of_sam, own = json.loads(done.out)["backends"]
    assert (of_sam["backend"], own["backend"]) == ("torch-cpu-sam", "onnxruntime-cpu")
    assert of_sam["miou"] != own["miou"]


def test_sams_features_go_through_decoder_and_projector(checkpoint: Path, tiny_sam: Path) -> None:
    windows = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    sam = load_sam(str(tiny_sam))
    backend = TorchBackend.open(checkpoint, sam=sam)
    pictures = torch.from_numpy(np.stack([cv2.resize(window, (1024, 1024)) for window in windows]))
    with torch.no_grad():
        expected = backend.model(torch.from_numpy(windows), structure=sam.features(pictures)).embeddings
    np.testing.assert_allclose(backend.features(windows), expected, atol=0.02)  # both round to whole numbers
    assert np.abs(backend.features(windows) - TorchBackend.open(checkpoint).features(windows)).max() > 0.1


def test_a_linear_head_has_no_use_for_sam(tmp_path: Path, tiny_sam: Path) -> None:
    linear = _written(tmp_path / "linear", head="linear", gate=False, alignment=False)
    with pytest.raises(CheckpointError, match="leave out --sam"):
        TorchBackend.open(linear, sam=load_sam(str(tiny_sam)))


def test_a_checkpoint_of_another_model_is_not_measured_beside_a_bundle(
    checkpoint: Path, text: TextSource, tmp_path: Path, tiny_sam: Path, bench: Callable[..., Ran]
) -> None:
    bundle = export_onnx(checkpoint, tmp_path / "bundle", text=text)
    noise(tmp_path / "data")
    asked = ("accuracy", "--bundle", bundle.path, "--data", tmp_path / "data", "--classes", ",".join(NAMES))
    for name, changes, said in (
        ("scaled", {"score_scale_init": 12.0}, "its score scale is 12.0, the bundle's is 10.0;"),
        ("biased", {"score_bias_init": -1.0}, "its score bias is -1.0, the bundle's is -2.2"),
        ("finer", {"decoder_stride": 1}, "its grid is (64, 64), the bundle's is (32, 32);"),
        ("wider", {"embedding_dim": 32}, "its embedding size is 32, the bundle's is 16;"),
        ("bare", WITHOUT_ENCODER, f"has no encoder, so {bundle.path} cannot be of it; name the checkpoint"),
    ):
        other = _written(tmp_path / name, **changes)
        for more in ((), ("--sam", tiny_sam)):
            done = bench(*asked, "--checkpoint", other, *more)
            assert done.code == 1
            assert said in done.error
            assert str(other) in done.error
            assert str(bundle.path) in done.error


def test_a_checkpoint_of_another_backbone_is_refused_before_its_weights_are_fetched(
    checkpoint: Path, text: TextSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = export_onnx(checkpoint, tmp_path / "bundle", text=text)
    other = Path(shutil.copytree(checkpoint, tmp_path / "other"))
    record = json.loads((other / "config.json").read_text())
    record["backbone"] |= {"source": "hub:nobody/nothing", "fingerprint": "f" * 64}
    (other / "config.json").write_text(json.dumps(record))
    fetched: list[str] = []
    monkeypatch.setattr("ovsdino.backbone_weights._download", fetched.append)
    with pytest.raises(CheckpointError, match=r"is not what .* was exported from: its backbone is"):
        load_same_model(bundle, other, None)
    assert not fetched


def test_a_bundle_s_checkpoint_is_known_in_fp16_and_by_its_backbone(
    checkpoint: Path, text: TextSource, tmp_path: Path
) -> None:
    bundle = export_onnx(checkpoint, tmp_path / "bundle", text=text)
    publish(checkpoint, tmp_path / "half", name="half", license="CC0-1.0")
    rounded = export_onnx(tmp_path / "half", tmp_path / "rounded", text=text)
    for folder in (checkpoint, tmp_path / "half"):
        model, info = load_checkpoint(folder)
        for made in (bundle, rounded):
            check_same_model(made.manifest, model, info, folder, made.path)
    scale = bundle.manifest.score_scale
    near = replace(bundle.manifest, score_scale=scale * (1 + 1e-6))
    check_same_model(near, model, info, checkpoint, bundle.path)
    for changes, said in (
        ({"score_scale": scale * (1 + 1e-4)}, "its score scale is"),
        ({"window_px": 32}, "its window is 64, the bundle's is 32"),
        (
            {"backbone": replace(bundle.manifest.backbone, fingerprint="f" * 64)},
            f"its backbone is {BACKBONE} .*, the bundle's is {BACKBONE} ffffffffffffffff; name",
        ),
    ):
        with pytest.raises(CheckpointError, match=said):
            check_same_model(replace(bundle.manifest, **changes), model, info, checkpoint, bundle.path)
