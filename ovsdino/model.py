"""OVS-DINO: uint8 windows in, features in CLIP's text space out (sec. 4, fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from ovsdino.backbone import Backbone, FrozenFeatures, create_vit
from ovsdino.backbone_weights import BackboneWeights
from ovsdino.config import STRUCTURE_GRID, ModelConfig
from ovsdino.decoder import StructureModulatedDecoder
from ovsdino.encoder import StructureAwareEncoder
from ovsdino_runtime.errors import CheckpointError


@dataclass(frozen=True)
class Output:
    """What the model computes for a batch of windows.

    Attributes:
        embeddings: F_out projected into the text space, L2-normalised over D, [B, D, h, w].
        structure: F_middle, [B, 256, 64, 64]; what went into the decoder. None for a linear head.
        alignable: F_middle whose gradient ends at the encoder, for L_align; None unless asked for.
    """

    embeddings: Tensor
    structure: Tensor | None
    alignable: Tensor | None


class OVSDINO(nn.Module):
    """Backbone, Structure-Aware Encoder, Structure-Modulated Decoder and projector.

    Attributes:
        config: what was built.
        score_scale: learned factor on the cosine.
        score_bias: learned offset on the scaled cosine, in the BCE alone.
        text_map: float32 [D, text_dim], what shortens text vectors (see `ovsdino.text_map`), or None.
    """

    text_map: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone | None = None
        self.encoder: StructureAwareEncoder | None = None
        if config.encoder:
            with torch.device("meta"):
                depth = len(create_vit(config.backbone, config.window_px).blocks)
            fused = config.fused_blocks(depth)
            self.backbone = Backbone(
                config.backbone,
                config.window_px,
                fused,
                config.backbone_trainable_blocks,
                whole=config.whole_backbone,
            )
            channels = self.backbone.channels
            if config.head == "structure":
                self.encoder = StructureAwareEncoder(
                    channels, len(fused), config.norm_groups, config.alpha_init
                )
        else:
            with torch.device("meta"):
                channels = int(create_vit(config.backbone, config.window_px).embed_dim)
        self.decoder: StructureModulatedDecoder | None = None
        if config.head == "structure":
            gamma = config.gamma_init if config.gate else None
            self.decoder = StructureModulatedDecoder(
                channels, config.decoder_stride, config.norm_groups, gamma
            )
        self.projector = nn.Conv2d(channels, config.embedding_dim, 1)
        self.register_buffer(
            "text_map", torch.eye(config.embedding_dim, config.text_dim) if config.text_dim else None
        )
        self.score_scale = nn.Parameter(torch.tensor(config.score_scale_init))
        self.score_bias = nn.Parameter(torch.tensor(config.score_bias_init))

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of embeddings that a window gives."""
        if self.decoder is not None:
            side = (STRUCTURE_GRID - 1) // self.config.decoder_stride + 1
        elif self.backbone is not None:
            side = self.backbone.grid
        else:
            raise ValueError("a model has a backbone, a decoder, or both")
        return side, side

    def forward(self, images: Tensor, *, structure: Tensor | None = None, align: bool = False) -> Output:
        """Return embeddings and structure of windows.

        Args:
            images: uint8 [B, window, window, 3], RGB in [0, 255].
            structure: SAM's features [B, 256, 64, 64] instead of the encoder's: at inference for
                table 4, always for a model without encoder.
            align: whether to return `alignable`.
        """
        if self.backbone is None:
            return self._decode(structure, None)
        return self.from_frozen(self.backbone.frozen(images), structure=structure, align=align)

    def from_frozen(
        self, frozen: FrozenFeatures, *, structure: Tensor | None = None, align: bool = False
    ) -> Output:
        """Return embeddings and structure from the frozen part's output; see `forward`."""
        if self.backbone is None:
            raise ValueError("a model without encoder has no backbone to continue from")
        blocks, last = self.backbone.finish(frozen)
        alignable: Tensor | None = None
        if structure is None and self.encoder is not None:
            structure = self.encoder(blocks, last)
            if align:
                # L_align must not reach the trainable blocks; where none trains, one pass serves both.
                trains = self.backbone.frozen_depth < self.backbone.depth
                alignable = (
                    self.encoder([block.detach() for block in blocks], last.detach()) if trains else structure
                )
        output = self._decode(structure, last)
        return Output(output.embeddings, output.structure, alignable)

    def map_text(self, text: Tensor) -> Tensor:
        """Return text vectors in the space of scores, unit [..., D].

        Args:
            text: unit vectors of the text encoder, [..., text_dim], or [..., D] without a map.
        """
        return text if self.text_map is None else F.normalize(text @ self.text_map.T, dim=-1)

    def scores(self, embeddings: Tensor, text: Tensor) -> Tensor:
        """Return cosines, [B, K, h, w].

        Args:
            embeddings: L2-normalised [B, D, h, w].
            text: unit text embeddings, [K, D] for all images or [B, K, D].
        """
        pattern = "bdhw,kd->bkhw" if text.ndim == 2 else "bdhw,bkd->bkhw"
        return torch.einsum(pattern, embeddings, text)

    def load_backbone(self, weights: BackboneWeights) -> None:
        """Take the backbone's weights; position embeddings are resampled to the window once.

        Raises:
            CheckpointError: the weights belong to another architecture.
        """
        if self.backbone is None:
            return
        vit = self.backbone.vit
        if weights.name.split(".")[0] != self.config.backbone.split(".")[0]:
            raise CheckpointError(
                f"the weights are a {weights.name}, the model's backbone is a {self.config.backbone}"
            )
        tensors = dict(weights.tensors)
        if getattr(vit, "pos_embed", None) is not None:
            tensors["pos_embed"] = resample_positions(tensors["pos_embed"], vit)
        vit.load_state_dict(tensors, strict=True)

    def _decode(self, structure: Tensor | None, last: Tensor | None) -> Output:
        if self.decoder is None:  # a linear head
            if last is None or structure is not None:
                raise ValueError("a linear head has no use for `structure`")
            features = last
        elif structure is None:
            raise ValueError("a model without encoder needs SAM's features as `structure`")
        else:
            features = self.decoder(structure, last if self.config.gate else None)
        return Output(F.normalize(self.projector(features), dim=1), structure, None)


def resample_positions(positions: Tensor, vit: nn.Module) -> Tensor:
    """Return position embeddings [1, T, C] for the ViT's own grid (bicubic with antialias, as timm does)."""
    if positions.shape[1] == vit.pos_embed.shape[1]:  # type: ignore[index]
        return positions
    prefix = 0 if getattr(vit, "no_embed_class", False) else int(vit.num_prefix_tokens)  # type: ignore[arg-type]
    grid: list[int] = list(vit.patch_embed.grid_size)  # type: ignore[union-attr, arg-type]
    resampled: Tensor = resample_abs_pos_embed(positions, new_size=grid, num_prefix_tokens=prefix)
    return resampled
