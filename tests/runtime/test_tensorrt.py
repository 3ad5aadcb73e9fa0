"""The TensorRT backend, by a stand-in: real numbers, every refusal, and nothing left behind."""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ovsdino_runtime.backends.trt import TrtBackend, open_trt
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.engine_trust import trust
from ovsdino_runtime.engines import engine_name, sidecar_of
from ovsdino_runtime.errors import BackendUnavailable, InferenceError
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.sidecar import BatchProfile, Machine, Sidecar
from tests.standins.cuda_runtime import Error
from tests.standins.half_bundle import write_half_bundle
from tests.standins.plans import write_engine
from tests.standins.release import install
from tests.standins.strict import RELEASES, StrictModule

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
HALF_ROUNDING = 2e-3  # of features of unit norm


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StrictModule:
    return install(monkeypatch, tmp_path / "cache", "10.3")


@pytest.fixture
def backend(trt: StrictModule, bundle: Bundle) -> Iterator[TrtBackend]:
    write_engine(trt, bundle, "fp16")
    with open_trt(bundle) as opened:
        yield opened


def _windows(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_every_release_computes_the_bundles_features_for_every_batch(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    bundle: Bundle,
    tiny_features: Features,
    release: str,
    cuda_graphs: bool,
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", release)
    write_engine(trt, bundle, "fp16")
    with open_trt(bundle, cuda_graphs=cuda_graphs) as backend:
        assert backend.name == "tensorrt-fp16"
        for count in (1, 3, 9, 10, 25, 3, 1, 0):  # beyond 9 the profile ends; sizes that come again replay
            windows = _windows(count, seed=count)
            features = backend.features(windows)
            assert features.dtype == np.float32
            np.testing.assert_allclose(features, tiny_features(windows), atol=HALF_ROUNDING)
    assert (trt.cuda.made["launch"] > 0) == cuda_graphs


def test_an_older_cuda_python_serves_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle, tiny_features: Features
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3", older_cuda_python=True)
    write_engine(trt, bundle, "fp16")
    with open_trt(bundle) as backend:
        windows = _windows(2)
        np.testing.assert_allclose(backend.features(windows), tiny_features(windows), atol=HALF_ROUNDING)


def test_fewer_windows_than_the_profile_takes_are_filled_up(
    trt: StrictModule, bundle: Bundle, tiny_features: Features
) -> None:
    write_engine(trt, bundle, "fp16", profile=BatchProfile(least=4, usual=4, most=4))
    with open_trt(bundle) as backend:
        for count in (1, 4, 6):
            windows = _windows(count)
            np.testing.assert_allclose(backend.features(windows), tiny_features(windows), atol=HALF_ROUNDING)


def test_one_graph_is_recorded_for_each_batch_size_and_replayed(
    trt: StrictModule, backend: TrtBackend
) -> None:
    for _ in range(5):
        for count in (1, 2, 9):
            backend.features(_windows(count))
    assert trt.cuda.made["launchable"] == 3
    assert trt.cuda.made["launch"] == 12  # the first of each runs plainly
    assert len(trt.contexts) == 3  # a graph is bound to its context


def test_where_no_graph_can_be_recorded_the_plain_path_gives_the_same_and_a_warning_says_so_once(
    trt: StrictModule, backend: TrtBackend, tiny_features: Features, caplog: pytest.LogCaptureFixture
) -> None:
    trt.cuda.fail["cudaStreamEndCapture"] = Error.cudaErrorStreamCaptureUnsupported
    with caplog.at_level(logging.WARNING):
        for count in (2, 3, 2):
            windows = _windows(count)
            np.testing.assert_allclose(backend.features(windows), tiny_features(windows), atol=HALF_ROUNDING)
    assert [record.message for record in caplog.records if "without CUDA graphs" in record.message] == [
        "running without CUDA graphs, somewhat slower: cudaStreamEndCapture failed: "
        "cudaErrorStreamCaptureUnsupported; free GPU memory or restart"
    ]


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_ten_thousand_calls_allocate_nothing_after_the_first(
    trt: StrictModule, bundle: Bundle, cuda_graphs: bool
) -> None:
    answer = np.ones((9, 4, 4, 4), np.float32)
    trt.faults["compute"] = lambda batch: answer[: len(batch)]
    write_engine(trt, bundle, "fp16")
    with open_trt(bundle, cuda_graphs=cuda_graphs) as backend:
        for count in (1, 3):
            backend.features(_windows(count))
        before, held = dict(trt.cuda.made), dict(trt.cuda.live)
        one, three = _windows(1), _windows(3)
        for _ in range(5000):
            backend.features(one)
            backend.features(three)
        after = {kind: count for kind, count in trt.cuda.made.items() if kind != "launch"}
        assert after == {kind: count for kind, count in before.items() if kind != "launch"}
        assert trt.cuda.live.keys() == held.keys()
        assert len(trt.contexts) == 2
        assert all(not stream.waiting for stream in trt.cuda.streams.values())
    gc.collect()
    assert not trt.cuda.live
    assert not any(trt.cuda.alive.values())
    assert not trt.contexts


def test_a_forgotten_backend_frees_the_gpu_all_the_same(trt: StrictModule, bundle: Bundle) -> None:
    write_engine(trt, bundle, "fp16")
    backend = open_trt(bundle)
    backend.features(_windows(2))
    assert trt.cuda.live
    del backend
    gc.collect()
    assert not trt.cuda.live
    assert not any(trt.cuda.alive.values())


def test_a_closed_backend_says_so_and_may_be_closed_again(backend: TrtBackend) -> None:
    backend.close()
    backend.close()
    with pytest.raises(InferenceError, match="closed"):
        backend.features(_windows(1))


def test_threads_inside_at_once_have_contexts_of_their_own_and_later_ones_take_them_over(
    trt: StrictModule, backend: TrtBackend, tiny_features: Features
) -> None:
    together = threading.Barrier(3)

    def compute(seed: int) -> bool:
        windows = _windows(2, seed)
        together.wait()
        return bool(np.allclose(backend.features(windows), tiny_features(windows), atol=HALF_ROUNDING))

    for _ in range(4):
        with ThreadPoolExecutor(3) as pool:
            assert all(pool.map(compute, range(3)))
    assert 1 <= trt.cuda.alive["stream"] <= 3
    assert len(trt.contexts) == trt.cuda.alive["stream"]


def test_a_call_that_fails_frees_its_lane_and_the_next_one_works(
    trt: StrictModule, backend: TrtBackend, tiny_features: Features
) -> None:
    backend.features(_windows(1))
    trt.faults["execute"] = True
    with pytest.raises(InferenceError, match="TensorRT failed on 2 windows"):
        backend.features(_windows(2))
    assert not trt.cuda.live
    trt.faults.clear()
    windows = _windows(2)
    np.testing.assert_allclose(backend.features(windows), tiny_features(windows), atol=HALF_ROUNDING)


def test_a_gpu_without_memory_is_one_error_and_leaves_nothing(trt: StrictModule, backend: TrtBackend) -> None:
    trt.cuda.fail["cudaMallocHost"] = Error.cudaErrorMemoryAllocation
    with pytest.raises(InferenceError, match="cudaMallocHost failed: cudaErrorMemoryAllocation"):
        backend.features(_windows(1))
    assert not trt.cuda.live
    assert not any(trt.cuda.alive.values())


def test_no_context_and_windows_of_another_size_are_errors(trt: StrictModule, backend: TrtBackend) -> None:
    with pytest.raises(InferenceError, match=r"takes uint8 \[28, 28, 3\] an item, got uint8 \[30, 28, 3\]"):
        backend.features(np.zeros((1, 30, 28, 3), np.uint8))
    trt.faults["no context"] = True
    with pytest.raises(InferenceError, match="no execution context"):
        backend.features(_windows(1))


def _refusal(bundle: Bundle, precision: str | None = None) -> str:
    with pytest.raises(BackendUnavailable) as caught:
        open_trt(bundle, precision)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _rewrite(engine: Path, **changes: object) -> None:
    sidecar = Sidecar.from_json(sidecar_of(engine).read_text())
    sidecar_of(engine).write_text(dataclasses.replace(sidecar, **changes).to_json())  # type: ignore[arg-type]


def test_without_an_engine_both_places_and_the_command_are_named(
    trt: StrictModule, bundle: Bundle, tmp_path: Path
) -> None:
    message = _refusal(bundle)
    assert f"there is no engine in {bundle.path / 'engines'} or {tmp_path / 'cache'}" in message
    assert message.endswith(f"build one here with `ovsdino-export trt {bundle.path} --fp16`")
    write_engine(trt, bundle, "fp16")
    assert "no FP32 engine" in _refusal(bundle, "fp32")
    assert _refusal(bundle, "fp32").endswith("--fp32`")


def test_an_engine_without_its_sidecar_is_not_loaded(trt: StrictModule, bundle: Bundle) -> None:
    engine = write_engine(trt, bundle, "fp16")
    sidecar_of(engine).unlink()
    message = _refusal(bundle)
    assert "has no sidecar" in message
    assert "runs native code" in message
    assert f"rebuild it here with `ovsdino-export trt {bundle.path} --fp16`" in message


def test_a_folder_that_can_be_listed_but_not_entered_is_one_error(
    trt: StrictModule, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_engine(trt, bundle, "fp16")
    known, folder = Path.stat, bundle.path / "engines"

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path.parent == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return known(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(Path, "is_file", lambda path: bool(path.stat()))  # as Python before 3.14 asks
    assert "Permission denied" in _refusal(bundle)


@pytest.mark.parametrize(
    "content", ["", "{}", "[1]", '{"schema": 99}', "not json", '{"schema": 1, "machine": 1}']
)
def test_a_broken_sidecar_is_no_sidecar(trt: StrictModule, bundle: Bundle, content: str) -> None:
    engine = write_engine(trt, bundle, "fp16")
    sidecar_of(engine).write_text(content)
    assert "is no sidecar of an engine" in _refusal(bundle)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", 5),
        ("onnx", ["image.fp16.onnx"]),
        ("onnx", {"image.fp16.onnx": None}),
        ("machine", {"gpu": "NVIDIA L4", "compute": 8.9, "driver": "1", "tensorrt": "10.3.0"}),
        ("machine", {"gpu": "NVIDIA L4"}),
        ("precision", "int8"),
        ("profile", [1, 3, 9]),
        ("islands", 3),
        ("hardware_compatible", "false"),
        ("version_compatible", 1),
    ],
)
def test_a_sidecar_with_a_field_of_a_wrong_kind_is_refused(
    trt: StrictModule, bundle: Bundle, field: str, value: object
) -> None:
    source = sidecar_of(write_engine(trt, bundle, "fp16"))
    source.write_text(json.dumps({**json.loads(source.read_text()), field: value}))
    assert "is no sidecar of an engine" in _refusal(bundle)


def test_an_engine_with_another_hash_than_its_sidecar_says_is_not_loaded(
    trt: StrictModule, bundle: Bundle
) -> None:
    engine = write_engine(trt, bundle, "fp16")
    says = sha256_of(engine)
    engine.write_bytes(engine.read_bytes() + b"x")
    message = _refusal(bundle)
    assert f"its SHA-256 is {sha256_of(engine)[:12]}…, its sidecar says {says[:12]}…" in message


def test_an_engine_that_cannot_be_read_is_refused_and_another_that_matches_serves(
    trt: StrictModule, bundle: Bundle, tmp_path: Path
) -> None:
    engine = write_engine(trt, bundle, "fp16")
    content = engine.read_bytes()
    engine.unlink()
    engine.symlink_to(tmp_path / "gone")
    assert f"the engine {engine} cannot be read: No such file" in _refusal(bundle)
    engine.unlink()
    engine.mkdir()
    assert f"the engine {engine} cannot be read: Is a directory" in _refusal(bundle)
    other = engine.with_name("z-fp16.engine")
    other.write_bytes(content)
    sidecar_of(other).write_text(sidecar_of(engine).read_text())
    with open_trt(bundle) as backend:
        assert backend.file.path == other


@pytest.mark.parametrize(
    ("name", "compute"), [("NVIDIA GeForce RTX 4090", (8, 9)), ("NVIDIA L4", (9, 0))], ids=["name", "compute"]
)
def test_an_engine_of_another_gpu_is_refused_naming_both(
    trt: StrictModule, bundle: Bundle, name: str, compute: tuple[int, int]
) -> None:
    write_engine(trt, bundle, "fp16")
    trt.cuda.gpu_name, trt.cuda.compute = name, compute
    message = _refusal(bundle)
    here = f"{name} (compute {compute[0]}.{compute[1]})"
    assert f"it was built for NVIDIA L4 (compute 8.9), this is {here}" in message
    assert "rebuild it here with" in message


def test_an_engine_of_another_tensorrt_is_refused_naming_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    write_engine(install(monkeypatch, tmp_path / "cache", "10.3"), bundle, "fp16")
    install(monkeypatch, tmp_path / "cache", "11.4")
    assert "built by TensorRT 10.3.0, this is TensorRT 11.4.0.106" in _refusal(bundle)


def test_everything_that_does_not_fit_is_named_and_other_engines_are_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    for release in ("10.3", "10.13"):
        write_engine(install(monkeypatch, tmp_path / "cache", release), bundle, "fp16")
    trt = install(monkeypatch, tmp_path / "cache", "11.4")
    trt.cuda.gpu_name = "Tesla T4"
    message = _refusal(bundle)
    assert "this is Tesla T4" in message
    assert "this is TensorRT 11.4.0.106" in message
    assert "(1 more do not fit either)" in message


def test_an_engine_of_another_graph_is_refused_naming_both(
    trt: StrictModule, bundle: Bundle, tiny_bundle: Path
) -> None:
    write_engine(trt, bundle, "fp16")
    then = sha256_of(bundle.path / "image.fp16.onnx")[:12]
    engines = {path.name: path.read_bytes() for path in (bundle.path / "engines").iterdir()}
    write_half_bundle(tiny_bundle, bundle.path, half=120.0)
    for name, content in engines.items():
        (bundle.path / "engines").mkdir(exist_ok=True)
        (bundle.path / "engines" / name).write_bytes(content)
    now = sha256_of(bundle.path / "image.fp16.onnx")[:12]
    message = _refusal(Bundle.open(bundle.path))
    assert f"built from image.fp16.onnx {then}…, the bundle ships {now}…" in message


def test_an_engine_of_a_graph_the_bundle_does_not_ship_or_of_the_other_graph_is_refused(
    trt: StrictModule, bundle: Bundle, tiny_bundle: Path
) -> None:
    engine = write_engine(trt, bundle, "fp16")
    _rewrite(engine, onnx={"other.onnx": "0" * 64})
    assert "built from other.onnx 000000000000…, the bundle ships none" in _refusal(bundle)
    _rewrite(engine, onnx={"image.onnx": sha256_of(bundle.path / "image.onnx")})
    assert "built from image.onnx, not from image.fp16.onnx" in _refusal(bundle)
    _rewrite(engine, onnx={})
    assert "not from image.fp16.onnx" in _refusal(bundle)


def test_a_plan_that_tensorrt_cannot_load_is_one_error(trt: StrictModule, bundle: Bundle) -> None:
    engine = write_engine(trt, bundle, "fp16")
    engine.write_bytes(b"some other file")
    _rewrite(engine, sha256=sha256_of(engine))
    trust(sha256_of(engine), engine.name)
    assert "cannot load the engine: magic tag does not match" in _refusal(bundle)


def test_an_engine_that_computes_other_shapes_than_the_manifest_says_is_refused(
    trt: StrictModule, bundle: Bundle
) -> None:
    write_engine(trt, bundle, "fp16")
    wrong = Bundle(bundle.path, dataclasses.replace(bundle.manifest, embedding_dim=5))
    message = _refusal(wrong)
    assert "(4, 4, 4), the manifest says uint8 (28, 28, 3) -> (5, 4, 4)" in message
    assert not trt.cuda.live


def test_a_hardware_compatible_engine_serves_other_gpus_from_ampere_on(
    trt: StrictModule, bundle: Bundle
) -> None:
    write_engine(trt, bundle, "fp16", hardware_compatible=True)
    trt.cuda.gpu_name, trt.cuda.compute = "NVIDIA H100", (9, 0)
    open_trt(bundle).close()
    trt.cuda.gpu_name, trt.cuda.compute = "Tesla T4", (7, 5)
    assert "this is Tesla T4 (compute 7.5)" in _refusal(bundle)


def test_a_version_compatible_engine_serves_later_releases_of_the_same_major_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle, tiny_features: Features
) -> None:
    built_by = install(monkeypatch, tmp_path / "cache", "10.13")
    write_engine(built_by, bundle, "fp16", version_compatible=True)
    install(monkeypatch, tmp_path / "cache", "10.16")
    with open_trt(bundle) as backend:
        windows = _windows(2)
        np.testing.assert_allclose(backend.features(windows), tiny_features(windows), atol=HALF_ROUNDING)
    for other in ("10.3", "11.4"):
        install(monkeypatch, tmp_path / "cache", other)
        assert "built by TensorRT 10.13.3.9" in _refusal(bundle)


def test_fp16_is_preferred_a_matching_engine_wins_over_others_and_the_cache_serves_too(
    trt: StrictModule, bundle: Bundle, tmp_path: Path
) -> None:
    write_engine(trt, bundle, "fp32")
    stray = bundle.path / "engines" / "a-stray.engine"
    stray.write_bytes(b"no sidecar")
    with open_trt(bundle) as backend:
        assert backend.name == "tensorrt-fp32"
    cache = tmp_path / "cache" / "ovsdino" / "engines" / sha256_of(bundle.path / "manifest.json")
    write_engine(trt, bundle, "fp16", folder=cache)
    with open_trt(bundle) as backend:
        assert backend.name == "tensorrt-fp16"
        assert backend.file.path.parent == cache
    with open_trt(bundle, "fp32") as backend:
        assert backend.name == "tensorrt-fp32"


def test_engine_names_say_gpu_compute_release_and_precision() -> None:
    machine = Machine(gpu="Orin (nvgpu)", compute="8.7", driver="540.3.0", tensorrt="10.3.0")
    assert engine_name(machine, "fp16") == "orin-nvgpu-8.7-trt10.3.0-fp16.engine"


def test_a_sidecar_comes_back_from_its_json(trt: StrictModule, bundle: Bundle) -> None:
    text = sidecar_of(write_engine(trt, bundle, "fp16")).read_text()
    assert Sidecar.from_json(text).to_json() == text
    assert json.loads(text)["machine"]["gpu"] == "NVIDIA L4"
