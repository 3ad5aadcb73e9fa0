"""On what a figure was measured."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path

from ovsdino_bench.cpu_telemetry import text_of
from ovsdino_bench.gpu_telemetry import Nvml
from ovsdino_runtime.backends.gpu import Cuda, driver_version, gpu_properties, import_cuda, import_tensorrt
from ovsdino_runtime.errors import BackendUnavailable

_PACKAGES = ("ovsdino", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "torch")
_BOARD = Path("/proc/device-tree/model")


def machine() -> dict[str, object]:
    """Return processor, cores, operating system and versions, as JSON takes them.

    Where there is one, `board` is what the firmware calls it (a Jetson's, for instance), `gpu` the first that
    CUDA sees, with its compute capability and driver, `cuda` the release that the driver serves, and
    `tensorrt` the version beside a GPU.
    """
    found: dict[str, object] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }
    board = text_of(_BOARD).replace("\0", "").strip()
    if board:
        found["board"] = board
    gpu = _gpu_of_cuda() or _gpu_of_nvml()
    if gpu is not None:
        name, compute, driver, cuda = gpu
        found["gpu"] = {"name": name, "compute": compute, "driver": driver}
        found["cuda"] = f"{cuda // 1000}.{cuda % 1000 // 10}"
        tensorrt = _tensorrt()
        if tensorrt is not None:
            found["tensorrt"] = tensorrt
    return found


def typed_command() -> str:
    """Return the command as it was typed, of paths elsewhere only the last part."""
    return shlex.join(
        ["ovsdino-bench", *("=".join(map(shown_source, word.split("="))) for word in sys.argv[1:])]
    )


def shown_source(source: str) -> str:
    """Return how a person named the data, of paths elsewhere only the last part.

    Args:
        source: a folder, `coco:JSON:IMAGES` or `yolo:DIR`; or any other text.
    """
    kinds, parts = _parts(source)
    return ":".join([*kinds, *map(_last_part, parts)])


def hash_of_place(source: str) -> str:
    """Return a SHA-256 of where data lie on this machine, which tells two folders of one name apart.

    Args:
        source: a folder, `coco:JSON:IMAGES` or `yolo:DIR`.
    """
    _, parts = _parts(source)
    return hashlib.sha256("\n".join(str(Path(part).resolve()) for part in parts).encode()).hexdigest()


def _parts(source: str) -> tuple[list[str], list[str]]:
    """Return the kind of data, if one is named, and what follows it."""
    kind, colon, rest = source.partition(":")
    return ([kind], rest.split(":")) if colon and kind in ("coco", "yolo") else ([], [source])


def _last_part(path: str) -> str:
    return (Path(path).name or path) if path.startswith(("/", "~", "../")) else path


def _processor() -> str:
    for line in text_of(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpu_of_cuda() -> tuple[str, str, str, int] | None:
    """Return what `Nvml.identity` returns as CUDA tells it; None where it cannot be asked or has no GPU."""
    try:
        runtime = import_cuda()
        name, compute, _ = gpu_properties(runtime)
        return name, compute, driver_version(runtime), int(Cuda(runtime).call("cudaDriverGetVersion"))
    except Exception:  # no cuda-python, one that finds no library, or no GPU
        return None


def _gpu_of_nvml() -> tuple[str, str, str, int] | None:
    gpu = Nvml.find()
    try:
        return None if gpu is None else gpu.identity()
    except Exception:  # NVML's errors have no common base that is there without it
        return None


def _tensorrt() -> str | None:
    try:
        return str(import_tensorrt().__version__)
    except BackendUnavailable:
        return None
