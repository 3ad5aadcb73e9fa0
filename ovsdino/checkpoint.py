"""Checkpoints: a folder of config.json and model.safetensors, holding only what was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovsdino.backbone_weights import BackboneWeights, load_backbone_weights
from ovsdino.config import ModelConfig
from ovsdino.model import OVSDINO
from ovsdino_runtime import __version__
from ovsdino_runtime.errors import CheckpointError, OutputError
from ovsdino_runtime.files import atomic_folder
from ovsdino_runtime.manifest import BackboneInfo

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FULL_DISK = "free some space, or write elsewhere"
_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint says beside its tensors.

    Attributes:
        model: what to build.
        backbone: the weights the checkpoint sits on; None for a model without backbone.
        complete: whether the backbone's weights are in the checkpoint too.
        trained_names: class names that training used, in the text table's spelling.
        text_model: the text encoder whose space the model was trained for; empty for ready-made vectors
            of which nobody said what made them.
        training: command, seed, data, figures; free form.
        name: what a published model is called.
        license: terms of published weights.
    """

    model: ModelConfig
    backbone: BackboneInfo | None
    complete: bool = False
    trained_names: tuple[str, ...] = ()
    text_model: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    license: str = ""


def trained_tensors(model: OVSDINO) -> dict[str, Tensor]:
    """Return the tensors that training changes: the heads and the unfrozen blocks."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def save_checkpoint(folder: Path, model: OVSDINO, info: CheckpointInfo) -> None:
    """Write a model's checkpoint in FP32; it appears whole or not at all.

    Args:
        folder: where; an earlier checkpoint there is replaced.
        model: the model.
        info: `info.complete` decides whether the frozen backbone is written too.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_checkpoint(folder, model.state_dict() if info.complete else trained_tensors(model), info)


def write_checkpoint(
    folder: Path, tensors: Mapping[str, Tensor], info: CheckpointInfo, *, half: bool = False
) -> None:
    """Write tensors and what they are as a checkpoint; it appears whole or not at all.

    Args:
        folder: where; an earlier checkpoint there is replaced.
        tensors: by the model's names.
        info: what to say of them.
        half: whether kernels and matrices are stored in FP16. Norms, biases, γ, α, scale and bias are
            little and stay FP32.

    Raises:
        CheckpointError: a weight exceeds FP16's range.
        OutputError: the folder cannot be written.
    """
    stored = {name: _stored(name, value, half) for name, value in tensors.items()}
    config = {
        "schema": _SCHEMA,
        "created_by": f"ovsdino {__version__}",
        "model": info.model.to_dict(),
        "backbone": asdict(info.backbone) if info.backbone else None,
        "complete": info.complete,
        "trained_names": list(info.trained_names),
        "text_model": info.text_model,
        "training": dict(info.training),
        "name": info.name,
        "license": info.license,
    }
    with atomic_folder(folder) as staged:
        try:
            save_file(stored, staged / WEIGHTS)
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OutputError(f"cannot write {folder}: {error}; {FULL_DISK}") from error
        (staged / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_info(folder: Path) -> CheckpointInfo:
    """Return what a checkpoint says about itself.

    Raises:
        CheckpointError: there is none, or it is broken or of a newer version.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"no checkpoint at {folder}: it has no {CONFIG}; write one with `ovsdino-train fit`"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] > _SCHEMA:
            raise CheckpointError(
                f"{path} has schema {data['schema']}, this version reads up to {_SCHEMA}; upgrade ovsdino"
            )
        return CheckpointInfo(
            model=ModelConfig.from_dict(data["model"], str(path)),
            backbone=BackboneInfo(**data["backbone"]) if data["backbone"] else None,
            complete=bool(data["complete"]),
            trained_names=tuple(data["trained_names"]),
            text_model=str(data["text_model"]),
            training=data["training"],
            name=str(data.get("name", "")),
            license=str(data.get("license", "")),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is no complete checkpoint configuration ({error!r})") from error


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name, FP32.

    Raises:
        CheckpointError: they cannot be read.
    """
    path = folder / WEIGHTS
    try:
        return {name: value.float() for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); copy or train the checkpoint again") from error


def load_checkpoint(
    folder: Path,
    backbone_weights: str | BackboneWeights | None = None,
    *,
    option: str = "--backbone-weights",
) -> tuple[OVSDINO, CheckpointInfo]:
    """Return the model of a checkpoint, in eval mode and FP32, and what the checkpoint says.

    Args:
        folder: the checkpoint.
        backbone_weights: where the backbone's weights are (see `load_backbone_weights`); None
            takes the source the checkpoint names. A complete checkpoint needs none; given all the
            same, they must be those it holds.
        option: by which a person names them, for what errors say.

    Raises:
        CheckpointError: a file is missing or broken, tensors are missing or left over, or the
            backbone's fingerprint is not the one the checkpoint was trained on.
    """
    info, path = read_info(folder), folder / WEIGHTS
    tensors = read_tensors(folder)
    model = _built(info.model, folder / CONFIG)
    weights = None
    if info.backbone is not None and (backbone_weights is not None or not info.complete):
        weights = _backbone(info.backbone, backbone_weights, folder, option)
    if weights is not None and not info.complete:
        model.load_backbone(weights)
        expected = set(trained_tensors(model))
    else:
        expected = set(model.state_dict())
    missing, extra = sorted(expected - set(tensors)), sorted(set(tensors) - expected)
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"has no use for {extra[0]}"
        raise CheckpointError(
            f"{path} does not fit its {CONFIG}: it {what} "
            f"({len(missing)} tensors missing, {len(extra)} left over)"
        )
    try:
        model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its {CONFIG}: {str(error).splitlines()[-1]}") from error
    return model.eval(), info


def _stored(name: str, value: Tensor, half: bool) -> Tensor:
    wide = value.detach().to("cpu", torch.float32).contiguous()
    if not half or wide.ndim < 2:
        return wide
    narrow = wide.half()
    if not torch.isfinite(narrow).all():
        raise CheckpointError(f"{name} reaches {wide.abs().max():g}, beyond FP16; store it in float32")
    return narrow


def _built(config: ModelConfig, path: Path) -> OVSDINO:
    """Return the model of a configuration; what only its parts can tell to be wrong is one line too."""
    try:
        return OVSDINO(config)
    except (CheckpointError, RuntimeError, ValueError, TypeError, AssertionError, ArithmeticError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} describes no model that can be built ({reason}); correct it or copy the checkpoint again"
        ) from error


def _backbone(
    wanted: BackboneInfo, given: str | BackboneWeights | None, folder: Path, option: str
) -> BackboneWeights:
    if isinstance(given, BackboneWeights):
        weights = given
    else:
        source = given if given is not None else _named_source(wanted)
        try:
            weights = load_backbone_weights(wanted.name, source)
        except CheckpointError as error:
            raise CheckpointError(f"the backbone of {folder} ({option}): {error}") from error
    if weights.fingerprint != wanted.fingerprint:
        raise CheckpointError(
            f"{folder} was trained on a {wanted.name} with fingerprint {wanted.fingerprint[:16]} "
            f"({wanted.source}), but {weights.source} has {weights.fingerprint[:16]}; "
            f"give the weights it was trained on with {option}"
        )
    return weights


def _named_source(info: BackboneInfo) -> str | None:
    return None if info.source.startswith("timm:") else info.source
