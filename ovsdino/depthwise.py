"""Depthwise convolution whose gradients can be trusted under autocast."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DepthwiseConv2d(nn.Conv2d):
    """A 3x3 depthwise convolution, padded to keep the size; FP32 even under autocast.

    Autocast would run it in bf16, whose weight gradients PyTorch 2.15 gets wrong on a CPU where the
    dilation is 2 and the input is in channels-last order: they differ by factors from call to call, now
    and then by NaN. The layer is a small part of the work, so FP32 costs next to nothing.
    """

    def __init__(self, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            channels, channels, 3, stride=stride, padding=dilation, dilation=dilation, groups=channels
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of [B, C, h, w]."""
        kind = input.device.type
        if not torch.is_autocast_enabled(kind):
            return super().forward(input)
        with torch.autocast(kind, enabled=False):
            return super().forward(input.to(self.weight.dtype))
