"""A small world to train in: painted photographs, ready-made text vectors, a tiny backbone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ovsdino.config import ModelConfig
from ovsdino.settings import TrainConfig

NAMES = ("car", "road", "tree", "sky")
COLOURS = np.array(((200, 30, 40), (110, 110, 115), (30, 130, 40), (60, 140, 240)), dtype=np.float64)
DIM = 16


@dataclass(frozen=True)
class World:
    """Where its parts lie, and a way to say how to train in it."""

    folder: Path
    data: Path
    text_embeddings: Path
    text_names: Path

    def config(self, out: str, **changes: Any) -> TrainConfig:
        """Return a training of two epochs of two steps; changes to the model go by `model`."""
        model = {"backbone": "test_vit", "window_px": 64, "backbone_trainable_blocks": 0}
        model |= changes.pop("model", {})
        settings: dict[str, Any] = {
            "data": (f"folder:{self.data}:{','.join(NAMES)}",),
            "out": self.folder / out,
            "model": ModelConfig(**model),
            "backbone_weights": "random:0",
            "text_embeddings": self.text_embeddings,
            "text_names": self.text_names,
            "teacher": "none",
            "epochs": 2,
            "batch_size": 4,
            "micro_batch": 2,
            "val_fraction": 0.25,
            "mask_px": 16,
            "device": "cpu",
        }
        return TrainConfig(**(settings | changes))


def paint(folder: Path, count: int, size_hw: tuple[int, int] = (48, 64)) -> Path:
    """Write photographs of four classes with their labels; a strip of each label is unlabelled."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    height, width = size_hw
    for number in range(count):
        labels = np.full(size_hw, 1, dtype=np.uint8)
        labels[: height // 3] = 3
        labels[:, : int(width * rng.uniform(0.1, 0.4))] = 2
        top, left = rng.integers(height // 3, height // 2), rng.integers(width // 2, width * 3 // 4)
        labels[top : top + height // 3, left : left + width // 4] = 0
        image = (COLOURS[labels] + rng.normal(scale=6, size=(*size_hw, 3))).clip(0, 255)
        labels[-3:] = 255
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{number:02}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number:02}.png")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute in one thread: what is this small is only slowed down by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def world(tmp_path: Path, one_thread: None) -> World:
    """Eight photographs, of which two are held out, and a model of six narrow blocks."""
    vectors = np.random.default_rng(1).normal(size=(len(NAMES) + 2, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez(tmp_path / "text.npz", street=vectors.astype(np.float32))
    (tmp_path / "names.json").write_text(json.dumps({"street": [*NAMES, "rider", "person"]}))
    return World(tmp_path, paint(tmp_path / "data", 8), tmp_path / "text.npz", tmp_path / "names.json")


@pytest.fixture
def painted() -> Callable[..., Path]:
    """Write further photographs; see `paint`."""
    return paint
