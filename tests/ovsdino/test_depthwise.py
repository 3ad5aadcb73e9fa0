"""Gradients under bf16 autocast, whatever the order of the input in memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ovsdino.config import ModelConfig
from ovsdino.depthwise import DepthwiseConv2d
from ovsdino.encoder import StructureAwareEncoder

ORDERS = [torch.contiguous_format, torch.channels_last]


def gradient(layer: DepthwiseConv2d, features: Tensor, autocast: bool) -> Tensor:
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = layer(features)
    out.float().square().mean().backward()
    assert layer.weight.grad is not None
    return layer.weight.grad.clone()


@pytest.mark.parametrize("order", ORDERS, ids=["contiguous", "channels-last"])
@pytest.mark.parametrize(("dilation", "stride"), [(1, 1), (2, 1), (1, 2)])
def test_autocast_does_not_change_the_gradient(
    order: torch.memory_format, dilation: int, stride: int
) -> None:
    torch.manual_seed(0)
    layer = DepthwiseConv2d(64, dilation=dilation, stride=stride)
    features = torch.randn(4, 64, 32, 32).contiguous(memory_format=order)
    expected = gradient(layer, features, autocast=False)
    for _ in range(8):
        assert torch.equal(gradient(layer, features, autocast=True), expected)


@pytest.mark.parametrize("order", ORDERS, ids=["contiguous", "channels-last"])
def test_every_gradient_of_the_encoder_points_the_same_way_in_bf16(order: torch.memory_format) -> None:
    """bf16 rounds, it must not turn a gradient around; cached features come in channels-last order."""
    torch.manual_seed(0)
    encoder = StructureAwareEncoder(64, 2, ModelConfig().norm_groups, 0.1)
    blocks = [torch.randn(2, 64, 32, 32).contiguous(memory_format=order) for _ in range(3)]
    target = torch.randn(2, 256, 64, 64)
    gradients: dict[bool, list[Tensor]] = {}
    for autocast in (False, True):
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            structure = encoder(blocks[:2], blocks[2])
        (structure.float() - target).square().mean().backward()
        gradients[autocast] = [p.grad.flatten().clone() for p in encoder.parameters() if p.grad is not None]
    names = [name for name, _ in encoder.named_parameters()]
    for name, full, half in zip(names, gradients[False], gradients[True], strict=True):
        if full.norm() > 1e-6:  # a bias before a GroupNorm has no gradient but rounding
            assert F.cosine_similarity(full, half, dim=0) > 0.97, name
