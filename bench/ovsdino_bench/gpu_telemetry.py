"""Clocks, temperature, power, memory and throttling of the GPU that CUDA uses, where NVML is importable."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import Any

from ovsdino_runtime.backends.gpu import Cuda, import_cuda

_REASONS = {  # NVML's nvmlClocksEventReason bits
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake",
    0x100: "display clocks",
}
THROTTLING = frozenset(_REASONS[bit] for bit in (0x4, 0x8, 0x20, 0x40, 0x80))


def throttle_reasons(bits: int) -> tuple[str, ...]:
    """Return what NVML's bits say about why clocks are as they are."""
    return tuple(name for bit, name in _REASONS.items() if bits & bit)


@dataclass(frozen=True, kw_only=True)
class GpuSample:
    """One look at a GPU.

    Attributes:
        clock_mhz: of the multiprocessors.
        celsius: temperature.
        watts: power drawn.
        used_bytes: memory in use by all processes.
        throttling: see `throttle_reasons`.
    """

    clock_mhz: int
    celsius: int
    watts: float
    used_bytes: int
    throttling: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**vars(self), "throttling": list(self.throttling)}


class Nvml:
    """The GPU that CUDA uses first here, through pynvml."""

    def __init__(self, library: Any, device: Any) -> None:
        self._library, self._device = library, device

    @classmethod
    def open(cls) -> Nvml | None:
        """Return the GPU; None where there is no pynvml, no driver or no GPU that says what samples hold."""
        gpu = cls.find()
        try:
            if gpu is not None:
                gpu.sample()
        except Exception:  # NVML's errors have no common base that is there without it
            return None
        return gpu

    @classmethod
    def find(cls) -> Nvml | None:
        """Return the GPU, whatever it tells; None where there is no pynvml, no driver or no GPU."""
        try:
            library = importlib.import_module("pynvml")
            library.nvmlInit()
            device = device_of(library, os.environ.get("CUDA_VISIBLE_DEVICES"))
        except Exception:  # as above
            return None
        return None if device is None else cls(library, device)

    def sample(self) -> GpuSample:
        """Look at the GPU."""
        library, device = self._library, self._device
        return GpuSample(
            clock_mhz=int(library.nvmlDeviceGetClockInfo(device, library.NVML_CLOCK_SM)),
            celsius=int(library.nvmlDeviceGetTemperature(device, library.NVML_TEMPERATURE_GPU)),
            watts=library.nvmlDeviceGetPowerUsage(device) / 1000,
            used_bytes=int(library.nvmlDeviceGetMemoryInfo(device).used),
            throttling=throttle_reasons(int(library.nvmlDeviceGetCurrentClocksThrottleReasons(device))),
        )

    def identity(self) -> tuple[str, str, str, int]:
        """Return name, compute capability (`8.9`), driver, and the CUDA release it serves (12040 is 12.4)."""
        library = self._library
        major, minor = library.nvmlDeviceGetCudaComputeCapability(self._device)
        return (
            _text(library.nvmlDeviceGetName(self._device)),
            f"{major}.{minor}",
            _text(library.nvmlSystemGetDriverVersion()),
            int(library.nvmlSystemGetCudaDriverVersion()),
        )


def device_of(library: Any, visible: str | None) -> Any:
    """Return NVML's handle of the GPU that CUDA uses first; None where CUDA sees none.

    NVML knows nothing of CUDA_VISIBLE_DEVICES. Where cuda-python is there, CUDA itself tells where its GPU
    sits. Else the variable does; its numbers count GPUs by speed, NVML's by slot, which is the same where all
    GPUs are alike or CUDA_DEVICE_ORDER is PCI_BUS_ID.

    Args:
        library: pynvml.
        visible: CUDA_VISIBLE_DEVICES; None where it is not set.
    """
    address = _pci_address()
    if address is not None:
        return library.nvmlDeviceGetHandleByPciBusId(address)
    first = "0" if visible is None else visible.split(",")[0].strip()
    if first.isdecimal():
        return library.nvmlDeviceGetHandleByIndex(int(first))
    if first.startswith("GPU-"):
        for index in range(int(library.nvmlDeviceGetCount())):
            device = library.nvmlDeviceGetHandleByIndex(index)
            if _text(library.nvmlDeviceGetUUID(device)).startswith(first):  # its beginning will do for CUDA
                return device
    return None


def _pci_address() -> bytes | None:
    """Return where CUDA's first GPU sits, `0000:65:00.0`; None where CUDA cannot be asked or has none."""
    try:
        found: bytes = Cuda(import_cuda()).call("cudaDeviceGetPCIBusId", 32, 0)
        return found.split(b"\0")[0].strip() or None
    except Exception:  # no cuda-python, one that finds no library, or no GPU: not to be known this way
        return None


def _text(value: str | bytes) -> str:
    """Return a text of pynvml, some releases of which give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
