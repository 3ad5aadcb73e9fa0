"""The Structure-Modulated Decoder (SMD) and its Preservation Gate (sec. 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovsdino.config import STRUCTURE_CHANNELS
from ovsdino.depthwise import DepthwiseConv2d


class PreservationGate(nn.Module):
    """Let structure modulate DINO's features without leaving their space (eq. 14).

    Ours: `gamma` starts at 0.1; at 0 the encoder would get no gradient.
    """

    def __init__(self, gamma_init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor(gamma_init))

    def forward(self, features: Tensor, modulation: Tensor) -> Tensor:
        """Return the gated features F_out, [B, C, h, w].

        Args:
            features: the backbone's last block F_12, [B, C, h, w].
            modulation: M of eq. 13, same shape.
        """
        return features + self.gamma * features * torch.tanh(modulation)


class StructureModulatedDecoder(nn.Module):
    """Bring structure back into DINO's space (eq. 13-14).

    Ours: a depthwise 3x3 convolution with the stride, then a 1x1 convolution to the backbone's width.
    """

    def __init__(self, channels: int, stride: int, groups: int, gamma_init: float | None) -> None:
        """Build the decoder.

        Args:
            channels: the backbone's width C.
            stride: 2 as in the paper, or 1.
            groups: groups of the GroupNorm.
            gamma_init: start of γ; None builds no gate, then F_out = M (table 2, "w/o PG").
        """
        super().__init__()
        wide = STRUCTURE_CHANNELS
        self.modulation = nn.Sequential(
            DepthwiseConv2d(wide, stride=stride),
            nn.Conv2d(wide, channels, 1),
            nn.GroupNorm(groups, channels),
            nn.GELU(),
        )
        self.gate = None if gamma_init is None else PreservationGate(gamma_init)

    def forward(self, structure: Tensor, features: Tensor | None) -> Tensor:
        """Return F_out, [B, C, h', w'].

        Args:
            structure: F_middle, [B, 256, 64, 64].
            features: F_12, [B, C, h, w]; resized bilinearly to M's grid where they differ. None
                without a gate.
        """
        modulation: Tensor = self.modulation(structure)
        if self.gate is None:
            return modulation
        if features is None:
            raise ValueError("the Preservation Gate needs the backbone's features")
        if features.shape[-2:] != modulation.shape[-2:]:
            features = F.interpolate(
                features, size=modulation.shape[-2:], mode="bilinear", align_corners=False
            )
        gated: Tensor = self.gate(features, modulation)
        return gated
