"""Reports that were cut, edited or are of something else."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ovsdino_bench.comparing import compare_files
from ovsdino_bench.paper import beside_the_paper
from ovsdino_bench.report import read_reports
from ovsdino_bench.short_table import short_table
from ovsdino_bench.tables import markdown
from ovsdino_runtime.errors import DataError
from tests.bench.made_reports import engine, latency, parity

ROOT = Path(__file__).parents[2]


def _places(value: object, before: tuple = ()) -> Iterator[tuple]:
    """Yield the way to everything in a report, of a list to its first item."""
    items: list = []
    if isinstance(value, dict):
        items = list(value.items())[:20]
    elif isinstance(value, list):
        items = list(enumerate(value))[:1]
    for key, item in items:
        yield (*before, key)
        yield from _places(item, (*before, key))


def _damaged(report: dict) -> Iterator[dict]:
    """Yield the report with something in it gone, or in place of it what does not belong there."""
    for *before, last in _places(report):
        for wrong in (None, "x", [], "gone"):
            changed = copy.deepcopy(report)
            inside: Any = changed
            for key in before:
                inside = inside[key]
            if wrong == "gone":
                del inside[last]
            else:
                inside[last] = wrong
            yield changed


def _accuracy() -> dict:
    """A real report of accuracy, of one class so that it is small."""
    report: dict = json.loads((ROOT / "bench" / "results" / "ovsdino-nano" / "camvid.json").read_text())
    for backend in report["backends"]:
        for name in ("iou", "boundary_f", "taken_for"):
            backend[name] = dict(list(backend[name].items())[:1])
    report["question"]["prompts"] = {"sky": ["sky"]}
    report["machines"] = []
    return report


@pytest.mark.parametrize("benchmark", ["camvid", "ade20k"])
def test_damage_anywhere_in_a_report_of_accuracy_is_one_clear_error(write: Callable, benchmark: str) -> None:
    for changed in _damaged({**_accuracy(), "benchmark": benchmark}):
        path = write("damaged.json", changed)
        for read in (
            lambda path: short_table([path]),
            lambda path: markdown([("x", item) for item in read_reports(path)]),
            lambda path: beside_the_paper(read_reports(path)),
        ):
            with contextlib.suppress(DataError):
                read(path)  # anything else that it raises fails the test


@pytest.mark.parametrize("kind", ["latency", "parity"])
def test_damage_anywhere_in_a_report_is_one_clear_error(write: Callable, kind: str) -> None:
    report = parity(0.9)
    if kind == "latency":
        report = latency(engines=[engine("B", 1, 2.0, 3.0)])
        report.update(timed=report["timed"][:1], telemetry={})
        for figures in report["timed"][0]["stages"].values():
            figures["observations_ms"] = figures["observations_ms"][:2]
    whole = write("whole.json", report)
    for changed in _damaged(report):
        path = write("damaged.json", changed)
        with contextlib.suppress(DataError):
            short_table([path])
        with contextlib.suppress(DataError):
            compare_files(whole, path)


def test_the_error_says_where_the_damage_is(write: Callable) -> None:
    accuracy = _accuracy()
    del accuracy["backends"][0]["miou_interval_95"][1]
    with pytest.raises(DataError, match=r"backends\[0\].miou_interval_95 has 1 items in place of 2"):
        read_reports(write("a.json", accuracy))
