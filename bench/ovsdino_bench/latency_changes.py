"""What changed from one report of latency to another, and whether it is more than noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovsdino_bench.documents import Document
from ovsdino_bench.latency_report import engine_times
from ovsdino_bench.spread import median_ratio_interval, summary
from ovsdino_bench.ways import STAGES

METHOD = (
    "ratio of the medians of the raw observations; 95 % percentile bootstrap, both runs drawn apart, 4000 "
    "draws; more than noise if the interval leaves out 1, which says nothing of drift between the runs; each "
    "line is by itself, and of twenty without any change one is outside by chance"
)
MARKED, TOO_FEW = "a run is marked", "too few observations"
_CHANCE = 0.05  # of a verdict where nothing changed
_END_TO_END, _THROUGHPUT = "end to end", "throughput"
_ENGINE = {"with_transfers": "engine with transfers", "without_transfers": "engine without transfers"}
_COLD = {"total_ms": "cold start", "open_ms": "cold start, opening"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What changed in one time of one way.

    Attributes:
        way: its name.
        what: "end to end", a stage, "throughput" (the time of a batch), "engine with transfers", "engine
            without transfers", "cold start" or "cold start, opening".
        size_hw: the picture's size, end to end and of stages.
        batch: windows in a batch, of throughput and engines.
        before_ms: median before.
        after_ms: median after.
        interval_95: of after / before.
        beyond_noise: whether 1 is outside the interval; None where that tells nothing.
        undecided: why it tells nothing; None where it does.
    """

    way: str
    what: str
    size_hw: tuple[int, int] | None = None
    batch: int | None = None
    before_ms: float
    after_ms: float
    interval_95: tuple[float, float]
    beyond_noise: bool | None
    undecided: str | None


def latency_changes(before: Document, after: Document) -> list[Change]:
    """Return what changed in whatever both reports have.

    End to end by way and size comes first, then the stages, throughput by batch, engines' times, cold start.
    """
    marked = bool(before["marks"] or after["marks"])
    found = []
    for what, one, other, where in _pairs(before, after):
        times = _positive(one), _positive(other)
        if times[0] and times[1]:
            found.append(_change(times[0], times[1], marked, what=what, **where))
    return found


def cautions(before: Document, after: Document) -> list[str]:
    """Return what makes a comparison doubtful."""
    found = [
        f"the run {when} is marked: {mark}"
        for when, report in (("before", before), ("after", after))
        for mark in report["marks"]
    ]
    machines = before.get("machine"), after.get("machine")
    if machines[0] != machines[1]:
        found.append(f"the machines or their packages differ{_in_what(*machines)}")
    if (before.get("image"), before.get("classes")) != (after.get("image"), after.get("classes")):
        found.append("the pictures or the classes differ")
    if any(
        one.get("cuda_graph") != other.get("cuda_graph")
        for one, other in _in_both(engine_times(before), engine_times(after), _way_and_batch)
    ):
        found.append("one of two engines ran as a CUDA graph, the other did not")
    return found


def latency_text(changes: Sequence[Change], doubts: Sequence[str]) -> str:
    """Return changes as text, a line each, with the method and what makes them doubtful."""
    lines = []
    for item in changes:
        low, high = item.interval_95
        verdict = "within the noise"
        if item.undecided is not None:
            verdict = f"undecided, {item.undecided}"
        elif item.beyond_noise:
            verdict = "slower, more than noise" if low > 1 else "faster, more than noise"
        lines.append(
            f"{item.way} {_where(item)}: {item.before_ms:.2f} -> {item.after_ms:.2f} ms{_rates(item)}, "
            f"x {item.after_ms / item.before_ms:.3f} (95 % interval {low:.3f} to {high:.3f}, {verdict})"
        )
    return "\n".join([*lines, METHOD, *(f"caution: {text}" for text in doubts)])


def _pairs(
    before: Document, after: Document
) -> Iterator[tuple[str, Sequence[float], Sequence[float], dict[str, Any]]]:
    """Yield what is in both reports: its name, the observations of each, way and size or batch."""
    timed = _in_both(before["timed"], after["timed"], lambda item: (item["way"], *item["size_hw"]))
    others = [(stage, stage) for stage in STAGES if stage != "total"]
    for names in ([("total", _END_TO_END)], others):
        for one, other in timed:
            where = {"way": other["way"], "size_hw": tuple(other["size_hw"])}
            for stage, what in names:
                first, second = one["stages"][stage], other["stages"][stage]
                yield what, _observed(first), _observed(second), where
    for one, other in _in_both(before["throughput"], after["throughput"], _way_and_batch):
        where = {"way": other["way"], "batch": other["batch"]}
        yield _THROUGHPUT, _observed(one), _observed(other), where
    for one, other in _in_both(engine_times(before), engine_times(after), _way_and_batch):
        where = {"way": other["way"], "batch": other["batch"]}
        for figure, what in _ENGINE.items():
            yield what, _observed(one[figure]), _observed(other[figure]), where
    for way, starts in after["cold_start"].items():
        earlier = before["cold_start"].get(way, {})
        for figure, what in _COLD.items():
            yield what, _of_starts(earlier, figure), _of_starts(starts, figure), {"way": way}


def _in_both(
    before: Sequence[Document], after: Sequence[Document], key: Callable[[Document], tuple[Any, ...]]
) -> list[tuple[Document, Document]]:
    """Return the items of the same key, in the order of the later report."""
    earlier = {key(item): item for item in before}
    return [(earlier[key(item)], item) for item in after if key(item) in earlier]


def _way_and_batch(item: Document) -> tuple[Any, ...]:
    return item["way"], item["batch"]


def _in_what(before: Any, after: Any) -> str:
    """Return in what two machines differ, as the end of a sentence."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return ""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return f": {', '.join(names)}"


def _observed(figures: Document) -> Sequence[float]:
    observations: Sequence[float] = figures.get("observations_ms", ())
    return observations


def _of_starts(found: Document, figure: str) -> Sequence[float]:
    return [start[figure] for start in found.get("observations", ())]


def _positive(values: Sequence[float]) -> list[float]:
    """Return some times; none where one is too short for the report's digits, since it has no ratio."""
    return [*values] if all(value > 0 for value in values) else []


def _change(before: Sequence[float], after: Sequence[float], marked: bool, **where: Any) -> Change:
    low, high = median_ratio_interval(before, after)
    # Where nothing changed, all of one run's times lie below the other's in 2 of so many orders: with 3 and
    # 3 times that is one in ten, and nothing can be told at the level of one in twenty.
    orders = math.comb(len(before) + len(after), len(before))
    undecided = MARKED if marked else TOO_FEW if 2 / orders > _CHANCE else None
    return Change(
        **where,
        before_ms=summary(before)["p50"],
        after_ms=summary(after)["p50"],
        interval_95=(low, high),
        beyond_noise=None if undecided is not None else not low <= 1 <= high,
        undecided=undecided,
    )


def _where(item: Change) -> str:
    if item.size_hw is not None:
        size = f"{item.size_hw[1]}x{item.size_hw[0]}"
        return size if item.what == _END_TO_END else f"{size}, {item.what}"
    return item.what if item.batch is None else f"{item.what}, batch {item.batch}"


def _rates(item: Change) -> str:
    if item.what != _THROUGHPUT or item.batch is None:
        return ""
    rates = [1000 * item.batch / value for value in (item.before_ms, item.after_ms)]
    return f" ({rates[0]:.2f} -> {rates[1]:.2f} windows/s)"
