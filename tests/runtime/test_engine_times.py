"""An engine's own time, by a stand-in whose clock is known: what counts, and nothing left behind."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ovsdino_runtime.backends.trt import TrtBackend, open_trt
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import InferenceError
from ovsdino_runtime.sidecar import BatchProfile
from tests.standins.cuda_runtime import Error
from tests.standins.half_bundle import write_half_bundle
from tests.standins.plans import write_engine
from tests.standins.release import install
from tests.standins.strict import RELEASES, StrictModule

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
IN_BYTES, OUT_BYTES = 28 * 28 * 3, 4 * 4 * 4 * 4  # of one window


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


def _windows(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("cuda_graphs", [True, False])
@pytest.mark.parametrize("run_before", [True, False])
def test_the_times_are_those_of_the_engine_and_of_the_engine_with_both_copies(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    bundle: Bundle,
    release: str,
    cuda_graphs: bool,
    run_before: bool,
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", release)
    write_engine(trt, bundle, "fp16")
    cuda = trt.cuda
    with open_trt(bundle, cuda_graphs=cuda_graphs) as backend:
        for count in (1, 3, 9, 3):
            if run_before:
                backend.features(_windows(count))
            found = backend.engine.time(_windows(count))
            assert found.without_transfers_ms == count * cuda.engine_ms_per_item
            copies = count * (IN_BYTES + OUT_BYTES) * cuda.copy_ms_per_byte
            assert found.with_transfers_ms == found.without_transfers_ms + copies
            assert found.cuda_graph == cuda_graphs
        assert cuda.made["launchable"] == (2 * 3 if cuda_graphs else 0)  # whole and alone, a batch size each
    gc.collect()
    assert not cuda.live
    assert not any(cuda.alive.values())
    assert not cuda.events


def test_running_takes_no_events_and_is_the_same_after_an_engine_was_timed(
    trt: StrictModule, backend: TrtBackend, tiny_features: Features
) -> None:
    windows = _windows(3)
    before = [backend.features(windows) for _ in range(2)][-1]
    assert trt.cuda.made["event"] == 0
    assert trt.cuda.made["launchable"] == 1
    backend.engine.time(_windows(3)[::-1].copy())
    made = dict(trt.cuda.made)
    np.testing.assert_array_equal(backend.features(windows), before)
    np.testing.assert_allclose(before, tiny_features(windows), atol=2e-3)
    assert {kind for kind in made if trt.cuda.made[kind] != made[kind]} == {"launch"}
    assert len(trt.contexts) == 1


def test_what_is_timed_is_the_whole_computation(trt: StrictModule, backend: TrtBackend) -> None:
    seen: list[NDArray[np.uint8]] = []

    def compute(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(batch)
        return np.zeros((len(batch), 4, 4, 4), np.float32)

    trt.faults["compute"] = compute
    backend.features(_windows(2))
    seen.clear()
    windows = np.full((2, 28, 28, 3), 7, np.uint8)
    backend.engine.time(windows)
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], windows)


def test_fewer_windows_than_the_profile_takes_take_the_time_of_those_it_does(
    trt: StrictModule, bundle: Bundle
) -> None:
    write_engine(trt, bundle, "fp16", profile=BatchProfile(least=4, usual=4, most=4))
    with open_trt(bundle) as backend:
        found = backend.engine.time(_windows(1))
    assert found.without_transfers_ms == 4 * trt.cuda.engine_ms_per_item


def test_where_graphs_cannot_be_recorded_the_engine_is_timed_as_it_then_runs(
    trt: StrictModule, backend: TrtBackend
) -> None:
    trt.cuda.fail["cudaStreamEndCapture"] = Error.cudaErrorStreamCaptureUnsupported
    found = backend.engine.time(_windows(2))
    assert not found.cuda_graph
    assert found.without_transfers_ms == 2 * trt.cuda.engine_ms_per_item


@pytest.mark.parametrize("function", ["cudaEventCreate", "cudaEventSynchronize", "cudaStreamEndCapture"])
def test_a_gpu_that_fails_while_timing_is_one_error_leaves_nothing_and_the_next_run_works(
    trt: StrictModule, backend: TrtBackend, tiny_features: Features, function: str
) -> None:
    backend.features(_windows(2))
    trt.cuda.fail[function] = Error.cudaErrorMemoryAllocation
    with pytest.raises(InferenceError, match=f"{function} failed: cudaErrorMemoryAllocation"):
        backend.engine.time(_windows(2))
    assert not trt.cuda.live
    assert not trt.cuda.events
    trt.cuda.fail.clear()
    windows = _windows(2)
    np.testing.assert_allclose(backend.features(windows), tiny_features(windows), atol=2e-3)


def test_what_an_engine_does_not_take_at_once_is_not_timed(backend: TrtBackend) -> None:
    for count in (0, 10):
        with pytest.raises(InferenceError, match=f"a batch of {count} was to be timed.* takes 1 to 9"):
            backend.engine.time(_windows(count))
    with pytest.raises(InferenceError, match="got float32"):
        backend.engine.time(np.zeros((1, 28, 28, 3), np.float32))
    backend.close()
    with pytest.raises(InferenceError, match="closed"):
        backend.engine.time(_windows(1))
