"""CLIP's text tower for prompts of any length."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextTower(nn.Module):
    """The text half of an open_clip model, without the padding to its full context.

    Under the causal mask no token sees what follows it, and the prompt is read off at its end mark;
    so leaving out the padding after the longest prompt changes nothing.

    Args:
        clip: an open_clip model with OpenAI's text transformer; its weights are shared, not copied.

    Raises:
        ValueError: the model's text side is built otherwise.
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        text: Any = getattr(clip, "text", clip)
        if reason := _difference(text):
            raise ValueError(f"the text side of {type(clip).__name__} {reason}")
        self.token_embedding: nn.Embedding = text.token_embedding
        self.positional_embedding: nn.Parameter = text.positional_embedding
        self.blocks: Any = text.transformer.resblocks
        self.final_norm: nn.Module = text.ln_final
        self.projection = text.text_projection
        named_end = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
        self.end_id: int | None = named_end if _pooling(text) == "eos" else None
        length = len(self.positional_embedding)
        mask = torch.full((length, length), -torch.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    @property
    def context_length(self) -> int:
        """Ids a prompt may have at most."""
        return len(self.positional_embedding)

    def forward(self, ids: Tensor) -> Tensor:
        """Return L2-normalised embeddings, float32 [B, D].

        Args:
            ids: int64 [B, T], T at most the context length, 0 after each end mark.
        """
        length = ids.shape[1]
        tokens = self.token_embedding(ids) + self.positional_embedding[:length]
        mask = cast(Tensor, self.mask)[:length, :length]
        for block in self.blocks:
            tokens = tokens + block.ls_1(_attend(block.attn, block.ln_1(tokens), mask))
            tokens = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
        # CLIP's end mark has the largest id of all.
        end = ids.argmax(dim=1) if self.end_id is None else (ids == self.end_id).int().argmax(dim=1)
        width = tokens.shape[2]
        pooled = tokens.gather(1, end[:, None, None].expand(-1, 1, width)).squeeze(1)
        pooled = self.final_norm(pooled)  # of one token a prompt: the norm looks at nothing else
        if isinstance(self.projection, nn.Linear):
            pooled = self.projection(pooled)
        elif self.projection is not None:
            pooled = pooled @ self.projection
        return F.normalize(pooled, dim=-1)


def _attend(attention: nn.MultiheadAttention, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return multi-head self-attention of [B, T, C]; the query is scaled first, which FP16 needs."""
    batch, length, width = tokens.shape
    heads = attention.num_heads
    mixed = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (
        mixed.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
    )
    scores = (query * (width // heads) ** -0.5) @ key.transpose(-2, -1) + mask
    attended = scores.softmax(dim=-1) @ value
    return cast(Tensor, attention.out_proj(attended.transpose(1, 2).reshape(batch, length, width)))


def _pooling(text: Any) -> object:
    return getattr(text, "text_pool_type", getattr(text, "pool_type", None))


def _difference(text: Any) -> str | None:
    """Return in which way a text side is not OpenAI's transformer, or None."""
    transformer = getattr(text, "transformer", None)
    blocks = getattr(transformer, "resblocks", None)
    if blocks is None or not hasattr(text, "positional_embedding"):
        return "is no open_clip text transformer"
    if not all(isinstance(getattr(block, "attn", None), nn.MultiheadAttention) for block in blocks):
        return "has blocks of another kind"
    if getattr(text, "attn_mask", None) is None:
        return "has no causal mask"
    if getattr(text, "cls_emb", None) is not None:
        return "reads prompts off a class token"
    if _pooling(text) not in ("argmax", "eos"):
        return f"pools by {_pooling(text)!r}, not at the end mark"
    return None
