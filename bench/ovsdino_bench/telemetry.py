"""What else the machine did while something was timed, and whether the times can be trusted for it.

What is read is text of the operating system or numbers of NVML; the functions that judge it are pure.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ovsdino_bench.gpu_telemetry import THROTTLING, GpuSample, Nvml
from ovsdino_bench.tegrastats import LOADED_PERCENT, Tegrastats, fall_of

OTHERS_SHARE = 0.10  # of all cores' time; above, a run is marked busy
LOAD_PER_CORE = 0.5  # of the load average as the run begins; above, a run is marked busy
CLOCK_SHARE = 0.80  # of the highest clock seen; a lower one marks a run throttled
_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Seconds that all cores spent since the machine started.

    Attributes:
        busy: with work, or taken by another virtual machine.
        total: in all.
    """

    busy: float
    total: float

    @classmethod
    def of(cls, stat: str, hertz: int = 100) -> CpuTimes | None:
        """Return the times in the text of /proc/stat; None where it holds none.

        Args:
            stat: the text.
            hertz: its ticks a second.
        """
        match = re.search(r"^cpu\s+([\d ]+)$", stat, re.MULTILINE)
        if match is None:
            return None
        ticks = [int(word) for word in match[1].split()][:8]  # guests' time is in the user's already
        idle = sum(ticks[3:5])
        return cls(busy=(sum(ticks) - idle) / hertz, total=sum(ticks) / hertz)


def others_share(before: CpuTimes, after: CpuTimes, own_s: float) -> float | None:
    """Return the share of all cores' time that other processes took, in [0, 1]; None if no time passed.

    Args:
        before: as the run began.
        after: as it ended.
        own_s: processor seconds of this process and its children between.
    """
    total = after.total - before.total
    return None if total <= 0 else min(1.0, max(0.0, (after.busy - before.busy - own_s) / total))


def clocks_mhz(cpuinfo: str) -> list[float]:
    """Return the cores' clocks in the text of /proc/cpuinfo, MHz; empty where it does not say."""
    return [float(text) for text in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)]


def load_of(loadavg: str) -> float | None:
    """Return the load average of the last minute in the text of /proc/loadavg; None where it holds none."""
    match = re.match(r"[\d.]+", loadavg)
    return None if match is None else float(match[0])


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """What was seen during a run.

    Attributes:
        cores: that the machine has.
        load_before: load average as the run began.
        others: share of all cores' time that other processes took.
        cpu_mhz: mean clock of the cores, by sample.
        gpu: NVML's samples.
        tegrastats: a Jetson's samples, see `tegrastats.sample_of`.
    """

    cores: int
    load_before: float | None = None
    others: float | None = None
    cpu_mhz: tuple[float, ...] = ()
    gpu: tuple[GpuSample, ...] = ()
    tegrastats: tuple[dict[str, float], ...] = ()

    def marks(self) -> list[str]:
        """Return why the run's times are not to be trusted, a sentence each; empty if nothing is known."""
        found = []
        if self.others is not None and self.others > OTHERS_SHARE:
            found.append(
                f"busy: other processes took {100 * self.others:.0f} % of all cores' time, the limit is "
                f"{100 * OTHERS_SHARE:.0f} %"
            )
        if self.load_before is not None and self.load_before > LOAD_PER_CORE * self.cores:
            found.append(
                f"busy: the load was {self.load_before:.2f} on {self.cores} cores as the run began, the "
                f"limit is {LOAD_PER_CORE} a core"
            )
        if self.cpu_mhz and min(self.cpu_mhz) < CLOCK_SHARE * max(self.cpu_mhz):
            found.append(
                f"throttled: the processor's clock fell from {max(self.cpu_mhz):.0f} to "
                f"{min(self.cpu_mhz):.0f} MHz, the limit is {100 * CLOCK_SHARE:.0f} %"
            )
        reasons = sorted(
            {reason for sample in self.gpu for reason in sample.throttling if reason in THROTTLING}
        )
        if reasons:
            found.append(f"throttled: the GPU reports {', '.join(reasons)}")
        for part, what in (("gpu", "GPU"), ("cpu", "processor")):
            fall = fall_of(self.tegrastats, part)
            if fall is not None and fall[1] < CLOCK_SHARE * fall[0]:
                found.append(
                    f"throttled: the {what}'s clock under load fell from {fall[0]:.0f} to {fall[1]:.0f} MHz "
                    f"by tegrastats, the limit is {100 * CLOCK_SHARE:.0f} %"
                )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return what was seen, as JSON takes it, with the thresholds."""
        return {
            "cores": self.cores,
            "load_before": self.load_before,
            "others_share": self.others,
            "cpu_mhz": [round(value) for value in self.cpu_mhz],
            "gpu": [sample.as_dict() for sample in self.gpu],
            "tegrastats": list(self.tegrastats),
            "limits": {
                "others_share": OTHERS_SHARE,
                "load_per_core": LOAD_PER_CORE,
                "clock_share": CLOCK_SHARE,
                "loaded_percent": LOADED_PERCENT,
            },
        }


class Watch:
    """Looks at the machine once a second while a block runs.

    Attributes:
        seen: what was seen, after the block.
    """

    seen: Telemetry

    def __init__(self) -> None:
        self._done = threading.Event()
        self._clocks: list[float] = []
        self._gpu: list[GpuSample] = []
        self._nvml = Nvml.open()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._load = load_of(_text("/proc/loadavg"))
        self._before, self._own = _cpu_times(), _own_s()
        self._tegrastats = Tegrastats.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        after, own = _cpu_times(), _own_s() - self._own
        said = () if self._tegrastats is None else self._tegrastats.stop()
        both = self._before is not None and after is not None
        self.seen = Telemetry(
            cores=os.cpu_count() or 1,
            load_before=self._load,
            others=others_share(self._before, after, own) if both and self._before and after else None,
            cpu_mhz=tuple(self._clocks),
            gpu=tuple(self._gpu),
            tegrastats=said,
        )

    def _watch(self) -> None:
        while True:
            clocks = clocks_mhz(_text("/proc/cpuinfo"))
            if clocks:
                self._clocks.append(sum(clocks) / len(clocks))
            if self._nvml is not None:
                self._gpu.append(self._nvml.sample())
            if self._done.wait(_EVERY_S):
                return


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:  # not on this system
        return ""


def _cpu_times() -> CpuTimes | None:
    return CpuTimes.of(_text("/proc/stat"), os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)


def _own_s() -> float:
    times: Sequence[float] = os.times()
    return sum(times[:4])
