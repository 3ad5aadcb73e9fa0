"""A timm ViT as it is traced: the same numbers from fewer nodes, on weights of its own."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn

from ovsdino.backbone import Backbone
from ovsdino.nano import LocalBlock, with_neighbours
from ovsdino_export.folding import layer_scales, linear_of, qkv_weights, scaled, without_batch_norm
from ovsdino_runtime.errors import ExportError


class Embedding(nn.Module):
    """Patches to tokens, with prefix tokens and position embeddings in one constant.

    Prefix tokens usually enter by expanding them to the batch, for which a graph must ask the shape of
    its input. Here the patches are padded with zero rows and one constant is added: its first rows
    are the prefix tokens, its others the position embeddings. The sums are the same.
    """

    positions: Tensor

    def __init__(self, vit: VisionTransformer | Eva, grid: int) -> None:
        """Fold.

        Args:
            vit: the ViT.
            grid: rows and columns of patches.

        Raises:
            ExportError: its patches come from something other than convolutions.
        """
        super().__init__()
        if not isinstance(vit.patch_embed, PatchEmbed):
            raise ExportError(
                f"the backbone makes its patches with a {type(vit.patch_embed).__name__}; only ViTs whose "
                "patches come from convolutions export"
            )
        self.convolution = without_batch_norm(vit.patch_embed.proj)
        self.patch_norm = copy.deepcopy(vit.patch_embed.norm)
        self.norm = copy.deepcopy(vit.norm_pre)
        self.channels = int(vit.embed_dim)
        self.patches = grid * grid
        self.prefix = int(vit.num_prefix_tokens)
        given = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
        prefix = (
            torch.cat([token.detach() for token in given], dim=1)
            if given
            else torch.zeros(1, 0, self.channels)
        )
        table = torch.cat([prefix, prefix.new_zeros(1, self.patches, self.channels)], dim=1)
        if vit.pos_embed is not None:
            table[:, -vit.pos_embed.shape[1] :] += vit.pos_embed.detach()
        self.register_buffer("positions", table)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return tokens, [B, prefix + patches, C], for normalised pixels [B, 3, H, W]."""
        patches = self.convolution(pixels).reshape(-1, self.channels, self.patches).transpose(1, 2)
        tokens: Tensor = F.pad(self.patch_norm(patches), (0, 0, self.prefix, 0)) + self.positions
        normed: Tensor = self.norm(tokens)
        return normed


class Rotation(nn.Module):
    """Rotary position embeddings for queries and keys at once (DINOv3), prefix tokens included.

    A prefix token is not rotated, which is a rotation by zero: sine 0, cosine 1.
    """

    sine: Tensor
    cosine: Tensor

    def __init__(self, table: Tensor, prefix: int) -> None:
        """Fold.

        Args:
            table: timm's sines and cosines side by side, [patches, 2 * head width]; the halves of
                a head are rotated against each other.
            prefix: number of prefix tokens.
        """
        super().__init__()
        sine, cosine = table.detach().chunk(2, dim=-1)
        self.middle = sine.shape[-1] // 2
        sign = torch.ones(sine.shape[-1])
        sign[: self.middle] = -1
        self.register_buffer("sine", torch.cat([sine.new_zeros(prefix, sine.shape[-1]), sine * sign]))
        self.register_buffer("cosine", torch.cat([cosine.new_ones(prefix, cosine.shape[-1]), cosine]))

    def forward(self, heads: Tensor) -> Tensor:
        """Return the rotated heads, [B, any, tokens, head width]."""
        first, second = torch.split(heads, self.middle, dim=-1)
        return heads * self.cosine + torch.cat([second, first], dim=-1) * self.sine


class FoldedAttention(nn.Module):
    """Self-attention with its scale in the queries' weights and LayerScale in the projection's.

    Queries, keys and values come apart by one Split over the heads.
    """

    def __init__(
        self, attention: Attention | EvaAttention, layer_scale: Tensor | None, rope: Tensor | None
    ) -> None:
        """Fold.

        Args:
            attention: timm's attention, of a kind that `foldable` accepts.
            layer_scale: factor on the output, [C].
            rope: timm's rotary table, where the ViT has one.
        """
        super().__init__()
        self.heads = int(attention.num_heads)
        self.width = int(attention.head_dim)
        weight, bias = qkv_weights(attention)
        inner = self.heads * self.width
        factor = torch.ones(3 * inner)
        factor[:inner] = attention.scale
        self.qkv = linear_of(weight * factor[:, None], None if bias is None else bias * factor)
        self.project = scaled(attention.proj, layer_scale)
        prefix = int(getattr(attention, "num_prefix_tokens", 0))
        self.rotation = None if rope is None else Rotation(rope, prefix)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what the block adds to its tokens, [B, T, C]."""
        length = tokens.shape[1]
        heads = self.qkv(tokens).reshape(-1, length, 3 * self.heads, self.width).transpose(1, 2)
        if self.rotation is None:
            queries, keys, values = torch.split(heads, self.heads, dim=1)
        else:
            rotating, values = torch.split(heads, [2 * self.heads, self.heads], dim=1)
            queries, keys = torch.split(self.rotation(rotating), self.heads, dim=1)
        mixed = (queries @ keys.transpose(-2, -1)).softmax(dim=-1) @ values
        projected: Tensor = self.project(mixed.transpose(1, 2).reshape(-1, length, self.heads * self.width))
        return projected


class FoldedBlock(nn.Module):
    """A pre-norm transformer block of DINO, DINOv2, DINOv3 or our nano with everything folded that can be."""

    def __init__(self, block: Block | EvaBlock, rope: Tensor | None) -> None:
        super().__init__()
        scales = layer_scales(block)
        self.local = copy.deepcopy(block.local) if isinstance(block, LocalBlock) else None
        self.norm1 = copy.deepcopy(block.norm1)
        self.attention = FoldedAttention(block.attn, scales[0], rope)
        self.norm2 = copy.deepcopy(block.norm2)
        self.mlp = copy.deepcopy(block.mlp)
        self.mlp.fc2 = scaled(block.mlp.fc2, scales[1])

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the block's output, [B, T, C]."""
        if self.local is not None:
            tokens = with_neighbours(tokens, self.local)
        tokens = tokens + self.attention(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class PlainBlock(nn.Module):
    """A block of another kind, as timm has it: more nodes, the same result."""

    rope: Tensor | None

    def __init__(self, block: nn.Module, rope: Tensor | None) -> None:
        super().__init__()
        self.block = copy.deepcopy(block)
        for part in self.block.modules():
            if hasattr(part, "fused_attn"):
                setattr(part, "fused_attn", False)  # noqa: B010 - for mypy; so that softmax and products stand in the graph as such
        self.register_buffer("rope", None if rope is None else rope.detach().clone())

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the block's output, [B, T, C]."""
        output: Tensor = self.block(tokens) if self.rope is None else self.block(tokens, rope=self.rope)
        return output


class FoldedViT(nn.Module):
    """The backbone's fused blocks and its last block, as tokens.

    Attributes:
        prefix: number of tokens that are no patches.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        vit = backbone.vit
        self.fused = backbone.fused
        self.embedding = Embedding(vit, backbone.grid)
        self.prefix = self.embedding.prefix
        rotary = getattr(vit, "rope", None)
        rope = None if rotary is None else rotary.get_embed(shape=(backbone.grid, backbone.grid))
        self.blocks = nn.ModuleList(
            FoldedBlock(block, rope) if foldable(block, rope) else PlainBlock(block, rope)
            for block in vit.blocks
        )
        self.norm = copy.deepcopy(vit.norm)

    def forward(self, pixels: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the fused blocks with their prefix tokens and the last block's patches after the norm.

        Args:
            pixels: normalised, [B, 3, H, W].
        """
        tokens = self.embedding(pixels)
        fused: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.fused:
                fused.append(tokens)
        return fused, self.norm(tokens[:, self.prefix :])


def foldable(block: nn.Module, rope: Tensor | None) -> bool:
    """Return whether `FoldedBlock` computes what this block computes.

    Args:
        block: one of timm's blocks.
        rope: the table it is called with.
    """
    if type(block) not in (Block, EvaBlock, LocalBlock) or type(block.attn) not in (Attention, EvaAttention):
        return False
    attention: Any = block.attn
    plain = all(
        isinstance(part, nn.Identity) for part in (attention.q_norm, attention.k_norm, attention.norm)
    )
    halves = rope is None or (rope.ndim == 2 and bool(getattr(attention, "rotate_half", False)))
    return (
        plain and halves and attention.gate is None and isinstance(getattr(block.mlp, "fc2", None), nn.Linear)
    )
