"""Two gloo processes learn what one process learns from the doubled batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from ovsdino.checkpoint import load_checkpoint
from ovsdino.distributed import Ranks, joined
from ovsdino.journal import read_journal
from ovsdino.preparation import prepare
from ovsdino.trainer import fit
from ovsdino.validation import validate
from ovsdino_runtime.errors import BackendUnavailable, DataError

if TYPE_CHECKING:
    from conftest import World


def options(world: World, out: str, *more: object) -> list[str]:
    """The command line of the world's usual training."""
    words = [
        "fit", "--data", f"folder:{world.data}:car,road,tree,sky", "--out", world.folder / out,
        "--backbone", "test_vit", "--backbone-weights", "random:0", "--window-px", 64,
        "--text-embeddings", world.text_embeddings, "--text-names", world.text_names, "--teacher", "none",
        "--epochs", 1, "--batch-size", 4, "--micro-batch", 1, "--val-fraction", 0.25, "--mask-px", 16,
        "--device", "cpu", *more,
    ]  # fmt: skip
    return [str(word) for word in words]


def torchrun(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Start `ovsdino-train` as two processes; without --, torchrun would ask what `--start` stands for."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launch, "-m", "--", "ovsdino.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def curves(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_journal(folder)]


def assert_alike(left: Path, right: Path) -> None:
    """Assert that two trainings agree in every step's figures and in their weights."""
    for one, other in zip(curves(left), curves(right), strict=True):
        for name in set(one) - {"kind", "lr", "val_miou_by_data"}:
            if one[name] is not None:
                assert other[name] == pytest.approx(one[name], rel=2e-4, abs=2e-5), (one["step"], name)
    first, second = (load_file(folder / "last" / "model.safetensors") for folder in (left, right))
    assert set(first) == set(second)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cached", [0, 2])
def test_two_processes_learn_what_one_learns_from_the_doubled_batch(world: World, cached: int) -> None:
    # Two processes of two images each against one of four; blocks of the backbone train along.
    fit(world.config("one", cache_views=cached, epochs=1, model={"backbone_trainable_blocks": 2}))
    done = torchrun(options(world, "two", "--trainable-blocks", 2, "--cache-views", cached))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("best checkpoint") == 1  # one of the processes talks
    assert_alike(world.folder / "one", world.folder / "two")
    config = json.loads((world.folder / "two" / "last" / "config.json").read_text())
    assert config["training"]["processes"] == 2


def test_two_processes_measure_and_save_the_same_running_statistics(world: World) -> None:
    """Each process sees other images; without sharing they would normalise, and measure, by others."""
    whole = (
        "--backbone",
        "ovsdino_nano_patch16",
        "--whole-backbone",
        "--no-alignment",
        "--trainable-blocks",
        0,
    )
    done = torchrun(options(world, "two", *whole))
    assert done.returncode == 0, done.stderr[-3000:]
    last = world.folder / "two" / "last"
    model, info = load_checkpoint(last)
    settings = world.config("one", model=info.model.to_dict())
    settings.out.mkdir()
    prepared = prepare(settings, Ranks(0, 1, torch.device("cpu")), lambda sentence: None)
    prepared.objective.model.load_state_dict(model.state_dict())
    assert prepared.validation is not None
    alone = validate(prepared.objective, prepared.validation, None, Ranks(0, 1, torch.device("cpu")), 2)
    assert alone["mean"] == pytest.approx(info.training["val_miou"], abs=2e-3)


def test_every_trainable_parameter_is_used_with_a_teacher_too(world: World, tiny_sam: Path) -> None:
    """DDP stops with an error where a parameter has no gradient."""
    begun = fit(world.config("begun", epochs=1, model={"backbone_trainable_blocks": 1})).last
    more = ("--teacher", tiny_sam, "--trainable-blocks", 1, "--cache-views", 1, "--start", begun)
    done = torchrun(options(world, "two", *more))
    assert done.returncode == 0, done.stderr[-3000:]
    lines = curves(world.folder / "two")
    assert "align" in lines[0]


def test_a_batch_that_processes_cannot_share_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from ovsdino import trainer
    from ovsdino.distributed import Ranks

    monkeypatch.setattr(trainer, "joined", lambda device: nullcontext(Ranks(0, 3, torch.device("cpu"))))
    with pytest.raises(DataError, match="3 processes"):
        fit(world.config("run"))


def test_more_processes_than_gpus_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with (
        pytest.raises(BackendUnavailable, match=r"process 4 of this machine has no GPU: there are 2; lower"),
        joined("auto"),
    ):
        pass
