"""Plots of reports as SVG text for a page; needs matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from ovsdino_bench.documents import Document
from ovsdino_bench.latency_report import engine_times
from ovsdino_bench.ways import STAGES

_INK = "#123456"  # stands for the page's own text colour, light or dark
_COLOURS = ("#3b7dd8", "#e07b39", "#3a9d6e", "#b0559f", "#c9a227", "#7a7f87", "#cf4f4f")
_WIDTH_IN = 6.4
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def latency_plots(report: Document, name: str) -> list[tuple[str, str]]:
    """Return captions and SVG texts: distribution, stages, and throughput and engines where measured.

    Args:
        report: of latency.
        name: tells this report's plots from others in one page.
    """
    timed = report["timed"]
    labels = [f"{item['way']}\n{item['size_hw'][1]}x{item['size_hw'][0]}" for item in timed]
    plots = [
        ("End to end, milliseconds: every run is a dot, the line is the median", _dots(timed, labels, name)),
        ("Median of every stage, milliseconds", _bars(timed, labels, name)),
    ]
    if report["throughput"]:
        plots.append(("Windows a second by windows in a batch", _curves(report["throughput"], name)))
    engines = engine_times(report)
    if engines:
        caption = "TensorRT by the GPU's own clock, median milliseconds a batch, and what transfers add"
        plots.append((caption, _engines(engines, name)))
    return plots


def iou_plot(report: Document, name: str) -> tuple[str, str]:
    """Return caption and SVG text of the IoU by class of a report of accuracy."""
    backends = report["backends"]
    names = list(backends[0]["iou"])
    figure, axes = _figure(0.32 * len(names) * max(1, len(backends) / 2) + 1)
    high = 0.8 / len(backends)
    for place, backend in enumerate(backends):
        values = [100 * (backend["iou"][item] or 0) for item in names]
        rows = [row + (place - (len(backends) - 1) / 2) * high for row in range(len(names))]
        axes.barh(rows, values, high, color=_COLOURS[place % len(_COLOURS)], label=backend["backend"])
    _rows(axes, names)
    axes.set_xlim(0, 100)
    _legend(axes, len(backends))
    return "IoU by class, percent", _svg(figure, f"{name}-iou")


def _dots(timed: Sequence[Any], labels: Sequence[str], name: str) -> str:
    figure, axes = _figure(0.55 * len(timed) + 0.8)
    ways = list(dict.fromkeys(item["way"] for item in timed))
    for row, item in enumerate(timed):
        total, colour = item["stages"]["total"], _COLOURS[ways.index(item["way"]) % len(_COLOURS)]
        values = total["observations_ms"]
        heights = [row + 0.18 * ((place * 7) % 5 - 2) / 2 for place in range(len(values))]
        axes.scatter(values, heights, s=14, color=colour, alpha=0.6, linewidths=0)
        axes.vlines(total["p50"], row - 0.32, row + 0.32, color=_INK, linewidth=1.6)
    _rows(axes, labels)
    axes.set_xlim(left=0)
    return _svg(figure, f"{name}-dots")


def _bars(timed: Sequence[Any], labels: Sequence[str], name: str) -> str:
    figure, axes = _figure(0.5 * len(timed) + 1.2)
    ends = [0.0] * len(timed)
    stages = [stage for stage in STAGES if stage != "total"]
    for place, stage in enumerate(stages):
        values = [item["stages"][stage]["p50"] for item in timed]
        axes.barh(range(len(timed)), values, 0.6, left=ends, color=_COLOURS[place], label=stage)
        ends = [end + value for end, value in zip(ends, values, strict=True)]
    _rows(axes, labels)
    _legend(axes, len(stages))
    return _svg(figure, f"{name}-bars")


def _curves(throughput: Sequence[Any], name: str) -> str:
    figure, axes = _figure(3)
    ways = list(dict.fromkeys(item["way"] for item in throughput))
    for place, way in enumerate(ways):
        points = [(item["batch"], item["windows_per_s"] or 0) for item in throughput if item["way"] == way]
        batches, rates = zip(*points, strict=True)
        axes.plot(batches, rates, marker="o", color=_COLOURS[place % len(_COLOURS)], label=way)
    axes.set_xticks(sorted({item["batch"] for item in throughput}))
    axes.set_ylim(bottom=0)
    axes.grid(color=_INK, alpha=0.15)
    _legend(axes, len(ways))
    return _svg(figure, f"{name}-curves")


def _engines(engines: Sequence[Any], name: str) -> str:
    figure, axes = _figure(0.5 * len(engines) + 1.2)
    alone = [item["without_transfers"]["p50"] for item in engines]
    whole = [item["with_transfers"]["p50"] for item in engines]
    added = [more - less for more, less in zip(whole, alone, strict=True)]
    axes.barh(range(len(engines)), alone, 0.6, color=_COLOURS[0], label="engine")
    axes.barh(range(len(engines)), added, 0.6, left=alone, color=_COLOURS[1], label="transfers")
    _rows(axes, [f"{item['way']}\nbatch {item['batch']}" for item in engines])
    _legend(axes, 2)
    return _svg(figure, f"{name}-engines")


def _figure(height_in: float) -> tuple[Figure, Any]:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, max(height_in, 1.2)), layout="constrained")
        return figure, figure.add_subplot()


def _rows(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="x", color=_INK, alpha=0.15)
    axes.set_axisbelow(True)


def _legend(axes: Any, entries: int) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=min(4, entries), frameon=False, labelcolor=_INK,
        borderaxespad=0.2, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip


def _svg(figure: Figure, salt: str) -> str:
    """Return SVG that a page holds: its own text colour, ids of its own, no address of anything."""
    text = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"(id=\"|url\(#|href=\"#)", lambda match: f"{match[1]}{salt}-", svg)
    return re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg, count=1).replace(
        _INK, "currentColor"
    )
