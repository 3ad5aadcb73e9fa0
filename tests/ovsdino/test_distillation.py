"""A small model learns from a larger one: the loss, the cached scores, the shortened text."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ovsdino import cli
from ovsdino.backbone import create_vit
from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.checkpoint import load_checkpoint, read_info
from ovsdino.class_text import KnownNames
from ovsdino.config import ModelConfig
from ovsdino.data.labels import labels_of_map
from ovsdino.data.samples import read_sample
from ovsdino.distillation import Distillation, ScoreTeacher, distillation_loss
from ovsdino.distributed import Ranks
from ovsdino.foundation import check_foundation
from ovsdino.model import OVSDINO
from ovsdino.nano import ConvStem, LocalBlock
from ovsdino.preparation import prepare
from ovsdino.settings import Distill, TrainConfig
from ovsdino.text_map import distinguishing_map, mapped
from ovsdino.trainer import fit
from ovsdino.view_store import TaughtViews
from ovsdino_runtime.embeddings import unit
from ovsdino_runtime.errors import CheckpointError

if TYPE_CHECKING:
    from conftest import World

NANO = "ovsdino_nano_patch16"


def random_units(count: int, numbers: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, numbers)).astype(np.float32))


def test_the_divergence_is_that_of_the_softmaxes_at_every_place() -> None:
    random = np.random.default_rng(0)
    student, teacher = random.uniform(-0.3, 0.3, (2, 3, 5, 2, 4))

    def softmax(values: np.ndarray) -> np.ndarray:
        powers = np.exp((values / 0.1) - (values / 0.1).max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    p, q = softmax(teacher), softmax(student)
    expected = (p * np.log(p / q)).sum(axis=1).mean(axis=(1, 2))
    found = distillation_loss(torch.from_numpy(student) / 0.1, torch.from_numpy(teacher) / 0.1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)
    same = torch.from_numpy(teacher)
    torch.testing.assert_close(distillation_loss(same, same), torch.zeros(3))


def test_a_student_whose_scale_and_cosines_make_the_teacher_s_logits_has_nothing_to_learn() -> None:
    torch.manual_seed(0)
    model = OVSDINO(ModelConfig(backbone="test_vit", window_px=64, embedding_dim=8, alignment=False))
    text = torch.from_numpy(random_units(5, 8))
    embeddings = torch.nn.functional.normalize(torch.randn(2, 8, 4, 4), dim=1)
    cosines = model.scores(embeddings, text).detach()
    loss = Distillation(text, 0.1, 1.0, frozenset())
    with torch.no_grad():
        model.score_scale.fill_(5.0)
    sources = torch.tensor([0, 0])
    torch.testing.assert_close(
        loss(model, embeddings, cosines * 0.5, sources), torch.tensor(0.0), atol=1e-6, rtol=0
    )
    off = loss(model, embeddings, cosines, sources)  # the teacher is twice as sure
    off.backward()
    assert off > 1e-3
    assert model.score_scale.grad < 0  # a larger scale would be better


def test_images_of_undistilled_data_cost_nothing() -> None:
    torch.manual_seed(0)
    model = OVSDINO(ModelConfig(backbone="test_vit", window_px=64, embedding_dim=8, alignment=False))
    text = torch.from_numpy(random_units(5, 8))
    embeddings = torch.nn.functional.normalize(torch.randn(2, 8, 4, 4), dim=1)
    target = torch.rand(2, 5, 4, 4)
    loss = Distillation(text, 0.1, 2.0, frozenset({1}))
    both = Distillation(text, 0.1, 2.0, frozenset())
    sources = torch.tensor([0, 1])
    alone = both(model, embeddings[:1], target[:1], sources[:1])
    torch.testing.assert_close(loss(model, embeddings, target, sources), alone / 2)
    assert both(model, embeddings, target, sources) > alone / 2


@given(st.integers(1, 11), st.integers(0, 5))
def test_the_map_keeps_the_strongest_directions_but_the_common_one(numbers: int, seed: int) -> None:
    vectors = unit(random_units(20, 12, seed) + 2 * random_units(1, 12, seed + 99))
    matrix = distinguishing_map(vectors, numbers)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(numbers), atol=1e-5)
    strengths = np.linalg.svd(vectors.astype(np.float64), compute_uv=False)
    kept = np.linalg.svd((vectors @ matrix.T).astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(kept[:numbers], strengths[1 : numbers + 1], atol=1e-4)


def test_names_that_have_much_in_common_lie_apart_in_the_shorter_space() -> None:
    vectors = unit(random_units(20, 12) + 2 * random_units(1, 12, 99))
    short = mapped(distinguishing_map(vectors, 11), vectors)
    off = ~np.eye(20, dtype=bool)
    assert (vectors @ vectors.T)[off].mean() > 0.7
    assert abs((short @ short.T)[off].mean()) < 0.1
    with pytest.raises(ValueError, match="do not fill"):
        distinguishing_map(vectors, 12)


def test_the_teacher_s_scores_are_its_cosines_on_the_wanted_grid() -> None:
    torch.manual_seed(0)
    model = OVSDINO(
        ModelConfig(backbone="test_vit", window_px=64, embedding_dim=8, alignment=False, decoder_stride=1)
    )
    text = torch.from_numpy(random_units(5, 8))
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    fine = ScoreTeacher(model, text, "x", 64).features(images)
    expected = torch.einsum("bdhw,kd->bkhw", model(images).embeddings, text)
    torch.testing.assert_close(fine, expected)
    coarse = ScoreTeacher(model, text, "x", 32).features(images)
    assert coarse.shape == (2, 5, 32, 32)
    smaller = torch.nn.functional.interpolate(fine, size=(32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(coarse, smaller, atol=1e-4, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        halved = ScoreTeacher(model, text, "x", 32).features(images)
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, coarse, atol=0.02, rtol=0)
    with pytest.raises(CheckpointError, match="have 7 numbers"):
        ScoreTeacher(model, torch.from_numpy(random_units(5, 7)), "x", 32)


def test_the_nano_vit_learns_as_a_whole_and_starts_from_a_seed() -> None:
    vit = create_vit(NANO, 64)
    assert isinstance(vit.patch_embed, ConvStem)
    assert vit.patch_embed(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 192)
    model = OVSDINO(
        ModelConfig(
            backbone=NANO, window_px=64, alignment=False, backbone_trainable_blocks=0, whole_backbone=True,
            embedding_dim=8, text_dim=12,
        )
    )  # fmt: skip
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.load_backbone(load_backbone_weights(NANO, "random:1"))
    model(torch.zeros(2, 64, 64, 3, dtype=torch.uint8)).embeddings[:, 0].sum().backward()
    unused = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert unused == {"score_scale", "score_bias"}


def test_blocks_of_the_nano_vit_see_their_neighbours() -> None:
    block = LocalBlock(192, num_heads=3)
    torch.nn.init.zeros_(block.attn.proj.weight)
    torch.nn.init.zeros_(block.mlp.fc2.weight)
    tokens = torch.zeros(1, 25, 192)
    touched = tokens.clone()
    touched[0, 12] = 1  # the middle of 5 x 5 patches
    reached = (block(touched) - block(tokens)).abs().sum(-1).reshape(5, 5) > 1e-6
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[1:4, 1:4] = True
    assert torch.equal(reached, expected)


@pytest.fixture
def teacher(world: World) -> Path:
    return fit(world.config("teacher", epochs=2, lr_heads=3e-3)).last


def small(world: World, teacher: Path, out: str, **changes: object) -> object:
    model = {"backbone": NANO, "backbone_trainable_blocks": 0, "whole_backbone": True, "alignment": False}
    settings = {
        "model": model, "distill": Distill(checkpoint=teacher), "cache_views": 2, "shorten_text": 5,
        "lr_heads": 1e-3, "lr_blocks": 1e-3,
    }  # fmt: skip
    return world.config(out, **(settings | changes))


def test_a_student_comes_nearer_to_its_teacher_and_is_complete_in_itself(world: World, teacher: Path) -> None:
    config = small(
        world, teacher, "student", epochs=6, labelled_only=(f"folder:{world.data}:car,road,tree,sky",)
    )
    result = fit(config)
    lines = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["distill"] for line in lines if line["kind"] == "step"]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    model, info = load_checkpoint(result.last)  # needs no backbone weights
    assert info.complete
    assert (info.model.embedding_dim, info.model.text_dim) == (5, 16)
    assert model.text_map is not None
    np.testing.assert_allclose(model.text_map @ model.text_map.T, np.eye(5), atol=1e-5)
    assert info.training["settings"]["distill"]["checkpoint"] == str(teacher)


def test_a_resumed_distillation_is_the_uninterrupted_one(world: World, teacher: Path) -> None:
    whole = small(world, teacher, "whole", epochs=2)
    fit(whole)
    from ovsdino import trainer

    parted = small(world, teacher, "parted", epochs=2, save_every=1)
    with pytest.MonkeyPatch.context() as patch:
        steps = iter(range(100))
        original = trainer._Training._step

        def stopped(self: object, *arguments: object) -> object:
            if next(steps) == 2:
                raise KeyboardInterrupt
            return original(self, *arguments)

        patch.setattr(trainer._Training, "_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(parted)
    fit(small(world, teacher, "parted", epochs=2, save_every=1, resume=True))

    def lines(out: Path) -> list[object]:
        read = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "seconds"} for line in read]

    assert lines(parted.out) == lines(whole.out)


def test_another_teacher_cannot_go_on(world: World, teacher: Path) -> None:
    fit(small(world, teacher, "student", epochs=1))
    import shutil

    other = fit(world.config("other", epochs=1, seed=3)).last
    shutil.rmtree(teacher)
    shutil.copytree(other, teacher)
    with pytest.raises(CheckpointError, match="teacher's fingerprint"):
        fit(small(world, teacher, "student", epochs=1, resume=True))


def test_weight_and_temperature_reach_the_loss(world: World, teacher: Path) -> None:
    asked = Distill(checkpoint=teacher, weight=3.0, temperature=0.1)
    config = small(world, teacher, "student", distill=asked)
    config.out.mkdir()
    found = prepare(config, Ranks(0, 1, torch.device("cpu")), lambda sentence: None).objective.distillation
    assert found is not None
    assert (found.weight, found.temperature) == (3.0, 0.1)


def test_distill_is_a_command(
    world: World, teacher: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "ovsdino-train", "distill", teacher, "--data", f"folder:{world.data}:car,road,tree,sky",
        "--out", world.folder / "small", "--window-px", 64, "--shorten-text", 4, "--epochs", 1,
        "--batch-size", 4, "--micro-batch", 4, "--mask-px", 16, "--cache-views", 1, "--device", "cpu",
        "--text-embeddings", world.text_embeddings, "--text-names", world.text_names,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code in (0, None), capsys.readouterr().err
    info = read_info(world.folder / "small" / "last")
    assert info.model.backbone == NANO
    assert info.model.embedding_dim == 4
    assert info.training["settings"]["augmentation"]["noise"] == 12
    monkeypatch.setattr(sys, "argv", [*map(str, words), "--temperature", "0"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "temperature is 0.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "source"),
    [
        ((), "random:0"),
        (("--backbone", "vit_small_patch14_dinov2"), None),  # timm's own
        (("--backbone", "vit_small_patch14_dinov2", "--backbone-weights", "random:3"), "random:3"),
    ],
)
def test_a_students_backbone_begins_with_random_numbers_only_where_there_is_nothing_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], source: str | None
) -> None:
    begun: list[TrainConfig] = []
    monkeypatch.setattr("ovsdino.distill_command.train", begun.append)
    command = ["ovsdino-train", "distill", "teacher", "--data", "folder:a:b", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code in (0, None)
    assert begun[0].backbone_weights == source


def test_a_taught_view_has_fresh_colours_and_the_teacher_s_scores_of_its_own_crop(
    world: World, teacher: Path
) -> None:
    config = small(world, teacher, "student", labelled_only=(f"folder:{world.data}:car,road,tree,sky",))
    config.out.mkdir()
    made = prepare(config, Ranks(0, 1, torch.device("cpu")), lambda sentence: None)
    assert made.cached_training is not None
    views = TaughtViews(made.training, made.cached_training)
    first, again, later = (
        views[0, 1],
        views[0, 1],
        views[2, 1],
    )  # with two crops, view 2 has the crop of view 0
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.image, later.image)
    np.testing.assert_array_equal(first.shares.targets, later.shares.targets)
    taught = first.frozen.teacher
    np.testing.assert_array_equal(taught, later.frozen.teacher)
    _, sample = made.training.samples[1]
    crop = made.training.framing((0, 1), sample.labels((48, 64))).window(
        read_sample(sample)[0], 64, jitter=False
    )
    model, _ = load_checkpoint(teacher, "random:0")
    vectors, _ = KnownNames(config).all()
    with torch.no_grad():
        embeddings = model(torch.from_numpy(crop[None])).embeddings
        expected = torch.einsum("bdhw,kd->bkhw", embeddings, torch.from_numpy(vectors))
    np.testing.assert_allclose(taught.astype(np.float32), expected[0], atol=1e-3)
    labelled = next(place for place, (source, _) in enumerate(made.training.samples) if source == 1)
    assert not views[0, labelled].frozen.teacher.any()  # labels alone teach there
    assert views[0, labelled].teacher_image is None


def test_only_what_the_teacher_sees_is_cached(world: World, teacher: Path) -> None:
    scenes = (f"folder:{world.data}:rider,road,person,sky",)
    said: list[str] = []
    folders = []
    for name, labelled_only in (("alone", ()), ("both", scenes), ("more", (*scenes, *scenes))):
        config = small(world, teacher, name, labelled_only=labelled_only, cache_folder=world.folder / "cache")
        config.out.mkdir()
        made = prepare(config, Ranks(0, 1, torch.device("cpu")), said.append)
        assert made.cached_training is not None
        folders.append(made.cached_training.folder)
        assert len(made.cached_training) < len(made.training) or not labelled_only
    assert len(set(folders)) == 1  # further scenes cost the teacher nothing
    assert sum("caching" in sentence for sentence in said) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"shorten_text": 6},
            "cannot be shortened to 6 numbers by the 6 names that are known; shorten them to 5",
        ),
        ({"text_model": "ViT-L-14"}, r"trained for the text encoder open_clip ViT-B-16 openai.*ViT-L-14"),
    ],
)
def test_text_that_cannot_serve_is_one_line(world: World, changes: dict[str, object], message: str) -> None:
    teacher = fit(world.config("teacher", epochs=1, text_model="ViT-B-16")).last
    with pytest.raises(CheckpointError, match=message):
        fit(small(world, teacher, "student", **changes))


def test_a_distillation_does_not_go_on_with_other_known_names(world: World, teacher: Path) -> None:
    fit(small(world, teacher, "student", epochs=1))
    names = json.loads(world.text_names.read_text())
    world.text_names.write_text(json.dumps({"street": [*names["street"][:-1], "pedestrian"]}))
    with pytest.raises(CheckpointError, match="known names' digest was"):
        fit(small(world, teacher, "student", epochs=1, resume=True))


def test_micro_batches_are_part_of_a_training_whose_backbone_may_normalise_by_them(
    world: World, teacher: Path
) -> None:
    assert small(world, teacher, "student", micro_batch=2).recorded()["micro_batch"] == 2
    assert "micro_batch" not in world.config("frozen").recorded()


def test_small_windows_first_then_large_ones_with_the_backbone_of_the_small(
    world: World, teacher: Path
) -> None:
    linear = {"backbone": NANO, "backbone_trainable_blocks": 0, "whole_backbone": True, "alignment": False,
              "head": "linear", "gate": False, "window_px": 32}  # fmt: skip
    early = fit(small(world, teacher, "early", epochs=1, model=linear)).last
    weights = load_backbone_weights(NANO, str(early))
    assert weights.tensors["pos_embed"].shape == (1, 4, 192)  # a grid of 2 x 2
    stored, _ = load_checkpoint(early)
    model = OVSDINO(
        ModelConfig(
            backbone=NANO, window_px=64, alignment=False, backbone_trainable_blocks=0, whole_backbone=True
        )
    )
    model.load_backbone(weights)
    assert model.backbone is not None
    assert stored.backbone is not None
    torch.testing.assert_close(
        model.backbone.vit.blocks[3].attn.qkv.weight, stored.backbone.vit.blocks[3].attn.qkv.weight
    )
    assert model.backbone.vit.pos_embed.shape == (1, 16, 192)
    late = fit(small(world, teacher, "late", epochs=1, backbone_weights=str(early)))
    assert load_checkpoint(late.last)[1].model.window_px == 64
    with pytest.raises(CheckpointError, match=r"neither a weights file nor a checkpoint"):
        load_backbone_weights(NANO, str(world.folder))
    with pytest.raises(CheckpointError, match="lacks"):  # it holds no backbone
        load_backbone_weights("test_vit", str(teacher))


def test_a_wrong_backbone_of_the_teacher_is_said_to_be_the_teachers(world: World, teacher: Path) -> None:
    wrong = Distill(checkpoint=teacher, backbone_weights="random:5")
    with pytest.raises(CheckpointError, match=r"trained on with --teacher-weights$"):
        fit(small(world, teacher, "student", distill=wrong))
    missing = Distill(checkpoint=teacher, backbone_weights=str(world.folder / "gone.pth"))
    with pytest.raises(CheckpointError, match=r"teacher/last \(--teacher-weights\): no backbone weights at "):
        fit(small(world, teacher, "student", distill=missing))


def test_another_number_of_processes_may_normalise_otherwise(world: World, teacher: Path) -> None:
    begun = small(world, teacher, "student")
    begun.out.mkdir()
    before, now = (
        prepare(begun, Ranks(0, 1, torch.device("cpu")), lambda sentence: None).foundation for _ in range(2)
    )
    check_foundation(before, now)
    with pytest.raises(CheckpointError, match="the number of processes was 2, now it is 1"):
        check_foundation({**before, "the number of processes": 2}, now)


def test_views_that_only_their_labels_teach_are_new_every_epoch(world: World, teacher: Path) -> None:
    config = small(world, teacher, "student", labelled_only=(f"folder:{world.data}:car,road,tree,sky",))
    config.out.mkdir()
    training = prepare(config, Ranks(0, 1, torch.device("cpu")), lambda sentence: None).training
    first = next(place for place, (source, _) in enumerate(training.samples) if source == 1)
    blank = labels_of_map(np.zeros((480, 640), np.uint8), 1)
    boxes = {
        place: {training.framing((epoch, place), blank).box for epoch in range(6)} for place in (0, first)
    }
    assert len(boxes[0]) == 2
    assert len(boxes[first]) == 6
