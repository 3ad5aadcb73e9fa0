"""What TensorRT measured in earlier builds, kept in the user's cache: it makes the next build shorter."""

from __future__ import annotations

from pathlib import Path

from ovsdino_runtime.engines import engine_name
from ovsdino_runtime.errors import OutputError
from ovsdino_runtime.files import atomic_file, ensure_folder, user_cache
from ovsdino_runtime.sidecar import Machine


def timing_cache_path(machine: Machine) -> Path | None:
    """Return where the measurements of a GPU and a TensorRT lie; None without a home."""
    cache = user_cache()
    stem = engine_name(machine, "fp16").removesuffix("-fp16.engine")
    return None if cache is None else cache / "timing" / f"{stem}.cache"


def load_timing_cache(machine: Machine) -> bytes:
    """Return the kept measurements; empty if there are none or they cannot be read."""
    path = timing_cache_path(machine)
    try:
        return b"" if path is None else path.read_bytes()
    except OSError:
        return b""


def keep_timing_cache(machine: Machine, content: bytes) -> None:
    """Keep measurements, if the disk allows; without them the next build only takes longer."""
    path = timing_cache_path(machine)
    if path is None:
        return
    try:
        ensure_folder(path.parent)
        with atomic_file(path) as staged:
            staged.write_bytes(content)
    except OutputError:
        pass
