"""The command `ovsdino-export trt`: a bundle or a baked graph to an engine for this machine."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, TypeGuard

import typer

from ovsdino_export.baked_options import PANEL, Background, Output
from ovsdino_export.build_progress import shown
from ovsdino_export.engine_needs import needing_for_an_engine
from ovsdino_export.engine_report import derived_note, engine_lines

if TYPE_CHECKING:
    from ovsdino_export.builder import BuildOptions
    from ovsdino_export.dry_run import Plan
    from ovsdino_runtime.engines import EngineFile
    from ovsdino_runtime.sidecar import BatchProfile

BAKED_SUFFIX = ".onnx"
_BUILDER, _SHARING = "Builder", "Engines for other machines"


def trt(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Argument(
            help="A bundle's folder, or a graph FILE.onnx baked by `onnx --classes`; by default "
            "a copy of the built-in bundle among the user's caches.",
            show_default=False,
        ),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Build from the FP16 graph; the default.")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Build from the FP32 graph.")] = False,
    batch: Annotated[
        str, typer.Option(metavar="LEAST/USUAL/MOST", help="Windows at once; larger batches are split.")
    ] = "1/3/9",
    workspace: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="MB",
            help="The most memory a kernel may use while computing; all there is by default.",
            rich_help_panel=_BUILDER,
        ),
    ] = None,
    builder_level: Annotated[
        int | None,
        typer.Option(
            min=0, max=5, help="How long to look for faster kernels; 3 by default.", rich_help_panel=_BUILDER
        ),
    ] = None,
    hardware_compatible: Annotated[
        bool,
        typer.Option(
            "--hardware-compatible",
            help="Also for other GPUs from Ampere on; slower, and not on a Jetson.",
            rich_help_panel=_SHARING,
        ),
    ] = False,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible",
            help="Also for later TensorRT releases of the same major version; slower.",
            rich_help_panel=_SHARING,
        ),
    ] = False,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Bake these in; labels or scores come out then: cars,road,vehicle=bus|truck.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    output: Annotated[
        Output | None,
        typer.Option(help="labels [B, H, W] (the default), or scores [B, C, h, w].", rich_help_panel=PANEL),
    ] = None,
    background: Background = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="With --classes: the baked graph, beside which the engine appears.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be built; needs no TensorRT and no GPU.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Build a TensorRT engine for this machine, proven against PyTorch's golden outputs.

    Engine and sidecar go into BUNDLE/engines, or into the user's cache where the bundle cannot be
    written to. `ovsdino-run --device tensorrt` takes them from there; trtexec and Triton load the engine.
    """
    if fp16 and fp32:
        raise typer.BadParameter("--fp16 and --fp32 exclude each other")
    from ovsdino_export.builder import BuildOptions

    options = BuildOptions(
        precision="fp32" if fp32 else "fp16",
        profile=_profile(batch),
        workspace_mb=workspace,
        builder_level=builder_level,
        hardware_compatible=hardware_compatible,
        version_compatible=version_compatible,
    )
    if classes is not None:
        if out is None or out.suffix != BAKED_SUFFIX or _is_baked(bundle):
            raise typer.BadParameter("--classes needs a bundle and --out FILE.onnx")
        _classes(
            bundle,
            classes,
            out,
            output or Output.LABELS,
            background or "none",
            options,
            dry_run=dry_run,
            as_json=as_json,
        )
        return
    for option, value in {"--output": output, "--background": background, "--out": out}.items():
        if value is not None:
            raise typer.BadParameter(f"{option} needs --classes")
    if dry_run:
        _tell(bundle, options, as_json=as_json)
    else:
        _build(bundle, options, as_json=as_json)


def _is_baked(source: Path | None) -> TypeGuard[Path]:
    return source is not None and source.suffix == BAKED_SUFFIX


def _profile(text: str) -> BatchProfile:
    from ovsdino_runtime.sidecar import BatchProfile

    try:
        least, usual, most = (int(part) for part in text.split("/"))
    except ValueError as error:
        raise typer.BadParameter(f"--batch is {text!r}, but must be three numbers, as in 1/3/9") from error
    if not 1 <= least <= usual <= most:
        raise typer.BadParameter(f"--batch is {text}, but must rise from at least 1, as in 1/3/9")
    return BatchProfile(least=least, usual=usual, most=most)


def _tell(source: Path | None, options: BuildOptions, *, as_json: bool) -> None:
    with needing_for_an_engine(source, options.precision, dry_run=True):
        from ovsdino_export.baked_engine import read_baked
        from ovsdino_export.dry_run import nameless_engine, plan_build
        from ovsdino_export.planned_graph import planned_graph
    from ovsdino_runtime.builtin import derived_folder, open_bundle
    from ovsdino_runtime.bundle import ENGINES

    name, note = nameless_engine(options.precision), None
    if _is_baked(source):
        baked = read_baked(source)
        plan = plan_build(source, baked.islands, options, source.with_name(f"{source.stem}-{name}"))
    else:
        bundle = open_bundle(source)
        with shown() as progress, planned_graph(bundle, options.precision, progress.step) as graph:
            folder = derived_folder(bundle)
            plan = plan_build(
                graph.path, graph.islands, options, folder / ENGINES / name, source=folder / graph.name
            )
        note = derived_note(bundle, options.precision)
    _show_plan(plan, note, as_json=as_json)


def _show_plan(plan: Plan, note: str | None, *, as_json: bool) -> None:
    from ovsdino_export.dry_run import as_document, plan_lines

    if note is not None:
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(as_document(plan), indent=2) if as_json else "\n".join(plan_lines(plan)))


def _classes(
    source: Path | None,
    classes: str,
    out: Path,
    output: Output,
    background: str,
    options: BuildOptions,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    with needing_for_an_engine(source, options.precision, dry_run=dry_run):
        from ovsdino_export.classes_engine import build_classes_engine, plan_classes_engine
    from ovsdino_runtime.background import parse_background
    from ovsdino_runtime.builtin import open_bundle
    from ovsdino_runtime.queries import parse_classes

    names, policy = parse_classes(classes), parse_background(background)
    bundle = open_bundle(source)
    derived = derived_note(bundle, options.precision)
    if dry_run:
        with shown() as progress:
            plan = plan_classes_engine(
                bundle,
                names,
                out,
                output=output.value,
                background=policy,
                options=options,
                progress=progress.step,
            )
        _show_plan(plan, derived, as_json=as_json)
        return
    with shown() as progress:
        engine, notes = build_classes_engine(
            bundle, names, out, output=output.value, background=policy, options=options, progress=progress
        )
    for note in (*notes, *filter(None, [derived])):
        print(f"note: {note}", file=sys.stderr)
    _show(engine, as_json=as_json)


def _build(source: Path | None, options: BuildOptions, *, as_json: bool) -> None:
    with needing_for_an_engine(source, options.precision, dry_run=False):
        from ovsdino_export.baked_engine import build_baked_engine, read_baked
        from ovsdino_export.engine import build_engine
    from ovsdino_runtime.builtin import open_bundle

    with shown() as progress:
        if _is_baked(source):
            engine = build_baked_engine(read_baked(source), options, progress=progress)
        else:
            engine = build_engine(open_bundle(source, to_write=True), options, progress=progress)
    _show(engine, as_json=as_json)


def _show(engine: EngineFile, *, as_json: bool) -> None:
    if as_json:
        document = {"engine": str(engine.path), "sidecar": dataclasses.asdict(engine.sidecar)}
        print(json.dumps(document, indent=2))
    else:
        print("\n".join(engine_lines(engine)))
