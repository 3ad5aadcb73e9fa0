"""What a Jetson's tegrastats says while something is timed: loads, clocks, temperatures, power."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading

_EVERY_MS = 1000


def sample_of(line: str) -> dict[str, float]:
    """Return what a line says; what a board does not tell is not there.

    GPU load in percent and clock in MHz, those of the processor's busiest core, temperatures in °C, power
    in mW.
    """
    found: dict[str, float] = {}
    if (gpu := re.search(r"GR3D_FREQ (\d+)%(?:@\[?(\d+))?", line)) is not None:
        found["gpu_percent"] = float(gpu[1])
        if gpu[2] is not None:
            found["gpu_mhz"] = float(gpu[2])
    if (cores := re.search(r"CPU \[([^\]]*)\]", line)) is not None:
        each = [(float(load), float(clock)) for load, clock in re.findall(r"(\d+)%@(\d+)", cores[1])]
        if each:
            found["cpu_percent"], found["cpu_mhz"] = max(each)
    for name, value in re.findall(r"(\w+)@(\d+(?:\.\d+)?)C", line):
        found[f"{name.lower()}_celsius"] = float(value)
    for name, value in re.findall(r"(VDD_\w+|VIN_\w+) (\d+)mW", line):
        found[f"{name.lower()}_mw"] = float(value)
    return found


class Tegrastats:
    """The program, running, and what it has said so far.

    Attributes:
        samples: one a second, see `sample_of`.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.samples: list[dict[str, float]] = []
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @classmethod
    def start(cls) -> Tegrastats | None:
        """Start it; None where there is none that starts."""
        program = shutil.which("tegrastats")
        if program is None:
            return None
        try:
            process = subprocess.Popen(
                [program, "--interval", str(_EVERY_MS)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )
        except OSError:
            return None
        return cls(process)

    def stop(self) -> tuple[dict[str, float], ...]:
        """End it and return all it said."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(timeout=5)
        return tuple(self.samples)

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as lines:
            for line in lines:
                found = sample_of(line)
                if found:
                    self.samples.append(found)
