"""Validation during a training: what it measures, when, and what it chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ovsdino.checkpoint import read_info
from ovsdino.distributed import Ranks
from ovsdino.journal import read_journal
from ovsdino.preparation import prepare
from ovsdino.settings import TrainConfig
from ovsdino.trainer import fit
from ovsdino.validation import validate
from ovsdino_runtime.metrics import confusion, mean_iou
from ovsdino_runtime.preprocess import load_image

if TYPE_CHECKING:
    from conftest import World

ALONE = Ranks(0, 1, torch.device("cpu"))


def epochs_of(config: TrainConfig) -> list[dict[str, Any]]:
    """The lines that a training wrote of its epochs."""
    return [line for line in read_journal(config.out) if line["kind"] == "epoch"]


def test_validation_without_a_labelled_pixel_makes_the_last_epoch_the_best(
    world: World, painted: Any
) -> None:
    other = painted(world.folder / "other", 2)
    for path in (other / "labels").iterdir():
        Image.fromarray(np.full((48, 64), 255, dtype=np.uint8)).save(path)
    said: list[str] = []
    config = world.config("run", val=(f"folder:{other}:car,road,tree,sky",))
    result = fit(config, say=said.append)
    assert result.best_miou is None
    assert (result.best / "model.safetensors").read_bytes() == (
        result.last / "model.safetensors"
    ).read_bytes()
    assert len([line for line in said if "no validation image has a labelled pixel" in line]) == 1
    epochs = epochs_of(config)
    assert [line["val_miou"] for line in epochs] == [None, None]
    assert epochs[0]["val_miou_by_data"] == {"1": None}
    for path in (config.out / "metrics.jsonl", result.best / "config.json", result.last / "config.json"):
        assert "NaN" not in path.read_text()


@pytest.mark.parametrize(("mious", "best"), [((0.0, 0.0), 1), ((0.0, 0.2), 2), ((None, 0.0), 2)])
def test_an_miou_of_zero_is_a_figure_that_only_a_higher_one_replaces(
    world: World, monkeypatch: pytest.MonkeyPatch, mious: tuple[float | None, ...], best: int
) -> None:
    from ovsdino import trainer

    figures = iter(mious)
    monkeypatch.setattr(trainer, "validate", lambda *arguments: {"mean": next(figures)})
    result = fit(world.config("run"))
    assert result.best_miou == mious[best - 1]
    assert read_info(result.best).training["epochs_done"] == best


def test_validation_miou_is_that_of_the_labels_at_their_own_resolution(world: World) -> None:
    config = world.config("run")
    config.out.mkdir()
    ready = prepare(config, ALONE, lambda sentence: None)
    assert ready.validation is not None
    found = validate(ready.objective, ready.validation, None, ALONE, 1)
    counts = np.zeros((4, 4), dtype=np.int64)
    for _, sample in ready.validation.samples:
        image = np.array(Image.open(sample.image))[:, 8:56]  # 48 x 64: the middle 48
        truth = np.array(Image.open(world.data / "labels" / sample.image.name))[:, 8:56]
        window = torch.nn.functional.interpolate(
            torch.from_numpy(image).permute(2, 0, 1)[None].float(), size=(64, 64), mode="bilinear"
        )
        with torch.no_grad():
            output = ready.objective.model(window.round().byte().permute(0, 2, 3, 1))
            scores = ready.objective.model.scores(output.embeddings, ready.objective.text)
        scores = torch.nn.functional.interpolate(scores, size=(48, 48), mode="bilinear")
        counts += confusion(truth, scores[0].argmax(0).numpy(), 4)
    assert found["mean"] == pytest.approx(mean_iou(counts), abs=5e-3)
    assert found["0"] == found["mean"]


@pytest.mark.parametrize("size_hw", [(48, 64), (600, 640)])
def test_data_with_fewer_classes_is_validated_among_its_own(
    size_hw: tuple[int, int], world: World, painted: Any
) -> None:
    other = painted(world.folder / "other", 2, size_hw)
    for path in (other / "labels").iterdir():
        with Image.open(path) as opened:
            labels = np.asarray(opened)
        Image.fromarray(np.where(labels == 2, 0, np.where(labels == 3, 1, 255)).astype(np.uint8)).save(path)
    config = world.config("run", val=(f"folder:{other}:tree,sky",))
    config.out.mkdir()
    ready = prepare(config, ALONE, lambda sentence: None)
    assert ready.validation is not None
    names = ready.validation.table.names
    text = ready.objective.text[[names.index("tree"), names.index("sky")]]
    side, counts = min(size_hw), np.zeros((2, 2), dtype=np.int64)
    measured = min(side, 512)
    for path in sorted((other / "labels").iterdir()):
        with Image.open(path) as opened:
            left = (size_hw[1] - side) // 2
            truth = np.asarray(opened)[:side, left : left + side]
        truth = cv2.resize(truth, (measured, measured), interpolation=cv2.INTER_NEAREST)
        image = load_image(other / "images" / path.name)[:side, left : left + side]
        window = torch.from_numpy(cv2.resize(image, (64, 64)))
        with torch.no_grad():
            scores = ready.objective.model.scores(ready.objective.model(window[None]).embeddings, text)
        scores = torch.nn.functional.interpolate(scores, size=(measured, measured), mode="bilinear")
        counts += confusion(truth, scores[0].argmax(0).numpy(), 2)
    found = validate(ready.objective, ready.validation, None, ALONE, 1)
    assert found["mean"] == pytest.approx(mean_iou(counts), abs=5e-3)


def test_only_every_nth_epoch_and_the_last_are_validated(world: World) -> None:
    config = world.config("run", epochs=4, val_every=3)
    fit(config)
    epochs = epochs_of(config)
    assert [line["val_miou"] is not None for line in epochs] == [False, False, True, True]


def test_other_data_can_validate(world: World, painted: Any) -> None:
    other = painted(world.folder / "other", 3)
    config = world.config("run", val=(f"folder:{other}:car,road,tree,sky",), epochs=1)
    said: list[str] = []
    fit(config, say=said.append)
    assert any("8 images to train on, 3 to validate on" in line for line in said)
    (epoch,) = epochs_of(config)
    assert set(epoch["val_miou_by_data"]) == {"1"}
