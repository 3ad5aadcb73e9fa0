"""What model to build: every switch of the paper's tables 2, 3, 4 and appendix B."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from ovsdino_runtime.errors import CheckpointError

STRUCTURE_CHANNELS = 256  # SAM's image features: 256 channels …
STRUCTURE_GRID = 64  # … on a 64 x 64 grid, for a 1024 px square
_INTEGERS = (
    "window_px",
    "backbone_trainable_blocks",
    "decoder_stride",
    "embedding_dim",
    "text_dim",
    "norm_groups",
)
_NUMBERS = ("alpha_init", "gamma_init", "score_scale_init", "score_bias_init")
_LAYERS_OF_12 = {"dense": (2, 4, 6, 8, 10), "sparse": (3, 6, 9)}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """An OVS-DINO model.

    Attributes:
        backbone: timm's name of a ViT (sec. 5.1: DINOv2 ViT-B/14; table 1 of appendix B: others).
        window_px: side of the square input, divisible by the backbone's patch (sec. 5.1: 448).
        layers: blocks fused into the last one (eq. 7): "dense" 2, 4, 6, 8, 10 of 12 or "sparse"
            3, 6, 9 of 12 (table 3). Ours: with another depth, block round(i * depth / 12).
        alignment: whether L_align teaches the encoder SAM's features (table 2, "w/o SA").
        encoder: whether there are DINO and SAE at all; without them SAM's features go into the
            decoder (table 2, "w/o Encoder"), which needs SAM at inference.
        head: "structure" is the paper's SAE and SMD. Ours: "linear" has neither and projects the
            backbone's last block alone, the baseline to compare with.
        gate: whether the Preservation Gate carries the backbone's features on (table 2, "w/o PG");
            without it F_out = M.
        backbone_trainable_blocks: last blocks that L_seg updates (table 3: 3, or 0 for frozen).
        whole_backbone: whether all of the backbone learns, its patch embedding and final norm too, as a
            small one from random weights must. Ours.
        decoder_stride: stride of eq. 13; 2 gives a 32 x 32 grid. Ours: 1 gives 64 x 64.
        embedding_dim: D, size of the space of scores (CLIP ViT-B/16: 512).
        text_dim: size of the text encoder's vectors where a linear map of the model's own leads from them
            to D; 0 where they have D numbers themselves. Ours.
        norm_groups: groups of every GroupNorm. Ours: 32.
        alpha_init: start of every α of eq. 7. Ours.
        gamma_init: start of γ of eq. 14. Ours: at 0, SAE and SMD would get no gradient.
        score_scale_init: start of the factor on the cosine. Ours.
        score_bias_init: start of the offset in the BCE, the log odds of a prior of 0.1. Ours.
    """

    backbone: str = "vit_base_patch14_dinov2"
    window_px: int = 448
    layers: Literal["dense", "sparse"] = "dense"
    alignment: bool = True
    encoder: bool = True
    head: Literal["structure", "linear"] = "structure"
    gate: bool = True
    backbone_trainable_blocks: int = 3
    whole_backbone: bool = False
    decoder_stride: Literal[1, 2] = 2
    embedding_dim: int = 512
    text_dim: int = 0
    norm_groups: int = 32
    alpha_init: float = 0.1
    gamma_init: float = 0.1
    score_scale_init: float = 10.0
    score_bias_init: float = -2.2

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ValueError: a setting is of another type or out of range, or two of them exclude each other.
        """
        self._check_types()
        if self.layers not in _LAYERS_OF_12:
            raise ValueError(f"layers is {self.layers!r}, but must be 'dense' or 'sparse'")
        if self.head not in ("structure", "linear"):
            raise ValueError(f"head is {self.head!r}, but must be 'structure' or 'linear'")
        if self.head == "linear" and (self.gate or self.alignment or not self.encoder):
            raise ValueError(
                "head='linear' has only a backbone and a projection: set gate=False, alignment=False and "
                "encoder=True with it"
            )
        if self.decoder_stride not in (1, 2):
            raise ValueError(f"decoder_stride is {self.decoder_stride}, but must be 1 or 2")
        if self.backbone_trainable_blocks < 0:
            raise ValueError("backbone_trainable_blocks must not be negative")
        if self.text_dim and self.text_dim < self.embedding_dim:
            raise ValueError(
                f"text_dim is {self.text_dim}, but a map to {self.embedding_dim} numbers only shortens"
            )
        for name in ("window_px", "embedding_dim", "norm_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive")
        trains = self.backbone_trainable_blocks or self.whole_backbone
        if not self.encoder and (self.gate or self.alignment or trains):
            raise ValueError(
                "encoder=False leaves neither DINO nor SAE: set gate=False, alignment=False, "
                "backbone_trainable_blocks=0 and whole_backbone=False with it"
            )

    def _check_types(self) -> None:
        """Refuse what JSON may hold but no model can be built from; whole numbers become floats."""
        for name in ("backbone", "layers", "head"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be a text")
        if not self.backbone:
            raise ValueError("backbone is empty, but must be timm's name of a ViT")
        for name in ("alignment", "encoder", "gate", "whole_backbone"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be true or false")
        for name in _INTEGERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}, but must be a whole number")
        for name in _NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name} is {value!r}, but must be a finite number")
            object.__setattr__(self, name, float(value))  # parameters of whole numbers cannot be learned

    def fused_blocks(self, depth: int) -> tuple[int, ...]:
        """Return the 1-based blocks that eq. 7 fuses into the last, ascending and different.

        A linear head fuses none.

        Args:
            depth: the backbone's number of blocks.
        """
        if self.head == "linear":
            return ()
        scaled = {max(1, round(block * depth / 12)) for block in _LAYERS_OF_12[self.layers]}
        return tuple(sorted(scaled - {depth}))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON takes them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> ModelConfig:
        """Read a configuration.

        Args:
            data: fields by name.
            where: what to call the source in an error.

        Raises:
            CheckpointError: an unknown field or a value that makes no sense.
        """
        unknown = sorted(set(data) - {item.name for item in dataclasses.fields(cls)})
        if unknown:
            raise CheckpointError(
                f"{where} has fields this version does not know: {', '.join(unknown)}; upgrade ovsdino"
            )
        try:
            return cls(**data)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{where} describes no model: {error}") from error
