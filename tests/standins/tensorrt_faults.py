"""What the stand-in does of the unpleasant kind: CUDA that does not start, long builds, swallowed errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_TACTIC_S = 0.01  # of each, where a build has many


def start_cuda(module: Any, logger: Any) -> None:
    """Fail as the library does where CUDA does not start, by the error that the fault "no CUDA" names."""
    if "no CUDA" in module.faults:
        logger.log(module.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise module.faults["no CUDA"]("pybind11::init(): factory function returned nullptr")


def report(monitor: Any, tactics: int) -> bool:
    """Tell a monitor of a build that tries so many tactics, and return whether it lets the build go on."""
    go_on = True
    call_back(monitor.phase_start, "Building engine", None, 2)
    call_back(monitor.phase_start, "Tactics", "Building engine", tactics)
    for step in range(tactics):
        go_on = call_back(monitor.step_complete, "Tactics", step) is not False
        if not go_on:
            break
        time.sleep(_TACTIC_S if tactics > 1 else 0)
    call_back(monitor.phase_finish, "Tactics")
    call_back(monitor.step_complete, "Building engine", 0)
    call_back(monitor.phase_finish, "Building engine")
    return go_on


def call_back(callback: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a callback gives; what it raises is swallowed, as the binding swallows it."""
    try:
        return callback(*arguments)
    except BaseException:
        return None
