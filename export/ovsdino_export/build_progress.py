"""Progress of a build: the command's own steps, and the phases that TensorRT reports."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm import tqdm

_STEPS = 5  # of the command


class BuildProgress(Protocol):
    """What a build tells of itself; called from several threads."""

    def step(self, name: str) -> None:
        """A step of the command begins."""

    def phase(self, name: str, done: int, total: int) -> None:
        """A phase inside TensorRT has come to `done` of `total`."""


class Silent:
    """Reports nothing."""

    def step(self, name: str) -> None:
        """Say nothing."""

    def phase(self, name: str, done: int, total: int) -> None:
        """Say nothing."""


def progress_monitor(trt: Any, progress: BuildProgress) -> Any:
    """Return a `tensorrt.IProgressMonitor` that passes phases on.

    Its `interrupted` is true once the user pressed Ctrl-C: TensorRT is then asked to stop. No exception
    may leave the monitor, as TensorRT would end the process.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}
            self.interrupted = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.totals[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not self.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self.totals.pop(phase_name, 0))

        def _tell(self, name: str, done: int) -> None:
            try:
                progress.phase(name, done, self.totals.get(name, done))
            except KeyboardInterrupt:
                self.interrupted = True
            except Exception:  # a broken terminal must not end the build
                pass

    return Monitor()


@contextmanager
def shown() -> Iterator[BuildProgress]:
    """Yield what a build reports to; shows a bar on stderr, with TensorRT's phases behind it."""
    with tqdm(
        total=_STEPS,
        file=sys.stderr,
        bar_format="{desc:<28}{bar:24} {elapsed} {postfix}",
        leave=False,
        delay=1e-3,  # before the first step there is no bar: an error then stands alone in its line
    ) as bar:
        lock = threading.Lock()  # TensorRT reports from several threads

        class Shown:
            begun = False

            def step(self, name: str) -> None:
                with lock:
                    bar.update(int(self.begun))
                    bar.set_description_str(name)
                    bar.set_postfix_str("")
                    self.begun = True

            def phase(self, name: str, done: int, total: int) -> None:
                with lock:
                    bar.set_postfix_str(f"{name} {done}/{total}"[:60])

        yield Shown()
