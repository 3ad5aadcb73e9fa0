"""Training on an NVIDIA GPU: `pytest -m gpu`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ovsdino.checkpoint import load_checkpoint
from ovsdino.journal import read_journal
from ovsdino.trainer import fit

if TYPE_CHECKING:
    from conftest import World

DEVICE = "cuda"
pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _gpu() -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU that PyTorch can use")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns_there_and_goes_on_there(world: World, precision: str, optimizer: str) -> None:
    model = {"backbone_trainable_blocks": 2}
    config = world.config(
        "run", epochs=8, lr_heads=1e-2, device=DEVICE, precision=precision, optimizer=optimizer, model=model
    )
    fit(config)
    losses = [line["seg"] for line in read_journal(config.out) if line["kind"] == "step"]
    assert np.mean(losses[-2:]) < 0.8 * np.mean(losses[:2])
    before = (config.out / "last" / "model.safetensors").read_bytes()
    fit(replace(config, resume=True))  # nothing is left to do
    assert (config.out / "last" / "model.safetensors").read_bytes() == before
    trained, _ = load_checkpoint(config.out / "last", "random:0")
    assert all(torch.isfinite(value).all() for value in trained.state_dict().values())


def test_cached_views_and_new_ones_train_alike(world: World) -> None:
    cached = world.config("cached", epochs=1, device=DEVICE, cache_views=1)
    fit(cached)
    fresh = world.config("fresh", epochs=1, device=DEVICE)
    fit(fresh)
    first, second = (
        [line["loss"] for line in read_journal(config.out) if line["kind"] == "step"]
        for config in (cached, fresh)
    )
    np.testing.assert_allclose(first, second, rtol=2e-2)  # features are cached in FP16
