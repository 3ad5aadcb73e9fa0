"""Plots as SVG text that stands inside a page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

_COLOURS = ("#2f6fde", "#e07b39", "#3a9d5d", "#a05bc2", "#c9444a", "#5f6b7a")
_ROW_INCHES, _WIDTH_INCHES = 0.3, 8.5
_PROLOGUE = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)


def bars(rows: Sequence[str], columns: Mapping[str, Sequence[float | None]], unit: str) -> str:
    """Return horizontal bars, a group for each row and a colour for each column, as SVG text.

    Args:
        rows: what the groups are called, the first on top.
        columns: values by column, one for each row; None where there is none.
        unit: what the axis says.
    """
    share = 0.8 / max(1, len(columns))
    height = 1.0 + _ROW_INCHES * len(rows) * max(1.0, 0.6 * len(columns))
    figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, values) in enumerate(columns.items()):
        offsets = [row - 0.4 + share * (place + 0.5) for row in range(len(rows))]
        drawn = [0.0 if value is None else value for value in values]
        axes.barh(offsets, drawn, share * 0.92, label=name, color=_COLOURS[place % len(_COLOURS)])
        for offset, value in zip(offsets, values, strict=True):
            if value is not None:
                axes.annotate(f" {value:.1f}", (value, offset), va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), labels=list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(unit)
    axes.margins(x=0.08)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(columns) > 1:
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    """Return a figure as SVG that takes the page's colour for text and lines, and holds no date."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ovsdino", "font.family": "sans-serif"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = _METADATA.sub("", _PROLOGUE.sub("", buffer.getvalue()))
    # What matplotlib draws in black is the page's own colour, light or dark.
    return text.replace("#000000", "currentColor").replace("<svg ", '<svg role="img" ', 1)
