"""Beginning a training with another one's weights: fine-tuning."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ovsdino.backbone_weights import BackboneWeights
from ovsdino.checkpoint import CheckpointInfo, read_info, read_tensors, trained_tensors
from ovsdino.model import OVSDINO
from ovsdino.window import at_window
from ovsdino_runtime.errors import CheckpointError


def start_from(
    checkpoint: Path, model: OVSDINO, weights: BackboneWeights | None, text_model: str = ""
) -> str:
    """Give a model all weights of a checkpoint, heads and scalars included, whatever its windows' size.

    Args:
        checkpoint: what a training wrote, or a published one.
        model: of the same architecture; everything that the checkpoint trained must train in it too.
        weights: the backbone's, which the checkpoint must sit on too; None for a model without.
        text_model: what made the text vectors of this training; empty where nobody said.

    Returns:
        A sentence on what was taken.

    Raises:
        CheckpointError: the checkpoint is broken, or of another model, backbone or text encoder.
    """
    info, tensors = read_info(checkpoint), read_tensors(checkpoint)
    if text_model and info.text_model and text_model != info.text_model:
        raise CheckpointError(
            f"{checkpoint} was trained for the text encoder {info.text_model}, but the text vectors are of "
            f"{text_model}; name the same with --text-model and --text-pretrained"
        )
    places = trained_tensors(model)
    if model.backbone is None or not model.backbone.whole:
        _same_backbone(checkpoint, info, weights)
    beyond = sorted((set(tensors) & _trained_names(info)) - set(places))
    if beyond:
        raise CheckpointError(
            f"{checkpoint} has weights that have no place in this training or stay frozen in it, as "
            f"{beyond[0]}; train the model it is of: {_described(info)}"
        )
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise CheckpointError(
            f"{checkpoint} lacks {len(missing)} weights of this model, as {missing[0]}; train the model it "
            f"is of: {_described(info)}"
        )
    window_px = model.config.window_px
    _, tensors = at_window(info, tensors, window_px)
    for name, place in places.items():
        if place.shape != tensors[name].shape:
            raise CheckpointError(
                f"{checkpoint} has {name} of shape {tuple(tensors[name].shape)}, this model of "
                f"{tuple(place.shape)}; train the model it is of: {_described(info)}"
            )
    if info.model.decoder_stride != model.config.decoder_stride:
        raise CheckpointError(
            f"{checkpoint} was trained with decoder stride {info.model.decoder_stride}, not "
            f"{model.config.decoder_stride}; train the model it is of: {_described(info)}"
        )
    for name, place in places.items():
        _copy(place, tensors[name])
    former = f", for windows of {info.model.window_px} px" if info.model.window_px != window_px else ""
    return f"starting from all {len(places)} trained weights of {checkpoint}{former}"


def _same_backbone(checkpoint: Path, info: CheckpointInfo, weights: BackboneWeights | None) -> None:
    theirs = info.backbone.fingerprint if info.backbone else None
    ours = weights.fingerprint if weights else None
    if theirs != ours:
        raise CheckpointError(
            f"{checkpoint} sits on another backbone than --backbone-weights names (fingerprints "
            f"{(theirs or 'none')[:12]} and {(ours or 'none')[:12]}); name the one it was trained on"
        )


def _trained_names(info: CheckpointInfo) -> set[str]:
    """Return what changed in the training that a checkpoint is of; a complete one holds the rest too."""
    with torch.device("meta"):
        return set(trained_tensors(OVSDINO(info.model)))


@torch.no_grad()
def _copy(place: Tensor, value: Tensor) -> None:
    place.copy_(value)


def _described(info: CheckpointInfo) -> str:
    model = info.model
    blocks = "all" if model.whole_backbone else model.backbone_trainable_blocks
    text = f", {model.embedding_dim} of {model.text_dim} numbers a text vector" if model.text_dim else ""
    return (
        f"{model.backbone} at {model.window_px} px, head {model.head}, decoder stride "
        f"{model.decoder_stride}, trainable blocks {blocks}{text}"
    )
