"""What fails in a run of parity or latency costs only itself, and is told at the end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench import cold
from ovsdino_bench.cold import ColdStart
from ovsdino_bench.failures import Failures, failure_lines
from ovsdino_bench.forms import engine_hashes, runnable
from ovsdino_bench.latency import ratios_to_the_first, time_batches, time_ways
from ovsdino_bench.latency_report import latency_table
from ovsdino_bench.page import page_of
from ovsdino_bench.parity import Form, measure_parity
from ovsdino_bench.recorded import Recorded
from ovsdino_bench.ways import Way
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import IMAGE_GRAPH_FP16, Bundle
from ovsdino_runtime.bundle_writing import new_bundle
from ovsdino_runtime.errors import InferenceError
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.segmenter import Segmenter
from tests.bench.made_reports import latency, parity
from tests.standins.half_bundle import write_half_bundle
from tests.standins.plans import write_engine
from tests.standins.release import install


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "street.png")
    return tmp_path / "street.png"


@pytest.fixture
def unloadable(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle whose FP16 graph is none, as its hash says."""
    bundle = Bundle.open(tiny_bundle)
    with new_bundle(tmp_path / "unloadable", bundle.manifest) as staged:
        for name in bundle.manifest.files:
            shutil.copy(tiny_bundle / name, staged / name)
        (staged / IMAGE_GRAPH_FP16).write_bytes(b"\xff no graph")
    return tmp_path / "unloadable"


class Failing:
    """A backend that fails from some call on, or with more windows than it has room for."""

    name = "failing"

    def __init__(self, bundle: Bundle, *, calls: int = 1000, windows: int = 1000) -> None:
        self._backend, self._left, self._windows = open_backend(bundle, "cpu"), calls, windows

    def features(self, windows: np.ndarray) -> np.ndarray:
        self._left -= 1
        if self._left < 0 or len(windows) > self._windows:
            raise InferenceError(f"out of\nmemory with {len(windows)}")
        return self._backend.features(windows)


def way(name: str, bundle: Bundle, **limits: int) -> Way:
    return Way(name=name, segmenter=Segmenter(bundle, Failing(bundle, **limits)))


def options(bundle: Path, picture: Path, *more: object) -> tuple[object, ...]:
    return (
        *("latency", "--bundle", bundle, "--image", picture, "--classes", "car,road", "--runs", 2),
        *("--warmup", 0, "--batches", "1", *more),
    )


def test_a_form_that_fails_leaves_the_others_and_is_named(tiny_bundle: Path, recorded: Path) -> None:
    class Narrow:
        name = "narrow"

        def features(self, windows: np.ndarray) -> np.ndarray:
            return np.zeros((len(windows), 4, 4, 3), np.float32)

    bundle, failures = Bundle.open(tiny_bundle), Failures()
    backends = {"narrow": Narrow(), "late": Failing(bundle, calls=2), "whole": Failing(bundle)}
    forms = [Form(name=name, precision="fp32", backend=item) for name, item in backends.items()]
    (found,) = measure_parity(bundle, Recorded.open(recorded), forms, failures)
    assert (found.form, found.label_agreement) == ("whole", 1.0)
    narrow, late = failures.lines()
    assert narrow.startswith("narrow failed, 0.png: narrow gave features of (")
    assert "PyTorch gave" in narrow
    assert late.startswith("late failed, 2.png: out of memory with ")


def test_a_broken_form_gives_a_report_that_is_json_and_misses_its_gate(
    tiny_bundle: Path, recorded: Path, tmp_path: Path, bench: Callable
) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    bundle = write_half_bundle(tiny_bundle, tmp_path / "broken", half=0.0)
    given = ("--bundle", bundle, "--reference", recorded, "--form", "onnx-fp16-emulated")
    ran = bench("parity", *given, "--out", tmp_path / "p.json", "--json")
    assert ran.code == 1
    (form,) = json.loads(ran.out, parse_constant=refuse)["forms"]
    assert form["cosine_mean"] is None
    assert any("mean patch cosine" in text for text in form["missed"])
    assert "error: onnx-fp16-emulated: " in ran.err
    assert json.loads((tmp_path / "p.json").read_text(), parse_constant=refuse)["forms"] == [form]


def test_a_graph_that_does_not_load_costs_parity_only_itself(
    unloadable: Path, recorded: Path, tmp_path: Path, bench: Callable
) -> None:
    failures = Failures()
    opened, missing = runnable(Bundle.open(unloadable), failures)
    assert "onnx-fp32-cpu" in opened
    assert "onnx-fp16-emulated" not in {*opened, *missing}
    (line,) = failures.lines()
    assert line.startswith("onnx-fp16-emulated failed, opening it: onnx cannot load ")
    out = tmp_path / "p.json"
    ran = bench("parity", "--bundle", unloadable, "--reference", recorded, "--out", out)
    assert ran.code == 1
    assert ran.error.startswith("error: onnx-fp16-emulated failed, opening it: ")
    report = json.loads(out.read_text())
    assert [item["form"] for item in report["forms"]] == ["onnx-fp32-cpu"]
    assert [item["name"] for item in report["failed"]] == ["onnx-fp16-emulated"]
    assert "onnx-fp16-emulated failed, opening it" in page_of([out])


def test_a_way_that_fails_leaves_the_others_their_figures(tiny_bundle: Path, picture: Path) -> None:
    bundle, failures = Bundle.open(tiny_bundle), Failures()
    ways = [way("first", bundle, calls=2), way("second", bundle), way("third", bundle)]
    timed = time_ways(ways, picture, ["car"], [(28, 28)], runs=2, warmup=1, failures=failures)
    assert [item.way for item in timed] == ["second", "third"]
    assert [len(item.stages["total"]) for item in timed] == [2, 2]
    (ratio,) = ratios_to_the_first(timed)
    assert (ratio["way"], ratio["to"]) == ("third", "second")
    assert failures.lines() == ["first failed, 28x28: out of memory with 1"]


def test_a_batch_without_memory_is_left_out(tiny_bundle: Path) -> None:
    bundle, failures = Bundle.open(tiny_bundle), Failures()
    ways = [way("small", bundle, windows=2), way("large", bundle)]
    found = time_batches(ways, [1, 4], runs=2, warmup=0, failures=failures)
    assert [(item["way"], item["batch"]) for item in found] == [("small", 1), ("large", 1), ("large", 4)]
    assert failures.lines() == ["small failed, batch 4: out of memory with 4"]
    assert time_batches([], [1], runs=1, warmup=0, failures=failures) == []


def test_a_cold_start_that_fails_loses_nothing(
    tiny_bundle: Path, picture: Path, tmp_path: Path, bench: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(name: str, *_: object) -> ColdStart:
        started.append(name)
        if len(started) == 2:
            raise InferenceError(f"{name} failed in a fresh process: killed")
        return ColdStart(total_ms=9.0, open_ms=2.0, first_image_ms=3.0, peak_host_bytes=None)

    monkeypatch.setattr(cold, "start_cold", start)
    out = tmp_path / "l.json"
    given = options(tiny_bundle, picture, "--form", "onnx-fp32-cpu", "--cold", 3, "--out", out)
    ran = bench(*given)
    assert ran.code == 1
    assert ran.error == (
        "error: onnx-fp32-cpu failed, cold start: onnx-fp32-cpu failed in a fresh process: killed"
    )
    assert len(started) == 2, "it is not started again"
    report = json.loads(out.read_text())
    assert len(report["timed"][0]["stages"]["total"]["observations_ms"]) == 2
    assert len(report["cold_start"]["onnx-fp32-cpu"]["observations"]) == 1
    assert [item["during"] for item in report["failed"]] == ["cold start"]
    assert "onnx-fp32-cpu failed, cold start" in ran.out


def test_a_picture_of_an_unknown_suffix_can_be_resized(
    tiny_bundle: Path, picture: Path, tmp_path: Path, bench: Callable
) -> None:
    odd = shutil.copy(picture, tmp_path / "street.upload")
    given = options(tiny_bundle, odd, "--form", "onnx-fp32-cpu", "--cold", 0, "--size", "30x20")
    ran = bench(*given)
    assert ran.code == 0, ran.err


def test_where_nothing_can_be_timed_the_command_says_so(
    tiny_bundle: Path, picture: Path, bench: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise InferenceError("out of memory")

    monkeypatch.setattr(Way, "run", run)
    ran = bench(*options(tiny_bundle, picture, "--form", "onnx-fp32-cpu", "--cold", 0))
    assert ran.code == 1
    assert "error: onnx-fp32-cpu failed, 60x40: out of memory" in ran.err
    assert ran.error == "error: none of 1 ways could be timed; see the errors above"


def test_the_engine_that_ran_is_told_by_its_hash(
    tiny_bundle: Path,
    recorded: Path,
    picture: Path,
    tmp_path: Path,
    bench: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    bundle = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "bundle"))
    engines = {"tensorrt-fp16": sha256_of(write_engine(trt, bundle, "fp16"))}
    forms = ("--form", "tensorrt-fp16", "--form", "onnx-fp32-cpu")
    ran = bench("parity", "--bundle", bundle.path, "--reference", recorded, *forms, "--json")
    assert json.loads(ran.out)["engines"] == engines
    ran = bench(*options(bundle.path, picture, *forms, "--cold", 0, "--json"))
    assert json.loads(ran.out)["engines"] == engines
    assert engine_hashes({"cpu": open_backend(bundle, "cpu")}) == {}


def test_reports_without_failures_and_damaged_ones_have_no_lines() -> None:
    for failed in (None, [], "x", 3, [3]):
        assert failure_lines({"failed": failed}) == []
    assert failure_lines(parity(0.9)) == []
    report = {**latency(), "failed": [{"name": "B", "during": "batch 8", "error": "no memory"}]}
    assert latency_table(report).endswith("\nB failed, batch 8: no memory")


def test_a_cold_start_of_a_form_needs_neither_torch_nor_a_command_line() -> None:
    script = (
        "import sys\nfor name in ('torch', 'typer'): sys.modules[name] = None\n"
        "import ovsdino_bench.ways, ovsdino_bench.cold\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
