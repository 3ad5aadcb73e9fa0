"""Figures as tables: text for a terminal, Markdown for documents."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ovsdino_bench.accuracy import Comparison
from ovsdino_bench.counts import Gain
from ovsdino_bench.report import Report
from ovsdino_runtime.errors import DataError


def accuracy_table(result: Comparison, block: int) -> str:
    """Return IoU and boundary F by class and backend, in percent.

    Args:
        result: what was measured.
        block: neighbouring images that count as one sample of the interval.
    """
    rows = [item.as_dict(block) for item in result.accuracies]
    lines = [_line("IoU (boundary F)", [row["backend"] for row in rows])]
    for name in result.accuracies[0].names:
        cells = [f"{_percent(row['iou'][name])} ({_percent(row['boundary_f'][name])})" for row in rows]
        lines.append(_line(name, cells))
    lines.append(_line("mean", [f"{_percent(r['miou'])} ({_percent(r['boundary_f_mean'])})" for r in rows]))
    intervals = [" to ".join(_percent(end) for end in row["miou_interval_95"]) for row in rows]
    lines.append(_line("95 % interval of mIoU", intervals))
    agreeing = [f"{100 * result.label_agreement[row['backend']]:.4f}" for row in rows]
    lines.append(_line("labels as in the first", agreeing))
    lines.append(f"percent, over {len(result.images)} images; intervals over runs of {block}")
    return "\n".join(lines)


def gain_table(found: Gain) -> str:
    """Return what changed in mIoU and by class, in points."""
    (first, second), (low, high) = found.miou, found.interval_95
    told = {True: "more than noise", False: "within the noise", None: f"too few for a verdict: {found.runs}"}
    verdict = told[found.beyond_noise]
    lines = [
        f"mIoU {100 * first:.2f} -> {100 * second:.2f}: {100 * (second - first):+.2f} "
        f"(95 % interval {100 * low:+.2f} to {100 * high:+.2f}, {verdict})"
    ]
    lines += [
        f"  {name:24} {100 * value:+7.2f}" if math.isfinite(value) else f"  {name:24} {'-':>7}"
        for name, value in found.iou.items()
    ]
    return "\n".join(lines)


def heading_of(stem: str, report: Report, beside: Sequence[Report]) -> str:
    """Return what a report's column is called: its file, and its benchmark if the file holds several."""
    return stem if len(beside) == 1 else f"{stem} {report.get('benchmark', '')}"


def markdown(reports: Sequence[tuple[str, Report]]) -> str:
    """Return reports side by side, a column each: IoU by class, boundary F, interval, learned scalars.

    Args:
        reports: heading and report of each; the last backend's figures are shown.

    Raises:
        DataError: their classes differ.
    """
    rows = [report["backends"][-1] for _, report in reports]
    names = list(rows[0]["iou"])
    for (heading, _), row in zip(reports, rows, strict=True):
        if list(row["iou"]) != names:
            raise DataError(f"{heading} has other classes than {reports[0][0]}; show them in two tables")
    scalars = [(report.get("model") or {}).get("scalars") or {} for _, report in reports]
    cells: dict[str, list[str]] = {name: [_percent(row["iou"][name]) for row in rows] for name in names}
    cells["**mIoU**"] = [f"**{_percent(row['miou'])}**" for row in rows]
    cells["95 % interval"] = ["–".join(_percent(end) for end in row["miou_interval_95"]) for row in rows]
    cells["boundary F"] = [_percent(row["boundary_f_mean"]) for row in rows]
    for symbol, name in (("γ", "gamma"), ("α", "alpha"), ("scale", "scale"), ("bias", "bias")):
        if any(name in item for item in scalars):
            cells[symbol] = [_number(item.get(name)) for item in scalars]
    lines = ["| |" + "|".join(f" {heading} " for heading, _ in reports) + "|"]
    lines.append("|---|" + "---|" * len(reports))
    lines += [f"| {name} |" + "|".join(f" {cell} " for cell in row) + "|" for name, row in cells.items()]
    return "\n".join(lines)


def _line(name: str, cells: Sequence[str]) -> str:
    return "  ".join([f"{name:24}", *(f"{cell:>20}" for cell in cells)])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _number(value: float | list[float] | None) -> str:
    if value is None:
        return "-"
    return ", ".join(f"{item:.2f}" for item in value) if isinstance(value, list) else f"{value:.2f}"
