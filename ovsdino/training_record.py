"""What a training writes down: a line for each step, and where a checkpoint comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from ovsdino.checkpoint import CheckpointInfo
from ovsdino.model import OVSDINO
from ovsdino.optimizer import scalar_parameters
from ovsdino.preparation import Prepared
from ovsdino.settings import TrainConfig
from ovsdino_runtime.manifest import BackboneInfo

Line = dict[str, Any]


def step_line(
    step: int, epoch: int, figures: Mapping[str, float], optimizer: Optimizer, model: OVSDINO
) -> Line:
    """Return a step's line of the journal, which is JSON.

    Args:
        step: how many were taken, this one included.
        epoch: from 0 on.
        figures: losses and the norm of the gradient; None is written for those that are not finite.
        optimizer: gives the rates.
        model: gives what it learns besides matrices: gamma, alpha, scale, bias.
    """
    line: Line = {"kind": "step", "step": step, "epoch": epoch}
    # JSON knows no NaN.
    line |= {name: value if math.isfinite(value) else None for name, value in figures.items()}
    line["lr"] = {group["name"]: group["lr"] for group in optimizer.param_groups}
    return line | {name: parameter.detach().tolist() for name, parameter in scalar_parameters(model).items()}


def checkpoint_info(
    config: TrainConfig, prepared: Prepared, *, epochs: int, steps: int, miou: float | None, processes: int
) -> CheckpointInfo:
    """Return what a checkpoint says of its model and of how it was made.

    Args:
        config: what was to be done.
        prepared: model, backbone, data and text of the training.
        epochs: how many are done.
        steps: how many are done.
        miou: the validation mIoU in [0, 1]; None without one.
        processes: how many trained together.
    """
    weights, model = prepared.weights, prepared.objective.model
    backbone = None
    if weights is not None:
        backbone = BackboneInfo(name=weights.name, source=weights.source, fingerprint=weights.fingerprint)
    return CheckpointInfo(
        model=model.config,
        backbone=backbone,
        complete=config.self_contained or model.config.whole_backbone,
        trained_names=prepared.trained_names,
        text_model=prepared.text_model,
        training={
            "command": config.command,
            # What was built: alignment needs a teacher, and the text vectors give the size.
            "settings": config.recorded() | {"model": model.config.to_dict()},
            "text": prepared.text,
            "processes": processes,
            "images": len(prepared.training),
            "epochs_done": epochs,
            "steps_done": steps,
            "val_miou": miou,
            "scalars": {name: value.tolist() for name, value in scalar_parameters(model).items()},
        },
    )
