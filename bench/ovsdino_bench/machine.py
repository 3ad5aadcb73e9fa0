"""On what a figure was measured."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path

_PACKAGES = ("ovsdino", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "torch")


def machine() -> dict[str, object]:
    """Return processor, cores, operating system and versions, as JSON takes them."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }


def typed_command() -> str:
    """Return the command as it was typed, of paths elsewhere only the last part."""
    return shlex.join(["ovsdino-bench", *("=".join(_last_parts(word)) for word in sys.argv[1:])])


def _last_parts(word: str) -> list[str]:
    return [Path(part).name if part.startswith(("/", "~", "../")) else part for part in word.split("=")]


def _processor() -> str:
    source = Path("/proc/cpuinfo")
    if source.is_file():
        for line in source.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
