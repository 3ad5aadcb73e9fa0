"""Engines against every release's own API, by a stand-in that computes with ONNX Runtime."""

from __future__ import annotations

import _thread
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from ovsdino_export.build_progress import shown
from ovsdino_export.builder import BuildOptions
from ovsdino_export.engine import build_engine
from ovsdino_export.engine_attempt import _held_against
from ovsdino_export.graph_source import Graph, graph_of, shipped_graphs
from ovsdino_export.timing_cache import timing_cache_path
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.bundle_writing import revised_bundle
from ovsdino_runtime.engine_trust import is_trusted
from ovsdino_runtime.engines import engine_files, sidecar_of
from ovsdino_runtime.errors import BackendUnavailable, BundleError, ExportError, OutputError, ParityError
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.sidecar import BatchProfile, Sidecar
from tests.standins.half_bundle import ISLAND, write_half_bundle
from tests.standins.release import install
from tests.standins.strict import RELEASES, StrictModule

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    """A bundle of one's own, with an FP16 graph."""
    return Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(params=RELEASES)
def every_release(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> StrictModule:
    return install(monkeypatch, tmp_path / "cache", request.param)


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StrictModule:
    return install(monkeypatch, tmp_path / "cache", "10.3")


def _nothing_is_written(bundle: Bundle) -> bool:
    return not list(bundle.path.glob("engines/*")) and not engine_files(bundle)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_every_release_builds_an_engine_that_is_proven_and_described(
    every_release: StrictModule, bundle: Bundle, precision: str
) -> None:
    built = build_engine(bundle, BuildOptions(precision=precision))  # type: ignore[arg-type]
    version = every_release.__version__
    assert built.path == bundle.path / "engines" / f"nvidia-l4-8.9-trt{version}-{precision}.engine"
    sidecar = Sidecar.from_json(sidecar_of(built.path).read_text())
    assert sidecar == built.sidecar
    assert sidecar.sha256 == sha256_of(built.path)
    graph = "image.fp16.onnx" if precision == "fp16" else "image.onnx"
    assert sidecar.onnx == {graph: sha256_of(bundle.path / graph)}
    assert (sidecar.machine.gpu, sidecar.machine.compute) == ("NVIDIA L4", "8.9")
    assert sidecar.machine.tensorrt == version
    assert sidecar.profile == BatchProfile(least=1, usual=3, most=9)
    assert sidecar.islands == ((ISLAND,) if precision == "fp16" else ())
    assert sidecar.parity["cosine_mean"] > 0.9995
    assert sidecar.parity["label_agreement"] == 1
    layers = sidecar.built["layers"]
    assert (layers["half"] > 5) == (precision == "fp16")
    share = sidecar.built["inspector_half_share"]
    assert 0.8 < share <= 1 if precision == "fp16" else share == 0
    assert is_trusted(sidecar.sha256)
    Bundle.open(bundle.path)  # the engines are no part of what the manifest hashes


def test_the_builder_is_told_what_was_asked_and_never_of_a_precision(
    every_release: StrictModule, bundle: Bundle
) -> None:
    options = BuildOptions(
        profile=BatchProfile(least=2, usual=4, most=5),
        workspace_mb=512,
        builder_level=5,
        hardware_compatible=True,
        version_compatible=True,
    )
    build_engine(bundle, options)
    (told,) = every_release.built
    assert told["profile"] == {"image": ((2, 28, 28, 3), (4, 28, 28, 3), (5, 28, 28, 3))}
    assert told["pools"] == {"WORKSPACE": 512 << 20}
    assert told["level"] == 5
    assert told["hardware"] == "AMPERE_PLUS"
    assert told["flags"] == ["VERSION_COMPATIBLE"]  # neither FP16 nor TF32
    assert told["verbosity"] == "DETAILED"


def test_all_memory_of_a_build_is_given_back(every_release: StrictModule, bundle: Bundle) -> None:
    build_engine(bundle, BuildOptions())
    assert not every_release.cuda.live
    assert not any(every_release.cuda.alive.values())


def test_what_a_build_measured_is_kept_for_the_next_and_a_broken_file_is_replaced(
    trt: StrictModule, bundle: Bundle
) -> None:
    machine = build_engine(bundle, BuildOptions()).sidecar.machine
    path = timing_cache_path(machine)
    assert path is not None
    assert path.read_bytes() == b"timings of 10.3.0"
    path.write_bytes(b"cut off")
    build_engine(bundle, BuildOptions())
    assert path.read_bytes() == b"timings of 10.3.0"


def test_progress_names_the_steps_and_passes_tensorrts_phases_on(trt: StrictModule, bundle: Bundle) -> None:
    heard: list[object] = []

    class Listener:
        def step(self, name: str) -> None:
            heard.append(name)

        def phase(self, name: str, done: int, total: int) -> None:
            heard.append((name, done, total))

    build_engine(bundle, BuildOptions(), progress=Listener())
    assert heard[:3] == ["checking the graph", "parsing the graph", "building the engine"]
    assert ("Tactics", 1, 1) in heard
    assert heard[-2:] == ["running golden inputs", "writing the engine"]


def test_a_bar_that_hears_of_a_thousand_steps_is_drawn_a_few_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with shown() as progress:
        progress.step("building the engine")
        for done in range(1000):
            progress.phase("Tactics", done, 1000)
    assert 2 < capsys.readouterr().err.count("\r") < 100


def test_ctrl_c_ends_the_build_at_tensorrt_s_next_step_and_leaves_nothing(
    trt: StrictModule, bundle: Bundle
) -> None:
    trt.faults["tactics"] = 3000  # half a minute

    class Pressing:
        def step(self, name: str) -> None: ...

        def phase(self, name: str, done: int, total: int) -> None:
            if (name, done) == ("Tactics", 3):
                _thread.interrupt_main()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # not every runner of tests has it
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(bundle, BuildOptions(), progress=Pressing())
    finally:
        signal.signal(signal.SIGINT, before)
    assert trt.built == []
    assert _nothing_is_written(bundle)


def test_progress_that_cannot_be_shown_does_not_end_the_build(trt: StrictModule, bundle: Bundle) -> None:
    class Broken:
        def step(self, name: str) -> None: ...

        def phase(self, name: str, done: int, total: int) -> None:
            raise OSError("the terminal is gone")

    assert build_engine(bundle, BuildOptions(), progress=Broken()).path.is_file()


def test_an_engine_that_computes_something_else_is_never_written(
    trt: StrictModule, tiny_bundle: Path, tmp_path: Path
) -> None:
    wrong = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "wrong", half=100.0))
    with pytest.raises(ParityError, match=r"FP16 engine of .* mean patch cosine is 0\.6\d+, the gate is"):
        build_engine(wrong, BuildOptions(), graphs=shipped_graphs(wrong, "fp16"))
    assert _nothing_is_written(wrong)


@pytest.mark.parametrize("size", [3, 9])
def test_an_engine_that_is_wrong_in_one_place_of_one_batch_size_is_never_written(
    trt: StrictModule, bundle: Bundle, tiny_features: Features, size: int
) -> None:
    def compute(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = tiny_features(batch)
        if len(batch) == size:
            found[-1] *= -1
        return found

    trt.faults["compute"] = tiny_features
    assert build_engine(bundle, BuildOptions(precision="fp32")).sidecar.built["batches_proven"] == [1, 3, 9]
    shutil.rmtree(bundle.path / "engines")
    trt.faults["compute"] = compute
    with pytest.raises(ParityError, match=f"PyTorch computes: in batches of {size}: mean patch cosine"):
        build_engine(bundle, BuildOptions(precision="fp32"))
    assert _nothing_is_written(bundle)


def test_every_golden_window_is_run_in_every_batch_size() -> None:
    class Engine:
        profile = BatchProfile(least=1, usual=3, most=9)

        def run(self, batch: NDArray[np.generic]) -> NDArray[np.generic]:
            sizes.append(len(batch))
            return batch

    sizes: list[int] = []
    seen: list[set[int]] = []

    def judge(outputs: NDArray[np.generic], which: NDArray[np.intp]) -> tuple[dict[str, float], list[str]]:
        np.testing.assert_array_equal(outputs, which)
        seen.append(set(which.tolist()))
        return {}, []

    assert _held_against(judge, Engine(), np.arange(4)) == ({}, ())  # type: ignore[arg-type]
    assert seen == [{0, 1, 2, 3}] * 3
    assert set(sizes) == {1, 3, 9}


def test_features_that_are_not_finite_miss_every_gate(trt: StrictModule, bundle: Bundle) -> None:
    trt.faults["compute"] = lambda batch: np.full((len(batch), 4, 4, 4), np.nan)
    with pytest.raises(ParityError, match="nan"):
        build_engine(bundle, BuildOptions(), graphs=shipped_graphs(bundle, "fp16"))
    assert _nothing_is_written(bundle)


def test_a_missed_gate_is_answered_with_wider_islands_and_the_sidecar_names_those_built(
    trt: StrictModule, tiny_bundle: Path, tmp_path: Path
) -> None:
    wider = ({**ISLAND}, {"node": "Scale", "op": "Div", "reason": "widened"})
    bundles = [
        Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "level0", half=100.0)),
        Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "level1", half=90.0)),
        Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "level2", islands=wider)),
    ]
    asked: list[int] = []

    def graphs(level: int) -> Graph:
        asked.append(level)
        return graph_of(bundles[level], "fp16")

    built = build_engine(bundles[0], BuildOptions(), graphs=graphs)
    assert asked == [0, 1, 2]
    assert built.sidecar.islands == wider
    assert built.path.parent == bundles[2].path / "engines"
    assert all(_nothing_is_written(bundle) for bundle in bundles[:2])


def test_after_all_widenings_the_error_says_so(trt: StrictModule, tiny_bundle: Path, tmp_path: Path) -> None:
    wrong = graph_of(Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "wrong", half=100.0)), "fp16")
    with pytest.raises(ParityError, match="also after 3 widenings"):
        build_engine(wrong.bundle, BuildOptions(), graphs=lambda level: wrong)
    assert _nothing_is_written(wrong.bundle)


def test_a_layer_that_the_parser_makes_fp32_beyond_the_islands_is_an_error(
    every_release: StrictModule, bundle: Bundle
) -> None:
    every_release.faults["layers in FP32"] = ("Pool",)
    with pytest.raises(ExportError, match="computes FP32 in Pool"):
        build_engine(bundle, BuildOptions())
    assert _nothing_is_written(bundle)


def test_an_fp32_graph_under_the_name_of_the_fp16_one_is_an_error(
    trt: StrictModule, tiny_bundle: Path, tmp_path: Path
) -> None:
    posing = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "posing", all_full=True))
    with pytest.raises(ExportError, match="the graph computes nothing in it"):
        build_engine(posing, BuildOptions())
    assert _nothing_is_written(posing)


def test_a_parser_that_makes_everything_fp32_is_an_error_whatever_the_islands_say(
    trt: StrictModule, tiny_bundle: Path, tmp_path: Path
) -> None:
    names = [node.name for node in onnx.load(tiny_half_graph(tiny_bundle, tmp_path)).graph.node]
    islands = tuple({"node": name, "op": "", "reason": ""} for name in names)
    bundle = Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "islands", islands=islands))
    trt.faults["layers in FP32"] = names
    with pytest.raises(ExportError, match="the parsed network computes no layer in it"):
        build_engine(bundle, BuildOptions())
    assert _nothing_is_written(bundle)


def tiny_half_graph(tiny_bundle: Path, tmp_path: Path) -> Path:
    return write_half_bundle(tiny_bundle, tmp_path / "names") / "image.fp16.onnx"


def test_an_fp32_engine_with_a_layer_in_fp16_is_an_error(
    trt: StrictModule, bundle: Bundle, tiny_bundle: Path, tmp_path: Path
) -> None:
    posing = Graph(bundle=bundle, name="image.fp16.onnx")
    with pytest.raises(ExportError, match="FP32 was asked for, but the graph computes FP16 in Pool"):
        build_engine(bundle, BuildOptions(precision="fp32"), graphs=lambda level: posing)
    full = graph_of(Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "full", all_full=True)), "fp16")
    trt.faults["layers in FP16"] = ("Norm",)
    with pytest.raises(ExportError, match="FP32 was asked for, but the parsed network computes FP16 in Norm"):
        build_engine(bundle, BuildOptions(precision="fp32"), graphs=lambda level: full)


def test_what_the_parser_or_the_builder_complain_of_is_one_line(trt: StrictModule, bundle: Bundle) -> None:
    trt.faults["refused operator"] = "AveragePool"
    with pytest.raises(ExportError, match=r"cannot parse image\.fp16\.onnx: AveragePool Pool: no importer"):
        build_engine(bundle, BuildOptions())
    trt.faults = {"cannot build": True}
    with pytest.raises(ExportError, match="cannot build the engine: could not find any implementation") as e:
        build_engine(bundle, BuildOptions())
    assert "\n" not in str(e.value)
    assert _nothing_is_written(bundle)


def test_where_only_shipped_graphs_are_taken_one_that_is_missing_says_how_to_derive_it(
    tiny_bundle: Path,
) -> None:
    with pytest.raises(ExportError, match=r"ships no image\.fp16\.onnx; derive it with `ovsdino-export fp16"):
        shipped_graphs(Bundle.open(tiny_bundle), "fp16")


def test_without_an_fp16_graph_and_without_onnx_runtime_the_line_says_where_to_derive_it(
    trt: StrictModule, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match=r"cannot be derived .* here: there is no ONNX Runtime"):
        build_engine(Bundle.open(tiny_bundle), BuildOptions())


@pytest.mark.parametrize("error", [OutputError("read-only"), BackendUnavailable("no ONNX Runtime")])
def test_islands_that_cannot_be_widened_are_part_of_the_error(
    trt: StrictModule, tiny_bundle: Path, tmp_path: Path, error: Exception
) -> None:
    wrong = graph_of(Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "wrong", half=100.0)), "fp16")

    def graphs(level: int) -> Graph:
        if level:
            raise error
        return wrong

    with pytest.raises(
        ParityError, match=rf"the gate is .* \(wider islands cannot be had: {error}\); nothing"
    ):
        build_engine(wrong.bundle, BuildOptions(), graphs=graphs)


def test_without_a_gpu_or_with_a_driver_that_does_not_work_the_line_says_what_to_check(
    trt: StrictModule, bundle: Bundle
) -> None:
    trt.cuda.gpus = 0
    with pytest.raises(BackendUnavailable, match=r"no NVIDIA GPU .* \(cudaErrorNoDevice\); check nvidia-smi"):
        build_engine(bundle, BuildOptions())
    assert _nothing_is_written(bundle)


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_where_cuda_does_not_start_a_build_is_one_line_with_tensorrt_s_reason(
    every_release: StrictModule, bundle: Bundle, error: type[Exception]
) -> None:
    every_release.faults["no CUDA"] = error
    said = r"cannot start CUDA here: CUDA initialization failure with error: 35; check nvidia-smi"
    with pytest.raises(BackendUnavailable, match=said) as caught:
        build_engine(bundle, BuildOptions())
    assert "\n" not in str(caught.value)
    assert _nothing_is_written(bundle)


def test_an_engine_without_an_inspector_is_built_all_the_same(trt: StrictModule, bundle: Bundle) -> None:
    trt.faults["no inspector"] = True
    assert build_engine(bundle, BuildOptions()).sidecar.built["inspector_half_share"] is None


def test_a_bundle_without_golden_inputs_cannot_be_proven_and_is_refused(
    trt: StrictModule, bundle: Bundle
) -> None:
    with revised_bundle(bundle, without=("golden.npz",)):
        pass
    with pytest.raises(BundleError, match=r"ships no golden\.npz"):
        build_engine(Bundle.open(bundle.path), BuildOptions())
    assert not trt.built


def test_an_older_tensorrt_is_refused(trt: StrictModule, bundle: Bundle) -> None:
    trt.__version__ = "8.6.1"
    with pytest.raises(BackendUnavailable, match=r"10\.3 or later is needed, this is 8\.6\.1"):
        build_engine(bundle, BuildOptions())


def test_where_the_bundle_cannot_be_written_to_the_engine_goes_to_the_users_cache(
    trt: StrictModule, bundle: Bundle, tmp_path: Path
) -> None:
    (bundle.path / "engines").write_text("in the way")
    built = build_engine(bundle, BuildOptions())
    manifest = sha256_of(bundle.path / "manifest.json")
    assert built.path.parent == tmp_path / "cache" / "ovsdino" / "engines" / manifest
    assert engine_files(bundle) == [built.path]


def test_where_nothing_can_be_written_no_build_begins(
    trt: StrictModule, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle.path / "engines").write_text("a file in the way")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=rf"nowhere: not into {bundle.path}/engines nor {tmp_path}/file/"):
        build_engine(bundle, BuildOptions())
    assert trt.built == []


def test_without_room_for_an_engine_the_bundle_keeps_the_graph_it_has(
    trt: StrictModule, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {item.name: sha256_of(item) for item in bundle.path.iterdir() if item.is_file()}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 8, 1))  # type: ignore[attr-defined]
    with pytest.raises(OutputError, match=r"the engine needs \d+ MB in .*engines, where 0 MB are free"):
        build_engine(bundle, BuildOptions(precision="fp32"))
    assert {item.name: sha256_of(item) for item in bundle.path.iterdir() if item.is_file()} == before
    assert not engine_files(bundle)


def test_where_no_engine_can_be_recorded_no_build_begins(
    trt: StrictModule, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(OutputError, match=f"cannot create the folder {tmp_path}/file/cache"):
        build_engine(bundle, BuildOptions())
    assert trt.built == []


def test_for_a_bundle_that_could_not_keep_a_graph_none_is_derived(
    trt: StrictModule, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, known = Path(shutil.copytree(tiny_bundle, tmp_path / "in" / "bundle")), os.access
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != path and known(place, mode))
    said = rf"image\.fp16\.onnx is to be derived for {path}, which cannot be written to"
    with pytest.raises(OutputError, match=said):
        build_engine(Bundle.open(path), BuildOptions())
    assert trt.built == []


def test_without_cuda_graphs_the_golden_check_runs_all_the_same_and_says_so(
    trt: StrictModule, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.standins.cuda_runtime import Error

    trt.cuda.fail["cudaStreamEndCapture"] = Error.cudaErrorStreamCaptureUnsupported
    with caplog.at_level(logging.WARNING):
        built = build_engine(bundle, BuildOptions())
    assert built.sidecar.parity["label_agreement"] == 1
    assert [record.message for record in caplog.records if "without CUDA graphs" in record.message]


def test_a_sidecar_is_readable_json_with_what_the_issue_of_trust_needs(
    trt: StrictModule, bundle: Bundle
) -> None:
    written = json.loads(sidecar_of(build_engine(bundle, BuildOptions()).path).read_text())
    assert set(written["machine"]) == {"gpu", "compute", "driver", "tensorrt"}
    assert written["precision"] == "fp16"
    assert written["built"]["layers"]["full"] >= 1
    assert written["islands"] == [ISLAND]
