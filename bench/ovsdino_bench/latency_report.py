"""A report of latency: the figures, their observations, and what else the machine did; and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ovsdino_bench.documents import SCHEMAS, Document
from ovsdino_bench.failures import failure_lines
from ovsdino_bench.latency import Timed, ratios_to_the_first
from ovsdino_bench.spread import summary
from ovsdino_bench.telemetry import Telemetry
from ovsdino_bench.ways import STAGES

_INCLUDES = (
    "total is decode to write, text included; backbone includes copies to and from a GPU, since features "
    "are NumPy arrays"
)
_ENGINES = (
    "engine times are by the GPU's own clock, in rounds of their own: with transfers from the start of the "
    "upload to the end of the download, without them the enqueued engine alone"
)


def latency_report(
    *,
    timed: Sequence[Timed],
    throughput: Sequence[Mapping[str, Any]],
    engines: Sequence[Mapping[str, Any]],
    cold: Mapping[str, Sequence[Mapping[str, Any]]],
    telemetry: Telemetry,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the report as JSON takes it.

    Args:
        timed: every way on every size.
        throughput: of `time_batches`.
        engines: of `time_engines`; empty where TensorRT did not run.
        cold: fresh processes by way.
        telemetry: what else the machine did.
        facts: the command, the machine, hashes, what failed.
    """
    used = [sample.used_bytes for sample in telemetry.gpu]
    return {
        "kind": "latency",
        "schema": SCHEMAS["latency"],
        **facts,
        "includes": f"{_INCLUDES}; {_ENGINES}" if engines else _INCLUDES,
        "marks": telemetry.marks(),
        "timed": [item.as_dict() for item in timed],
        "ratios": ratios_to_the_first(timed),
        "throughput": [dict(item) for item in throughput],
        "engine_times": [dict(item) for item in engines],
        "cold_start": {name: _cold(starts) for name, starts in cold.items() if starts},
        "peak_device_bytes_of_all": max(used) if used else None,
        "telemetry": telemetry.as_dict(),
    }


def latency_table(report: Document) -> str:
    """Return a report as Markdown: end to end, stages, throughput, cold start, agreement, marks, failures."""
    lines = [f"**marked: {mark}**" for mark in report["marks"]]
    ratios = {(item["way"], *item["size_hw"]): item for item in report["ratios"]}
    lines += ["", "| size | way | p50 ms | p95 | min–max | times the first, median (min–max) |"]
    lines += ["|---|---|---|---|---|---|"]
    for item in report["timed"]:
        total = item["stages"]["total"]
        ratio = ratios.get((item["way"], *item["size_hw"]))
        shown = "1" if ratio is None else f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"
        lines.append(
            f"| {_size(item)} | {item['way']} | {total['p50']:.1f} | {total['p95']:.1f} | "
            f"{total['min']:.1f}–{total['max']:.1f} | {shown} |"
        )
    stages = [stage for stage in STAGES if stage != "total"]
    lines += ["", "| size | way, p50 ms | " + " | ".join(stages) + " |", "|---|---|" + "---|" * len(stages)]
    for item in report["timed"]:
        cells = " | ".join(f"{item['stages'][stage]['p50']:.1f}" for stage in stages)
        lines.append(f"| {_size(item)} | {item['way']} | {cells} |")
    if report["throughput"]:
        lines += ["", *_throughput(report)]
    if report["cold_start"]:
        lines += ["", "| way | cold start ms | of it opening | peak host MB |", "|---|---|---|---|"]
        for name, found in report["cold_start"].items():
            peak = found["peak_host_bytes"]
            memory = "-" if peak is None else f"{peak / 1e6:.0f}"
            lines.append(f"| {name} | {found['total_ms']:.0f} | {found['open_ms']:.0f} | {memory} |")
    if report.get("agreement") is not None:
        lines += ["", *_agreement(report["agreement"])]
    lines += [
        "",
        f"{report['runs']} rounds in turn after {report['warmup']} of warm-up; {report['includes']}.",
        *failure_lines(report),
    ]
    return "\n".join(lines).strip()


def _throughput(report: Document) -> list[str]:
    """Return the table of batches, with the engines' own times beside the backbone's where there are any."""
    engines = {(item["way"], item["batch"]): item for item in engine_times(report)}
    head = ["way", "batch", "windows/s"]
    if engines:
        head += ["backbone, p50 ms", "engine with transfers", "engine without"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for item in report["throughput"]:
        cells = [item["way"], str(item["batch"]), f"{item['windows_per_s'] or 0:.2f}"]
        if engines:
            own = engines.get((item["way"], item["batch"]))
            cells.append(f"{item['p50']:.3f}")
            cells += [
                "-" if own is None else f"{own[kind]['p50']:.3f}"
                for kind in ("with_transfers", "without_transfers")
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _agreement(found: Mapping[str, Any]) -> list[str]:
    """Return the table of what was held against PyTorch's recorded features before it was timed."""
    lines = [f"| way | labels as PyTorch's, {found['images']} images | cosine, mean |", "|---|---|---|"]
    return lines + [
        f"| {item['way']} | {100 * item['label_agreement']:.4f} % | {_cosine(item['cosine_mean'])} |"
        for item in found["ways"]
    ]


def _cosine(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.7f}"


def engine_times(report: Document) -> Sequence[Mapping[str, Any]]:
    """Return the engines' own times of a report; earlier reports have none."""
    found: Sequence[Mapping[str, Any]] = report.get("engine_times", ())
    return found


def _cold(starts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    peaks = [item["peak_host_bytes"] for item in starts if item["peak_host_bytes"] is not None]
    middle = {
        name: round(summary([item[name] for item in starts])["p50"], 1)
        for name in ("total_ms", "open_ms", "first_image_ms")
    }
    return {
        **middle,
        "peak_host_bytes": max(peaks) if peaks else None,
        "observations": [dict(item) for item in starts],
    }


def _size(item: Mapping[str, Any]) -> str:
    height, width = item["size_hw"]
    return f"{width}x{height}"
