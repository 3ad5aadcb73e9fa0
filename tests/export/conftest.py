"""A tiny trained-looking checkpoint and what was exported from it, shared by the export's tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.checkpoint import CheckpointInfo, save_checkpoint
from ovsdino.config import ModelConfig
from ovsdino.model import OVSDINO
from ovsdino_export.class_vectors import TextSource
from ovsdino_runtime.manifest import BackboneInfo

BACKBONE = "test_vit"  # timm's own tiny ViT: 6 blocks of width 64
WINDOW_PX, DIM = 64, 16
NAMES = ("car", "road", "sky", "tree", "bus", "truck")
TRAINED = ("car", "road")


def _alive(model: OVSDINO, seed: int) -> OVSDINO:
    """Give every parameter a part in the result: fresh ones are 0, 1 or 1e-5 and would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim <= 1 and not name.startswith("score_"):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
            elif "token" in name or "pos_embed" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return model.eval()


@dataclass(frozen=True)
class TinyCheckpoint:
    """A checkpoint, complete with its backbone, and text vectors for `NAMES`."""

    path: Path
    text: TextSource


@pytest.fixture(scope="session")
def build_model() -> Callable[..., OVSDINO]:
    """Return a function from the fields of a ModelConfig to a small model whose parameters all matter."""

    def build(seed: int = 0, **fields: object) -> OVSDINO:
        torch.manual_seed(seed)
        config = {"backbone": BACKBONE, "window_px": WINDOW_PX, "embedding_dim": DIM, "norm_groups": 16}
        return _alive(OVSDINO(ModelConfig.from_dict({**config, **fields}, "the test")), seed)

    return build


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[[Path, OVSDINO], Path]:
    """Return a function that writes a model as a complete checkpoint."""

    def write(folder: Path, model: OVSDINO) -> Path:
        weights = load_backbone_weights(BACKBONE, "random:0")
        backbone = BackboneInfo(name=BACKBONE, source="random:0", fingerprint=weights.fingerprint)
        info = CheckpointInfo(
            model=model.config,
            backbone=backbone,
            complete=True,
            trained_names=TRAINED,
            text_model="open_clip ViT-B-16 openai",
            training={"command": "a test", "seed": 0},
        )
        save_checkpoint(folder, model, info)
        return folder

    return write


@pytest.fixture(scope="session")
def text_source(tmp_path_factory: pytest.TempPathFactory) -> TextSource:
    """Ready-made random unit vectors for the six names, as the set "street"."""
    folder = tmp_path_factory.mktemp("text")
    vectors = np.random.default_rng(1).normal(size=(len(NAMES), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez(folder / "text.npz", street=vectors)
    (folder / "names.json").write_text(json.dumps({"street": NAMES}), encoding="utf-8")
    return TextSource(embeddings=folder / "text.npz", names=folder / "names.json")


def seeded_vector(name: str) -> NDArray[np.float32]:
    """A unit vector, float32 [DIM], that the name alone decides."""
    vector = np.random.default_rng(list(name.encode())).normal(size=DIM)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


@dataclass(frozen=True)
class Asked:
    """What a text encoder was asked for."""

    names: tuple[str, ...]
    model: str
    pretrained: str


@pytest.fixture
def text_encoder(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """In place of open_clip an encoder that gives `seeded_vector`; returns what it is asked for."""
    asked: list[Asked] = []

    def encode(names: Sequence[str], *, model: str, pretrained: str, **_: object) -> NDArray[np.float32]:
        asked.append(Asked(tuple(names), model, pretrained))
        return np.stack([seeded_vector(name) for name in names])

    monkeypatch.setattr("ovsdino.text.encode_names", encode)
    monkeypatch.setattr("ovsdino_export.class_vectors.encode_names", encode)
    return asked


@pytest.fixture(scope="session")
def tiny_checkpoint(
    tmp_path_factory: pytest.TempPathFactory,
    build_model: Callable[..., OVSDINO],
    write_checkpoint: Callable[[Path, OVSDINO], Path],
    text_source: TextSource,
) -> TinyCheckpoint:
    """A checkpoint of a tiny model and its text vectors; read-only by agreement."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    return TinyCheckpoint(write_checkpoint(folder, build_model()), text_source)
