"""Clocks, temperature, power, memory and throttling of the first NVIDIA GPU, where NVML is importable."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

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
    """The first GPU, through pynvml."""

    def __init__(self, library: Any) -> None:
        self._library, self._device = library, library.nvmlDeviceGetHandleByIndex(0)

    @classmethod
    def open(cls) -> Nvml | None:
        """Return the first GPU; None where there is no pynvml, no driver or no GPU."""
        try:
            library = importlib.import_module("pynvml")
            library.nvmlInit()
            gpu = cls(library)
            gpu.sample()
        except Exception:  # NVML's errors have no common base that is there without it
            return None
        return gpu

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
