"""What changed from one report to another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovsdino_bench.comparing import compare_files, latency_changes
from ovsdino_runtime.errors import DataError
from tests.bench.made_reports import latency, parity

ROOT = Path(__file__).parents[2]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, object], Path]:
    def call(name: str, document: object) -> Path:
        (tmp_path / name).write_text(json.dumps(document))
        return tmp_path / name

    return call


def test_a_change_is_told_from_noise_and_not_told_where_a_run_is_marked(write: Callable) -> None:
    before, after = latency(), latency(1.2, seed=1)
    same, slower = latency_changes(before, after)
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
    *_, whole, alone = latency_changes(before, after)
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
    assert [item["batch"] for item in listed] == [None, None, 2, 2]
    without_graph = write("c.json", run(with_ms=5.0, without_ms=3.0, graph=False))
    assert "caution: one of two engines ran as a CUDA graph" in bench("compare", files[0], without_graph).out
    assert len(latency_changes(before, run(with_ms=5.0, without_ms=3.0, batch=4))) == 2, "another batch"
    assert latency_changes(before, run(with_ms=5.0, without_ms=3.0, load=9))[-1].beyond_noise is None
    old = latency()
    del old["engine_times"]  # as reports were before
    assert len(latency_changes(old, after)) == 2
    only = {**after, "timed": []}
    assert len(latency_changes(before, only)) == 2, "engines in common are enough"


def test_parity_is_compared_and_other_kinds_and_schemas_are_refused(write: Callable, bench: Callable) -> None:
    ours, theirs = write("a.json", parity(0.99)), write("b.json", parity(0.98))
    assert "label agreement 0.990000 -> 0.980000" in bench("compare", ours, theirs).out
    assert json.loads(bench("compare", ours, theirs, "--json").out)[0]["label_agreement"] == [0.99, 0.98]
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
