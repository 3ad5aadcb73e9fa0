"""From a bundle and some classes to an engine that gives their scores or labels: bake, build, prove."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ovsdino_export.baked_contract import OutputKind
from ovsdino_export.baked_engine import BakedFile, Proof, build_baked_engine, read_baked
from ovsdino_export.build_progress import BuildProgress, Silent
from ovsdino_export.builder import BuildOptions
from ovsdino_export.bundle_baking import Asked, asked_of, bake, expected_leads, expected_outputs
from ovsdino_export.dry_run import Plan, nameless_engine, plan_build
from ovsdino_export.engine_attempt import workshop
from ovsdino_export.graph_source import Graph, Widening, graphs_of
from ovsdino_export.planned_graph import planned_graph
from ovsdino_export.steps import Progress, silent
from ovsdino_export.verify import load_golden
from ovsdino_runtime.background import Background
from ovsdino_runtime.bundle import GOLDEN, Bundle
from ovsdino_runtime.engines import EngineFile
from ovsdino_runtime.errors import ParityError
from ovsdino_runtime.files import atomic_file, prepare_target


def build_classes_engine(
    bundle: Bundle,
    classes: Sequence[str],
    out: Path,
    *,
    output: OutputKind,
    background: Background,
    options: BuildOptions,
    progress: BuildProgress | None = None,
) -> tuple[EngineFile, tuple[str, ...]]:
    """Bake classes behind a bundle's graph, build its engine, and return it with notes on the names.

    The bundle stays as it is, also where an FP16 graph had to be derived or widened for this: its own engines
    were built from the one it ships.

    Args:
        bundle: the bundle.
        classes: as `ovsdino-run --classes` takes them.
        out: the baked graph, NAME.onnx; the engine appears beside it.
        output: cosines at the features' grid, or labels at the window's size.
        background: what is none of the classes.
        options: precision, batches and what the builder is told.
        progress: told what begins.

    Raises:
        BackendUnavailable: TensorRT, cuda-python or a GPU is missing.
        VocabularyError: a name is unknown.
        ExportError: TensorRT cannot build it, or its types are not those asked for.
        ParityError: with every widening of the islands it misses a gate; no file is left.
        OutputError: a file cannot be written.
    """
    progress = progress or Silent()
    workshop()  # what is missing or mistyped is said before minutes are spent
    asked = asked_of(bundle, classes, background)
    prepare_target(out)
    missed: ParityError | None = None
    with graphs_of(bundle, options.precision, progress.step) as graphs:
        widening = Widening(graphs)
        for graph in widening:
            try:
                # What an earlier build left at `out` stays until this one is proven.
                with atomic_file(out) as staged:
                    baked = replace(read_baked(bake(graph, asked, output, staged)), path=out, file=staged)
                    proof = proof_of(graph, asked, output)
                    return build_baked_engine(baked, options, proof=proof, progress=progress), asked.notes
            except ParityError as error:
                missed = error
    if missed is None:
        raise ValueError("a bundle has at least one graph")
    raise ParityError(f"{missed}{widening.stopped}") from missed


def plan_classes_engine(
    bundle: Bundle,
    classes: Sequence[str],
    out: Path,
    *,
    output: OutputKind,
    background: Background,
    options: BuildOptions,
    progress: Progress = silent,
) -> Plan:
    """Return what `build_classes_engine` would build; nothing stays on disk.

    Raises:
        VocabularyError, ExportError: as `build_classes_engine`.
        BackendUnavailable, OutputError: as `planned_graph`.
    """
    asked = asked_of(bundle, classes, background)
    with planned_graph(bundle, options.precision, progress) as graph, tempfile.TemporaryDirectory() as folder:
        path = bake(graph, asked, output, Path(folder) / out.name)
        baked: BakedFile = read_baked(path)
        target = out.with_name(f"{out.stem}-{nameless_engine(options.precision)}")
        return plan_build(path, baked.islands, options, target, source=out)


def proof_of(graph: Graph, asked: Asked, output: OutputKind) -> Proof:
    """Return the bundle's golden windows, and what PyTorch's features for them give with some classes."""
    windows, features = load_golden(graph.bundle.file(GOLDEN))
    window_px = graph.bundle.manifest.window_px
    wanted = expected_outputs(features, asked, output, window_px)
    leads = expected_leads(features, asked, window_px) if output == "labels" else None
    return Proof(inputs=windows, outputs=wanted, source="PyTorch", leads=leads)
