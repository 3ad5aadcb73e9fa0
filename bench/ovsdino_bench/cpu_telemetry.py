"""How busy the processor is and how fast its cores run, as Linux says.

What is read is text of the operating system; the functions that understand it are pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CORES = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Seconds that all cores, or one, spent since the machine started.

    Attributes:
        busy: with work, or taken by another virtual machine.
        total: in all.
    """

    busy: float
    total: float

    @classmethod
    def of(cls, stat: str, hertz: int = 100) -> CpuTimes | None:
        """Return the times of all cores in the text of /proc/stat; None where it holds none.

        Args:
            stat: the text.
            hertz: its ticks a second.
        """
        match = re.search(r"^cpu\s+([\d ]+)$", stat, re.MULTILINE)
        return None if match is None else cls._of_ticks(match[1], hertz)

    @classmethod
    def of_cores(cls, stat: str, hertz: int = 100) -> dict[int, CpuTimes]:
        """Return the times of every core in the text of /proc/stat; see `of`."""
        lines = re.findall(r"^cpu(\d+)\s+([\d ]+)$", stat, re.MULTILINE)
        return {int(core): cls._of_ticks(ticks, hertz) for core, ticks in lines}

    @classmethod
    def _of_ticks(cls, text: str, hertz: int) -> CpuTimes:
        ticks = [int(word) for word in text.split()][:8]  # guests' time is in the user's already
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


def clocks_mhz(cpuinfo: str) -> dict[int, float]:
    """Return the clocks in the text of /proc/cpuinfo by core, MHz; empty where it does not say, as on ARM."""
    found: dict[int, float] = {}
    core = 0
    lines = r"^(?:processor\s*:\s*(\d+)|cpu MHz\s*:\s*(\d+(?:\.\d+)?))"
    for number, clock in re.findall(lines, cpuinfo, re.MULTILINE):
        if number:
            core = int(number)
        else:
            found[core] = float(clock)
    return found


def scaling_clocks_mhz(folder: Path) -> dict[int, float]:
    """Return the clocks that cpufreq gives by core, MHz; empty where it gives none.

    Args:
        folder: /sys/devices/system/cpu.
    """
    found: dict[int, float] = {}
    for path in folder.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"):
        khz = text_of(path).strip()
        if khz.isdecimal():
            found[int(path.parts[-3].removeprefix("cpu"))] = int(khz) / 1000
    return found


def load_of(loadavg: str) -> float | None:
    """Return the load average of the last minute in the text of /proc/loadavg; None where it holds none."""
    match = re.match(r"[\d.]+", loadavg)
    return None if match is None else float(match[0])


def busiest_core(
    before: Mapping[int, CpuTimes], after: Mapping[int, CpuTimes], clocks: Mapping[int, float]
) -> dict[str, float] | None:
    """Return load in percent and clock in MHz of the core that worked most; None where one is not known.

    They are called as in `tegrastats.sample_of`.

    Args:
        before: every core's times at an earlier look.
        after: at this one.
        clocks: at this one, MHz.
    """
    each = []
    for core in after.keys() & before.keys() & clocks.keys():
        total = after[core].total - before[core].total
        if total > 0:
            each.append((100 * (after[core].busy - before[core].busy) / total, clocks[core]))
    if not each:
        return None
    percent, mhz = max(each)
    return {"cpu_percent": round(percent, 1), "cpu_mhz": round(mhz, 1)}


class CoreWatch:
    """Looks at the cores that this process may use; every look tells of the time since the one before."""

    def __init__(self) -> None:
        self._before: Mapping[int, CpuTimes] = {}

    def sample(self) -> dict[str, float] | None:
        """Return the busiest core's load and clock; None at the first look, or where neither is known."""
        now = CpuTimes.of_cores(text_of(Path("/proc/stat")), _hertz())
        if hasattr(os, "sched_getaffinity"):
            own = os.sched_getaffinity(0)
            now = {core: times for core, times in now.items() if core in own}
        clocks = clocks_mhz(text_of(Path("/proc/cpuinfo"))) or scaling_clocks_mhz(_CORES)
        found = busiest_core(self._before, now, clocks)
        self._before = now
        return found


def load_now() -> float | None:
    """Return the load average of the last minute; None where the system does not say."""
    return load_of(text_of(Path("/proc/loadavg")))


def cpu_times() -> CpuTimes | None:
    """Return the times of all cores; None where the system does not say."""
    return CpuTimes.of(text_of(Path("/proc/stat")), _hertz())


def own_s() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def text_of(path: Path) -> str:
    """Return what a file of the system says; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not on this system
        return ""


def _hertz() -> int:
    return os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
