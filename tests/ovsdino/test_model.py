"""The model against the paper's equations, written out once more by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ovsdino.backbone import Backbone, create_vit
from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.config import ModelConfig
from ovsdino.model import OVSDINO, resample_positions
from ovsdino_runtime.errors import CheckpointError
from ovsdino_runtime.pixels import MEAN, STD

TINY = "vit_tiny_patch16_224"  # 12 blocks of width 192


def tiny(**fields: Any) -> OVSDINO:
    torch.manual_seed(0)
    model = OVSDINO(ModelConfig(backbone=TINY, window_px=64, embedding_dim=16, **fields)).eval()
    model.load_backbone(load_backbone_weights(TINY, "random:0"))
    return model


def windows(count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 64, 64, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("name", "prefix"), [("test_vit", 1), ("vit_small_patch14_reg4_dinov2", 0)])
def test_positions_are_resampled_on_their_grid_and_those_of_tokens_stay(name: str, prefix: int) -> None:
    with torch.device("meta"):
        small, large = create_vit(name, 112), create_vit(name, 224)
    torch.manual_seed(0)
    positions = torch.randn(small.pos_embed.shape)
    side, new = (int(vit.patch_embed.grid_size[0]) for vit in (small, large))
    resampled = resample_positions(positions, large)
    assert resampled.shape == large.pos_embed.shape
    assert torch.equal(resampled[:, :prefix], positions[:, :prefix])
    plane = positions[:, prefix:].mT.reshape(1, -1, side, side)
    wanted = F.interpolate(plane, (new, new), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(resampled[:, prefix:], wanted.flatten(2).mT)
    assert resample_positions(positions, small) is positions


def test_the_forward_pass_is_equations_7_to_14() -> None:
    model, images = tiny(), windows()
    assert model.backbone is not None
    assert model.encoder is not None
    assert model.decoder.gate is not None
    pixels = (images.permute(0, 3, 1, 2).float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )
    final, raw = model.backbone.vit.forward_intermediates(pixels, indices=[1, 3, 5, 7, 9], norm=False)
    last = final[:, 1:].transpose(1, 2).reshape(2, 192, 4, 4)
    fused = last  # eq. 7
    for alpha, block in zip(model.encoder.fusion.alpha, raw, strict=True):
        convolved, norm = model.encoder.fusion.transform
        fused = fused + alpha * norm(convolved(block))
    for dilation, layer in zip((1, 2), model.encoder.refine, strict=True):  # eq. 8, 9
        assert layer[0].dilation == (dilation, dilation)
        assert layer[0].groups == 192
        fused = F.gelu(layer[1](layer[0](fused)))
    up = F.interpolate(fused, size=(64, 64), mode="bilinear", align_corners=False)
    structure = model.encoder.project(up)
    assert structure.shape == (2, 256, 64, 64)  # SAM's size
    depthwise, pointwise, norm, _ = model.decoder.modulation  # eq. 13
    assert depthwise.stride == (2, 2)
    assert depthwise.groups == 256
    modulation = F.gelu(norm(pointwise(depthwise(structure))))
    last = F.interpolate(last, size=modulation.shape[-2:], mode="bilinear", align_corners=False)
    out = last + model.decoder.gate.gamma * (last * torch.tanh(modulation))  # eq. 14
    expected = F.normalize(model.projector(out), dim=1)
    output = model(images)
    torch.testing.assert_close(output.structure, structure)
    torch.testing.assert_close(output.embeddings, expected)


def test_scores_are_cosines() -> None:
    output = tiny()(windows())
    text = F.normalize(torch.randn(5, 16), dim=1)
    found = tiny().scores(output.embeddings, text)
    patch = output.embeddings[1, :, 2, 3]
    expected = [F.cosine_similarity(patch, row, dim=0) for row in text]
    torch.testing.assert_close(found[1, :, 2, 3], torch.stack(expected))
    torch.testing.assert_close(tiny().scores(output.embeddings, text.expand(2, 5, 16)), found)


@pytest.mark.parametrize(
    ("fields", "grid"),
    [
        ({}, 32),
        ({"decoder_stride": 1}, 64),
        ({"layers": "sparse"}, 32),
        ({"gate": False}, 32),
        ({"backbone_trainable_blocks": 0}, 32),
        ({"alignment": False}, 32),
    ],
)
def test_every_switch_builds_a_model_of_unit_features(fields: dict[str, Any], grid: int) -> None:
    model = tiny(**fields)
    embeddings = model(windows()).embeddings
    assert embeddings.shape == (2, 16, grid, grid)
    np.testing.assert_allclose(embeddings.detach().norm(dim=1), 1, atol=1e-5)


def test_without_the_gate_the_backbones_features_do_not_reach_the_output_past_the_encoder() -> None:
    model = tiny(gate=False)
    structure = torch.randn(2, 256, 64, 64)
    first = model(windows(seed=1), structure=structure).embeddings
    second = model(windows(seed=2), structure=structure).embeddings
    torch.testing.assert_close(first, second)


def test_sam_features_can_be_swapped_in_at_inference() -> None:
    model, images = tiny(), windows()
    own = model(images)
    same = model(images, structure=own.structure)
    torch.testing.assert_close(same.embeddings, own.embeddings)
    assert own.structure is not None
    other = model(images, structure=own.structure + 1)
    assert not torch.allclose(other.embeddings, own.embeddings)


def test_a_linear_head_projects_the_last_block_and_has_nothing_else() -> None:
    model, images = tiny(head="linear", gate=False, alignment=False), windows()
    assert model.backbone is not None
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {
        "backbone", "projector", "score_scale", "score_bias",
    }  # fmt: skip
    _, last = model.backbone(images)
    torch.testing.assert_close(model(images).embeddings, F.normalize(model.projector(last), dim=1))
    assert model.backbone.frozen(images).blocks == ()
    with pytest.raises(ValueError, match="no use for"):
        model(images, structure=torch.zeros(2, 256, 64, 64))


def test_a_model_without_encoder_segments_sam_features_and_needs_them() -> None:
    config = ModelConfig(
        backbone=TINY,
        window_px=64,
        encoder=False,
        gate=False,
        alignment=False,
        backbone_trainable_blocks=0,
    )
    model = OVSDINO(config)
    assert not any("backbone" in name for name, _ in model.named_parameters())
    assert model(windows(), structure=torch.randn(2, 256, 64, 64)).embeddings.shape == (2, 512, 32, 32)
    with pytest.raises(ValueError, match="SAM's features"):
        model(windows())


@pytest.mark.parametrize(
    ("name", "grid", "channels"),
    [
        ("vit_small_patch14_dinov2", 8, 384),
        ("vit_small_patch14_reg4_dinov2", 8, 384),
        ("vit_small_patch16_224.dino", 7, 384),
        ("vit_small_patch16_dinov3", 7, 384),
    ],
)
def test_dino_dinov2_registers_and_dinov3_run_on_one_code_path(name: str, grid: int, channels: int) -> None:
    model = OVSDINO(ModelConfig(backbone=name, window_px=112, embedding_dim=8)).eval()
    assert model.backbone is not None
    assert (model.backbone.grid, model.backbone.channels) == (grid, channels)
    images = torch.randint(0, 256, (1, 112, 112, 3), dtype=torch.uint8)
    blocks, last = model.backbone(images)
    pixels = (images.permute(0, 3, 1, 2) - model.backbone.mean) / model.backbone.std
    final, raw = model.backbone.vit.forward_intermediates(pixels, indices=[1, 3, 5, 7, 9], norm=False)
    for ours, theirs in zip(blocks, raw, strict=True):
        torch.testing.assert_close(ours, theirs)
    prefix = model.backbone.vit.num_prefix_tokens
    torch.testing.assert_close(last.flatten(2).transpose(1, 2), final[:, prefix:])
    assert model(images).embeddings.shape == (1, 8, 32, 32)


def test_only_the_last_blocks_train_and_the_frozen_part_gives_no_gradient() -> None:
    model = tiny(backbone_trainable_blocks=3)
    assert model.backbone is not None
    trained = {
        name.split(".")[3] for name, p in model.named_parameters() if "blocks" in name and p.requires_grad
    }
    assert trained == {"9", "10", "11"}
    assert not model.backbone.frozen(windows()).tokens.requires_grad
    frozen = model.backbone.frozen(windows())
    assert len(frozen.blocks) == 4  # 2, 4, 6 and 8; block 10 changes in training
    torch.testing.assert_close(model.from_frozen(frozen).embeddings, model(windows()).embeddings)


def test_the_structure_for_alignment_gives_gradients_to_the_encoder_alone() -> None:
    model = tiny(backbone_trainable_blocks=3)
    alignable = model(windows(), align=True).alignable
    assert alignable is not None
    alignable.square().mean().backward()
    reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {"encoder"}


@pytest.mark.parametrize(
    ("depth", "dense", "sparse"),
    [
        (12, (2, 4, 6, 8, 10), (3, 6, 9)),
        (24, (4, 8, 12, 16, 20), (6, 12, 18)),
        (40, (7, 13, 20, 27, 33), (10, 20, 30)),
    ],
)
def test_blocks_scale_with_the_depth(depth: int, dense: tuple[int, ...], sparse: tuple[int, ...]) -> None:
    assert ModelConfig().fused_blocks(depth) == dense
    assert ModelConfig(layers="sparse").fused_blocks(depth) == sparse


@pytest.mark.parametrize(
    "fields",
    [
        {"encoder": False},
        {"head": "linear"},
        {"head": "other"},
        {"decoder_stride": 3},
        {"layers": "all"},
        {"backbone_trainable_blocks": -1},
        {"window_px": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        ModelConfig(**fields)


@pytest.mark.parametrize(
    ("name", "window", "message"),
    [
        ("vit_nonesuch", 64, "cannot build"),
        ("resnet18", 64, "only timm's ViTs|cannot build"),
        (TINY, 70, "do not divide|cannot build"),
    ],
)
def test_a_backbone_that_cannot_serve_is_refused(name: str, window: int, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        OVSDINO(ModelConfig(backbone=name, window_px=window))


def test_more_trainable_blocks_than_there_are_is_refused() -> None:
    with pytest.raises(CheckpointError, match="has 12"):
        OVSDINO(ModelConfig(backbone=TINY, window_px=64, backbone_trainable_blocks=13))


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_base_patch16_siglip_224", "test_vit"])
def test_whatever_of_a_backbone_learns_has_a_part_in_its_features(name: str) -> None:
    side = 28 if "14" in name else 32
    backbone = Backbone(name, side, (1,), 0, whole=True)
    blocks, last = backbone(torch.zeros(1, side, side, 3, dtype=torch.uint8))
    (last.sum() + blocks[0].sum()).backward()
    learning = {key for key, value in backbone.named_parameters() if value.requires_grad}
    assert learning == {key for key, value in backbone.named_parameters() if value.grad is not None}
