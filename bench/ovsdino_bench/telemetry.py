"""What else the machine did while something was timed, and whether the times can be trusted for it.

The functions that judge what was seen are pure.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ovsdino_bench.cpu_telemetry import CoreWatch, cpu_times, others_share, own_s
from ovsdino_bench.gpu_telemetry import THROTTLING, GpuSample, Nvml
from ovsdino_bench.tegrastats import Tegrastats
from ovsdino_runtime.errors import one_line

OTHERS_SHARE = 0.10  # of all cores' time; above, a run is marked busy
LOAD_PER_CORE = 0.5  # of the load average as the run begins; above, a run is marked busy
CLOCK_SHARE = 0.80  # of the highest clock seen; a lower one after it marks a run throttled
LOADED_PERCENT = 50  # below, a low clock is rest and not throttling
_EVERY_S = 1.0


def fall_of(samples: Sequence[dict[str, float]], part: str) -> tuple[float, float] | None:
    """Return the highest clock of `gpu` or `cpu` under load and the lowest after it, MHz; None if unknown.

    A clock at rest is left out, and so is one that still rises: neither is throttling.

    Args:
        samples: one a second, with `gpu_percent` and `gpu_mhz` or `cpu_percent` and `cpu_mhz`.
        part: `gpu` or `cpu`.
    """
    clocks = [
        sample[f"{part}_mhz"]
        for sample in samples
        if f"{part}_mhz" in sample and sample[f"{part}_percent"] >= LOADED_PERCENT
    ]
    if not clocks:
        return None
    highest = max(clocks)
    return highest, min(clocks[clocks.index(highest) :])


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """What was seen during a run.

    Attributes:
        cores: that the machine has.
        load_before: load average as the run began.
        others: share of all cores' time that other processes took.
        cpu: load and clock of the processor's busiest core, by sample, see `busiest_core`.
        gpu: NVML's samples.
        tegrastats: a Jetson's samples, see `tegrastats.sample_of`.
        looks: how often processor and GPU were looked at.
        unseen: how many of these looks failed.
        unseen_because: why the last of them did.
    """

    cores: int
    load_before: float | None = None
    others: float | None = None
    cpu: tuple[dict[str, float], ...] = ()
    gpu: tuple[GpuSample, ...] = ()
    tegrastats: tuple[dict[str, float], ...] = ()
    looks: int = 0
    unseen: int = 0
    unseen_because: str | None = None

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
        reasons = sorted(
            {reason for sample in self.gpu for reason in sample.throttling if reason in THROTTLING}
        )
        if reasons:
            found.append(f"throttled: the GPU reports {', '.join(reasons)}")
        for samples, part, what, source in (
            (self.cpu, "cpu", "processor", ""),
            (self.tegrastats, "gpu", "GPU", " by tegrastats"),
            (self.tegrastats, "cpu", "processor", " by tegrastats"),
        ):
            fall = fall_of(samples, part)
            if fall is not None and fall[1] < CLOCK_SHARE * fall[0]:
                found.append(
                    f"throttled: the {what}'s clock under load fell from {fall[0]:.0f} to {fall[1]:.0f} MHz"
                    f"{source}, the limit is {100 * CLOCK_SHARE:.0f} %"
                )
        if self.unseen:
            found.append(
                f"unseen: {self.unseen} of {self.looks} looks at the machine failed, the last with "
                f"{self.unseen_because}; whether it was throttled then is not known"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return what was seen, as JSON takes it, with the thresholds."""
        return {
            "cores": self.cores,
            "load_before": self.load_before,
            "others_share": self.others,
            "cpu": list(self.cpu),
            "gpu": [sample.as_dict() for sample in self.gpu],
            "tegrastats": list(self.tegrastats),
            "looks": {"count": self.looks, "failed": self.unseen, "last_error": self.unseen_because},
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

    def __init__(self, load_before: float | None) -> None:
        """Prepare to look.

        Args:
            load_before: `load_now` as the command began, before any work of its own; None if unknown.
        """
        self._load = load_before
        self._done = threading.Event()
        self._cores = CoreWatch()
        self._cpu: list[dict[str, float]] = []
        self._gpu: list[GpuSample] = []
        self._looks = 0
        self._errors: list[str] = []
        self._nvml = Nvml.open()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._before, self._own = cpu_times(), own_s()
        self._tegrastats = Tegrastats.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        before, after, own = self._before, cpu_times(), own_s() - self._own
        said = () if self._tegrastats is None else self._tegrastats.stop()
        self.seen = Telemetry(
            cores=os.cpu_count() or 1,
            load_before=self._load,
            others=None if before is None or after is None else others_share(before, after, own),
            cpu=tuple(self._cpu),
            gpu=tuple(self._gpu),
            tegrastats=said,
            looks=self._looks,
            unseen=len(self._errors),
            unseen_because=self._errors[-1] if self._errors else None,
        )

    def _watch(self) -> None:
        while True:
            try:
                self._look()
            except Exception as error:  # NVML's errors have no common base that is there without it
                self._errors.append(one_line(str(error)) or type(error).__name__)
            self._looks += 1
            if self._done.wait(_EVERY_S):
                return

    def _look(self) -> None:
        core = self._cores.sample()
        if core is not None:
            self._cpu.append(core)
        if self._nvml is not None:
            self._gpu.append(self._nvml.sample())
