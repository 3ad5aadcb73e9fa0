"""Several data sets in one run: one of which nothing can be measured costs the others nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ovsdino_bench.benchmark import open_benchmark
from ovsdino_bench.report import read_reports

if TYPE_CHECKING:
    from tests.bench.conftest import Ran, Tree

NOTHING = "ade20k: none of 3 images could be measured, the first because: cannot read"


@pytest.fixture
def given(prepared: Callable[[str], Tree], world_bundle: Path) -> tuple[Any, ...]:
    """A command over two benchmarks; no picture of the first can be read, and one of the second's."""
    trees = {name: prepared(name).folder for name in ("ade20k", "cityscapes")}
    for item in open_benchmark("ade20k", trees["ade20k"]).images:
        item.image.write_bytes(b"")
    open_benchmark("cityscapes", trees["cityscapes"]).images[1].image.write_bytes(b"no picture")
    options = [word for name, folder in trees.items() for word in ("--dataset", f"{name}={folder}")]
    return ("accuracy", "--bundle", world_bundle, *options)


def test_the_others_are_shown_and_written_and_the_run_fails(
    given: tuple[Any, ...], bench: Callable[..., Ran], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = bench(*given, "--out", out, "--json")
    assert done.code == 1
    (report,) = json.loads(done.out)["reports"]  # as where all of them are there
    assert (report["benchmark"], report["images"]) == ("cityscapes", 2)
    assert json.loads((out / "cityscapes.json").read_text()) == report
    assert not (out / "ade20k.json").exists()
    assert NOTHING in done.error
    assert done.error.endswith("; the other data sets are done")
    assert "error: 1 of 3 images could not be measured" in done.err
    (tmp_path / "printed.json").write_text(done.out)
    assert read_reports(tmp_path / "printed.json") == [report]


def test_their_tables_are_printed_under_their_names(
    given: tuple[Any, ...], bench: Callable[..., Ran]
) -> None:
    done = bench(*given)
    assert done.code == 1
    assert "cityscapes: cityscapes as downloaded" in done.out
    assert "ade20k" not in done.out
    assert NOTHING in done.error


def test_merged_shards_of_which_one_data_set_has_nothing_are_reported_too(
    given: tuple[Any, ...], bench: Callable[..., Ran], tmp_path: Path
) -> None:
    for number in (1, 2):
        bench(*given, "--out", tmp_path / "out", "--shard", f"{number}/2")
    merged = bench("merge", tmp_path / "out", "--out", tmp_path / "merged", "--json")
    assert merged.code == 1
    assert NOTHING in merged.error
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["cityscapes.json"]
    (report,) = json.loads(merged.out)["reports"]
    assert report["shards"] == 2
