"""A checkpoint measured without a bundle gives what it gives beside the bundle exported from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.checkpoint import CheckpointInfo, save_checkpoint
from ovsdino.config import ModelConfig
from ovsdino.model import OVSDINO
from ovsdino_bench.measured import CheckpointSource, open_measured
from ovsdino_export.class_vectors import TextSource
from ovsdino_export.pipeline import export_onnx
from ovsdino_runtime.errors import BackendUnavailable
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.manifest import BackboneInfo

if TYPE_CHECKING:
    from tests.bench.conftest import Ran

BACKBONE = "test_vit"  # timm's own tiny ViT
NAMES = ("car", "road", "sky")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    fields = {"backbone": BACKBONE, "window_px": 64, "embedding_dim": 16, "norm_groups": 16}
    model = OVSDINO(ModelConfig.from_dict(fields, "the test"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("score_"):  # or features would hardly depend on the image
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    weights = load_backbone_weights(BACKBONE, "random:0")
    save_checkpoint(
        tmp_path / "checkpoint",
        model.eval(),
        CheckpointInfo(
            model=model.config,
            backbone=BackboneInfo(name=BACKBONE, source="random:0", fingerprint=weights.fingerprint),
            complete=True,
            trained_names=NAMES,
        ),
    )
    return tmp_path / "checkpoint"


@pytest.fixture
def text(tmp_path: Path) -> TextSource:
    vectors = np.random.default_rng(1).normal(size=(len(NAMES), 16)).astype(np.float32)
    np.savez(tmp_path / "text.npz", street=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    (tmp_path / "names.json").write_text(json.dumps({"street": NAMES}))
    return TextSource(embeddings=tmp_path / "text.npz", names=tmp_path / "names.json")


def test_a_checkpoint_alone_is_measured_as_beside_its_bundle(
    checkpoint: Path, text: TextSource, tmp_path: Path, bench: Callable[..., Ran]
) -> None:
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number in range(2):
        picture = random.integers(0, 256, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "data" / "images" / f"{number}.png")
        labels = random.integers(0, 3, (64, 96), dtype=np.uint8)
        Image.fromarray(labels).save(tmp_path / "data" / "labels" / f"{number}.png")
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
