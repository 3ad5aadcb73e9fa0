"""On what a figure was measured: the GPU, wherever it is told, and which GPU is looked at."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ovsdino_bench import gpu_telemetry
from ovsdino_bench import machine as on_machine
from ovsdino_bench.gpu_telemetry import GpuSample, Nvml, device_of
from ovsdino_bench.latency_changes import cautions
from ovsdino_bench.machine import machine
from tests.bench.made_reports import latency
from tests.standins.cuda_runtime import Error
from tests.standins.release import install

OURS = ("gpu", "cuda", "tensorrt", "board")
UUIDS = ("GPU-11aa", "GPU-22bb", "GPU-22cc")


class FakeNvml(ModuleType):
    """pynvml on a machine with three GPUs; a handle is a GPU's number."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0

    def __init__(self, *, as_bytes: bool = False) -> None:
        super().__init__("pynvml")
        self._as_bytes = as_bytes

    def _text(self, text: str) -> str | bytes:
        return text.encode() if self._as_bytes else text

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(UUIDS)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= len(UUIDS):
            raise RuntimeError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByPciBusId(self, address: bytes) -> int:
        return {b"0000:65:00.0": 2}[address]

    def nvmlDeviceGetUUID(self, device: int) -> str | bytes:
        return self._text(UUIDS[device])

    def nvmlDeviceGetName(self, device: int) -> str | bytes:
        return self._text(f"NVIDIA T{device}")

    def nvmlSystemGetDriverVersion(self) -> str | bytes:
        return self._text("550.54")

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 12040

    def nvmlDeviceGetCudaComputeCapability(self, device: int) -> tuple[int, int]:
        return 7, 5

    def nvmlDeviceGetClockInfo(self, device: int, clock: int) -> int:
        return 1000 + device

    def nvmlDeviceGetTemperature(self, device: int, kind: int) -> int:
        return 50

    def nvmlDeviceGetPowerUsage(self, device: int) -> int:
        return 70_000

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:
        return SimpleNamespace(used=5)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: int) -> int:
        return 0


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with neither CUDA nor NVML nor TensorRT."""
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "pynvml", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def test_where_there_is_no_gpu_nothing_is_said_of_one(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setattr(on_machine, "_BOARD", tmp_path / "none")
    assert not set(OURS) & set(machine())
    assert {"processor", "cores", "system", "python", "packages"} <= set(machine())


def test_a_gpu_is_told_by_cuda_with_the_tensorrt_beside_it(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setattr("ovsdino_runtime.backends.gpu._DRIVER_VERSION", tmp_path / "version")
    (tmp_path / "version").write_text("550.54.15\n")
    trt = install(bare, tmp_path, "10.3")
    found = machine()
    assert found["gpu"] == {"name": "NVIDIA L4", "compute": "8.9", "driver": "550.54.15"}
    assert (found["cuda"], found["tensorrt"]) == ("12.8", trt.__version__)
    trt.cuda.fail["cudaGetDeviceProperties"] = Error.cudaErrorInvalidValue
    assert "gpu" not in machine()
    trt.cuda.fail.clear()
    trt.cuda.gpus = 0
    assert "tensorrt" not in machine()


@pytest.mark.parametrize("as_bytes", [False, True])
def test_without_cuda_python_nvml_tells_the_gpu_that_is_visible(
    bare: pytest.MonkeyPatch, *, as_bytes: bool
) -> None:
    bare.setitem(sys.modules, "pynvml", FakeNvml(as_bytes=as_bytes))
    bare.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    found = machine()
    assert found["gpu"] == {"name": "NVIDIA T1", "compute": "7.5", "driver": "550.54"}
    assert found["cuda"] == "12.4"
    assert "tensorrt" not in found
    opened = Nvml.open()
    assert opened is not None
    assert opened.sample() == GpuSample(clock_mhz=1001, celsius=50, watts=70, used_bytes=5, throttling=())


@pytest.mark.parametrize(
    ("visible", "device"),
    [
        (None, 0),
        ("2", 2),
        (" 1, 0", 1),
        ("GPU-22cc", 2),
        ("GPU-22", 1),  # the first that begins so
        ("GPU-22cc,GPU-11aa", 2),
        ("GPU-99", None),
        ("", None),
        ("-1", None),
        ("MIG-11aa", None),
    ],
)
def test_the_visible_gpu_is_looked_at(
    visible: str | None, device: int | None, bare: pytest.MonkeyPatch
) -> None:
    assert device_of(FakeNvml(), visible) == device


def test_cuda_itself_says_which_gpu_it_uses_before_the_variable_does(bare: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[int]] = []

    def address(*arguments: int) -> tuple[Any, ...]:
        asked.append(arguments)
        return Error.cudaSuccess, b"0000:65:00.0\0" + bytes(19)

    bare.setattr(gpu_telemetry, "import_cuda", lambda: SimpleNamespace(cudaDeviceGetPCIBusId=address))
    assert device_of(FakeNvml(), "0") == 2
    assert asked == [(32, 0)]


def test_a_gpu_that_nvml_does_not_know_or_that_tells_too_little_is_as_none(bare: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    bare.setitem(sys.modules, "pynvml", nvml)
    bare.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert Nvml.open() is None
    bare.setenv("CUDA_VISIBLE_DEVICES", "0")
    bare.delattr(FakeNvml, "nvmlDeviceGetPowerUsage")
    assert Nvml.open() is None
    assert machine()["gpu"] == {"name": "NVIDIA T0", "compute": "7.5", "driver": "550.54"}


def test_a_jetson_says_which_board_it_is(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    bare.setattr(on_machine, "_BOARD", tmp_path / "model")
    assert machine()["board"] == "NVIDIA Jetson Orin Nano Developer Kit"


def test_another_gpu_is_another_machine_for_compare(
    bare: pytest.MonkeyPatch, tmp_path: Path, write: Callable, bench: Callable
) -> None:
    trt = install(bare, tmp_path, "10.3")
    before = {**latency(), "machine": machine()}
    assert cautions(before, {**latency(), "machine": machine()}) == []
    trt.cuda.gpu_name = "NVIDIA T4"
    after = {**latency(), "machine": json.loads(json.dumps(machine()))}
    ran = bench("compare", write("a.json", before), write("b.json", after))
    assert "caution: the machines or their packages differ: gpu" in ran.out
    (caution,) = cautions({**before, "machine": None}, after)
    assert caution == "the machines or their packages differ"
