"""A checkpoint for windows of another size than it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ovsdino.backbone import create_vit
from ovsdino.checkpoint import CheckpointInfo
from ovsdino.model import resample_positions

_POSITIONS = "backbone.vit.pos_embed"


def at_window(
    info: CheckpointInfo, tensors: Mapping[str, Tensor], window_px: int
) -> tuple[CheckpointInfo, dict[str, Tensor]]:
    """Return a checkpoint for windows of another size.

    Ours: of all weights only position embeddings depend on the size; those that the checkpoint holds are
    resampled as a backbone's are when it is loaded. The embeddings' grid stays what the decoder makes it. How
    well a model does on windows it was not trained on is to be measured.

    Args:
        info: what the checkpoint says.
        tensors: its tensors by name.
        window_px: side of the windows.

    Raises:
        CheckpointError: the backbone's patch does not divide the size.
    """
    if window_px == info.model.window_px:
        return info, dict(tensors)
    with torch.device("meta"):
        vit = create_vit(info.model.backbone, window_px)
    changed = dict(tensors)
    if _POSITIONS in changed:
        changed[_POSITIONS] = resample_positions(changed[_POSITIONS], vit)
    return replace(info, model=replace(info.model, window_px=window_px)), changed
