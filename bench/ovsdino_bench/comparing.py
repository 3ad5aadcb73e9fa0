"""What changed from one report to another, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ovsdino_bench.documents import Document, read_document
from ovsdino_bench.spread import median_ratio_interval, summary
from ovsdino_runtime.errors import DataError

METHOD = (
    "ratio of the medians of the raw observations; 95 % percentile bootstrap, both runs drawn apart, 4000 "
    "draws; more than noise if the interval leaves out 1, which says nothing of drift between the runs"
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What changed in one way on one size.

    Attributes:
        way: its name.
        size_hw: the picture's size.
        before_ms: median before.
        after_ms: median after.
        interval_95: of after / before.
        beyond_noise: whether 1 is outside the interval; None where a run is marked, whose noise is unknown.
    """

    way: str
    size_hw: tuple[int, int]
    before_ms: float
    after_ms: float
    interval_95: tuple[float, float]
    beyond_noise: bool | None


def compare_files(before: Path, after: Path) -> tuple[list[dict[str, Any]], str]:
    """Return what changed as JSON takes it, and as text.

    Raises:
        DataError: they are no reports of latency or parity, of different kinds, or have nothing in common.
    """
    (kind, (first, *_)), (other, (second, *_)) = read_document(before), read_document(after)
    if kind != other:
        raise DataError(f"{before} is a report of {kind}, {after} of {other}; compare two of one kind")
    if kind == "accuracy":
        raise DataError(
            f"{before} is a report of accuracy, which has no counts by image; compare "
            "what --counts wrote (.npz)"
        )
    if kind == "latency":
        changes = latency_changes(first, second)
        if not changes:
            raise DataError(
                f"{before} and {after} have no way on the same size in common; time the same ways"
            )
        return [asdict(item) for item in changes], _latency_text(changes, _cautions(first, second))
    rows = _parity_rows(first, second)
    if not rows:
        raise DataError(f"{before} and {after} have no form in common; measure the same forms")
    return rows, _parity_text(rows)


def latency_changes(before: Document, after: Document) -> list[Change]:
    """Return what changed in every way and size that both reports have, end to end."""
    earlier = {(item["way"], *item["size_hw"]): item for item in before["timed"]}
    marked = bool(before["marks"] or after["marks"])
    found = []
    for item in after["timed"]:
        match = earlier.get((item["way"], *item["size_hw"]))
        if match is None:
            continue
        values = [part["stages"]["total"]["observations_ms"] for part in (match, item)]
        low, high = median_ratio_interval(values[0], values[1])
        height, width = item["size_hw"]
        found.append(
            Change(
                way=item["way"],
                size_hw=(height, width),
                before_ms=summary(values[0])["p50"],
                after_ms=summary(values[1])["p50"],
                interval_95=(low, high),
                beyond_noise=None if marked else not low <= 1 <= high,
            )
        )
    return found


def _cautions(before: Document, after: Document) -> list[str]:
    """Return what makes a comparison doubtful."""
    found = [
        f"the run {when} is marked: {mark}"
        for when, report in (("before", before), ("after", after))
        for mark in report["marks"]
    ]
    if before.get("machine") != after.get("machine"):
        found.append("the machines or their packages differ")
    if (before.get("image"), before.get("classes")) != (after.get("image"), after.get("classes")):
        found.append("the pictures or the classes differ")
    return found


def _latency_text(changes: Sequence[Change], cautions: Sequence[str]) -> str:
    lines = []
    for item in changes:
        (low, high), (height, width) = item.interval_95, item.size_hw
        verdict = "within the noise"
        if item.beyond_noise is None:
            verdict = "undecided, a run is marked"
        if item.beyond_noise:
            verdict = "slower, more than noise" if low > 1 else "faster, more than noise"
        lines.append(
            f"{item.way} {width}x{height}: {item.before_ms:.2f} -> {item.after_ms:.2f} ms, "
            f"x {item.after_ms / item.before_ms:.3f} (95 % interval {low:.3f} to {high:.3f}, {verdict})"
        )
    return "\n".join([*lines, METHOD, *(f"caution: {text}" for text in cautions)])


def _parity_rows(before: Document, after: Document) -> list[dict[str, Any]]:
    earlier = {item["form"]: item for item in before["forms"]}
    fields = ("label_agreement", "cosine_mean", "cosine_p1", "delta_miou_points")
    return [
        {"form": item["form"], **{name: [earlier[item["form"]][name], item[name]] for name in fields}}
        for item in after["forms"]
        if item["form"] in earlier
    ]


def _parity_text(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        parts = [
            f"{name.replace('_', ' ')} {_figure(pair[0])} -> {_figure(pair[1])}"
            for name, pair in row.items()
            if name != "form"
        ]
        lines.append(f"{row['form']}: {'; '.join(parts)}")
    return "\n".join(
        [*lines, "parity has no repetitions to tell noise by: on the same images it repeats itself"]
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
