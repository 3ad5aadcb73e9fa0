"""Fine-tuning: a training that begins with another one's weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ovsdino.checkpoint import read_info, read_tensors, write_checkpoint
from ovsdino.trainer import fit
from ovsdino_runtime.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import World

STILL = {"epochs": 1, "lr_heads": 0.0, "lr_blocks": 0.0, "lr_scalars": 0.0, "weight_decay": 0.0}
SMALL = {"backbone": "ovsdino_nano_patch16", "backbone_trainable_blocks": 0, "whole_backbone": True,
         "alignment": False}  # fmt: skip


@pytest.fixture
def begun(world: World) -> Path:
    return fit(world.config("begun", epochs=1, model={"backbone_trainable_blocks": 1}, lr_heads=3e-3)).last


def going_on(world: World, start: Path, model: dict[str, Any], **changes: object) -> Any:
    return replace(world.config("on", model=model, seed=5, **(STILL | changes)), start=start)


def test_a_training_at_rate_zero_ends_with_the_weights_it_began_with(world: World, begun: Path) -> None:
    said: list[str] = []
    last = fit(going_on(world, begun, {"backbone_trainable_blocks": 1}), say=said.append).last
    first, second = read_tensors(begun), read_tensors(last)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert f"starting from all {len(first)} trained weights of {begun}" in said
    assert read_info(last).training["settings"]["start"] == str(begun)


def test_a_published_checkpoint_begins_a_training_too(world: World, begun: Path) -> None:
    info, tensors = read_info(begun), read_tensors(begun)
    write_checkpoint(world.folder / "half", tensors, info, half=True)
    last = fit(going_on(world, world.folder / "half", {"backbone_trainable_blocks": 1})).last
    for name, value in read_tensors(last).items():
        torch.testing.assert_close(value, tensors[name], atol=1e-3, rtol=1e-3)


def test_a_self_contained_one_begins_what_trains_of_it(world: World) -> None:
    config = world.config("whole", epochs=1, model={"backbone_trainable_blocks": 1})
    begun = fit(replace(config, self_contained=True)).last
    assert read_info(begun).complete
    last = fit(going_on(world, begun, {"backbone_trainable_blocks": 1})).last
    whole, part = read_tensors(begun), read_tensors(last)
    assert 0 < len(part) < len(whole)
    assert all(torch.equal(whole[name], value) for name, value in part.items())


def test_a_self_contained_one_whose_blocks_would_stay_frozen_is_refused(world: World) -> None:
    config = world.config("whole", epochs=1, model={"backbone_trainable_blocks": 1}, lr_blocks=1e-2)
    begun = fit(replace(config, self_contained=True)).last
    with pytest.raises(CheckpointError, match="stay frozen in it, as backbone"):
        fit(going_on(world, begun, {"backbone_trainable_blocks": 0}))


def test_a_backbone_that_was_trained_as_a_whole_does_not_become_a_frozen_one(world: World) -> None:
    begun = fit(world.config("begun", epochs=1, model=SMALL)).last
    frozen = {**SMALL, "whole_backbone": False}
    with pytest.raises(CheckpointError, match="stay frozen in it, as backbone"):
        fit(going_on(world, begun, frozen))


def test_another_grid_is_refused(world: World, begun: Path) -> None:
    with pytest.raises(CheckpointError, match="with decoder stride 2, not 1; train the model it is of"):
        fit(going_on(world, begun, {"backbone_trainable_blocks": 1, "decoder_stride": 1}))


def test_another_text_encoder_is_refused(world: World) -> None:
    begun = fit(world.config("begun", epochs=1, text_model="ViT-B-16")).last
    same = going_on(world, begun, {}, text_model="ViT-B-16")
    fit(same)
    fit(replace(same, out=world.folder / "unsaid", text_model=None))  # ready-made vectors do not tell
    other = replace(same, out=world.folder / "other", text_model="ViT-L-14")
    with pytest.raises(CheckpointError, match=r"trained for the text encoder open_clip ViT-B-16 openai, but"):
        fit(other)


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        ({"backbone_trainable_blocks": 0}, {}, "stay frozen in it, as backbone"),
        ({"backbone_trainable_blocks": 2}, {}, r"lacks \d+ weights of this model, as backbone"),
        (
            {"backbone_trainable_blocks": 1, "head": "linear", "gate": False, "alignment": False},
            {},
            "no place in this training",
        ),
        ({"backbone_trainable_blocks": 1, "gate": False}, {}, "as decoder.gate"),
        ({"backbone_trainable_blocks": 1}, {"backbone_weights": "random:7"}, "sits on another backbone"),
        ({"backbone_trainable_blocks": 1}, {"shorten_text": 5}, "lacks 1 weights of this model, as text_map"),
    ],
)
def test_another_model_is_refused_and_described(
    world: World, begun: Path, model: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    config = going_on(world, begun, model, **changes)
    with pytest.raises(CheckpointError, match=said) as caught:
        fit(config)
    assert "\n" not in str(caught.value)
    if "backbone than" not in str(caught.value):
        assert "trainable blocks 1" in str(caught.value)
    assert not (config.out / "last").exists()


def test_a_resumed_training_no_longer_needs_what_it_started_from(world: World, begun: Path) -> None:
    config = going_on(world, begun, {"backbone_trainable_blocks": 1}, epochs=2)
    fit(replace(config, epochs=2))
    for file in begun.iterdir():
        file.unlink()
    assert fit(replace(config, resume=True)).last.is_dir()


def test_a_model_that_learns_as_a_whole_begins_as_a_whole(world: World) -> None:
    begun = fit(world.config("small", epochs=1, model=SMALL)).last
    last = fit(going_on(world, begun, SMALL)).last
    first, second = read_tensors(begun), read_tensors(last)
    learned = [name for name in first if "running" not in name and "num_batches" not in name]
    assert all(torch.equal(first[name], second[name]) for name in learned)
    assert read_info(last).complete


def test_windows_may_be_of_another_size(world: World) -> None:
    begun = fit(world.config("small", epochs=1, model=SMALL)).last
    said: list[str] = []
    last = fit(going_on(world, begun, SMALL | {"window_px": 96}), say=said.append).last
    assert any(line.endswith(f"weights of {begun}, for windows of 64 px") for line in said)
    first, second = read_tensors(begun), read_tensors(last)
    positions = "backbone.vit.pos_embed"
    assert (first[positions].shape[1], second[positions].shape[1]) == (16, 36)
    assert torch.equal(first["projector.weight"], second["projector.weight"])
