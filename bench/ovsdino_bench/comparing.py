"""What changed from one report to another, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ovsdino_bench.documents import Document, read_document
from ovsdino_bench.latency_report import engine_times
from ovsdino_bench.spread import median_ratio_interval, summary
from ovsdino_runtime.errors import DataError

METHOD = (
    "ratio of the medians of the raw observations; 95 % percentile bootstrap, both runs drawn apart, 4000 "
    "draws; more than noise if the interval leaves out 1, which says nothing of drift between the runs"
)


END_TO_END = "end to end"
_ENGINE = {"with_transfers": "engine with transfers", "without_transfers": "engine without transfers"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What changed in one way: end to end on one size, or in its engine's own time of one batch.

    Attributes:
        way: its name.
        what: "end to end", "engine with transfers" or "engine without transfers".
        size_hw: the picture's size; None for engines.
        batch: windows in a batch; None end to end.
        before_ms: median before.
        after_ms: median after.
        interval_95: of after / before.
        beyond_noise: whether 1 is outside the interval; None where a run is marked, whose noise is unknown.
    """

    way: str
    what: str
    size_hw: tuple[int, int] | None
    batch: int | None
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
                f"{before} and {after} have no way on the same size and no engine of the same batch "
                "in common; time the same ways"
            )
        return [asdict(item) for item in changes], _latency_text(changes, _cautions(first, second))
    rows = _parity_rows(first, second)
    if not rows:
        raise DataError(f"{before} and {after} have no form in common; measure the same forms")
    return rows, _parity_text(rows)


def latency_changes(before: Document, after: Document) -> list[Change]:
    """Return what changed in every way and size that both reports have, then in engines' times by batch."""
    marked = bool(before["marks"] or after["marks"])
    found = []
    for one, other in _in_both(before["timed"], after["timed"], lambda item: (item["way"], *item["size_hw"])):
        values = [item["stages"]["total"]["observations_ms"] for item in (one, other)]
        height, width = other["size_hw"]
        found.append(_change(values, marked, other["way"], END_TO_END, size_hw=(height, width)))
    for one, other in _engines_in_both(before, after):
        for figure, what in _ENGINE.items():
            values = [item[figure]["observations_ms"] for item in (one, other)]
            found.append(_change(values, marked, other["way"], what, batch=other["batch"]))
    return found


def _in_both(
    before: Sequence[Document], after: Sequence[Document], key: Callable[[Document], tuple[Any, ...]]
) -> list[tuple[Document, Document]]:
    """Return the items of the same key, in the order of the later report."""
    earlier = {key(item): item for item in before}
    return [(earlier[key(item)], item) for item in after if key(item) in earlier]


def _engines_in_both(before: Document, after: Document) -> list[tuple[Document, Document]]:
    return _in_both(engine_times(before), engine_times(after), lambda item: (item["way"], item["batch"]))


def _change(
    values: Sequence[Sequence[float]],
    marked: bool,
    way: str,
    what: str,
    *,
    size_hw: tuple[int, int] | None = None,
    batch: int | None = None,
) -> Change:
    before, after = values
    low, high = median_ratio_interval(before, after)
    return Change(
        way=way,
        what=what,
        size_hw=size_hw,
        batch=batch,
        before_ms=summary(before)["p50"],
        after_ms=summary(after)["p50"],
        interval_95=(low, high),
        beyond_noise=None if marked else not low <= 1 <= high,
    )


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
    if any(
        one.get("cuda_graph") != other.get("cuda_graph") for one, other in _engines_in_both(before, after)
    ):
        found.append("one of two engines ran as a CUDA graph, the other did not")
    return found


def _latency_text(changes: Sequence[Change], cautions: Sequence[str]) -> str:
    lines = []
    for item in changes:
        low, high = item.interval_95
        if item.size_hw is None:
            where = f"{item.what}, batch {item.batch}"
        else:
            where = f"{item.size_hw[1]}x{item.size_hw[0]}"
        verdict = "within the noise"
        if item.beyond_noise is None:
            verdict = "undecided, a run is marked"
        if item.beyond_noise:
            verdict = "slower, more than noise" if low > 1 else "faster, more than noise"
        lines.append(
            f"{item.way} {where}: {item.before_ms:.2f} -> {item.after_ms:.2f} ms, "
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
