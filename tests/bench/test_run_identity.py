"""What makes two runs one: the images and the model, not where they lie; an engine is part of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ovsdino_bench.forms import engine_hashes
from ovsdino_bench.machine import shown_source
from ovsdino_bench.runs import difference
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.backends.trt import TrtBackend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.engines import EngineFile
from ovsdino_runtime.sidecar import BatchProfile, Machine, Sidecar

if TYPE_CHECKING:
    from tests.bench.conftest import Ran, Tree


@pytest.fixture
def tree(prepared: Callable[[str], Tree]) -> Tree:
    return prepared("ade20k")


@pytest.fixture
def measure(world_bundle: Path, bench: Callable[..., Ran], tmp_path: Path) -> Callable[..., Ran]:
    """Measures ADE20K as it lies in a folder, the counts kept in one place."""

    def call(folder: Path | str, *options: object) -> Ran:
        common = ("accuracy", "--bundle", world_bundle, "--dataset", f"ade20k={folder}", "--json")
        return bench(*common, "--out", tmp_path / "out", *options)

    return call


def test_shards_of_which_one_was_counted_where_the_data_lie_elsewhere_add_up(
    tree: Tree,
    measure: Callable[..., Ran],
    bench: Callable[..., Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = shutil.copytree(tree.folder, tmp_path / "mnt" / "another name")
    monkeypatch.chdir(tree.folder.parent)
    assert measure(tree.folder.name, "--shard", "1/2").code == 0
    assert measure(elsewhere, "--shard", "2/2").code == 0
    merged = bench("merge", tmp_path / "out", "--json")
    assert merged.code == 0, merged.err
    report = json.loads(merged.out)
    assert (report["images"], report["shards"], report["data"]) == (3, 2, tree.folder.name)
    assert str(tmp_path) not in merged.out, "a report does not say where things lie"


def test_a_run_is_gone_on_with_where_the_data_lie_elsewhere_and_says_so(
    tree: Tree, measure: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(measure(tree.folder).out)
    monkeypatch.chdir(tree.folder.parent)
    relative = measure(tree.folder.name)
    assert "note: going on" not in relative.err
    elsewhere = measure(shutil.copytree(tree.folder, tmp_path / "mnt" / "another name"))
    assert f"of {tree.folder.name}, which lay elsewhere; if these are other images" in elsewhere.err
    same_name = measure(shutil.copytree(tree.folder, tmp_path / "mnt" / tree.folder.name))
    assert "which lay elsewhere" in same_name.err
    for ran in (relative, elsewhere):
        assert ran.code == 0, ran.err
        assert {**json.loads(ran.out), "commands": []} == {**first, "commands": []}


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("camvid/val", "camvid/val"),
        ("/data/camvid/val", "val"),
        ("~/camvid/", "camvid"),
        ("../camvid", "camvid"),
        ("/", "/"),
        ("coco:/data/a/b.json:../pictures:names.txt", "coco:b.json:pictures:names.txt"),
        ("yolo:coco128", "yolo:coco128"),
        ("/data/a:b/c", "c"),
    ],
)
def test_of_data_elsewhere_only_the_last_part_is_kept(source: str, shown: str) -> None:
    assert shown_source(source) == shown


@pytest.mark.parametrize("name", ["data", "machines", "commands"])
def test_a_class_that_is_called_as_what_may_differ_is_compared(name: str) -> None:
    one, other = ({"run": {"facts": {"question": {"prompts": {name: [word]}}}}} for word in "ab")
    assert difference(one, other) == f'run.facts.question.prompts.{name} is ["a"] now and ["b"] there'


def test_what_an_earlier_version_did_not_record_is_no_difference() -> None:
    known, unknown, other = (
        {"facts": {"model": model}} for model in ({"short_side_px": 448}, {}, {"short_side_px": 336})
    )
    assert difference(known, unknown) is None
    assert difference(unknown, known) is None
    assert difference(known, other) == "facts.model.short_side_px is 448 now and 336 there"


class _Engine:
    """ONNX Runtime's features under the name of an engine."""

    name = "tensorrt-fp16"

    def __init__(self, backend: Backend, digest: str) -> None:
        self._backend, self.engine_sha256 = backend, digest

    def features(self, windows: Any) -> Any:
        return self._backend.features(windows)


def test_counts_of_two_engines_of_one_graph_are_not_mixed(
    tree: Tree,
    measure: Callable[..., Ran],
    bench: Callable[..., Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_by(digest: str) -> None:
        monkeypatch.setattr(
            "ovsdino_bench.measured.choose_backend",
            lambda bundle, *choices: (_Engine(open_backend(bundle, "cpu"), digest), None),
        )

    run_by("1" * 64)
    report = json.loads(measure(tree.folder).out)
    assert report["engines"] == {"tensorrt-fp16": "1" * 64}
    assert report["backends"][0]["backend"] == "tensorrt-fp16"
    run_by("2" * 64)
    other = measure(tree.folder)
    assert other.code == 1
    assert 'run.facts.engines.tensorrt-fp16 is "222' in other.error
    run_by("1" * 64)
    assert measure(tree.folder).code == 0
    assert measure(tree.folder, "--shard", "1/2").code == 0
    run_by("2" * 64)
    assert measure(tree.folder, "--shard", "2/2").code == 0
    mixed = bench("merge", tmp_path / "out")
    assert mixed.code == 1
    assert "are of different runs: facts.engines.tensorrt-fp16" in mixed.error


def test_tensorrts_backend_says_which_engine_it_runs_and_others_have_none(
    tmp_path: Path, world_bundle: Path
) -> None:
    sidecar = Sidecar(
        sha256="ab" * 32,
        bytes=1,
        onnx={},
        machine=Machine(gpu="a GPU", compute="8.9", driver="1", tensorrt="10.3.0"),
        precision="fp16",
        profile=BatchProfile(),
        created_by="the test",
    )
    engine: Any = None  # it is not run
    backends: dict[str, Backend] = {
        "engine": TrtBackend(engine, EngineFile(path=tmp_path / "a.engine", sidecar=sidecar)),
        "graph": open_backend(Bundle.open(world_bundle), "cpu"),
    }
    assert engine_hashes(backends) == {"engine": "ab" * 32}
