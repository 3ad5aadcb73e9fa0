"""Checkpoints hold what was trained, and know the backbone they sit on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ovsdino.backbone_weights import fingerprint, load_backbone_weights
from ovsdino.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from ovsdino.config import ModelConfig
from ovsdino.model import OVSDINO
from ovsdino_runtime.errors import CheckpointError
from ovsdino_runtime.manifest import BackboneInfo
from tests.runtime.pickles import Touching

SHARED = Path(__file__).parents[2].parent / "shared"
REAL = SHARED / "weights" / "dav2_vits14_backbone_fp16.safetensors"
REGISTERS = "vit_small_patch14_reg4_dinov2"
TINY = "vit_tiny_patch16_224"
CONFIG = ModelConfig(backbone=TINY, window_px=64, embedding_dim=16, backbone_trainable_blocks=2)


def saved(folder: Path, *, complete: bool = False, seed: int = 0) -> OVSDINO:
    torch.manual_seed(seed)
    model = OVSDINO(CONFIG).eval()
    weights = load_backbone_weights(TINY, "random:3")
    model.load_backbone(weights)
    backbone = BackboneInfo(name=TINY, source=weights.source, fingerprint=weights.fingerprint)
    info = CheckpointInfo(
        model=CONFIG,
        backbone=backbone,
        complete=complete,
        trained_names=("car",),
        text_model="x",
        training={"seed": 0},
    )
    save_checkpoint(folder, model, info)
    return model


def outputs(model: OVSDINO) -> torch.Tensor:
    images = (
        torch.arange(2 * 64 * 64 * 3, dtype=torch.int64).remainder(251).to(torch.uint8).view(2, 64, 64, 3)
    )
    with torch.no_grad():
        embeddings: torch.Tensor = model(images).embeddings
    return embeddings


@pytest.mark.parametrize("complete", [False, True])
def test_a_checkpoint_gives_the_model_back(tmp_path: Path, complete: bool) -> None:
    model = saved(tmp_path / "c", complete=complete)
    loaded, info = load_checkpoint(tmp_path / "c")
    assert torch.equal(outputs(loaded), outputs(model))
    assert info.trained_names == ("car",)
    assert info.model == CONFIG


def test_a_delta_checkpoint_holds_the_heads_and_the_unfrozen_blocks_alone(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    names = load_file(tmp_path / "c" / "model.safetensors")
    blocks = {name.split(".")[3] for name in names if name.startswith("backbone.")}
    assert blocks == {"10", "11"}
    assert {name.split(".")[0] for name in names} == {
        "backbone", "encoder", "decoder", "projector", "score_scale", "score_bias",
    }  # fmt: skip


def test_another_backbone_is_refused_and_both_fingerprints_are_named(tmp_path: Path) -> None:
    saved(tmp_path / "c")
    own, other = (load_backbone_weights(TINY, f"random:{seed}").fingerprint[:16] for seed in (3, 4))
    with pytest.raises(CheckpointError, match=f"(?s){own}.*{other}"):
        load_checkpoint(tmp_path / "c", "random:4")


def test_the_same_weights_in_another_file_precision_or_wrapper_are_recognised(tmp_path: Path) -> None:
    weights = load_backbone_weights(TINY, "random:3")
    half = {name: value.half() for name, value in weights.tensors.items()}
    save_file(half, tmp_path / "half.safetensors")
    inside = {f"pretrained.{key}": value.float() for key, value in half.items()}
    torch.save({"model": inside | {"depth_head.x": torch.ones(1)}}, tmp_path / "wrapped.pth")
    for name in ("half.safetensors", "wrapped.pth"):
        again = load_backbone_weights(TINY, str(tmp_path / name))
        assert again.fingerprint == weights.fingerprint


def test_dinov2s_own_names_and_timms_names_have_one_fingerprint(tmp_path: Path) -> None:
    """DINOv2 with registers differs most: timm renames the registers and splits the positions."""
    timm_weights = load_backbone_weights(REGISTERS, "random:0")
    theirs = dict(timm_weights.tensors)
    theirs["register_tokens"] = theirs.pop("reg_token")
    theirs["mask_token"] = torch.zeros(1, 384)
    first = torch.zeros(1, 1, 384)
    theirs["pos_embed"] = torch.cat([first, theirs["pos_embed"]], dim=1)
    save_file(theirs, tmp_path / "own.safetensors")
    again = load_backbone_weights(REGISTERS, str(tmp_path / "own.safetensors"))
    assert again.fingerprint == timm_weights.fingerprint


def test_the_fingerprint_changes_with_any_value_name_or_shape() -> None:
    base = {"a": torch.ones(2, 3), "b": torch.zeros(2)}
    others = [
        {"a": torch.ones(2, 3), "b": torch.tensor([0.0, 1.0])},
        {"a": torch.ones(3, 2), "b": torch.zeros(2)},
        {"a": torch.ones(2, 3), "c": torch.zeros(2)},
    ]
    assert len({fingerprint(item) for item in (base, *others)}) == 4


@pytest.mark.parametrize("damage", ["missing", "truncated", "config", "schema", "tensor", "extra", "field"])
def test_a_broken_checkpoint_is_refused_in_a_sentence(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "c"
    saved(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    data = json.loads(config.read_text())
    if damage == "missing":
        config.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "config":
        config.write_text("{")
    elif damage == "schema":
        config.write_text(json.dumps(data | {"schema": 99}))
    elif damage == "field":
        config.write_text(json.dumps(data | {"model": data["model"] | {"depth": 3}}))
    else:
        tensors = load_file(weights)
        if damage == "tensor":
            del tensors["projector.weight"]
        else:
            tensors["other"] = torch.zeros(1)
        save_file(tensors, weights)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)


ODD: list[tuple[str, object]] = [
    ("norm_groups", 7), ("norm_groups", 0), ("norm_groups", True), ("norm_groups", None),
    ("alpha_init", "x"), ("gamma_init", None), ("score_scale_init", float("nan")),
    ("backbone_trainable_blocks", 1.5), ("backbone_trainable_blocks", 99), ("window_px", "64"),
    ("window_px", 65), ("embedding_dim", 0), ("backbone", 3), ("backbone", ""), ("backbone", "resnet18"),
    ("gate", "yes"), ("layers", ["dense"]), ("decoder_stride", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), ODD)
def test_a_configuration_with_an_odd_value_is_refused_in_a_sentence(
    tmp_path: Path, name: str, value: object
) -> None:
    folder = tmp_path / "c"
    saved(folder)
    data = json.loads((folder / "config.json").read_text())
    data["model"][name] = value
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert "config.json" in str(caught.value)


def test_whole_numbers_serve_as_starts_of_the_scalars() -> None:
    model = OVSDINO(replace(CONFIG, alpha_init=1, gamma_init=0, score_scale_init=10, score_bias_init=-2))
    assert model.score_scale.dtype == torch.float32
    assert model.config == ModelConfig(**model.config.to_dict())


def test_backbone_weights_given_beside_a_complete_checkpoint_must_be_those_it_holds(tmp_path: Path) -> None:
    model = saved(tmp_path / "c", complete=True)
    loaded, _ = load_checkpoint(tmp_path / "c", "random:3")
    assert torch.equal(outputs(loaded), outputs(model))
    with pytest.raises(CheckpointError, match="fingerprint"):
        load_checkpoint(tmp_path / "c", "random:4")
    with pytest.raises(CheckpointError, match="no backbone weights at"):
        load_checkpoint(tmp_path / "c", "nowhere.safetensors")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("pos_embed", torch.zeros(5)),
        ("pos_embed", torch.zeros(1, 0, 192)),
        ("pos_embed", torch.zeros(1, 5, 3)),
        ("patch_embed.proj.weight", torch.zeros(())),
        ("patch_embed.proj.weight", torch.zeros(3, 3)),
    ],
)
def test_weights_with_a_tensor_of_odd_shape_are_refused_in_a_sentence(
    tmp_path: Path, name: str, tensor: torch.Tensor
) -> None:
    tensors = load_backbone_weights(TINY, "random:0").tensors | {name: tensor}
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_backbone_weights(TINY, str(tmp_path / "odd.safetensors"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "repo", "file"),
    [
        ("hub:someone/vits", "someone/vits", "a.safetensors"),  # the safest format, the first by name
        ("hub:someone/vits/deep/other.pth", "someone/vits", "deep/other.pth"),
        (None, "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "model.safetensors"),
    ],
)
def test_weights_from_the_hub_are_those_of_the_file_it_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, repo: str, file: str
) -> None:
    there = ["README.md", "a.pth", "b.safetensors", "a.safetensors", "deep/other.pth"]
    seeds = {name: seed for seed, name in enumerate([*there, "model.safetensors"], start=10)}

    def download(asked: str, name: str) -> str:
        assert asked == repo
        tensors = load_backbone_weights(TINY, f"random:{seeds[name]}").tensors
        path = tmp_path / Path(name).name
        save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda asked: there if asked == repo else [])
    weights = load_backbone_weights(TINY, source)
    assert weights.source == (source or f"timm:{TINY}")
    assert weights.fingerprint == load_backbone_weights(TINY, f"random:{seeds[file]}").fingerprint


def test_a_repository_without_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda asked: ["README.md"])
    with pytest.raises(CheckpointError, match="someone/words holds no"):
        load_backbone_weights(TINY, "hub:someone/words")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.safetensors", "no backbone weights at"),
        ("random:x", "names no seed"),
        ("hub:only-a-name", "hub:OWNER/REPO"),
    ],
)
def test_backbone_weights_that_cannot_be_had_are_refused(source: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_backbone_weights(TINY, source)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file(load_backbone_weights(TINY, "random:0").tensors, tmp_path / "tiny.safetensors")
    with pytest.raises(CheckpointError, match="is not a vit_small_patch16_224"):
        load_backbone_weights("vit_small_patch16_224", str(tmp_path / "tiny.safetensors"))


def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"not a checkpoint")
    (tmp_path / "a.safetensors").write_bytes(b"not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("a.pth", "a.safetensors", "list.pth"):
        with pytest.raises(CheckpointError):
            load_backbone_weights(TINY, str(tmp_path / name))


def test_weights_that_would_run_code_are_refused_and_run_none(tmp_path: Path) -> None:
    torch.save({"patch_embed.proj.weight": Touching(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds no readable weights"):
        load_backbone_weights(TINY, str(tmp_path / "a.pth"))
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert (tmp_path / "ran").exists()  # so it would have


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_file(), reason="the real weights are not here")
def test_the_real_backbone_loads_strictly_and_keeps_its_fingerprint_as_depth_anything_ships_it(
    tmp_path: Path,
) -> None:
    name = "vit_small_patch14_dinov2"
    weights = load_backbone_weights(name, str(REAL))
    model = OVSDINO(ModelConfig(backbone=name, backbone_trainable_blocks=0))
    model.load_backbone(weights)
    shipped = {f"pretrained.{key}": value.float() for key, value in load_file(REAL).items()}
    torch.save(shipped | {"depth_head.scratch.weight": torch.zeros(2)}, tmp_path / "depth_anything.pth")
    assert (
        load_backbone_weights(name, str(tmp_path / "depth_anything.pth")).fingerprint == weights.fingerprint
    )
