"""TensorRT engines: what they are called, where they lie, and which one may be loaded.

An engine is a plain plan file. Beside `NAME.engine` lies `NAME.json`, its sidecar: what the engine was
built from, by which TensorRT, for which GPU. Loading an engine runs native code, so one without a sidecar
or with another hash than its sidecar says is never loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.bundle import ENGINES, IMAGE_GRAPH, IMAGE_GRAPH_FP16, MANIFEST, Bundle
from ovsdino_runtime.errors import BackendUnavailable
from ovsdino_runtime.files import sha256_of, user_cache
from ovsdino_runtime.sidecar import PRECISIONS, Machine, Precision, Sidecar

GRAPHS: Mapping[Precision, str] = {"fp16": IMAGE_GRAPH_FP16, "fp32": IMAGE_GRAPH}

_SIDECAR_LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class EngineFile:
    """An engine that may be loaded, with what is known about it."""

    path: Path
    sidecar: Sidecar


def engine_name(machine: Machine, precision: Precision) -> str:
    """Return what an engine is called: `nvidia-l4-8.9-trt10.13.3.9-fp16.engine`."""
    gpu = re.sub(r"[^a-z0-9]+", "-", machine.gpu.lower()).strip("-")
    return f"{gpu}-{machine.compute}-trt{machine.tensorrt}-{precision}.engine"


def sidecar_of(engine: Path) -> Path:
    """Return where an engine's sidecar lies."""
    return engine.with_name(f"{engine.name.removesuffix('.engine')}.json")


def engine_folders(bundle: Bundle) -> list[Path]:
    """Return where engines of a bundle may lie: beside it, then in the user's cache."""
    cache = user_cache()
    beside = bundle.path / ENGINES
    return [beside] if cache is None else [beside, cache / ENGINES / sha256_of(bundle.path / MANIFEST)]


def engine_files(bundle: Bundle) -> list[Path]:
    """Return every engine file of a bundle, those beside it first, each folder's by name."""
    return [path for folder in engine_folders(bundle) for path in sorted(folder.glob("*.engine"))]


def build_command(bundle: Bundle, precision: Precision = "fp16") -> str:
    """Return the command that builds an engine for a bundle on this machine."""
    return f"{command_on(bundle, 'ovsdino-export trt')} --{precision}"


def find_engine(bundle: Bundle, machine: Machine, precision: Precision | None = None) -> EngineFile:
    """Return the engine that serves a bundle on a machine; FP16 before FP32.

    Args:
        bundle: the bundle.
        machine: the GPU and the TensorRT that are to run it.
        precision: which one it must be; None takes the first there is.

    Raises:
        BackendUnavailable: there is none, or none that matches; the message names both sides and the
            command that builds one.
    """
    refused: list[str] = []
    for wanted in PRECISIONS if precision is None else (precision,):
        for path in engine_files(bundle):
            found, refusal = _examine(path, wanted, bundle, machine)
            if found is not None:
                return found
            if refusal is not None:
                refused.append(refusal)
    rebuild = build_command(bundle, precision or "fp16")
    if not refused:
        kind = "" if precision is None else f"{precision.upper()} "
        places = " or ".join(str(folder) for folder in engine_folders(bundle))
        raise BackendUnavailable(f"there is no {kind}engine in {places}; build one here with `{rebuild}`")
    more = f" ({len(refused) - 1} more do not fit either)" if len(refused) > 1 else ""
    raise BackendUnavailable(f"{refused[0]}{more}; rebuild it here with `{rebuild}`")


def _examine(
    path: Path, wanted: Precision, bundle: Bundle, machine: Machine
) -> tuple[EngineFile | None, str | None]:
    """Return the engine if it may be loaded, else why not; neither if it is of another precision."""
    source = sidecar_of(path)
    named = not any(path.name.endswith(f"-{name}.engine") for name in PRECISIONS if name != wanted)
    try:
        if not source.is_file():
            reason = f"the engine {path} has no sidecar {source.name}, and loading one runs native code"
            return None, reason if named else None
        if source.stat().st_size > _SIDECAR_LIMIT_BYTES:
            raise ValueError("it is too large for one")
        sidecar = Sidecar.from_json(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return None, f"{source} is no sidecar of an engine: {error}" if named else None
    if sidecar.precision != wanted:
        return None, None
    mismatches = sidecar.mismatches(bundle, machine)
    if set(sidecar.onnx) - {GRAPHS[wanted], f"{GRAPHS[wanted]}.data"} or GRAPHS[wanted] not in sidecar.onnx:
        mismatches.append(f"it was built from {', '.join(sidecar.onnx)}, not from {GRAPHS[wanted]}")
    if mismatches:
        return None, f"the engine {path} does not fit: {'; '.join(mismatches)}"
    refusal = _unlike(path, sidecar)
    return (None, refusal) if refusal else (EngineFile(path=path, sidecar=sidecar), None)


def _unlike(path: Path, sidecar: Sidecar) -> str | None:
    """Return why an engine's content is not what its sidecar says; None if it is."""
    try:
        digest = sha256_of(path)
    except OSError as error:
        return f"the engine {path} cannot be read: {error.strerror or error}"
    if digest == sidecar.sha256:
        return None
    return (
        f"the engine {path} has changed: its SHA-256 is {digest[:12]}…, its sidecar says "
        f"{sidecar.sha256[:12]}…"
    )


def graph_files(bundle: Bundle, graph: str) -> Iterator[str]:
    """Yield the files a graph consists of: itself, and its weights where they lie in a second file."""
    yield graph
    if bundle.has(f"{graph}.data"):
        yield f"{graph}.data"
