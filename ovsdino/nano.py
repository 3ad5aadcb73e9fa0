"""ViTs of our own for small devices: a convolutional stem, and few, narrow blocks that look around."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from ovsdino.depthwise import DepthwiseConv2d

_STRIDES = 4  # convolutions of stride 2: patches of 16 px


class ConvStem(PatchEmbed):  # type: ignore[misc]  # timm has no types
    """Patches of 16 px from four 3x3 convolutions of stride 2.

    Ours: trained from random weights on few images, a ViT learns faster from such patches than from one
    large convolution. BatchNorm folds into the convolutions at export.
    """

    def __init__(self, embed_dim: int, **options: Any) -> None:
        """Build the stem.

        Args:
            embed_dim: the ViT's width; the convolutions have an eighth, a quarter, a half and all of it.
            options: see timm's `PatchEmbed`.
        """
        super().__init__(embed_dim=embed_dim, **options)
        widths = [3, *(embed_dim >> (_STRIDES - 1 - level) for level in range(_STRIDES))]
        layers: list[nn.Module] = []
        for inside, outside in pairwise(widths[:-1]):
            convolution = nn.Conv2d(inside, outside, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outside), nn.GELU()]
        self.proj = nn.Sequential(*layers, nn.Conv2d(widths[-2], widths[-1], 3, stride=2, padding=1))


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
        batch, patches, channels = x.shape
        side = math.isqrt(patches)
        near = self.local(x.transpose(1, 2).reshape(batch, channels, side, side))
        result: Tensor = super().forward(x + near.flatten(2).transpose(1, 2), **options)
        return result


def _nano(image_px: int) -> VisionTransformer:
    return VisionTransformer(
        img_size=image_px,
        patch_size=2**_STRIDES,
        embed_dim=192,
        depth=9,
        num_heads=3,
        num_classes=0,
        class_token=False,
        global_pool="avg",
        fc_norm=False,
        embed_layer=ConvStem,
        block_fn=LocalBlock,
    )


ARCHITECTURES: Mapping[str, Callable[[int], VisionTransformer]] = {"ovsdino_nano_patch16": _nano}
