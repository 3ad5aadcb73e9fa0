"""ViTs of our own for small devices: a convolutional stem, and few, narrow blocks that look around."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from ovsdino.depthwise import DepthwiseConv2d

_RESIDUAL = (0, 1, 2)  # residual blocks at strides 2, 4 and 8; the last convolution leads to 16


class ConvStem(PatchEmbed):  # type: ignore[misc]  # timm has no types
    """Patches of 16 px from convolutions: each of stride 2, with residual ones at strides 4 and 8.

    Ours: trained from random weights on few images, a model learns textures faster by such convolutions
    than by one large one and attention alone. BatchNorm folds into the convolutions at export.
    """

    def __init__(self, embed_dim: int, **options: Any) -> None:
        """Build the stem.

        Args:
            embed_dim: the ViT's width; the convolutions have an eighth, a quarter, a half and all of it.
            options: see timm's `PatchEmbed`.
        """
        super().__init__(embed_dim=embed_dim, **options)
        layers: list[nn.Module] = []
        inside = 3
        for level, residual in enumerate(_RESIDUAL):
            outside = embed_dim >> (len(_RESIDUAL) - level)
            layers += [*_convolution(inside, outside, stride=2), nn.GELU()]
            layers += [Residual(outside) for _ in range(residual)]
            inside = outside
        self.proj = nn.Sequential(*layers, nn.Conv2d(inside, embed_dim, 3, stride=2, padding=1))


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, which is all there is at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (_convolution(channels, channels) for _ in range(2))
        self.layers = nn.Sequential(*first, nn.GELU(), *second)
        nn.init.zeros_(second[1].weight)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the block's output for [B, channels, h, w]."""
        return F.gelu(pixels + self.layers(pixels))


def _convolution(inside: int, outside: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outside)


class LocalBlock(Block):  # type: ignore[misc]  # timm has no types
    """A block that adds a 3x3 depthwise convolution of its patches before attention and MLP.

    Ours, after the conditional position encodings of Chu et al. (2021): from few images a ViT learns slowly
    what neighbours are; this tells it. Square grids without prefix tokens alone.
    """

    def __init__(self, dim: int, *arguments: Any, **options: Any) -> None:
        """Build the block; arguments as timm's `Block` has them."""
        super().__init__(dim, *arguments, **options)
        self.local = DepthwiseConv2d(dim)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """Return the block's output for tokens [B, side x side, dim]."""
        result: Tensor = super().forward(with_neighbours(x, self.local), **options)
        return result


def with_neighbours(tokens: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Return the tokens of a square grid, [B, side x side, C], plus a convolution of that grid."""
    _, patches, channels = tokens.shape
    side = math.isqrt(patches)
    near: Tensor = convolution(tokens.transpose(1, 2).reshape(-1, channels, side, side))
    return tokens + near.flatten(2).transpose(1, 2)


def _nano(image_px: int) -> VisionTransformer:
    return VisionTransformer(
        img_size=image_px,
        patch_size=16,
        embed_dim=192,
        depth=6,
        num_heads=3,
        num_classes=0,
        class_token=False,
        global_pool="avg",
        fc_norm=False,
        embed_layer=ConvStem,
        block_fn=LocalBlock,
    )


ARCHITECTURES: Mapping[str, Callable[[int], VisionTransformer]] = {"ovsdino_nano_patch16": _nano}
