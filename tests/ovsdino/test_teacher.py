"""SAM's image encoder behind the teacher's interface, on a small random SAM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ovsdino.data.dataset import Collate
from ovsdino.distributed import Ranks
from ovsdino.journal import read_journal
from ovsdino.optimizer import create_optimizer
from ovsdino.preparation import prepare
from ovsdino.teacher import load_teacher
from ovsdino.trainer import fit
from ovsdino_runtime.errors import CheckpointError

if TYPE_CHECKING:
    from conftest import World


def test_its_features_are_those_of_the_whole_sam_with_its_own_normalisation(tiny_sam: Path) -> None:
    from transformers import SamImageProcessor, SamModel

    teacher = load_teacher(str(tiny_sam))
    assert teacher is not None
    images = np.random.default_rng(0).integers(0, 256, (2, 1024, 1024, 3), dtype=np.uint8)
    found = teacher.features(torch.from_numpy(images))
    assert found.shape == (2, 256, 64, 64)
    assert not found.requires_grad
    assert found.std(dim=(1, 2, 3)).min() > 0.1
    pixels = SamImageProcessor()(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = SamModel.from_pretrained(tiny_sam).get_image_embeddings(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_its_identity_follows_its_weights(tiny_sam: Path) -> None:
    first, second = load_teacher(str(tiny_sam)), load_teacher(str(tiny_sam))
    assert first is not None
    assert second is not None
    assert first.identity == second.identity
    with torch.no_grad():
        next(second.encoder.parameters()).add_(1)
    from ovsdino.teacher import SamTeacher

    assert SamTeacher(second.encoder, 1024, str(tiny_sam)).identity != first.identity


def test_none_is_no_teacher() -> None:
    assert load_teacher("none") is None


def test_what_is_no_sam_is_refused_in_one_line(tmp_path: Path, tiny_sam: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="--teacher none") as error:
        load_teacher(str(tmp_path))
    assert "\n" not in str(error.value)
    settings = json.loads((tiny_sam / "config.json").read_text())
    from transformers import SamConfig, SamModel

    settings["vision_config"]["image_size"] = 512
    settings["prompt_encoder_config"] |= {"image_size": 512, "image_embedding_size": 32}
    small = tmp_path / "small"
    SamModel(SamConfig(**settings)).save_pretrained(small)
    with pytest.raises(CheckpointError, match="32x32"):
        load_teacher(str(small))


def test_another_kind_of_model_is_no_teacher(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="type 'bert', not 'sam'") as error:
        load_teacher(str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", ["missing", "other size"])
def test_a_sam_without_its_whole_image_encoder_is_refused(fault: str, tmp_path: Path, tiny_sam: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "part"
    shutil.copytree(tiny_sam, folder)
    tensors = load_file(folder / "model.safetensors")
    name = "vision_encoder.neck.conv1.weight"
    if fault == "missing":
        del tensors[name]
    else:
        tensors[name] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"lacks 1 weights.*{name}") as error:
        load_teacher(str(folder))
    assert "\n" not in str(error.value)


def test_weights_stored_in_half_precision_give_features(tmp_path: Path, tiny_sam: Path) -> None:
    from transformers import SamModel

    SamModel.from_pretrained(tiny_sam).half().save_pretrained(tmp_path)
    whole, half = load_teacher(str(tiny_sam)), load_teacher(str(tmp_path))
    assert whole is not None
    assert half is not None
    images = torch.randint(0, 256, (1, 1024, 1024, 3), generator=torch.manual_seed(0)).byte()
    found, expected = half.features(images), whole.features(images)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_training_on_a_view_brings_its_structure_to_the_teachers_features(
    world: World, tiny_sam: Path
) -> None:
    config = world.config("run", teacher=str(tiny_sam), lr_heads=1e-2)
    config.out.mkdir()
    ready = prepare(config, Ranks(0, 1, torch.device("cpu")), lambda sentence: None)
    batch = Collate(ready.training.table, 0, 0)([ready.training[(0, 0)]])
    optimizer = create_optimizer(ready.objective.model, config)
    history = []
    for _ in range(40):
        optimizer.zero_grad()
        losses = ready.objective(batch)
        losses["align"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in losses.items()})
    first, last = history[0], history[-1]
    assert first["cosine"] == pytest.approx(1, abs=0.1)  # unrelated
    assert last["cosine"] < 0.5
    assert last["align"] < 0.6 * first["align"]
    assert last["align"] == pytest.approx(last["cosine"] + last["mse"], rel=1e-4)
    assert last["loss"] == pytest.approx(last["align"] + last["seg"], rel=1e-4)


def test_a_model_without_encoder_trains_on_the_teachers_features(world: World, tiny_sam: Path) -> None:
    model = {"encoder": False, "gate": False, "alignment": False}
    for cached in (0, 1):
        config = world.config(
            f"run{cached}", model=model, teacher=str(tiny_sam), cache_views=cached, epochs=1
        )
        fit(config)
    runs = [read_journal(world.folder / f"run{cached}") for cached in (0, 1)]
    for computed, stored in zip(*runs, strict=True):
        if computed["kind"] == "step":
            assert stored["loss"] == pytest.approx(computed["loss"], rel=1e-3)
        else:
            assert stored["val_miou"] == pytest.approx(computed["val_miou"], abs=0.02)
