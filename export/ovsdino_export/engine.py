"""THE STORY of an engine: graph -> network -> plan -> proof that it computes the same -> file and sidecar.

Runs without torch. Nothing is trusted because it was built: an engine whose golden outputs miss a gate, or
whose layers compute in another type than asked, is never written.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ovsdino_export.build_progress import BuildProgress, Silent
from ovsdino_export.builder import BuildOptions, build, parse, require_version
from ovsdino_export.graph_source import Graph, Graphs, shipped_graphs
from ovsdino_export.inspection import half_share
from ovsdino_export.network_types import check_network
from ovsdino_export.operators import check_file
from ovsdino_export.timing_cache import keep_timing_cache, load_timing_cache
from ovsdino_export.verify import load_golden
from ovsdino_runtime import __version__
from ovsdino_runtime.backends.gpu import import_cuda, import_tensorrt
from ovsdino_runtime.backends.trt import machine_of
from ovsdino_runtime.backends.trt_engine import TrtEngine
from ovsdino_runtime.bundle import GOLDEN, Bundle
from ovsdino_runtime.engines import EngineFile, engine_folders, engine_name, sidecar_of
from ovsdino_runtime.errors import OutputError, ParityError
from ovsdino_runtime.files import atomic_file, ensure_folder, sha256_of
from ovsdino_runtime.metrics import GATES, agreement
from ovsdino_runtime.sidecar import Machine, Sidecar

WIDENINGS = 3  # how often a missed gate is answered with more FP32 islands


@dataclass(frozen=True, kw_only=True)
class _Proven:
    """An engine that met its gates, and is not written yet."""

    plan: bytes
    built: dict[str, Any]
    parity: dict[str, float]


def build_engine(
    bundle: Bundle,
    options: BuildOptions,
    *,
    graphs: Graphs | None = None,
    progress: BuildProgress | None = None,
) -> EngineFile:
    """Build a bundle's engine on this machine and return it, written and proven.

    Args:
        bundle: the bundle; it must ship golden inputs.
        options: precision, batches and what the builder is told.
        graphs: where the graph comes from, and wider ones when a gate is missed; by default the bundle's.
        progress: told what begins.

    Raises:
        BackendUnavailable: TensorRT, cuda-python or a GPU is missing.
        ExportError: there is no graph, TensorRT cannot build it, or its types are not those asked for.
        ParityError: the engine misses a gate, with every widening of the islands; nothing is written.
        BundleError: the golden inputs are missing or broken.
        OutputError: the engine cannot be written anywhere.
    """
    progress = progress or Silent()
    trt, runtime = import_tensorrt(), import_cuda()
    require_version(trt)
    machine = machine_of(trt, runtime)
    source = graphs or shipped_graphs(bundle, options.precision)
    failures: list[str] = []
    level = 0
    while level <= WIDENINGS and (graph := source(level)) is not None:
        proven, failures = _attempt(graph, options, trt, runtime, machine, progress)
        if proven is not None:
            progress.step("writing the engine")
            return _write(graph, options, machine, proven)
        level += 1
    tried = f", also after {level - 1} widenings of the FP32 islands" if level > 1 else ""
    raise ParityError(
        f"the {options.precision.upper()} engine of {bundle.path} does not compute what PyTorch computes"
        f"{tried}: {'; '.join(failures)}; nothing was written: try --fp32, and report it with TensorRT "
        f"{machine.tensorrt} and {machine.gpu}"
    )


def _attempt(
    graph: Graph, options: BuildOptions, trt: Any, runtime: Any, machine: Machine, progress: BuildProgress
) -> tuple[_Proven | None, list[str]]:
    """Build one graph; return the engine if it meets the gates, else what it misses."""
    windows, reference = load_golden(graph.bundle.file(GOLDEN))
    embeddings = graph.bundle.embeddings().embeddings
    progress.step("checking the graph")
    check_file(graph.path)
    progress.step("parsing the graph")
    parsed = parse(trt, graph.path)
    model = onnx.load(graph.path, load_external_data=False)
    islands = [item["node"] for item in graph.islands]
    types = check_network(trt, parsed.network, model, options.precision, islands)
    progress.step("building the engine")
    plan, measured = build(trt, parsed, options, load_timing_cache(machine), progress)
    keep_timing_cache(machine, measured)
    progress.step("running golden inputs")
    with TrtEngine(plan, trt, runtime, host_code=options.version_compatible) as engine:
        found = _outputs(engine, windows)
        share = half_share(engine.inspect())
        activation_bytes = engine.activation_bytes
    if found.shape != reference.shape:
        return None, [f"its output is {found.shape} where PyTorch gives {reference.shape}"]
    agreed = agreement(reference, found, embeddings)
    failures = agreed.failures(GATES[options.precision])
    built = {"layers": types.as_dict(), "inspector_half_share": share, "activation_bytes": activation_bytes}
    return (None if failures else _Proven(plan=plan, built=built, parity=agreed.as_dict())), failures


def _outputs(engine: TrtEngine, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return an engine's features: the first window alone, the others in batches as large as it takes.

    Every batch runs twice, so that what a recorded CUDA graph gives is what is judged.
    """
    parts = [windows[:1], windows[1:]]
    for part in parts:
        engine.run(part)
    return np.concatenate([engine.run(part) for part in parts]).astype(np.float32)


def _write(graph: Graph, options: BuildOptions, machine: Machine, proven: _Proven) -> EngineFile:
    path = writable_folder(graph.bundle) / engine_name(machine, options.precision)
    settings = dataclasses.asdict(options)
    with ExitStack() as stack:  # the engine takes its name first; the sidecar makes it of use
        staged_sidecar = stack.enter_context(atomic_file(sidecar_of(path)))
        staged = stack.enter_context(atomic_file(path))
        staged.write_bytes(proven.plan)
        sidecar = Sidecar(
            sha256=sha256_of(staged),
            bytes=len(proven.plan),
            onnx=graph.hashes,
            machine=machine,
            precision=options.precision,
            profile=options.profile,
            created_by=f"ovsdino-export {__version__}",
            hardware_compatible=options.hardware_compatible,
            version_compatible=options.version_compatible,
            built=proven.built,
            islands=graph.islands,
            parity=proven.parity,
            settings={name: settings[name] for name in ("workspace_mb", "builder_level")},
        )
        staged_sidecar.write_text(sidecar.to_json(), encoding="utf-8")
    return EngineFile(path=path, sidecar=sidecar)


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
