"""A launch over the files of an earlier one: counts that are about to be measured again are not merged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ovsdino_bench import shards
from ovsdino_bench.benchmark import open_benchmark
from ovsdino_bench.runs import Run, load
from ovsdino_bench.shards import counted_with_failures, wait_for_shards

if TYPE_CHECKING:
    from tests.bench.conftest import Ran, Tree


@pytest.fixture
def given(prepared: Callable[[str], Tree], world_bundle: Path, tmp_path: Path) -> tuple[Any, ...]:
    """A command whose second of two shards has one picture, which cannot be read, and has counted it."""
    tree = prepared("ade20k")
    command = ("accuracy", "--bundle", world_bundle, "--dataset", f"ade20k={tree.folder}", "--json")
    return (*command, "--out", tmp_path / "out")


@pytest.fixture
def broken(given: tuple[Any, ...], bench: Callable[..., Ran]) -> tuple[Path, bytes]:
    """That picture, and what it holds when it is whole."""
    picture = open_benchmark("ade20k", Path(str(given[4]).partition("=")[2])).images[1].image
    whole = picture.read_bytes()
    picture.write_bytes(b"no picture")
    assert bench(*given, "--shard", "1/2").code == 0
    assert bench(*given, "--shard", "2/2").code == 1
    return picture, whole


def shard_file(given: tuple[Any, ...], number: int) -> Path:
    return Path(given[-1]) / f"ade20k.{number}-of-2.counts.jsonl"


def start(given: tuple[Any, ...], rank: int) -> subprocess.Popen[str]:
    """A process of a launch of two; where it would sleep for the other, it says so and reads a line."""
    program = f"""
import dataclasses, sys
from types import SimpleNamespace
from ovsdino_bench import shards
from ovsdino_bench.datasets import ADAPTERS
def sleep(seconds):
    print("waiting", flush=True)
    sys.stdin.readline()
shards.time = SimpleNamespace(monotonic=shards.time.monotonic, sleep=sleep)
ADAPTERS["ade20k"] = dataclasses.replace(ADAPTERS["ade20k"], published=(3,))
sys.argv = ["ovsdino-bench", *{[str(word) for word in given]!r}]
from ovsdino_bench.cli import main
main()
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_process_that_begins_late_is_waited_for_though_its_file_is_finished(
    given: tuple[Any, ...], broken: tuple[Path, bytes]
) -> None:
    picture, whole = broken
    picture.write_bytes(whole)
    first = start(given, 0)
    assert first.stdout is not None
    # Its own images are counted already: it has only the other's to wait for.
    assert first.stdout.readline() == "waiting\n", first.communicate()
    second = start(given, 1)
    ended = [process.communicate(timeout=120) for process in (second, first)]
    assert [first.returncode, second.returncode] == [0, 0], ended
    report = json.loads(ended[1][0])
    assert (report["images"], report["failed"]) == (3, [])


def run_of(given: tuple[Any, ...]) -> Run:
    return load(shard_file(given, 1)).run


def test_a_file_with_failures_is_taken_once_it_is_gone_on_with_or_nobody_comes(
    given: tuple[Any, ...], broken: tuple[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = Path(given[-1]), shard_file(given, 2)
    old = counted_with_failures(folder, run_of(given), 2)
    assert list(old) == [path], "the other has no failure"
    text = path.read_text()
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            path.write_text(text.splitlines(keepends=True)[0])  # it begins: the failed image is open again
        if len(naps) == 3:
            path.write_text(text)  # and failed again

    monkeypatch.setattr(shards.time, "sleep", sleep)
    assert path in wait_for_shards(folder, run_of(given), 2, old, grace_s=1e9)
    assert len(naps) == 3
    # nobody came: what is there is the result
    old = counted_with_failures(folder, run_of(given), 2)
    assert path in wait_for_shards(folder, run_of(given), 2, old, grace_s=0)
    assert len(naps) == 3
    # a damaged or an unfinished file is none to wait for in this way
    path.write_text("no counts\n")
    assert counted_with_failures(folder, run_of(given), 2) == {}
    path.write_text(text.splitlines(keepends=True)[0])
    assert counted_with_failures(folder, run_of(given), 2) == {}
