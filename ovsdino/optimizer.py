"""Which parameters learn at which rate, how the rates change, and the step itself (sec. 5.1)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ovsdino.model import OVSDINO
from ovsdino.muon import Muon
from ovsdino.settings import TrainConfig
from ovsdino_runtime.errors import TrainingError

_LEAST_SIDE = 16  # of a matrix that Muon turns
_SUFFIX = {0: "", 1: " (Muon)", 3: " (Muon, qkv)"}  # of a group's name, by what its parameters consist of
_MOST_LEFT_OUT = 10  # steps in a row without a finite gradient


def scalar_parameters(model: OVSDINO) -> dict[str, nn.Parameter]:
    """Return γ (eq. 14), α (eq. 7), score scale and bias by name; γ and α only where they exist."""
    found = {"scale": model.score_scale, "bias": model.score_bias}
    if model.decoder is not None and model.decoder.gate is not None:
        found["gamma"] = model.decoder.gate.gamma
    if model.encoder is not None:
        found["alpha"] = model.encoder.fusion.alpha
    return found


def create_optimizer(model: OVSDINO, config: TrainConfig) -> torch.optim.AdamW:
    """Return the optimizer over all that trains: AdamW, or Muon for its matrices.

    Its groups are the heads (encoder, decoder, projector), the unfrozen blocks, and the scalars.
    Ours: the scalars have a rate of their own and no weight decay; at the heads' rate Adam could
    not move them within a training. With Muon the matrices of heads and blocks are groups of their own.
    """
    scalars = list(scalar_parameters(model).values())
    own = {id(parameter) for parameter in scalars}
    within = [] if model.backbone is None else list(model.backbone.named_parameters())
    blocks = {name: parameter for name, parameter in within if parameter.requires_grad}
    own |= {id(parameter) for parameter in blocks.values()}
    heads = {name: p for name, p in model.named_parameters() if p.requires_grad and id(p) not in own}
    groups: list[dict[str, Any]] = []
    for title, parameters, rate in (("heads", heads, config.lr_heads), ("blocks", blocks, config.lr_blocks)):
        by_parts: dict[int, list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            parts = _parts(name, parameter) if config.optimizer == "muon" else 0
            by_parts.setdefault(parts, []).append(parameter)
        for parts, members in sorted(by_parts.items()):
            name = f"{title}{_SUFFIX[parts]}"
            groups.append({"name": name, "params": members, "lr": rate, "parts": parts})
    groups.append({"name": "scalars", "params": scalars, "lr": config.lr_scalars, "weight_decay": 0.0})
    groups = [group | {"base_lr": group["lr"]} for group in groups]
    kind = Muon if config.optimizer == "muon" else torch.optim.AdamW
    return kind(groups, weight_decay=config.weight_decay)


def _parts(name: str, parameter: nn.Parameter) -> int:
    """Return of how many matrices a parameter consists for Muon: three where it makes q, k and v; 0 for none.

    What has few rows or columns is better off with AdamW: biases, norms, depthwise kernels.
    """
    if parameter.ndim not in (2, 4) or min(len(parameter), parameter[0].numel()) < _LEAST_SIDE:
        return 0
    return 3 if name.endswith("qkv.weight") else 1


def rate_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the factor on every rate: a linear warm-up to 1, then a half cosine to 0.

    Args:
        step: 0-based.
        warmup_steps: steps of the warm-up; the last of them runs at the full rate.
        total_steps: steps of the training.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its own base times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class Stepper:
    """Takes an optimizer's steps, and leaves out those whose gradient is not finite.

    Ours: such a gradient would destroy the weights. Its norm is the same in every process, and so is
    the decision.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, clip: float) -> None:
        """Watch an optimizer.

        Args:
            optimizer: whose steps to take.
            clip: the largest norm of a gradient; 0 for no limit.
        """
        self.optimizer = optimizer
        self.clip = clip
        self.left_out = 0  # in a row

    def step(self) -> float:
        """Take a step and return the gradient's norm before clipping; NaN if the step was left out.

        Raises:
            TrainingError: it has been left out too often in a row.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        parameters = [parameter for parameter in parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        if not torch.isfinite(norm):
            self.left_out += 1
            if self.left_out >= _MOST_LEFT_OUT:
                raise TrainingError(
                    f"the gradient was not finite in {self.left_out} steps in a row; train with a "
                    "lower --lr, with --grad-clip 1 or --precision fp32"
                )
            return float("nan")
        self.left_out = 0
        if self.clip:
            nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        self.optimizer.step()
        return float(norm)
