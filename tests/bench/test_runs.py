"""Runs that are interrupted, split into shards or launched as several processes give the same report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ovsdino_bench import accuracy
from ovsdino_bench.benchmark import open_benchmark
from ovsdino_bench.results import ImageResult
from ovsdino_bench.runs import load
from ovsdino_bench.selection import Shard
from ovsdino_bench.shards import rank_of, take_own_gpu, wait_for_shards
from ovsdino_runtime.errors import DataError, InferenceError
from ovsdino_runtime.segmenter import Segmenter

if TYPE_CHECKING:
    from tests.bench.conftest import Ran, Tree

BLOCKED = ("torch", "torchvision", "timm", "open_clip", "onnx", "transformers", "safetensors", "pycocotools")


@pytest.fixture
def common(prepared: Callable[[str], Tree], world_bundle: Path) -> tuple[Any, ...]:
    """A command that measures Context60, whose tree also gives a background."""
    tree = prepared("context60")
    return ("accuracy", "--bundle", world_bundle, "--dataset", f"context60={tree.folder}", "--json")


def told(text: str) -> dict[str, Any]:
    """The report in some JSON, without the commands that made it."""
    report: dict[str, Any] = json.loads(text)
    assert report.pop("commands")
    return report


@pytest.fixture
def whole(common: tuple[Any, ...], bench: Callable[..., Ran]) -> dict[str, Any]:
    """The report of one run without interruption."""
    return told(bench(*common).out)


def test_an_interrupted_run_goes_on_and_gives_the_same_report(
    common: tuple[Any, ...],
    whole: dict[str, Any],
    bench: Callable[..., Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    segment = Segmenter.segment
    done: list[object] = []

    def stop_at_the_third(self: Segmenter, image: Any, *rest: Any, **options: Any) -> Any:
        done.append(image)
        if len(done) == 3:
            raise InferenceError("out of memory")
        return segment(self, image, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", stop_at_the_third)
        stopped = bench(*common, "--out", out)
    assert stopped.code == 1
    assert not (out / "context60.json").exists()
    journal = out / "context60.counts.jsonl"
    assert len(load(journal).results) == 2
    with journal.open("a") as file:
        file.write('{"place":2,"image":"c_3.jpg","pix')  # a line that a power cut left
    again: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            Segmenter,
            "segment",
            lambda self, image, *rest: again.append(image) or segment(self, image, *rest),
        )
        finished = bench(*common, "--out", out)
    assert [Path(str(image)).name for image in again] == ["c_3.jpg"]
    assert told(finished.out) == whole
    assert told((out / "context60.json").read_text()) == whole


def test_pictures_that_failed_are_measured_again_when_they_are_mended(
    common: tuple[Any, ...], whole: dict[str, Any], bench: Callable[..., Ran], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    folder = Path(str(common[4]).partition("=")[2])
    picture = open_benchmark("context60", folder).images[1].image
    good = picture.read_bytes()
    picture.write_bytes(good[:50])
    assert bench(*common, "--out", out).code == 1
    picture.write_bytes(good)
    assert told(bench(*common, "--out", out).out) == whole


def test_a_shard_and_its_merging_tell_what_failed(
    common: tuple[Any, ...], bench: Callable[..., Ran], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    folder = Path(str(common[4]).partition("=")[2])
    open_benchmark("context60", folder).images[1].image.write_bytes(b"no picture")
    first = bench(*common, "--out", out, "--shard", "1/2")
    second = bench(*common, "--out", out, "--shard", "2/2")
    assert (first.code, second.code) == (0, 1)
    assert "1 of 1 images could not be measured" in second.error
    merged = bench("merge", out, "--json")
    assert merged.code == 1
    assert "1 of 3 images could not be measured" in merged.error
    assert told(merged.out) == {**told(bench(*common, "--out", tmp_path / "one").out), "shards": 2}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shards_add_up_to_the_report_of_one_run(
    count: int, common: tuple[Any, ...], whole: dict[str, Any], bench: Callable[..., Ran], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for number in range(count, 0, -1):  # in any order
        done = bench(*common, "--out", out, "--shard", f"{number}/{count}", "--block", 2)
        assert "`ovsdino-bench merge" in done.out
    refused = bench("merge", out, "--counts", tmp_path)
    assert (refused.code, refused.out) == (1, "")  # before any figure
    assert f"cannot write {tmp_path}: it is a folder" in refused.error
    together = tmp_path / "new" / "c.npz"
    merged = bench("merge", out, "--json", "--out", tmp_path / "merged", "--counts", together)
    assert merged.code == 0, merged.err
    commands = json.loads(merged.out)["commands"]
    assert [command[command.index("--shard") :] for command in commands] == [
        f"--shard {number}/{count} --block 2" for number in range(1, count + 1)
    ]
    report = told(merged.out)
    assert report.pop("shards") == count
    assert whole.pop("shards") == 1
    assert report == whole
    assert (tmp_path / "merged" / "context60.json").is_file()
    assert bench(*common, "--counts", tmp_path / "one.npz").code == 0
    same = bench("compare", tmp_path / "one.npz", together)
    assert "+0.00" in same.out
    assert "mIoU" in bench("merge", *sorted(out.glob("*.jsonl"))).out


def test_a_block_of_frames_is_one_sample_of_a_merge_s_interval(
    common: tuple[Any, ...], bench: Callable[..., Ran], tmp_path: Path
) -> None:
    for number in (1, 2):
        assert bench(*common, "--out", tmp_path / "out", "--shard", f"{number}/2").code == 0

    for block in (1, 3):  # of three, which are then always drawn together
        merged = bench("merge", tmp_path / "out", "--json", "--block", block)
        (row,) = json.loads(merged.out)["backends"]
        assert row["block"] == block
        low, high = row["miou_interval_95"]
        if block == 1:
            assert low < row["miou"] < high
        else:
            assert (low, high) == pytest.approx((row["miou"], row["miou"]))


def test_the_metric_is_summed_by_place_and_not_by_the_order_of_coming(common: tuple[Any, ...]) -> None:
    from ovsdino_bench.accuracy import Comparison

    folder = Path(str(common[4]).partition("=")[2])
    opened = open_benchmark("context60", folder)
    segmenter = Segmenter.open(common[2], "cpu")
    question = opened.question(segmenter)
    results = list(accuracy.count_images([segmenter], question, enumerate(opened.images)))
    through_json = [ImageResult.from_dict(json.loads(json.dumps(item.as_dict()))) for item in results]
    one = Comparison.of(question.names, ["a"], results)
    other = Comparison.of(question.names, ["a"], reversed(through_json))
    assert one.as_dict(2) == other.as_dict(2)
    assert one.images == other.images


def test_processes_of_one_launch_share_the_images(
    common: tuple[Any, ...], whole: dict[str, Any], tmp_path: Path
) -> None:
    """As torchrun starts them, with its environment, and without torch."""
    out = tmp_path / "out"
    words = [str(word) for word in (*common, "--out", out)]
    program = f"""
import dataclasses, sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
from ovsdino_bench.datasets import ADAPTERS
ADAPTERS["context60"] = dataclasses.replace(ADAPTERS["context60"], published=(3,))
sys.argv = ["ovsdino-bench", *{words!r}]
from ovsdino_bench.cli import main
main()
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    report = told(ended[0][0])
    assert ended[1][0] == ""
    assert report.pop("shards") == 2
    whole.pop("shards")
    assert report == whole


def test_a_launch_s_processes_take_a_shard_and_a_gpu_each() -> None:
    assert rank_of({}) is None
    assert rank_of({"RANK": "0", "WORLD_SIZE": "1"}) is None
    assert rank_of({"RANK": "3", "WORLD_SIZE": "8"}) == Shard(number=4, count=8)
    with pytest.raises(ValueError, match="RANK=x"):
        rank_of({"RANK": "x", "WORLD_SIZE": "8"})
    for visible, local, expected in (
        (None, "2", "2"),
        ("4,5,6", "2", "6"),
        ("7", "2", "7"),
        ("", "2", ""),  # who hid all of them meant it
        ("4,5", None, "4,5"),
    ):
        given = {"CUDA_VISIBLE_DEVICES": visible, "LOCAL_RANK": local}
        environment = {name: value for name, value in given.items() if value is not None}
        take_own_gpu(environment)
        assert environment["CUDA_VISIBLE_DEVICES"] == expected


def test_a_process_that_never_ends_is_waited_for_only_so_long(
    common: tuple[Any, ...], bench: Callable[..., Ran], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert bench(*common, "--out", out, "--shard", "1/2").code == 0
    run = load(next(out.iterdir())).run
    with pytest.raises(DataError, match=r"waited 0 s for the other processes' counts of context60"):
        wait_for_shards(out, run, 2, patience_s=0.0)


def test_another_question_or_bundle_does_not_go_on_with_the_counts(
    common: tuple[Any, ...],
    bench: Callable[..., Ran],
    tmp_path: Path,
    write_tiny_bundle: Callable[[Path, Mapping[str, Any]], Path],
    colours: Mapping[str, Any],
) -> None:
    out = tmp_path / "out"
    rotated = dict(zip(colours, [*list(colours.values())[1:], (0, 0, 0)], strict=True))
    other = write_tiny_bundle(tmp_path / "other", rotated)  # the same graph, other text vectors
    assert bench(*common, "--out", out).code == 0
    for options, said in (
        (("--background", "threshold:0.5"), 'run.facts.question.background is "threshold:0.5" now'),
        (("--every", 2), "run.facts.selection.every is 2 now and 1 there"),
        (("--bundle", other), "run.facts.files.vocabulary.npz is "),
    ):
        done = bench(*common, "--out", out, *options)
        assert done.code == 1
        assert said in done.error
        assert "counts of another run" in done.error


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("absent", "context60 lacks shard 2/3 and 1 more"),
        ("twice", "shard 1/3 of context60 is there twice"),
        ("unfinished", "is not finished: 1 images are missing; run shard 1/3 again"),
        ("another run", "are of different runs: facts.selection.every is 1 now and 2 there"),
        ("other shards", "one is of 3 shards, the other of 2"),
        ("damaged", "line 2 of"),
        ("class", "a class outside the 60 there are"),
        ("schema", "has schema 9, this version reads 1"),
        ("report", "holds no counts"),
        ("empty", "holds no counts"),
        ("missing", "cannot read the counts"),
        ("no shards", "holds no counts of shards"),
    ],
)
def test_counts_that_do_not_belong_together_are_refused(
    damage: str, said: str, common: tuple[Any, ...], bench: Callable[..., Ran], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert bench(*common, "--out", out, "--shard", "1/3").code == 0
    path = out / "context60.1-of-3.counts.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    given = [path]
    if damage == "twice":
        given = [path, path]
    elif damage == "unfinished":
        for number in (2, 3):
            assert bench(*common, "--out", out, "--shard", f"{number}/3").code == 0
        path.write_text(lines[0])
        given = [out]
    elif damage in ("another run", "other shards"):
        more = ("--every", 2, "--shard", "2/3") if damage == "another run" else ("--shard", "2/2")
        assert bench(*common, "--out", tmp_path / "other", *more).code == 0
        given = [path, next((tmp_path / "other").iterdir())]
    elif damage == "damaged":
        path.write_text(lines[0] + lines[1][:30] + "\n")
    elif damage == "class":
        result = json.loads(lines[1])
        result["backends"][0]["confusion"][0][0] = 60
        path.write_text(lines[0] + json.dumps(result) + "\n")
    elif damage == "schema":
        path.write_text(lines[0].replace('"schema":1', '"schema":9') + lines[1])
    elif damage == "report":
        path.write_text(bench(*common).out)
    elif damage == "empty":
        path.write_text("")
    elif damage == "missing":
        given = [out / "nothing.jsonl"]
    elif damage == "no shards":
        given = [tmp_path]
    done = bench("merge", *given)
    assert done.code == 1
    assert said in done.error, done.error


def test_accuracy_of_a_bundle_needs_neither_torch_nor_pycocotools(
    common: tuple[Any, ...], whole: dict[str, Any]
) -> None:
    words = [str(word) for word in common]
    program = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
sys.argv = ["ovsdino-bench", *{words!r}, "--partial"]
from ovsdino_bench.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backends"] == whole["backends"]


def test_preparing_needs_neither_torch_nor_pycocotools(unpack: Callable[[str], Tree]) -> None:
    tree = unpack("context59")
    program = f"""
import dataclasses, sys
for name in (*{BLOCKED!r}, "onnxruntime"):
    sys.modules[name] = None
from ovsdino_bench.datasets import ADAPTERS
ADAPTERS["context59"] = dataclasses.replace(ADAPTERS["context59"], published=(3,))
sys.argv = ["ovsdino-bench", "prepare", "context59", {str(tree.folder)!r}]
from ovsdino_bench.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 label maps made" in done.stdout
