"""THE STORY of an engine: graph -> network -> plan -> proof that it computes the same -> file and sidecar.

Runs without torch. Nothing is trusted because it was built: an engine whose golden outputs miss a gate, or
whose layers compute in another type than asked, is never written, and the bundle then stays as it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsdino_export.build_progress import BuildProgress, Silent
from ovsdino_export.builder import BuildOptions
from ovsdino_export.engine_attempt import Attempt, Judge, Verdict, attempt, workshop
from ovsdino_export.graph_source import Graph, Graphs, Widening, graphs_of
from ovsdino_export.verify import load_golden
from ovsdino_runtime import __version__
from ovsdino_runtime.bundle import GOLDEN, Bundle
from ovsdino_runtime.engine_trust import require_record, trust
from ovsdino_runtime.engines import EngineFile, engine_folders, engine_name, sidecar_of
from ovsdino_runtime.errors import OutputError, ParityError
from ovsdino_runtime.files import atomic_file, ensure_folder, sha256_of
from ovsdino_runtime.metrics import GATES, agreement
from ovsdino_runtime.sidecar import Machine, Sidecar

_MARGIN_BYTES = 1 << 20  # sidecar and manifest


def build_engine(
    bundle: Bundle,
    options: BuildOptions,
    *,
    graphs: Graphs | None = None,
    progress: BuildProgress | None = None,
) -> EngineFile:
    """Build a bundle's engine on this machine and return it, written and proven.

    It is recorded as one that this machine may load. A graph that had to be derived or widened for it is
    written into the bundle, now that it has served.

    Args:
        bundle: the bundle; it must ship golden inputs.
        options: precision, batches and what the builder is told.
        graphs: where the graph comes from, and wider ones when a gate is missed; see `graphs_of`.
        progress: told what begins.

    Raises:
        BackendUnavailable: TensorRT, cuda-python or a GPU is missing.
        ExportError: there is no graph, TensorRT cannot build it, or its types are not those asked for.
        ParityError: the engine misses a gate, with every widening of the islands; nothing is written.
        BundleError: the golden inputs are missing or broken.
        OutputError: the engine can be written or recorded nowhere, or the bundle cannot keep a graph that was
            derived for it.
    """
    progress = progress or Silent()
    shop = workshop()
    require_writable(*engine_folders(bundle))  # a build takes minutes
    require_record()
    failures: Sequence[str] = ()
    with ExitStack() as stack:
        own = graphs_of(bundle, options.precision, progress.step, to_keep=True)
        widening = Widening(graphs or stack.enter_context(own))
        for graph in widening:
            windows, judge = _golden(graph.bundle, options)
            tried = attempt(shop, graph.path, graph.islands, windows, judge, options, progress)
            failures = tried.failures
            if not failures:
                progress.step("writing the engine")
                _require_room(writable_folder(bundle), tried, graph)
                kept = graph.kept()
                path = writable_folder(kept.bundle) / engine_name(shop.machine, options.precision)
                # Recorded first: an engine that nobody may load must not appear.
                trust(hashlib.sha256(tried.plan).hexdigest(), path.name)
                return write_engine(path, tried, kept.hashes, kept.islands, options, shop.machine)
    again = widening.tried - 1
    after = f", also after {again} widenings of the FP32 islands" if again else ""
    raise ParityError(
        f"the {options.precision.upper()} engine of {bundle.path} does not compute what PyTorch computes"
        f"{after}: {'; '.join(failures)}{widening.stopped}; nothing was written: try --fp32, and report it "
        f"with TensorRT {shop.machine.tensorrt} and {shop.machine.gpu}"
    )


def _golden(bundle: Bundle, options: BuildOptions) -> tuple[NDArray[np.uint8], Judge]:
    """Return a bundle's golden windows, and what holds features for them against PyTorch's."""
    windows, reference = load_golden(bundle.file(GOLDEN))
    embeddings, gate = bundle.embeddings().embeddings, GATES[options.precision]

    def judge(outputs: NDArray[np.generic], which: NDArray[np.intp]) -> Verdict:
        wanted = reference[which]
        if outputs.shape != wanted.shape:
            return {}, [f"its output is {outputs.shape} where PyTorch gives {wanted.shape}"]
        agreed = agreement(wanted, outputs.astype(np.float32), embeddings, gate.reach)
        return agreed.as_dict(), agreed.failures(gate)

    return windows, judge


def write_engine(
    path: Path,
    proven: Attempt,
    onnx: Mapping[str, str],
    islands: Sequence[Mapping[str, str]],
    options: BuildOptions,
    machine: Machine,
) -> EngineFile:
    """Write an engine that met its gates, with its sidecar.

    Args:
        path: the engine; its folder exists.
        proven: the engine.
        onnx: SHA-256 by name of the files it was parsed from.
        islands: nodes that compute in FP32, with reasons.
        options: what the builder was told.
        machine: where it was built.

    Raises:
        OutputError: it cannot be written.
    """
    settings = dataclasses.asdict(options)
    with ExitStack() as stack:  # the engine takes its name first; the sidecar makes it of use
        staged_sidecar = stack.enter_context(atomic_file(sidecar_of(path)))
        staged = stack.enter_context(atomic_file(path))
        staged.write_bytes(proven.plan)
        sidecar = Sidecar(
            sha256=sha256_of(staged),
            bytes=len(proven.plan),
            onnx=onnx,
            machine=machine,
            precision=options.precision,
            profile=options.profile,
            created_by=f"ovsdino-export {__version__}",
            hardware_compatible=options.hardware_compatible,
            version_compatible=options.version_compatible,
            built=proven.built,
            islands=tuple(islands),
            parity=proven.parity,
            settings={name: settings[name] for name in ("workspace_mb", "builder_level")},
        )
        staged_sidecar.write_text(sidecar.to_json(), encoding="utf-8")
    return EngineFile(path=path, sidecar=sidecar)


def _require_room(folder: Path, proven: Attempt, graph: Graph) -> None:
    """Let a bundle not be given the graph of an engine for which there is no room then.

    Raises:
        OutputError: the disk has too little left for both.
    """
    derived = [] if graph.derived is None else graph.path.parent.iterdir()
    needed = len(proven.plan) + sum(item.stat().st_size for item in derived) + _MARGIN_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"the engine needs {needed / 1e6:.0f} MB in {folder}, where {free / 1e6:.0f} MB are free; make "
            "room there; nothing was written"
        )


def require_writable(*folders: Path) -> None:
    """Let no build begin whose engine could be written into none of these folders; nothing is made.

    Raises:
        OutputError: neither they nor what they would be made in can be written to.
    """
    for folder in folders:
        above = (folder, *folder.absolute().parents)
        there = next(path for path in above if os.access(path, os.F_OK))
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return
    named = " nor ".join(str(folder) for folder in folders)
    raise OutputError(
        f"the engine could be written nowhere: not into {named}; make one of them writable, or work on "
        "a copy where you may write"
    )


def writable_folder(bundle: Bundle) -> Path:
    """Return the first of the engines' folders that can be written to, made if need be.

    Raises:
        OutputError: none can.
    """
    reasons = []
    for folder in engine_folders(bundle):
        try:
            ensure_folder(folder)
        except OutputError as error:
            reasons.append(str(error))
            continue
        if os.access(folder, os.W_OK):
            return folder
        reasons.append(f"{folder} cannot be written to")
    raise OutputError(f"the engine can be written nowhere: {'; '.join(reasons)}")
