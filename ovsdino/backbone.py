"""Any timm ViT as a source of dense features, split where training begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ovsdino.nano import ARCHITECTURES
from ovsdino_runtime.errors import CheckpointError
from ovsdino_runtime.pixels import MEAN, STD

_POOLING = ("fc_norm", "attn_pool")  # parts of timm's ViTs


@dataclass(frozen=True)
class FrozenFeatures:
    """What the frozen part of the backbone gives; nothing in it changes during training.

    Attributes:
        blocks: the fused blocks F_i that lie in the frozen part, each [B, C, h, w].
        tokens: the output of the last frozen block with prefix tokens, [B, T, C]; not normalised.
    """

    blocks: tuple[Tensor, ...]
    tokens: Tensor


def create_vit(name: str, image_px: int) -> VisionTransformer | Eva:
    """Return a randomly initialised ViT for square images.

    Args:
        name: timm's architecture name or one of `ovsdino.nano`; a `.tag` behind it is ignored.
        image_px: side of the image.

    Raises:
        CheckpointError: timm knows no such model, it is no ViT, or its patch does not divide the image.
    """
    own = ARCHITECTURES.get(name.partition(".")[0])
    try:
        vit = (
            own(image_px)
            if own
            else timm.create_model(name.partition(".")[0], pretrained=False, img_size=image_px, num_classes=0)
        )
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise CheckpointError(f"timm cannot build the backbone {name!r} at {image_px} px: {error}") from error
    if not isinstance(vit, (VisionTransformer, Eva)):
        raise CheckpointError(f"backbone {name!r} is a {type(vit).__name__}; only timm's ViTs serve")
    patch = vit.patch_embed.patch_size
    if patch[0] != patch[1] or image_px % patch[0]:
        raise CheckpointError(
            f"backbone {name!r} has patches of {patch[0]}x{patch[1]} px, which do not divide {image_px} px"
        )
    return vit


class Backbone(nn.Module):
    """A timm ViT that returns the blocks the encoder fuses, and its last block after the final norm.

    Its first `depth - trainable_blocks` blocks, embeddings and final norm are frozen, or nothing is. Unless
    all of it learns it stays in eval mode: BatchNorm, where it has some, keeps its statistics.

    Attributes:
        channels: width C.
        depth: number of blocks.
        grid: rows (and columns) of patches in a window.
        fused: 1-based blocks that eq. 7 fuses into the last.
        frozen_depth: number of first blocks that do not learn.
        whole: whether all of it learns.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        window_px: int,
        fused: Sequence[int],
        trainable_blocks: int,
        *,
        whole: bool = False,
    ) -> None:
        super().__init__()
        self.vit = create_vit(name, window_px)
        self.channels = int(self.vit.embed_dim)
        self.depth = len(self.vit.blocks)
        self.grid = window_px // int(self.vit.patch_embed.patch_size[0])
        self.fused = tuple(fused)
        if trainable_blocks > self.depth:
            raise CheckpointError(
                f"{trainable_blocks} trainable blocks were asked for, but {name} has {self.depth}"
            )
        self.whole = whole
        self.frozen_depth = 0 if whole else self.depth - trainable_blocks
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.vit.requires_grad_(whole)
        for pooling in _POOLING:  # for an image's vector, which nobody asks for: it would learn nothing
            part = getattr(self.vit, pooling, None)
            if part is not None:
                part.requires_grad_(False)
        for block in self.vit.blocks[self.frozen_depth :]:
            block.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; a backbone that does not learn as a whole is always in eval mode."""
        super().train(mode)
        self.vit.train(mode and self.whole)
        return self

    def frozen(self, images: Tensor) -> FrozenFeatures:
        """Return what the frozen part gives, without gradients; the embedded patches where all learns.

        Args:
            images: uint8 [B, window, window, 3], RGB in [0, 255].
        """
        with torch.set_grad_enabled(self.whole and torch.is_grad_enabled()):
            tokens = self._embed(images)
            tokens, kept = self._run(tokens, 0, self.frozen_depth)
        return FrozenFeatures(tuple(kept.values()), tokens)

    def finish(self, frozen: FrozenFeatures) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the fused blocks and the last block, each [B, C, h, w].

        Ours: the last block is taken after the backbone's final norm, earlier ones raw. A ViT that normalises
        only what it has pooled, as EVA-02, has no such norm, and its last block is raw too.
        """
        tokens, kept = self._run(frozen.tokens, self.frozen_depth, self.depth)
        return (*frozen.blocks, *kept.values()), self._grid(self.vit.norm(tokens))

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the fused blocks and the last block for uint8 images [B, window, window, 3]."""
        return self.finish(self.frozen(images))

    def _embed(self, images: Tensor) -> Tensor:
        pixels = images.to(self.mean.dtype).permute(0, 3, 1, 2)
        tokens: Tensor | tuple[Tensor, Tensor | None]
        tokens = self.vit._pos_embed(self.vit.patch_embed((pixels - self.mean) / self.std))
        embedded: Tensor = self.vit.norm_pre(tokens[0] if isinstance(tokens, tuple) else tokens)
        return embedded

    def _run(self, tokens: Tensor, start: int, stop: int) -> tuple[Tensor, Mapping[int, Tensor]]:
        rope = getattr(self.vit, "rope", None)  # DINOv3 rotates; DINO and DINOv2 add position embeddings
        rotary = {} if rope is None else {"rope": rope.get_embed(shape=(self.grid, self.grid))}
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(self.vit.blocks[start:stop], start=start + 1):
            tokens = block(tokens, **rotary)
            if number in self.fused:
                kept[number] = self._grid(tokens)
        return tokens, kept

    def _grid(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, self.vit.num_prefix_tokens :]
        batch, _, channels = patches.shape
        return patches.transpose(1, 2).reshape(batch, channels, self.grid, self.grid)
