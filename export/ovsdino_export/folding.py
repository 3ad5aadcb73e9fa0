"""Factors and biases of timm's layers, folded into copies of linear layers."""

from __future__ import annotations

import copy

import torch
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def layer_scales(block: Block | EvaBlock) -> tuple[Tensor | None, Tensor | None]:
    """Return a block's factors [C] on its attention and on its MLP; None where it has none."""
    if isinstance(block, EvaBlock):
        return block.gamma_1, block.gamma_2
    return getattr(block.ls1, "gamma", None), getattr(block.ls2, "gamma", None)


def qkv_weights(attention: Attention | EvaAttention) -> tuple[Tensor, Tensor | None]:
    """Return weight [3 * C, C] and bias [3 * C] of queries, keys and values in one."""
    if attention.qkv is None:
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weight = torch.cat([part.weight.detach() for part in parts])
        if all(part.bias is None for part in parts):
            return weight, None
        biases = [
            part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in parts
        ]
        return weight, torch.cat(biases).detach()
    weight, bias = attention.qkv.weight.detach(), attention.qkv.bias
    if getattr(attention, "q_bias", None) is not None:
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    return weight, None if bias is None else bias.detach()


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a layer with copies of these tensors."""
    with torch.device("meta"):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return linear


def without_batch_norm(stem: nn.Module) -> nn.Module:
    """Return a copy of a stem whose BatchNorms are folded into the convolutions before them."""
    return _folded(copy.deepcopy(stem).eval())


def _folded(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            setattr(module, name, _folded(child))
        return module
    kept: list[nn.Module] = []
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d) and kept and isinstance(kept[-1], nn.Conv2d):
            kept[-1] = fuse_conv_bn_eval(kept[-1], layer)
        else:
            kept.append(_folded(layer))
    return nn.Sequential(*kept)


def scaled(linear: nn.Linear, factor: Tensor | None) -> nn.Linear:
    """Return a layer that gives `factor` times what `linear` gives."""
    if factor is None:
        return linear_of(linear.weight, linear.bias)
    fixed = factor.detach()
    return linear_of(linear.weight * fixed[:, None], None if linear.bias is None else linear.bias * fixed)
