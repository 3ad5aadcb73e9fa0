"""Running a training for a person: progress on stderr, the checkpoints and what comes next on stdout."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

from ovsdino_runtime.extras import needing

if TYPE_CHECKING:
    from ovsdino.settings import TrainConfig


_SETTING = {"lr": "lr_heads", "crop_scale": "scale"}  # of options that are called otherwise


def settings_of(options: Mapping[str, Any], **own: Any) -> TrainConfig:
    """Return the settings of a training from a command's options.

    Args:
        options: by parameter name. Those that are settings of a training or of its augmentation are taken, by
            their names.
        own: what the command makes of its other options, and settings that it does not leave open.

    Raises:
        ValueError: a setting is out of range, or two of them exclude each other.
    """
    from ovsdino.data.augment import Augmentation  # noqa: PLC0415 - torch loads slowly
    from ovsdino.settings import TrainConfig  # noqa: PLC0415

    values = {_SETTING.get(name, name): _plain(value) for name, value in options.items()}
    named = {item.name for item in fields(TrainConfig)} & values.keys() - own.keys()
    views = Augmentation(**{item.name: values[item.name] for item in fields(Augmentation)})
    chosen = {name: values[name] for name in named}
    return TrainConfig(**chosen, augmentation=views, command=command_line(), **own)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return tuple(value) if isinstance(value, list) else value


def command_line() -> str:
    """Return the command this process was started with, for the record."""
    return shlex.join(["ovsdino-train", *sys.argv[1:]])


def train(settings: TrainConfig) -> None:
    """Train, and say where the checkpoints lie.

    Raises:
        OvsDinoError: see `ovsdino.trainer.fit`.
    """
    with needing("train", "training"):
        from ovsdino.progress import STATE  # noqa: PLC0415 - torch loads slowly
        from ovsdino.trainer import fit  # noqa: PLC0415

    try:
        result = fit(settings, say=lambda sentence: typer.echo(sentence, err=True))
    except KeyboardInterrupt:
        if (settings.out / STATE).exists():
            typer.echo("interrupted; the same command with --resume goes on", err=True)
        else:
            typer.echo("interrupted before a state was saved; the same command begins again", err=True)
        raise typer.Exit(130) from None
    if not result.main:
        return
    reached = "" if result.best_miou is None else f" (validation mIoU {100 * result.best_miou:.1f})"
    typer.echo(f"best checkpoint: {result.best}{reached}")
    typer.echo(f"last checkpoint: {result.last}")
    typer.echo(f"next: ovsdino-export onnx {shlex.quote(str(result.best))} --out BUNDLE")
