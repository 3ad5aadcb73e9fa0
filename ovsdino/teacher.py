"""The teacher of the alignment: SAM's image encoder, needed during training only (sec. 4.1)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ovsdino.backbone_weights import fingerprint
from ovsdino.config import STRUCTURE_CHANNELS, STRUCTURE_GRID
from ovsdino_runtime.errors import CheckpointError
from ovsdino_runtime.pixels import MEAN, STD

DEFAULT = "facebook/sam-vit-base"  # sec. 5.1: SAM ViT-B


class Teacher(Protocol):
    """Whatever turns photographs into what a model learns from: SAM's features, or a larger model's scores.

    Attributes:
        image_px: side of the square it sees.
        identity: which weights it has; a cache of its features is only good for the same ones.
        shape: of a photograph's features; SAM's are (256, 64, 64).
    """

    image_px: int
    identity: str
    shape: tuple[int, int, int]

    def features(self, images: Tensor) -> Tensor:
        """Return features [B, *shape], without gradients.

        Args:
            images: uint8 [B, image_px, image_px, 3], RGB in [0, 255].
        """

    def to(self, device: torch.device) -> Any:
        """Move to a device."""


class SamTeacher(nn.Module):
    """SAM's image encoder: 1024 x 1024 in, 64 x 64 x 256 out.

    Ours: it sees the square crop that the model sees, at its own size; SAM's own way of padding an
    oblong image is not used.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, image_px: int, name: str) -> None:
        """Wrap an encoder.

        Args:
            encoder: transformers' SamVisionEncoder: [B, 3, px, px] in, an output whose
                `last_hidden_state` is [B, 256, px / 16, px / 16].
            image_px: the px it was built for.
            name: where its weights come from.

        Raises:
            CheckpointError: its features are not of SAM's size.
        """
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.image_px = image_px
        self.identity = f"{name} {fingerprint(encoder.state_dict())[:32]}"
        self.shape = (STRUCTURE_CHANNELS, STRUCTURE_GRID, STRUCTURE_GRID)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        settings = getattr(encoder, "config", None)
        shape = (
            getattr(settings, "output_channels", STRUCTURE_CHANNELS),
            image_px // getattr(settings, "patch_size", image_px // STRUCTURE_GRID),
        )
        if shape != (STRUCTURE_CHANNELS, STRUCTURE_GRID):
            raise CheckpointError(
                f"the teacher {name} gives {shape[0]} channels on a {shape[1]}x{shape[1]} grid, but the "
                f"model learns {STRUCTURE_CHANNELS} on {STRUCTURE_GRID}x{STRUCTURE_GRID}; take a SAM model"
            )

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features [B, 256, 64, 64]; see `Teacher`."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        features: Tensor = self.encoder(pixels).last_hidden_state
        return features


def load_teacher(name: str) -> SamTeacher | None:
    """Return a teacher.

    Args:
        name: "none", or as in `load_sam`.

    Raises:
        CheckpointError: it cannot be loaded, or is no SAM.
    """
    if name == "none":
        return None
    try:
        return load_sam(name)
    except CheckpointError as error:
        raise CheckpointError(f"{error}, or train without alignment with --teacher none") from error


def load_sam(name: str) -> SamTeacher:
    """Return SAM's image encoder.

    Args:
        name: "sam" for SAM ViT-B; or another SAM on the Hugging Face hub, or its folder.

    Raises:
        CheckpointError: it cannot be loaded, or is no SAM.
    """
    source = DEFAULT if name == "sam" else name
    try:
        from transformers import SamConfig, SamModel  # noqa: PLC0415 (seconds to import, often not needed)

        kind = SamConfig.get_config_dict(source)[0].get("model_type")
        if kind != SamConfig.model_type:
            # transformers would only warn, and start a SAM of random numbers.
            raise CheckpointError(f"{source} is a model of type {kind!r}, not 'sam'; name a SAM")
        # A mask decoder of another size does not matter; the encoder is checked below.
        model, report = SamModel.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except CheckpointError:
        raise
    except Exception as error:  # transformers and the hub's client raise many kinds
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"cannot load the SAM {source} ({first}); check the network, or name its folder"
        ) from error
    absent = [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])]
    random = sorted(key for key in absent if key.startswith("vision_encoder."))
    if random:
        raise CheckpointError(
            f"{source} lacks {len(random)} weights of SAM's image encoder or has them in another size, such "
            f"as {random[0]}; name a whole SAM"
        )
    # Weights may be stored in FP16, which the pixels of `features` are not.
    encoder = model.vision_encoder.float()
    return SamTeacher(encoder, int(model.config.vision_config.image_size), source)
