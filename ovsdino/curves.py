"""The curves of a training as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure  # without pyplot: no window, no global state

from ovsdino_runtime.files import atomic_file

CURVES = "curves.png"
_LOSSES = ("loss", "align", "cosine", "mse", "seg", "dice", "bce", "cross_entropy", "distill")
_SCALARS = ("gamma", "scale", "bias")


def plot_curves(lines: Sequence[dict[str, Any]], target: Path) -> None:
    """Draw losses, rates, scalars and validation mIoU over the steps.

    Args:
        lines: a journal's lines.
        target: the PNG to write.

    Raises:
        OutputError: it cannot be written.
    """
    steps = [line for line in lines if line["kind"] == "step"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    at = [line["step"] for line in steps]
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "lines.linewidth": 1.2}):
        figure = Figure(figsize=(11, 7), layout="constrained")
        losses, rates, scalars, accuracy = figure.subplots(2, 2).flat
        for name in _LOSSES:
            if steps and name in steps[0]:
                losses.plot(at, [_number(line[name]) for line in steps], label=name)
        losses.set(title="losses", xlabel="step")
        losses.legend(ncols=2)
        for group in steps[0]["lr"] if steps else ():
            rates.semilogy(at, [max(line["lr"][group], 1e-12) for line in steps], label=group)
        rates.set(title="learning rates", xlabel="step")
        for name in _SCALARS:
            if steps and name in steps[0]:
                scalars.plot(at, [line[name] for line in steps], label=name)
        for place in range(len(steps[0].get("alpha", ())) if steps else 0):
            scalars.plot(at, [line["alpha"][place] for line in steps], "--", label=f"alpha {place + 1}")
        scalars.set(title="scalars", xlabel="step")
        measured = [line for line in epochs if line.get("val_miou") is not None]
        accuracy.plot([line["step"] for line in measured], [line["val_miou"] for line in measured], "o-")
        accuracy.set(title="validation mIoU (one window a photograph)", xlabel="step", ylim=(0, 1))
        for axes in (rates, scalars):
            if axes.get_legend_handles_labels()[0]:
                axes.legend(ncols=2)
        with atomic_file(target) as staged:
            figure.savefig(staged, dpi=110)


def _number(value: float | None) -> float:
    """Return NaN, which leaves a gap, for what was not finite."""
    return float("nan") if value is None else value
