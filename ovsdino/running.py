"""Running a training for a person: progress on stderr, the checkpoints and what comes next on stdout."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import typer

from ovsdino_runtime.extras import needing

if TYPE_CHECKING:
    from ovsdino.settings import TrainConfig


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
