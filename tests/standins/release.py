"""One release of TensorRT with one GPU, put in the place of the modules a program would import."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.standins import tensorrt_build as building
from tests.standins import tensorrt_run as running
from tests.standins.cuda_runtime import FakeCuda
from tests.standins.strict import StrictModule


class _Logger:
    def __init__(self, module: Any) -> None:
        pass


class _Monitor(_Logger):
    pass


BEHAVIOURS: dict[str, type] = {
    "Builder": building.Builder,
    "OnnxParser": building.Parser,
    "Runtime": running.Runtime,
    "ILogger": _Logger,
    "IProgressMonitor": _Monitor,
}


def make_release(release: str) -> tuple[StrictModule, FakeCuda]:
    """The modules `tensorrt` and `cuda.bindings.runtime` of a release.

    The first has, beside the release's own names, what tests look at: `faults` (what goes wrong, by
    name), `built` (what the builder was told, a dict a build), `contexts` (those still held), `cuda`.
    """
    module, cuda = StrictModule(release, BEHAVIOURS), FakeCuda()
    module.__dict__.update(faults={}, built=[], contexts=weakref.WeakSet(), cuda=cuda)
    return module, cuda


def modules(release: str, *, older_cuda_python: bool = False) -> dict[str, Any]:
    """What `sys.modules` holds where a release and cuda-python are installed."""
    module, cuda = make_release(release)
    package = ModuleType("cuda")
    if older_cuda_python:  # before 12.6: `from cuda import cudart`
        package.cudart = cuda  # type: ignore[attr-defined]
        return {"tensorrt": module, "cuda": package, "cuda.bindings": None}
    bindings = ModuleType("cuda.bindings")
    package.bindings = bindings  # type: ignore[attr-defined]
    bindings.runtime = cuda  # type: ignore[attr-defined]
    return {
        "tensorrt": module,
        "cuda": package,
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": cuda,
    }


def install(
    monkeypatch: pytest.MonkeyPatch, cache: Path, release: str, *, older_cuda_python: bool = False
) -> StrictModule:
    """Put a release in place for a test, with the user's cache in a folder of the test."""
    placed = modules(release, older_cuda_python=older_cuda_python)
    for name, module in placed.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    found: StrictModule = placed["tensorrt"]
    return found
