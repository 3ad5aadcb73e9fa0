"""One picture in a fresh process: how long until its labels are there, and what memory it takes.

`python -m ovsdino_bench.cold` reads its task as JSON from standard input and prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovsdino_bench.measured import CheckpointSource
from ovsdino_runtime.errors import InferenceError


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """What a fresh process took.

    Attributes:
        total_ms: from starting the process to its end.
        open_ms: to open bundle and backend.
        first_image_ms: the first picture, end to end.
        peak_host_bytes: the most memory it ever held; None where the system does not say.
    """

    total_ms: float
    open_ms: float
    first_image_ms: float
    peak_host_bytes: int | None


def start_cold(
    name: str, bundle: Path, source: CheckpointSource | None, picture: Path, classes: dict[str, Any]
) -> ColdStart:
    """Start a process that opens a way and segments a picture.

    Args:
        name: of the way, see `open_way`.
        bundle: its folder.
        source: the checkpoint that alternatives run, known to be the bundle's.
        picture: the file.
        classes: `names` or `vocabulary`.

    Raises:
        InferenceError: the process failed.
    """
    task = {
        "name": name,
        "bundle": str(bundle),
        "checkpoint": None if source is None else str(source.path),
        "backbone_weights": None if source is None else source.backbone_weights,
        "picture": str(picture),
        "classes": classes,
    }
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ovsdino_bench.cold"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    total_ms = 1000 * (time.perf_counter() - start)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InferenceError(f"{name} failed in a fresh process: {last}; pass --cold 0 to leave it out")
    return ColdStart(total_ms=total_ms, **json.loads(done.stdout.splitlines()[-1]))


def peak_host_bytes(status: str) -> int | None:
    """Return the most memory a process ever held, in the text of its /proc/…/status; None without it."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def _child(task: dict[str, Any]) -> dict[str, Any]:
    start = time.perf_counter()
    from ovsdino_bench.ways import open_way  # noqa: PLC0415 - imports are part of what is timed
    from ovsdino_runtime.bundle import Bundle  # noqa: PLC0415
    from ovsdino_runtime.vocabulary import vocabulary  # noqa: PLC0415

    checkpoint = task["checkpoint"]
    source = checkpoint and CheckpointSource(path=Path(checkpoint), backbone_weights=task["backbone_weights"])
    way = open_way(task["name"], Bundle.open(Path(task["bundle"])), source, known=True)
    asked = task["classes"]
    classes = vocabulary(asked["vocabulary"]) if "vocabulary" in asked else asked["names"]
    opened = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ovsdino-bench.") as folder:
        first = way.run(Path(task["picture"]), classes, Path(folder))
    status = Path("/proc/self/status")
    return {
        "open_ms": 1000 * (opened - start),
        "first_image_ms": first["total"],
        "peak_host_bytes": peak_host_bytes(status.read_text()) if status.is_file() else None,
    }


if __name__ == "__main__":
    print(json.dumps(_child(json.loads(sys.stdin.read()))))
