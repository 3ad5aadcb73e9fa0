"""What changed from one report to another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovsdino_bench.comparing import compare_files
from ovsdino_bench.latency_changes import Change, latency_changes
from ovsdino_runtime.errors import DataError
from tests.bench.made_reports import latency, parity

ROOT = Path(__file__).parents[2]


def of(before: dict, after: dict, *kinds: str) -> list[Change]:
    """The changes of some kinds."""
    return [item for item in latency_changes(before, after) if item.what.startswith(kinds)]


def test_a_change_is_told_from_noise_and_not_told_where_a_run_is_marked(write: Callable) -> None:
    before, after = latency(), latency(1.2, seed=1)
    same, slower = of(before, after, "end to end")
    assert same.beyond_noise is False
    assert slower.beyond_noise is True
    assert slower.interval_95[0] < 1.2 < slower.interval_95[1]
    files = write("a.json", before), write("b.json", after)
    assert "slower, more than noise" in compare_files(*files)[1]
    marked = write("c.json", latency(1.2, seed=1, load=9))
    _, text = compare_files(files[0], marked)
    assert "undecided, a run is marked" in text
    assert "caution: the run after is marked: busy" in text


def test_engines_are_compared_by_batch_in_their_own_time(write: Callable, bench: Callable) -> None:
    def run(*, with_ms: float, without_ms: float, batch: int = 2, graph: bool = True, **more: Any) -> dict:
        noise = np.random.default_rng(int(1000 * with_ms)).normal(1, 0.01, 30)
        figures = (("with_transfers", with_ms), ("without_transfers", without_ms))
        item = {kind: {"p50": ms, "observations_ms": [*(ms * noise)]} for kind, ms in figures}
        return latency(engines=[{"way": "T", "batch": batch, "cuda_graph": graph, **item}], **more)

    before = run(with_ms=5.0, without_ms=4.0)
    after = run(with_ms=5.001, without_ms=3.0)
    whole, alone = of(before, after, "engine")
    assert (whole.way, whole.what, whole.size_hw, whole.batch) == ("T", "engine with transfers", None, 2)
    assert whole.beyond_noise is False
    assert alone.what == "engine without transfers"
    assert alone.beyond_noise is True
    assert alone.interval_95[0] < 0.75 < alone.interval_95[1]
    files = write("a.json", before), write("b.json", after)
    text = bench("compare", *files).out
    assert "T engine without transfers, batch 2: " in text
    assert "faster, more than noise" in text
    assert "CUDA graph" not in text
    listed = json.loads(bench("compare", *files, "--json").out)
    assert [item["batch"] for item in listed if item["what"].startswith("engine")] == [2, 2]
    without_graph = write("c.json", run(with_ms=5.0, without_ms=3.0, graph=False))
    assert "caution: one of two engines ran as a CUDA graph" in bench("compare", files[0], without_graph).out
    assert of(before, run(with_ms=5.0, without_ms=3.0, batch=4), "engine") == [], "another batch"
    assert of(before, run(with_ms=5.0, without_ms=3.0, load=9), "engine")[-1].beyond_noise is None
    old = latency()
    del old["engine_times"]  # as reports were before
    assert of(old, after, "engine") == []
    assert len(of(old, after, "end to end")) == 2
    only = {**after, "timed": [], "cold_start": {}}
    assert len(latency_changes(before, only)) == 2, "engines in common are enough"


def test_stages_throughput_and_cold_starts_are_compared_each_by_itself(
    write: Callable, bench: Callable
) -> None:
    def run(seed: int, *, starts: int = 6, **factors: float) -> dict:
        random = np.random.default_rng(seed)

        def times(what: str, count: int = 30) -> list[float]:
            return [*(100 * factors.get(what, 1) * random.normal(1, 0.01, count))]

        report = latency(seed=seed)
        for item in report["timed"]:
            for stage, figures in item["stages"].items():
                if stage != "total":
                    figures["observations_ms"] = times(stage)
            item["stages"]["windows"]["observations_ms"][3] = 0.0  # too short for the report's digits
        for item in report["throughput"]:
            item["observations_ms"] = times(f"batch{item['batch']}")
        opening, whole = times("opening", starts), times("cold", starts)
        seen = [{"total_ms": two, "open_ms": one} for one, two in zip(opening, whole, strict=True)]
        report["cold_start"]["A"]["observations"] = seen
        return report

    before = run(0)
    after = run(1, backbone=1.1, batch2=0.9, cold=1.2)
    told = {(item.way, item.what, item.batch): item for item in latency_changes(before, after)}
    stages = {"decode", "resize", "backbone", "text", "merge", "write"}
    assert {what for way, what, _ in told if way == "A"} == {
        "end to end", *stages, "throughput", "cold start", "cold start, opening",
    }  # fmt: skip
    beyond = {key for key, item in told.items() if item.beyond_noise}
    assert beyond == {
        ("A", "backbone", None), ("<B>", "backbone", None), ("A", "throughput", 2), ("B", "throughput", 2),
        ("A", "cold start", None),
    }  # fmt: skip
    for key, factor in ((("A", "backbone", None), 1.1), (("A", "throughput", 2), 0.9)):
        low, high = told[key].interval_95
        assert low < factor < high
    text = bench("compare", write("a.json", before), write("b.json", after)).out
    (line,) = [line for line in text.splitlines() if line.startswith("A throughput, batch 2: ")]
    first, second = told["A", "throughput", 2].before_ms, told["A", "throughput", 2].after_ms
    assert f"({2000 / first:.2f} -> {2000 / second:.2f} windows/s), x 0.9" in line
    assert line.endswith("faster, more than noise)")
    assert "A 6x4, backbone: " in text
    assert "of twenty without any change one is outside by chance" in text

    # with three of each, one order in ten is as extreme by chance
    few = [
        item for item in latency_changes(run(0, starts=3), run(1, starts=3, cold=2)) if "cold" in item.what
    ]
    assert [(item.beyond_noise, item.undecided) for item in few] == [(None, "too few observations")] * 2
    four = latency_changes(run(0, starts=4), run(1, starts=4, cold=2))[-2]
    assert (four.what, four.beyond_noise) == ("cold start", True)
    shown = bench("compare", write("c.json", run(0, starts=3)), write("d.json", run(1, starts=3))).out
    assert shown.count("undecided, too few observations") == 2


def test_parity_is_compared_and_other_kinds_and_schemas_are_refused(write: Callable, bench: Callable) -> None:
    ours, theirs = write("a.json", parity(0.99)), write("b.json", parity(0.98))
    assert "label agreement 0.990000 -> 0.980000" in bench("compare", ours, theirs).out
    assert json.loads(bench("compare", ours, theirs, "--json").out)[0]["label_agreement"] == [0.99, 0.98]
    assert "note: the two are of" not in bench("compare", ours, theirs).out
    others = write("o.json", {**parity(1), "images": 7, "reference": {"sha256": "00"}})
    said = bench("compare", ours, others).out
    assert "note: the two are of different references\nnote: the two are of different numbers" in said
    for other, text in (
        (latency(), "is a report of parity, .* of latency"),
        ({**parity(1), "schema": 7}, "report of parity of schema 7, this version reads 1"),
        ({**latency(), "schema": "x"}, "report of latency of schema 'x'"),
        ({"kind": "weather"}, "is no report of accuracy, latency, parity"),
        ([1], "is no report"),
        ({"kind": "latency", "schema": 1, "timed": []}, "is damaged: it lacks 'ratios'"),
    ):
        with pytest.raises(DataError, match=text):
            compare_files(ours, write("other.json", other))
    ran = bench("compare", ours, ours.with_name("none.json"))
    assert ran.code == 1
    assert "cannot read the report" in ran.error
    assert len(ran.err.splitlines()) == 1
    accuracy = ROOT / "bench" / "results" / "camvid-val.json"
    with pytest.raises(DataError, match="--counts"):
        compare_files(accuracy, accuracy)
