"""The module that is traced: uint8 windows to features, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovsdino.config import STRUCTURE_GRID
from ovsdino.decoder import StructureModulatedDecoder
from ovsdino.encoder import DilatedLayer, GatedFusion, StructureAwareEncoder
from ovsdino.model import OVSDINO
from ovsdino_export.vit import FoldedViT
from ovsdino_runtime.errors import ExportError
from ovsdino_runtime.pixels import MEAN, STD

_LEAST_NORM = 1e-12  # as torch.nn.functional.normalize


class GroupNorm(nn.Module):
    """GroupNorm as InstanceNormalization over groups and a factor and offset by channel.

    ONNX's own GroupNormalization is not usable at opset 20.
    """

    one: Tensor
    zero: Tensor

    def __init__(self, norm: nn.GroupNorm, grid: int) -> None:
        """Fold.

        Args:
            norm: the trained layer, with weight and bias.
            grid: rows and columns of what it is applied to.
        """
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.shape = (-1, norm.num_channels, grid, grid)
        self.length = norm.num_channels // norm.num_groups * grid * grid
        self.register_buffer("one", torch.ones(self.groups))
        self.register_buffer("zero", torch.zeros(self.groups))
        self.weight = nn.Parameter(norm.weight.detach().clone().view(-1, 1, 1), requires_grad=False)
        self.bias = nn.Parameter(norm.bias.detach().clone().view(-1, 1, 1), requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised features, [B, C, h, w]."""
        grouped = features.reshape(-1, self.groups, self.length)
        normed = F.instance_norm(grouped, weight=self.one, bias=self.zero, eps=self.eps)
        return normed.reshape(self.shape) * self.weight + self.bias


class FoldedFusion(nn.Module):
    """Eq. 7 for all blocks at once: one product, one normalisation, one sum.

    G's convolution and GroupNorm are shared, so the blocks are concatenated; α_i becomes block i's
    factor inside InstanceNormalization, and G's own factor and offset are applied to the sum.
    """

    alpha: Tensor
    zero: Tensor

    def __init__(self, fusion: GatedFusion, prefix: int, grid: int) -> None:
        """Fold.

        Args:
            fusion: the trained fusion.
            prefix: number of tokens before the patches.
            grid: rows and columns of patches.
        """
        super().__init__()
        convolution, norm = cast("tuple[nn.Conv2d, nn.GroupNorm]", tuple(fusion.transform))
        self.blocks, self.prefix = len(fusion.alpha), prefix
        self.channels, self.patches = norm.num_channels, grid * grid
        self.grouped = (-1, self.blocks * norm.num_groups, self.channels // norm.num_groups * self.patches)
        self.shape = (-1, self.channels, grid, grid)
        self.eps = norm.eps
        alpha = fusion.alpha.detach()
        self.linear = nn.Linear(self.channels, self.channels)
        self.linear.weight = nn.Parameter(convolution.weight.detach().flatten(1).clone(), requires_grad=False)
        self.linear.bias = nn.Parameter(cast(Tensor, convolution.bias).detach().clone(), requires_grad=False)
        self.register_buffer("alpha", alpha.repeat_interleave(norm.num_groups))
        self.register_buffer("zero", torch.zeros(self.blocks * norm.num_groups))
        self.weight = nn.Parameter(norm.weight.detach().clone().view(-1, 1, 1), requires_grad=False)
        self.bias = nn.Parameter((alpha.sum() * norm.bias.detach()).view(-1, 1, 1), requires_grad=False)

    def forward(self, blocks: Sequence[Tensor], last: Tensor) -> Tensor:
        """Return F, [B, C, h, w].

        Args:
            blocks: the shallow blocks F_i with prefix tokens, each [B, T, C].
            last: F_12 after the backbone's final norm, [B, C, h, w].
        """
        tokens = torch.cat(list(blocks), dim=1).reshape(-1, self.blocks, blocks[0].shape[1], self.channels)
        transformed = self.linear(tokens[:, :, self.prefix :]).transpose(2, 3).reshape(self.grouped)
        weighted = F.instance_norm(transformed, weight=self.alpha, bias=self.zero, eps=self.eps)
        summed = weighted.reshape(-1, self.blocks, self.channels * self.patches).sum(dim=1)
        return last + summed.reshape(self.shape) * self.weight + self.bias


class FoldedEncoder(nn.Module):
    """The Structure-Aware Encoder (eq. 7-9)."""

    def __init__(self, encoder: StructureAwareEncoder, prefix: int, grid: int) -> None:
        super().__init__()
        self.fusion = FoldedFusion(encoder.fusion, prefix, grid) if len(encoder.fusion.alpha) else None
        self.refine = nn.Sequential(
            *(part for layer in encoder.refine for part in _folded_layer(cast(DilatedLayer, layer), grid))
        )
        self.project = copy.deepcopy(encoder.project)

    def forward(self, blocks: Sequence[Tensor], last: Tensor) -> Tensor:
        """Return F_middle, [B, 256, 64, 64]; see `FoldedFusion.forward`."""
        refined = self.refine(last if self.fusion is None else self.fusion(blocks, last))
        structure: Tensor = self.project(_resized(refined, STRUCTURE_GRID))
        return structure


class FoldedDecoder(nn.Module):
    """The Structure-Modulated Decoder and the Preservation Gate (eq. 13-14)."""

    gamma: Tensor

    def __init__(self, decoder: StructureModulatedDecoder, grid: int) -> None:
        super().__init__()
        depthwise, pointwise, norm, activation = decoder.modulation
        self.grid = grid
        self.modulation = nn.Sequential(
            copy.deepcopy(depthwise),
            copy.deepcopy(pointwise),
            GroupNorm(cast(nn.GroupNorm, norm), grid),
            copy.deepcopy(activation),
        )
        self.gated = decoder.gate is not None
        self.register_buffer("gamma", None if decoder.gate is None else decoder.gate.gamma.detach().clone())

    def forward(self, structure: Tensor, last: Tensor) -> Tensor:
        """Return F_out, [B, C, h', w'], from F_middle and F_12."""
        modulation: Tensor = self.modulation(structure)
        if not self.gated:
            return modulation
        features = _resized(last, self.grid)
        return features + features * (self.gamma * torch.tanh(modulation))


class ImageGraph(nn.Module):
    """uint8 windows [B, window, window, 3] to L2-normalised features [B, D, h, w].

    Holds copies of the model's tensors; the model is not touched. The uint8 input goes into one Cast
    and nowhere else. Mean and deviation stay two operations of their own: inside the first
    convolution they would cancel badly in FP16.

    Attributes:
        window_px: side of the window.
        grid_hw: rows and columns of the output.
        float_input: the input is float32 [B, 3, window, window], RGB in [0, 1], instead.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: OVSDINO, *, float_input: bool = False) -> None:
        """Fold a model into its inference graph.

        Args:
            model: a trained model.
            float_input: see the attribute.

        Raises:
            ExportError: the model has no encoder, so it needs SAM at inference, or its backbone
                cannot be exported.
        """
        super().__init__()
        if any(value.device.type != "cpu" or value.dtype != torch.float32 for value in model.parameters()):
            model = copy.deepcopy(model).to("cpu", torch.float32)
        backbone, encoder = model.backbone, model.encoder
        if backbone is None:
            raise ExportError(
                "the model was built with encoder=False: it needs SAM's features at inference, and an "
                "exported graph is SAM-free; train one with the encoder"
            )
        self.window_px = model.config.window_px
        self.float_input = float_input
        self.shape = (-1, backbone.channels, backbone.grid, backbone.grid)
        self.grid_hw = model.grid_hw
        self.backbone = FoldedViT(backbone)
        self.encoder = (
            None if encoder is None else FoldedEncoder(encoder, self.backbone.prefix, backbone.grid)
        )
        self.decoder = None if model.decoder is None else FoldedDecoder(model.decoder, self.grid_hw[0])
        self.projector = copy.deepcopy(model.projector)
        top = 255.0 if float_input else 1.0
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1) / top)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1) / top)
        self.requires_grad_(False)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return features, float32 [B, D, h, w]; see the class for the input."""
        pixels = image if self.float_input else image.to(torch.float32).permute(0, 3, 1, 2)
        blocks, patches = self.backbone((pixels - self.mean) / self.std)
        last = patches.transpose(1, 2).reshape(self.shape)
        features = last
        if self.encoder is not None and self.decoder is not None:
            features = self.decoder(self.encoder(blocks, last), last)
        projected = self.projector(features)
        norm = torch.linalg.vector_norm(projected, dim=1, keepdim=True)
        return cast(Tensor, projected / norm.clamp_min(_LEAST_NORM))


def _folded_layer(layer: DilatedLayer, grid: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    convolution, norm, activation = layer
    folded = GroupNorm(cast(nn.GroupNorm, norm), grid)
    return copy.deepcopy(convolution), folded, copy.deepcopy(activation)


def _resized(features: Tensor, grid: int) -> Tensor:
    """Return features at grid x grid, bilinear; traced to one Resize with constant scales."""
    if features.shape[-1] == grid:
        return features
    return F.interpolate(features, size=(grid, grid), mode="bilinear", align_corners=False)
