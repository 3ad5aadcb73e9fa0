"""How far a training has come, so that it goes on exactly where it stopped."""

from __future__ import annotations

import dataclasses
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovsdino.checkpoint import FULL_DISK, trained_tensors
from ovsdino.foundation import Foundation
from ovsdino.model import OVSDINO
from ovsdino.settings import TrainConfig
from ovsdino_runtime.errors import CheckpointError, OutputError
from ovsdino_runtime.files import atomic_file

STATE = "state.pt"
_TORN = (EOFError, ValueError, KeyError, IndexError, TypeError)  # what a cut-off file raises where it is cut


@dataclass
class Progress:
    """A training's position. Views, order and negatives follow from it: nothing else is random.

    Attributes:
        step: steps done.
        epochs: epochs done, which are measured and kept; the next one's steps may all be done too.
        best_miou: highest validation mIoU so far, in [0, 1].
        best_epoch: the 0-based epoch that reached it.
        tensors: what training changes; empty before the first step.
        optimizer: AdamW's state; empty before the first step.
        foundation: what the training stood on when it began; empty for a new one.
    """

    step: int = 0
    epochs: int = 0
    best_miou: float | None = None
    best_epoch: int | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    foundation: Foundation = field(default_factory=dict)

    def restore(self, model: OVSDINO, optimizer: torch.optim.Optimizer) -> None:
        """Put weights and the optimizer's state back.

        Raises:
            CheckpointError: they do not fit the model.
        """
        if set(self.tensors) != set(trained_tensors(model)):
            raise CheckpointError(f"{STATE} belongs to another model; train into another folder")
        try:
            model.load_state_dict(self.tensors, strict=False)
            optimizer.load_state_dict(self.optimizer)
        except (RuntimeError, ValueError, KeyError) as error:
            first = str(error).splitlines()[-1]
            raise CheckpointError(f"{STATE} belongs to another model ({first})") from error
        self.tensors, self.optimizer = {}, {}


def write_progress(
    config: TrainConfig,
    progress: Progress,
    foundation: Foundation,
    model: OVSDINO,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state; it appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    state = {
        "settings": json.dumps(config.recorded(), sort_keys=True),
        "foundation": json.dumps(dict(foundation), sort_keys=True),
        "step": progress.step,
        "epochs": progress.epochs,
        "best_miou": progress.best_miou,
        "best_epoch": progress.best_epoch,
        "tensors": trained_tensors(model),
        "optimizer": optimizer.state_dict(),
    }
    path = config.out / STATE
    with atomic_file(path) as staged:
        try:
            torch.save(state, staged)
        except RuntimeError as error:  # what torch makes of a full disk
            first = str(error).splitlines()[0]
            raise OutputError(f"cannot write {path}: {first}; {FULL_DISK}") from error


def read_progress(config: TrainConfig) -> Progress | None:
    """Return where the training in `config.out` stopped; None for a new one.

    Raises:
        OutputError: there is a training, but it was not asked to go on.
        CheckpointError: there is none to go on with, it is broken, or its settings were others.
    """
    path = config.out / STATE
    if not config.resume:
        if path.exists():
            raise OutputError(
                f"{config.out} holds a training already; pass --resume to go on with it, "
                "or choose another --out"
            )
        return None
    if not path.exists():
        raise CheckpointError(f"--resume was passed, but {path} does not exist; begin without it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before, now = _with_defaults(json.loads(state["settings"])), json.loads(json.dumps(config.recorded()))
        progress = Progress(
            int(state["step"]),
            int(state["epochs"]),
            state["best_miou"],
            state["best_epoch"],
            dict(state["tensors"]),
            dict(state["optimizer"]),
            dict(json.loads(state["foundation"])),
        )
    except (pickle.UnpicklingError, RuntimeError, OSError, *_TORN) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is no state of a training ({first}); begin again") from error
    for name in sorted(set(before) | set(now)):
        if before.get(name) != now.get(name):
            raise CheckpointError(
                f"the training in {config.out} has {name} {before.get(name)!r}, now it is {now.get(name)!r}; "
                "resume with the same settings, or train into another folder"
            )
    return progress


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return recorded settings with the defaults of those that did not exist when they were recorded."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(TrainConfig)
        if field.default is not dataclasses.MISSING
    }
    recorded = json.loads(json.dumps(TrainConfig(data=("",), out=Path()).recorded()))
    filled = {name: defaults[name] for name in recorded if name in defaults} | settings
    return {name: _filled(value, recorded.get(name)) for name, value in filled.items()}


def _filled(value: Any, default: Any) -> Any:
    """Return a group of settings with those that it lacks, as the augmentation's."""
    return default | value if isinstance(value, dict) and isinstance(default, dict) else value
