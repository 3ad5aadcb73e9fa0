"""Latency: what is measured, what is refused, and what a report says of it. No test depends on a duration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image

from ovsdino_bench import cold
from ovsdino_bench.engine_times import time_engines
from ovsdino_bench.failures import Failures
from ovsdino_bench.latency import Timed, check_batches, ratios_to_the_first, time_batches, time_ways
from ovsdino_bench.spread import median_ratio_interval, pair_ratios, summary
from ovsdino_bench.ways import STAGES, Way, open_way
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import vocabulary
from tests.standins.cuda_runtime import Error
from tests.standins.half_bundle import write_half_bundle
from tests.standins.plans import write_engine
from tests.standins.release import install

if TYPE_CHECKING:
    from tests.bench.conftest import Ran


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("latency") / "street.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


class Logged:
    """A backend that notes who ran, in order."""

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self.name, self.log = name, log

    def features(self, windows: np.ndarray) -> np.ndarray:
        self.log.append((self.name, len(windows)))
        features = np.ones((len(windows), 4, 4, 4), np.float32)
        return features / 2


def test_ways_run_in_turn_and_warm_up_is_not_counted(tiny_bundle: Path, picture: Path) -> None:
    log: list[tuple[str, int]] = []
    bundle, failures = Bundle.open(tiny_bundle), Failures()
    ways = [Way(name=name, segmenter=Segmenter(bundle, Logged(name, log))) for name in "AB"]
    timed = time_ways(ways, picture, ["car", "road"], [], runs=3, warmup=2, failures=failures)
    assert [name for name, _ in log] == list("ABABABABAB")
    assert [(item.way, item.size_hw) for item in timed] == [("A", (40, 60)), ("B", (40, 60))]
    for item in timed:
        assert set(item.stages) == set(STAGES)
        assert {len(values) for values in item.stages.values()} == {3}
        for place in range(3):
            parts = sum(item.stages[stage][place] for stage in STAGES if stage != "total")
            assert parts <= item.stages["total"][place]
    log.clear()
    found = time_batches(ways, [1, 3], runs=2, warmup=1, failures=failures)
    assert log == [(name, batch) for batch in (1, 3) for _ in range(3) for name in "AB"]
    assert [(item["way"], item["batch"], len(item["observations_ms"])) for item in found] == [
        ("A", 1, 2), ("B", 1, 2), ("A", 3, 2), ("B", 3, 2),
    ]  # fmt: skip


def test_ratios_are_pair_by_pair_to_the_first_way_on_the_same_size() -> None:
    def of(way: str, size: tuple[int, int], *total: float) -> Timed:
        return Timed(way=way, size_hw=size, stages={"total": total})

    found = ratios_to_the_first(
        [of("A", (1, 2), 1, 2, 4), of("B", (1, 2), 3, 2, 8), of("A", (9, 9), 1), of("B", (9, 9), 5)]
    )
    assert [(item["way"], item["min"], item["median"], item["max"]) for item in found] == [
        ("B", 1.0, 2.0, 3.0), ("B", 5.0, 5.0, 5.0),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="zip"):
        pair_ratios([1, 2], [1])


def test_a_summary_is_what_numpy_gives() -> None:
    values = np.random.default_rng(1).gamma(2, size=101).tolist()
    ordered = sorted(values)
    found = summary(values)
    assert (found["min"], found["p50"], found["p90"], found["p95"], found["p99"], found["max"]) == tuple(
        pytest.approx(ordered[place]) for place in (0, 50, 90, 95, 99, 100)
    )
    assert found["mean"] == pytest.approx(sum(values) / 101)
    with pytest.raises(ValueError, match="observation"):
        summary([])


def test_the_interval_of_a_ratio_holds_the_true_ratio_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    held = 0
    for seed in range(100):
        before, after = random.lognormal(0, 0.2, 60), 1.3 * random.lognormal(0, 0.2, 60)
        low, high = median_ratio_interval(before.tolist(), after.tolist(), draws=400, seed=seed)
        held += low <= 1.3 <= high
    assert 88 <= held <= 100


def test_an_engine_is_not_asked_for_more_windows_than_it_takes(tiny_bundle: Path) -> None:
    class Engine:
        profile = type("Profile", (), {"most": 4})

    backend = Logged("tensorrt-fp16", [])
    backend.engine = Engine()
    way = Way(name="tensorrt-fp16", segmenter=Segmenter(Bundle.open(tiny_bundle), backend))
    check_batches([way], [1, 4])
    with pytest.raises(DataError, match=r"batch of 8 was asked for.*takes at most 4"):
        check_batches([way], [1, 4, 8])


def test_engines_are_timed_in_turn_by_the_gpus_clock_and_other_ways_are_passed_over(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    bundle = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "bundle"))
    for precision in ("fp16", "fp32"):
        write_engine(trt, bundle, precision)
    names = ("tensorrt-fp16", "onnx-fp32-cpu", "tensorrt-fp32")
    ways = [open_way(name, bundle, None) for name in names]
    log: list[tuple[str, int]] = []
    for way in ways[::2]:
        timing = way.engine.time
        monkeypatch.setattr(
            way.engine,
            "time",
            lambda batch, name=way.name, own=timing: log.append((name, len(batch))) or own(batch),
        )
    run = partial(time_engines, runs=2, warmup=1, failures=Failures())
    found = run(ways, [1, 3])
    assert log == [(name, batch) for batch in (1, 3) for _ in range(3) for name in names[::2]]
    copied = (28 * 28 * 3 + 4 * 4 * 4 * 4) * trt.cuda.copy_ms_per_byte
    for item, (batch, name) in zip(found, [(b, n) for b in (1, 3) for n in names[::2]], strict=True):
        alone = batch * trt.cuda.engine_ms_per_item
        assert (item["way"], item["batch"], item["cuda_graph"]) == (name, batch, True)
        assert item["without_transfers"]["observations_ms"] == [alone] * 2
        assert item["without_transfers"]["p50"] == item["without_transfers"]["max"] == alone
        assert item["with_transfers"]["observations_ms"] == pytest.approx(
            [alone + batch * copied] * 2, abs=1e-4
        )
    assert run(ways[1:2], [1, 3]) == run(ways, []) == []
    with pytest.raises(DataError, match="takes at most 9"):
        run(ways, [10])


def test_the_command_reports_engine_times_of_tensorrt_and_of_nothing_else(
    tiny_bundle: Path, tmp_path: Path, picture: Path, bench: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "11.4")
    bundle = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "bundle"))
    write_engine(trt, bundle, "fp16")
    given = options(bundle.path, picture)
    ran = bench(*given, "--form", "tensorrt-fp16", "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert [(item["way"], item["batch"]) for item in report["engine_times"]] == [
        ("tensorrt-fp16", 1), ("tensorrt-fp16", 2),
    ]  # fmt: skip
    assert report["engine_times"][1]["without_transfers"]["p50"] == 2 * trt.cuda.engine_ms_per_item
    assert "the enqueued engine alone" in report["includes"]
    made = dict(trt.cuda.made)
    assert bench(*given, "--form", "tensorrt-fp16", "--batches", "").code == 0
    assert trt.cuda.made["event"] == made["event"], "without batches no engine is timed"
    plain = json.loads(bench(*given, "--json").out)
    assert plain["engine_times"] == []
    assert "engine" not in plain["includes"]
    trt.cuda.fail["cudaEventCreate"] = Error.cudaErrorMemoryAllocation
    ran = bench(*given, "--form", "tensorrt-fp16")
    assert ran.code == 1
    assert "cudaEventCreate failed: cudaErrorMemoryAllocation" in ran.error


def test_the_usual_way_gives_the_labels_of_the_exact_one(
    tiny_bundle: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enlarged: list[tuple[int, ...]] = []

    def noted(maps: Any, size: tuple[int, int], **options: Any) -> Any:
        enlarged.append((*maps.shape[:2], *size))
        return interpolate(maps, size=size, **options)

    interpolate = F.interpolate
    monkeypatch.setattr(F, "interpolate", noted)
    bundle = Bundle.open(tiny_bundle)
    exact = open_way("onnx-fp32-cpu", bundle, None)
    usual = Way(name="mmseg-style", segmenter=exact.segmenter)
    pixels = np.asarray(Image.open(picture))
    windows = exact.segmenter.encode(pixels).grid.count
    assert windows > 1
    for classes in (["car", "vehicle=bus|truck", "sky"], ["tree"]):
        prompts = len(exact.segmenter.ask(classes).prompts)
        ours, names, background, _ = exact._labels(pixels, classes)
        assert enlarged == []
        theirs, other_names, other_background, _ = usual._labels(pixels, classes)
        # one window after the other into logits of every prompt at every pixel, as frameworks do
        assert enlarged == [*[(1, prompts, 28, 28)] * windows, (1, prompts, 40, 60)]
        enlarged.clear()
        assert (names, background) == (other_names, other_background)
        assert (ours != theirs).mean() < 0.001


def options(bundle: Path, picture: Path) -> list[object]:
    return [
        "latency", "--bundle", bundle, "--image", picture, "--classes", "car,road", "--runs", 2,
        "--warmup", 0, "--cold", 0, "--batches", "1,2", "--form", "onnx-fp32-cpu",
    ]  # fmt: skip


def test_a_report_holds_the_observations_and_what_made_them(
    tiny_bundle: Path, picture: Path, tmp_path: Path, bench: Callable
) -> None:
    out = tmp_path / "l.json"
    ran = bench(*options(tiny_bundle, picture), "--size", "30x20", "--cold", 1, "--out", out, "--json")
    report = json.loads(ran.out)
    assert report == json.loads(out.read_text())
    assert (report["kind"], report["schema"]) == ("latency", 1)
    assert report["timed"][0]["size_hw"] == [20, 30]
    assert len(report["timed"][0]["stages"]["backbone"]["observations_ms"]) == 2
    assert report["files"]["image.onnx"] == Bundle.open(tiny_bundle).manifest.files["image.onnx"].sha256
    assert str(tmp_path) not in json.dumps(report), "no path of the machine"
    cold = report["cold_start"]["onnx-fp32-cpu"]
    assert cold["total_ms"] > cold["open_ms"] > 0
    assert cold["peak_host_bytes"] > 10_000_000
    assert report["telemetry"]["limits"]["others_share"] == 0.1


def test_a_vocabulary_s_name_stands_for_all_its_classes(
    world_bundle: Path, picture: Path, bench: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    run = Way.run

    def noted(self: Way, picture: Path, classes: Any, folder: Path) -> dict[str, float]:
        asked.append(classes)
        return run(self, picture, classes, folder)

    def here(*_: object, input: str, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, json.dumps(cold._child(json.loads(input))), "")

    monkeypatch.setattr(Way, "run", noted)
    monkeypatch.setattr(cold, "subprocess", SimpleNamespace(run=here))
    given = options(world_bundle, picture)
    place = given.index("--classes")
    given[place : place + 2] = ["--vocabulary", "camvid"]
    ran = bench(*given, "--cold", 1, "--json")
    assert ran.code == 0, ran.err
    report, camvid = json.loads(ran.out), vocabulary("camvid")
    assert asked == [camvid] * 3, "two rounds and a cold start"
    assert report["vocabulary"] == "camvid"
    prompts = sum(len(query.prompts) for query in camvid.queries)
    assert report["classes"] == {"names": len(camvid.queries), "prompts": prompts}
    assert len(report["cold_start"]["onnx-fp32-cpu"]["observations"]) == 1


def test_what_cannot_be_timed_is_refused_in_one_line(
    tiny_bundle: Path, picture: Path, tmp_path: Path, bench: Callable
) -> None:
    given = options(tiny_bundle, picture)
    for more, code, text in (
        (("--form", "onnx-int3"), 2, "'onnx-int3' is no form"),
        (("--form", "onnx-fp16-emulated"), 2, "is no form that is timed"),
        (("--against", "jax", "--checkpoint", "x"), 2, "'jax' is no alternative"),
        (("--against", "pytorch-eager"), 2, "name it with --checkpoint"),
        (("--runs", 0), 2, "--runs"),
        (("--batches", "1,zero"), 2, "'zero' is no number"),
        (("--size", "big"), 2, "'big' is no size"),
        (("--vocabulary", "camvid"), 2, "either --classes or --vocabulary"),
        (("--image", tmp_path / "none.png"), 1, "there is no such file"),
        (("--form", "tensorrt-fp16"), 1, "device 'tensorrt' was asked for"),
    ):
        ran = bench(*given, *more)
        assert ran.code == code, more
        assert text in " ".join(ran.err.replace("│", " ").split()), ran.err


def test_latency_needs_no_torch(tiny_bundle: Path, picture: Path) -> None:
    words = [str(word) for word in options(tiny_bundle, picture)]
    script = (
        "import sys\nfor name in ('torch', 'timm', 'open_clip'): sys.modules[name] = None\n"
        f"sys.argv = ['ovsdino-bench', *{words!r}]\nfrom ovsdino_bench.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 60x40 | onnx-fp32-cpu |" in done.stdout
