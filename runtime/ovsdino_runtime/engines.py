"""TensorRT engines: what they are called, where they lie, and which one may be loaded.

An engine is a plain plan file. Beside `NAME.engine` lies `NAME.json`, its sidecar: what the engine was
built from, by which TensorRT, for which GPU. Loading an engine runs native code, so one is never loaded that
has no sidecar, or another hash than its sidecar says, or that this machine does not trust (`engine_trust`).
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.bundle import ENGINES, IMAGE_GRAPH, IMAGE_GRAPH_FP16, MANIFEST, Bundle
from ovsdino_runtime.engine_trust import is_trusted
from ovsdino_runtime.errors import BackendUnavailable, one_line
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
    """Return the engine that serves a bundle on a machine; see `read_engine`."""
    return read_engine(bundle, machine, precision)[0]


def read_engine(
    bundle: Bundle, machine: Machine, precision: Precision | None = None
) -> tuple[EngineFile, bytes]:
    """Return the engine that serves a bundle on a machine, FP16 before FP32, and its content.

    The content is what was hashed: what lies in the file a moment later may be something else.

    Args:
        bundle: the bundle.
        machine: the GPU and the TensorRT that are to run it.
        precision: which one it must be; None takes the first there is.

    Raises:
        BackendUnavailable: there is none, or none that matches and is trusted; the message names both sides
            and the command that builds one.
    """
    refused: list[str] = []
    for wanted in PRECISIONS if precision is None else (precision,):
        for path in engine_files(bundle):
            found = _examine(path, wanted, bundle, machine)
            if isinstance(found, str):
                refused.append(found)
            elif found is not None:
                return found
    rebuild = build_command(bundle, precision or "fp16")
    if not refused:
        kind = "" if precision is None else f"{precision.upper()} "
        places = " or ".join(str(folder) for folder in engine_folders(bundle))
        raise BackendUnavailable(f"there is no {kind}engine in {places}; build one here with `{rebuild}`")
    more = f" ({len(refused) - 1} more do not fit either)" if len(refused) > 1 else ""
    raise BackendUnavailable(f"{refused[0]}{more}; rebuild it here with `{rebuild}`")


def _examine(
    path: Path, wanted: Precision, bundle: Bundle, machine: Machine
) -> tuple[EngineFile, bytes] | str | None:
    """Return the engine and its content if it may be loaded, else why not; None for another precision's."""
    named = not any(path.name.endswith(f"-{name}.engine") for name in PRECISIONS if name != wanted)
    try:
        sidecar = _read_sidecar(path)
    except BackendUnavailable as error:
        return str(error) if named else None
    if sidecar.precision != wanted:
        return None
    mismatches = sidecar.mismatches(bundle, machine)
    if set(sidecar.onnx) - {GRAPHS[wanted], f"{GRAPHS[wanted]}.data"} or GRAPHS[wanted] not in sidecar.onnx:
        mismatches.append(f"it was built from {', '.join(sidecar.onnx)}, not from {GRAPHS[wanted]}")
    if mismatches:
        return f"the engine {path} does not fit: {'; '.join(mismatches)}"
    if not is_trusted(sidecar.sha256):
        return (
            f"the engine {path} was not proven on this machine, and loading one runs native code; if you "
            f"know who built it, trust it with `ovsdino-run --trust-engine {shlex.quote(str(path))}`"
        )
    try:
        return EngineFile(path=path, sidecar=sidecar), _content(path, sidecar)
    except BackendUnavailable as error:
        return str(error)


def engine_file(path: Path) -> EngineFile:
    """Return what is known about an engine, without loading it.

    Raises:
        BackendUnavailable: it is not there, has no sidecar, or is not what its sidecar says.
    """
    if not path.is_file():
        raise BackendUnavailable(f"there is no engine {path}; name a file that `ovsdino-export trt` wrote")
    try:
        sidecar = _read_sidecar(path)
        _content(path, sidecar)
    except BackendUnavailable as error:
        raise BackendUnavailable(
            f"{error}; copy it again, with its sidecar, from where it was built"
        ) from error
    return EngineFile(path=path, sidecar=sidecar)


def described(engine: EngineFile) -> str:
    """Return what an engine says it is, in one line of nothing but letters that can be printed."""
    sidecar, built = engine.sidecar, engine.sidecar.machine
    return one_line(
        f"{engine.path}: an engine in {sidecar.precision.upper()} from {', '.join(sidecar.onnx)}, built by "
        f"{sidecar.created_by} with TensorRT {built.tensorrt} for {built.gpu} (compute {built.compute}); "
        f"SHA-256 {sidecar.sha256}"
    )


def _read_sidecar(path: Path) -> Sidecar:
    """Return an engine's sidecar.

    Raises:
        BackendUnavailable: it has none, or what lies there is none.
    """
    source = sidecar_of(path)
    try:
        if not source.is_file():
            raise BackendUnavailable(
                f"the engine {path} has no sidecar {source.name}, and loading one runs native code"
            )
        if source.stat().st_size > _SIDECAR_LIMIT_BYTES:
            raise ValueError("it is too large for one")
        return Sidecar.from_json(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackendUnavailable(f"{source} is no sidecar of an engine: {error}") from error


def _content(path: Path, sidecar: Sidecar) -> bytes:
    """Return an engine's content, which has the hash that its sidecar says.

    Raises:
        BackendUnavailable: it cannot be read, or has changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackendUnavailable(f"the engine {path} cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sidecar.sha256:
        raise BackendUnavailable(
            f"the engine {path} has changed: its SHA-256 is {digest[:12]}…, its sidecar says "
            f"{sidecar.sha256[:12]}…"
        )
    return content


def graph_files(bundle: Bundle, graph: str) -> Iterator[str]:
    """Yield the files a graph consists of: itself, and its weights where they lie in a second file."""
    yield graph
    if bundle.has(f"{graph}.data"):
        yield f"{graph}.data"
