"""The training loop: order, rates, resuming, checkpoints."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.batches import epoch_order
from ovsdino.checkpoint import load_checkpoint, read_info, read_tensors, save_checkpoint
from ovsdino.data.dataset import Collate, View
from ovsdino.data.labels import ClassShares
from ovsdino.distributed import Ranks
from ovsdino.journal import read_journal
from ovsdino.model import OVSDINO
from ovsdino.muon import Muon
from ovsdino.optimizer import Stepper, create_optimizer, rate_factor
from ovsdino.preparation import prepare
from ovsdino.progress import read_progress, write_progress
from ovsdino.settings import Distill, TrainConfig
from ovsdino.trainer import fit
from ovsdino_runtime.embeddings import unit
from ovsdino_runtime.errors import BackendUnavailable, CheckpointError, DataError, OutputError, TrainingError
from tests.runtime.pickles import Touching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from conftest import World
    from numpy.typing import NDArray

DIM = 16  # of the text vectors
ALONE = Ranks(0, 1, torch.device("cpu"))


def steps_of(config: TrainConfig) -> list[dict[str, Any]]:
    """The lines of a run without the times, which differ from run to run."""
    lines = read_journal(config.out)
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@given(st.integers(1, 100), st.integers(1, 30), st.integers(0, 5))
def test_every_batch_is_full_and_every_sample_seen_as_often_as_any_other_or_once_more(
    samples: int, batch: int, epoch: int
) -> None:
    order = epoch_order(0, epoch, samples, batch)
    assert order.shape == (math.ceil(samples / batch), batch)
    counts = np.bincount(order.ravel(), minlength=samples)
    assert counts.min() >= 1
    assert np.ptp(counts) <= 1


def test_the_order_changes_from_epoch_to_epoch_and_repeats_with_the_seed() -> None:
    assert not np.array_equal(epoch_order(0, 0, 50, 10), epoch_order(0, 1, 50, 10))
    np.testing.assert_array_equal(epoch_order(3, 4, 50, 10), epoch_order(3, 4, 50, 10))


def test_the_rate_climbs_linearly_then_falls_as_half_a_cosine() -> None:
    factors = [rate_factor(step, 4, 24) for step in range(24)]
    np.testing.assert_allclose(factors[:4], (0.25, 0.5, 0.75, 1))
    expected = (1 + np.cos(np.pi * np.arange(20) / 20)) / 2
    np.testing.assert_allclose(factors[4:], expected)
    assert rate_factor(0, 0, 10) == 1


def test_the_paper_s_rates_and_decay_reach_the_right_parameters(world: World) -> None:
    config = world.config("run", model={"backbone_trainable_blocks": 3, "embedding_dim": 16})
    model = OVSDINO(config.model)
    groups = {group["name"]: group for group in create_optimizer(model, config).param_groups}
    assert [
        (groups[name]["lr"], groups[name]["weight_decay"]) for name in ("heads", "blocks", "scalars")
    ] == [
        (1e-4, 1e-4),
        (1e-5, 1e-4),
        (1e-2, 0),
    ]
    assert {parameter.numel() for parameter in groups["scalars"]["params"]} == {1, 5}
    covered = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert len(covered) == len(set(covered))
    assert set(covered) == {id(p) for p in model.parameters() if p.requires_grad}
    assert model.backbone is not None
    assert {id(p) for p in groups["blocks"]["params"]} == {
        id(p) for p in model.backbone.vit.blocks[-3:].parameters()
    }


def test_muon_takes_the_matrices_of_heads_and_blocks_at_their_rates(world: World) -> None:
    config = world.config(
        "run", optimizer="muon", model={"backbone_trainable_blocks": 3, "embedding_dim": 16}
    )
    model = OVSDINO(config.model)
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = create_optimizer(model, config)
    assert isinstance(optimizer, Muon)
    groups = {group["name"]: group for group in optimizer.param_groups}
    names = {
        title: {named[id(parameter)] for parameter in group["params"]} for title, group in groups.items()
    }
    rates = {title: (group["lr"], group["weight_decay"], group["parts"]) for title, group in groups.items()}
    assert rates == {
        "heads": (1e-4, 1e-4, 0),
        "heads (Muon)": (1e-4, 1e-4, 1),
        "blocks": (1e-5, 1e-4, 0),
        "blocks (Muon)": (1e-5, 1e-4, 1),
        "blocks (Muon, qkv)": (1e-5, 1e-4, 3),
        "scalars": (1e-2, 0, 0),
    }
    assert {"encoder.project.weight", "projector.weight"} <= names["heads (Muon)"]
    assert {name.rpartition("blocks.")[2][2:] for name in names["blocks (Muon)"]} == {
        "attn.proj.weight",
        "mlp.fc1.weight",
        "mlp.fc2.weight",
    }
    assert all(name.endswith("qkv.weight") for name in names["blocks (Muon, qkv)"])
    assert not any(
        name.endswith(".weight") and parameter.ndim == 2
        for name, parameter in model.named_parameters()
        if name in names["heads"] | names["blocks"]
    )
    assert sum(map(len, names.values())) == sum(p.requires_grad for p in model.parameters())


def test_a_frozen_backbone_keeps_what_it_normalises_by(world: World) -> None:
    """The nano stem has BatchNorm: frozen, it must give in training what it gives at inference."""
    frozen = {"backbone": "ovsdino_nano_patch16", "alignment": False}
    config = world.config("run", epochs=1, cache_views=1, model=frozen)
    fit(config)
    trained, _ = load_checkpoint(config.out / "last", "random:0")
    assert trained.backbone is not None
    statistics = [
        value for name, value in trained.named_buffers() if name.endswith(("running_mean", "tracked"))
    ]
    assert statistics
    assert not any(value.any() for value in statistics)  # as they began
    prepared = prepare(replace(config, out=world.folder / "again"), ALONE, lambda sentence: None)
    assert prepared.cached_training is not None
    prepared.objective.train()
    model = prepared.objective.model
    assert model.training
    assert model.backbone is not None
    view = prepared.training[0, 0]
    with torch.no_grad():
        alone = model.backbone.frozen(torch.from_numpy(view.image[None])).tokens[0]  # type: ignore[index]
    cached = prepared.cached_training[0, 0].frozen
    assert cached is not None
    np.testing.assert_allclose(cached.tokens, alone, atol=2e-3)


def test_a_lack_of_memory_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*arguments: object, **options: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")

    monkeypatch.setattr("ovsdino.objective.Objective.forward", lacking)
    with pytest.raises(TrainingError, match="out of memory with 2 images at once; lower --micro-batch"):
        fit(world.config("run", epochs=1))
    monkeypatch.setattr("ovsdino.objective.Objective.forward", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(world.config("other", epochs=1))


def test_micro_batches_add_up_to_the_batch(world: World) -> None:
    whole, parts = (
        world.config("whole", micro_batch=4, epochs=1),
        world.config("parts", micro_batch=3, epochs=1),
    )
    for config in (whole, parts):
        fit(config)
    left, right = ([line["loss"] for line in steps_of(c) if line["kind"] == "step"] for c in (whole, parts))
    np.testing.assert_allclose(left, right, rtol=1e-5)
    models = [load_checkpoint(config.out / "last")[0].state_dict() for config in (whole, parts)]
    for name, value in models[0].items():
        torch.testing.assert_close(value, models[1][name], rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # Python 3.12 on
def test_views_are_the_same_from_other_processes(world: World) -> None:
    workers = min(2, len(os.sched_getaffinity(0)))  # torch warns of more than there are cores
    alone, helped = world.config("alone", epochs=1), world.config("helped", epochs=1, workers=workers)
    for config in (alone, helped):
        fit(config)
    assert steps_of(alone) == steps_of(helped)


class PowerCutError(Exception):
    """What a power cut is to this test."""


def test_a_training_begun_before_an_option_existed_resumes_with_its_default(world: World) -> None:
    config = world.config("older", epochs=1)
    fit(config)
    state = torch.load(config.out / "state.pt", weights_only=True)
    settings = json.loads(state["settings"])
    assert settings.pop("cross_entropy_weight") == 0
    assert settings["augmentation"].pop("object_crops") == 0
    torch.save({**state, "settings": json.dumps(settings)}, config.out / "state.pt")
    assert read_progress(replace(config, resume=True)) is not None
    with pytest.raises(CheckpointError, match=r"has cross_entropy_weight 0\.0, now it is 1\.0"):
        read_progress(replace(config, resume=True, cross_entropy_weight=1.0))


@pytest.mark.parametrize(
    ("stop", "save_every", "cached", "optimizer"), [(2, 0, 2, "adamw"), (3, 1, 0, "adamw"), (3, 1, 2, "muon")]
)
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(
    world: World, stop: int, save_every: int, cached: int, optimizer: str
) -> None:
    whole = world.config(
        "whole",
        epochs=3,
        cache_views=cached,
        optimizer=optimizer,
        model={"backbone_trainable_blocks": 1},
    )
    fit(whole)
    config = replace(whole, out=world.folder / "resumed", save_every=save_every)

    def interrupt(line: dict[str, Any]) -> None:
        if line["step"] == stop + 1:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        fit(config, on_step=interrupt)
    fit(replace(config, resume=True))
    assert steps_of(config) == steps_of(whole)
    for name in ("best", "last"):
        left, right = ((c.out / name / "model.safetensors").read_bytes() for c in (whole, config))
        assert left == right


def test_a_finished_training_is_neither_overwritten_nor_continued_by_accident(world: World) -> None:
    config = world.config("run", epochs=1)
    with pytest.raises(CheckpointError, match="does not exist"):
        fit(replace(config, resume=True))
    fit(config)
    with pytest.raises(OutputError, match="--resume"):
        fit(config)
    with pytest.raises(CheckpointError, match=r"lr_heads 0\.0001, now it is 0\.5"):
        fit(replace(config, resume=True, lr_heads=0.5))
    before = steps_of(config)
    fit(replace(config, resume=True))
    assert steps_of(config) == before
    (config.out / "state.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="no state of a training"):
        fit(replace(config, resume=True))


@pytest.mark.parametrize("file", ["state.pt", "last"])
def test_a_full_disk_is_one_line_and_loses_nothing(world: World, file: str) -> None:
    config = world.config("run", epochs=1, save_every=1)
    fit(config)
    kept = {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}
    least = len(kept[config.out / "last" / "model.safetensors"]) // 2
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    progress = read_progress(replace(config, resume=True))
    assert progress is not None
    model, info = load_checkpoint(config.out / "last", "random:0")
    optimizer = create_optimizer(model, config)
    progress.restore(model, optimizer)
    write = {
        "last": lambda: save_checkpoint(config.out / "last", model, info),
        "state.pt": lambda: write_progress(config, progress, {}, model, optimizer),
    }[file]
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, limits[1]))
    try:
        said = rf"cannot write {config.out / file}: .*; free some space"
        with pytest.raises(OutputError, match=said) as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "\n" not in str(caught.value)
    assert kept == {path: path.read_bytes() for path in config.out.rglob("*") if path.is_file()}


def _another_backbone(world: World) -> None:
    """Put other weights where the training's lie."""
    save_file(load_backbone_weights("test_vit", "random:9").tensors, world.folder / "vit.safetensors")


def _another_image(world: World) -> None:
    for kind in ("images", "labels"):
        (world.data / kind / "99.png").write_bytes((world.data / kind / "00.png").read_bytes())


def _another_name(world: World) -> None:
    for kind in ("images", "labels"):
        (world.data / kind / "00.png").rename(world.data / kind / "000.png")


def _other_values(world: World) -> None:
    """Let the values 0 and 1 change their meanings."""
    names = world.folder / "names.txt"
    names.write_text("road\ncar\ntree\nsky\n")


def _other_vectors(world: World) -> None:
    with np.load(world.text_embeddings) as before:
        np.savez(world.text_embeddings, street=np.roll(before["street"], 1, axis=0))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_another_backbone, "the backbone's fingerprint was"),
        (_another_image, "the number of training images was 12, now it is 14"),
        (_another_name, "the list of training images was"),
        (_other_vectors, "the text vectors' digest was"),
        (_other_values, "the classes by label value was"),
    ],
)
def test_a_training_goes_on_only_on_what_it_began_with(
    world: World, change: Callable[[World], None], named: str
) -> None:
    weights = world.folder / "vit.safetensors"
    save_file(load_backbone_weights("test_vit", "random:0").tensors, weights)
    names = world.folder / "names.txt"
    names.write_text("car\nroad\ntree\nsky\n")
    data = (f"folder:{world.data}:road,car,tree,sky", f"folder:{world.data}:{names}")
    config = world.config("run", epochs=1, backbone_weights=str(weights), data=data)
    fit(config)
    fit(replace(config, resume=True))
    change(world)
    with pytest.raises(CheckpointError) as error:
        fit(replace(config, resume=True))
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_without_alignment_a_sam_has_no_part(world: World, tiny_sam: Path) -> None:
    for alignment in (True, False):
        out = f"alignment {alignment}"
        config = world.config(out, epochs=1, teacher=str(tiny_sam), model={"alignment": alignment})
        fit(config)
        steps = [line for line in steps_of(config) if line["kind"] == "step"]
        assert all(("align" in line) == alignment for line in steps)


def test_a_validation_that_fails_costs_no_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> None:
        raise DataError("cannot read the label 7.png")

    config = world.config("run", epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr("ovsdino.trainer.validate", broken)
        for resume in (False, True):
            with pytest.raises(DataError, match=r"7\.png"):
                fit(replace(config, resume=resume))
            assert read_tensors(config.out / "last")
            assert not (config.out / "best").exists()
    fit(replace(config, resume=True))
    whole = world.config("whole", epochs=2)
    fit(whole)
    assert steps_of(config) == steps_of(whole)
    assert [line["epoch"] for line in steps_of(config) if line["kind"] == "epoch"] == [0, 1]
    left, right = ((c.out / "best" / "model.safetensors").read_bytes() for c in (whole, config))
    assert left == right


def test_another_named_text_encoder_of_ready_made_vectors_is_believed(world: World) -> None:
    result = fit(world.config("run", epochs=1, text_model="ViT-L-14"))
    assert read_info(result.last).text_model == "open_clip ViT-L-14 openai"


def test_the_paper_s_text_encoder_named_for_ready_made_vectors_is_believed_too(world: World) -> None:
    result = fit(world.config("run", epochs=1, text_model="ViT-B-16"))
    assert read_info(result.last).text_model == "open_clip ViT-B-16 openai"


def test_checkpoints_say_what_they_were_made_from_and_best_is_the_best(world: World) -> None:
    config = world.config("run", epochs=3, lr_heads=3e-3, command="ovsdino-train fit …", seed=5)
    result = fit(config)
    info = read_info(result.last)
    assert info.trained_names == ("car", "road", "sky", "tree")
    assert info.model == replace(config.model, alignment=False, embedding_dim=16)
    assert info.text_model == ""  # ready-made vectors do not tell what made them
    assert info.training["text"] == "ready-made: text.npz, 16 numbers"
    assert info.training["settings"]["model"] == info.model.to_dict()
    assert info.training["command"] == "ovsdino-train fit …"
    assert info.training["settings"]["seed"] == 5
    model = load_checkpoint(result.last)[0]
    assert set(info.training["scalars"]) == {"scale", "bias", "gamma", "alpha"}
    assert info.training["scalars"]["gamma"] == pytest.approx(model.decoder.gate.gamma.item())
    assert len(info.training["scalars"]["alpha"]) == 5
    assert info.training["epochs_done"] == 3
    epochs = [line for line in read_journal(config.out) if line["kind"] == "epoch"]
    mious = [line["val_miou"] for line in epochs]
    assert result.best_miou == max(mious)
    assert read_info(result.best).training["val_miou"] == max(mious)
    assert read_info(result.best).training["epochs_done"] == mious.index(max(mious)) + 1
    with Image.open(config.out / "curves.png") as curves:
        assert curves.size[0] > 800


def test_a_step_s_line_holds_losses_rates_and_scalars(world: World) -> None:
    config = world.config("run")
    fit(config)
    first = steps_of(config)[0]
    assert {
        "kind",
        "step",
        "epoch",
        "loss",
        "seg",
        "dice",
        "bce",
        "lr",
        "gamma",
        "alpha",
        "scale",
        "bias",
        "grad_norm",
    } == set(first)
    assert len(first["alpha"]) == 5
    assert first["lr"] == {"heads": 5e-5, "scalars": 5e-3}  # the first of two warm-up steps
    # Adam's first step is the rate itself, in the direction of the gradient.
    assert abs(first["gamma"] - 0.1) == pytest.approx(5e-3, rel=1e-2)
    assert abs(first["scale"] - 10) == pytest.approx(5e-3, rel=1e-2)


def test_it_learns_to_segment_painted_scenes(world: World) -> None:
    config = world.config("run", epochs=12, lr_heads=1e-2, cache_views=2)
    result = fit(config)
    assert result.best_miou is not None
    assert result.best_miou > 0.6  # chance: 0.2
    lines = [line for line in steps_of(config) if line["kind"] == "step"]
    assert lines[-1]["seg"] < 0.6 * lines[0]["seg"]


@pytest.mark.parametrize(
    "model",
    [
        {"gate": False},
        {"layers": "sparse"},
        {"decoder_stride": 1},
        {"backbone_trainable_blocks": 3},
        {"alignment": False},
    ],
)
def test_every_switch_trains(world: World, model: dict[str, Any]) -> None:
    config = world.config("run", model=model, epochs=1)
    fit(config)
    info = read_info(config.out / "last")
    assert {key: getattr(info.model, key) for key in model} == model
    assert all(math.isfinite(line["loss"]) for line in steps_of(config) if line["kind"] == "step")


def test_the_factors_of_the_losses_reach_them(world: World) -> None:
    config = world.config("run", epochs=1, dice_weight=0.5, cross_entropy_weight=2.0)
    fit(config)
    step = steps_of(config)[0]
    expected = step["bce"] + 0.5 * step["dice"] + 2 * step["cross_entropy"]
    assert step["seg"] == pytest.approx(expected, rel=1e-5)
    assert min(step["bce"], step["dice"], step["cross_entropy"]) > 0.01


def test_without_validation_the_last_epoch_is_the_best(world: World) -> None:
    result = fit(world.config("run", val_fraction=0.0))
    assert result.best_miou is None
    assert (result.best / "model.safetensors").read_bytes() == (
        result.last / "model.safetensors"
    ).read_bytes()


def test_a_clipped_gradient_keeps_its_direction_and_has_the_norm_asked_for() -> None:
    for clip, moved in ((1.0, (-0.6, -0.8)), (10.0, (-3.0, -4.0)), (0.0, (-3.0, -4.0))):
        parameter = torch.nn.Parameter(torch.zeros(2))
        parameter.grad = torch.tensor([3.0, 4.0])
        assert Stepper(torch.optim.SGD([parameter], lr=1.0), clip).step() == pytest.approx(
            5
        )  # before clipping
        torch.testing.assert_close(parameter.detach(), torch.tensor(moved), atol=1e-5, rtol=0)


def test_gradients_are_clipped_only_if_asked(world: World) -> None:
    free = world.config("free", epochs=1)
    held, tight = (replace(free, out=world.folder / str(limit), grad_clip=limit) for limit in (1e6, 1e-9))
    for config in (free, held, tight):
        fit(config)
    assert steps_of(free) == steps_of(held)
    assert steps_of(free) != steps_of(tight)


@pytest.mark.parametrize("poisoned", [1, 100])
def test_a_gradient_that_is_not_finite_is_left_out_and_ends_the_training_if_it_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, poisoned: int
) -> None:
    from ovsdino.objective import Objective

    config = world.config("run", epochs=8, batch_size=2)
    forward, calls = Objective.forward, []

    def sometimes_not_finite(self: Objective, batch: Any) -> dict[str, torch.Tensor]:
        losses = forward(self, batch)
        calls.append(1)
        broken = 3 < len(calls) <= 3 + poisoned  # one micro-batch a step: from the 4th step on
        return {name: value * float("nan") if broken else value for name, value in losses.items()}

    monkeypatch.setattr(Objective, "forward", sometimes_not_finite)
    if poisoned == 1:
        fit(config)
    else:
        with pytest.raises(TrainingError, match="10 steps in a row") as error:
            fit(config)
        assert "\n" not in str(error.value)
    lines = [line for line in steps_of(config) if line["kind"] == "step"]
    without = [line["step"] for line in lines if line["grad_norm"] is None]
    assert without == ([4] if poisoned == 1 else list(range(4, 13)))
    assert lines[3]["loss"] is None
    assert lines[3]["scale"] == lines[2]["scale"]
    weights = load_checkpoint(config.out / "last")[0].state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())
    if poisoned == 1:
        assert lines[4]["scale"] != lines[3]["scale"]
        assert (config.out / "curves.png").exists()


def test_several_data_sets_train_together_and_ask_only_for_their_own_absent_classes(
    world: World, painted: Any
) -> None:
    other = painted(world.folder / "other", 2)
    text = world.folder / "yolo"
    (text / "labels").mkdir(parents=True)
    (other / "images").rename(text / "images")
    for name in ("00", "01"):
        (text / "labels" / f"{name}.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    config = world.config("run", epochs=1)
    config = replace(config, data=(*config.data, f"yolo:{text}:rider,car"), val_fraction=0.0)
    fit(config)
    assert read_info(config.out / "last").trained_names == ("car", "rider", "road", "sky", "tree")
    ready = prepare(config, ALONE, lambda sentence: None)
    collate = Collate(ready.training.table, 10, 0)
    empty = ClassShares(np.zeros(0, np.int64), np.zeros((0, 4, 4), np.uint8), np.zeros((4, 4), np.uint8))
    names = ready.training.table.names
    asked = [{names[row] for row in collate.absent(View(source, (0, 0), empty))} for source in (0, 1)]
    assert asked == [{"car", "road", "tree", "sky"}, {"rider", "car"}]


def test_absent_classes_are_drawn_anew_each_epoch_and_never_those_present(world: World) -> None:
    config = world.config("run", negatives=1)
    config.out.mkdir()
    ready = prepare(config, ALONE, lambda sentence: None)
    collate = Collate(ready.training.table, 1, 0)
    present = ClassShares(np.array([1]), np.ones((1, 4, 4), np.uint8), np.ones((4, 4), np.uint8))
    drawn = [int(collate.absent(View(0, (epoch, 0), present))[0]) for epoch in range(200)]
    assert set(drawn) == {0, 2, 3}
    assert drawn == [int(collate.absent(View(0, (epoch, 0), present))[0]) for epoch in range(200)]
    assert np.bincount(drawn, minlength=4)[[0, 2, 3]].min() > 40


def test_settings_that_make_no_training_are_refused(world: World) -> None:
    for changes in (
        {"data": ()},
        {"batch_size": 0},
        {"val_fraction": 1.0},
        {"cache_views": -1},
        {"precision": "fp8"},
        {"optimizer": "sgd"},
        {"cache_views": 2, "model": {"whole_backbone": True, "alignment": False}},  # nothing to cache
        {"cache_views": 2, "distill": Distill(checkpoint=world.folder)},  # of a frozen backbone
        {"text_names": None},
        {"lr_heads": float("nan")},
        {"model": {"encoder": False, "gate": False, "alignment": False}},
    ):
        with pytest.raises(ValueError, match=r".+"):
            world.config("run", **changes)


def test_cuda_that_is_not_there_is_an_error_not_a_cpu_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="--device cpu"):
        fit(world.config("run", device="cuda"))


def test_a_broken_photograph_stops_the_training_in_one_line(world: World) -> None:
    for path in (world.data / "images").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError) as error:
        fit(world.config("run"))
    assert "\n" not in str(error.value)
    assert ".png" in str(error.value)


def test_the_state_holds_nothing_that_needs_unpickling(world: World) -> None:
    config = world.config("run", epochs=1)
    fit(config)
    state = torch.load(config.out / "state.pt", weights_only=True)
    assert state["step"] == 2
    assert json.loads(state["settings"])["seed"] == 0


def test_a_self_contained_checkpoint_needs_no_backbone_weights(world: World) -> None:
    result = fit(world.config("whole", epochs=1, self_contained=True))
    info = read_info(result.last)
    assert info.complete
    model, _ = load_checkpoint(result.last, None)
    other, _ = load_checkpoint(fit(world.config("delta", epochs=1)).last)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_a_state_that_would_run_code_is_refused_and_runs_none(world: World) -> None:
    config, mark = world.config("run", epochs=1), world.folder / "ran"
    config.out.mkdir()
    torch.save({"step": Touching(mark)}, config.out / "state.pt")
    with pytest.raises(CheckpointError, match="no state of a training"):
        fit(replace(config, resume=True))
    assert not mark.exists()


def test_without_ready_made_vectors_the_encoder_asked_for_gives_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: set[tuple[str, str]] = set()

    def encoded(names: Sequence[str], *, model: str, pretrained: str) -> NDArray[np.float32]:
        asked.add((model, pretrained))
        seeds = [int.from_bytes(name.encode()[:7], "big") for name in names]
        vectors = [np.random.default_rng(seed).normal(size=DIM).astype(np.float32) for seed in seeds]
        return unit(np.array(vectors))

    monkeypatch.setattr("ovsdino.text.encode_names", encoded)
    config = world.config("run", epochs=1, text_embeddings=None, text_names=None)
    info = read_info(fit(replace(config, text_model="ViT-L-14", text_pretrained="datacomp")).last)
    assert asked == {("ViT-L-14", "datacomp")}
    assert info.text_model == "open_clip ViT-L-14 datacomp"
    assert info.training["text"] == info.text_model
    asked.clear()
    usual = replace(config, out=world.folder / "usual")
    fit(usual)
    assert asked == {("ViT-B-16", "openai")}
    with pytest.raises(CheckpointError, match=r"text_model None, now it is 'ViT-L-14'"):
        fit(replace(usual, text_model="ViT-L-14", resume=True))
