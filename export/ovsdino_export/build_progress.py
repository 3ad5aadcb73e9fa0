"""Progress of a build: the command's own steps, the phases that TensorRT reports, and how it is stopped."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_STEPS = 5  # of the command
_REDRAWN_S = 0.1  # between two drawings of the bar: TensorRT reports thousands of steps
_LISTENS_S = 0.1  # between two looks for Ctrl-C


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

    Once its `stop` was called, TensorRT is told at the next step to end the build. No exception leaves the
    monitor: the binding, which calls it from TensorRT's threads, would print it and go on.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.totals: dict[str, int] = {}
            self.stopped = False

        def stop(self) -> None:
            self.stopped = True

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.totals[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, self.totals.pop(phase_name, 0))

        def _tell(self, name: str, done: int) -> None:
            with suppress(Exception):  # a broken terminal must not end the build
                progress.phase(name, done, self.totals.get(name, done))

    return Monitor()


def interruptible(work: Callable[[], T], stop: Callable[[], None]) -> T:
    """Return what long work outside Python gives, and let Ctrl-C stop it.

    Python raises KeyboardInterrupt in the main thread alone, and only where that runs Python. So the work has
    a thread of its own, and this one listens: inside TensorRT it would come up in the monitor, where the
    binding swallows it.

    Args:
        work: what to do.
        stop: asks the work to end soon.

    Raises:
        KeyboardInterrupt: the user stopped it; the work has ended.
    """
    outcome: Future[T] = Future()
    ended = threading.Event()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            ended.set()

    interrupted = False
    threading.Thread(target=run, name="building an engine").start()
    while not ended.is_set():
        try:
            # Not by joining the thread: before Python 3.13 an interrupted join takes it for dead.
            while not ended.wait(_LISTENS_S):
                pass
        except KeyboardInterrupt:
            interrupted = True
            stop()
    if interrupted:
        raise KeyboardInterrupt
    return outcome.result()


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
            drawn_s = 0.0

            def step(self, name: str) -> None:
                with lock:
                    bar.update(int(self.begun))
                    bar.set_description_str(name)
                    bar.set_postfix_str("")
                    self.begun = True

            def phase(self, name: str, done: int, total: int) -> None:
                with lock:
                    bar.set_postfix_str(f"{name} {done}/{total}"[:60], refresh=False)
                    now_s = time.monotonic()
                    if now_s - self.drawn_s >= _REDRAWN_S:
                        self.drawn_s = now_s
                        bar.refresh()

        yield Shown()
