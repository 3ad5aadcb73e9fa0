"""The Structure-Aware Encoder (SAE, sec. 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovsdino.config import STRUCTURE_CHANNELS, STRUCTURE_GRID
from ovsdino.depthwise import DepthwiseConv2d


class GatedFusion(nn.Module):
    """Add shallow blocks to the last one, each by a learned weight (eq. 7).

    Ours: G is one 1x1 convolution and GroupNorm that all blocks share; every `alpha` starts at 0.1.
    """

    def __init__(self, channels: int, blocks: int, groups: int, alpha_init: float) -> None:
        super().__init__()
        self.transform = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.GroupNorm(groups, channels))
        self.alpha = nn.Parameter(torch.full((blocks,), alpha_init))

    def forward(self, blocks: Sequence[Tensor], last: Tensor) -> Tensor:
        """Return F, [B, C, h, w].

        Args:
            blocks: the shallow blocks F_i, each [B, C, h, w].
            last: F_12 after the backbone's final norm, [B, C, h, w].
        """
        fused = last
        for weight, block in zip(self.alpha, blocks, strict=True):
            fused = fused + weight * self.transform(block)
        return fused


class DilatedLayer(nn.Sequential):
    """L_d = GELU(GroupNorm(Conv_d)) with a depthwise 3x3 convolution (eq. 9). Ours: d is the dilation."""

    def __init__(self, channels: int, dilation: int, groups: int) -> None:
        super().__init__(
            DepthwiseConv2d(channels, dilation=dilation),
            nn.GroupNorm(groups, channels),
            nn.GELU(),
        )


class StructureAwareEncoder(nn.Module):
    """Turn DINO's blocks into features of SAM's space and size (eq. 7-9).

    Ours: upsampling is bilinear to 64 x 64 whatever the patch, then a 3x3 convolution to 256 channels.
    """

    def __init__(self, channels: int, blocks: int, groups: int, alpha_init: float) -> None:
        super().__init__()
        self.fusion = GatedFusion(channels, blocks, groups, alpha_init)
        self.refine = nn.Sequential(DilatedLayer(channels, 1, groups), DilatedLayer(channels, 2, groups))
        self.project = nn.Conv2d(channels, STRUCTURE_CHANNELS, 3, padding=1)

    def forward(self, blocks: Sequence[Tensor], last: Tensor) -> Tensor:
        """Return F_middle, [B, 256, 64, 64].

        Args:
            blocks: the shallow blocks, each [B, C, h, w].
            last: the last block after the final norm, [B, C, h, w].
        """
        refined = self.refine(self.fusion(blocks, last))
        size = (STRUCTURE_GRID, STRUCTURE_GRID)
        resized = F.interpolate(refined, size=size, mode="bilinear", align_corners=False)
        structure: Tensor = self.project(resized)
        return structure
