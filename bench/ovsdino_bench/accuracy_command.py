"""`ovsdino-bench accuracy` and `merge`: their options."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ovsdino_bench import options as o
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import prepare_target

if TYPE_CHECKING:
    from ovsdino_bench.measured import CheckpointSource
    from ovsdino_bench.selection import Shard


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


class Precision(str, Enum):
    """What the bundle's image graph computes in."""

    auto = "auto"
    fp16 = "fp16"
    fp32 = "fp32"
    int8 = "int8"


def accuracy(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(
            help="Bundle to measure; the small built-in one where there is no --checkpoint either.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Measure this checkpoint in PyTorch: beside the bundle in the same run, or alone."),
    ] = None,
    dataset: o.Dataset = None,
    data: o.Data = None,
    classes: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Names of --data's labels in order, or a file of them; label=prompt|prompt asks for other "
            "names, - is unlabelled."
        ),
    ] = None,
    prompts: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Other names for classes of a --dataset, person=person|man|woman, or a file of them; the "
            "best counts."
        ),
    ] = None,
    synonyms: Annotated[
        bool, typer.Option("--synonyms", help="Ask for a --dataset's classes by known synonyms too.")
    ] = False,
    background: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Of benchmarks with a background class: list (the default), threshold:T or names as in "
            "sky|wall."
        ),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Measure a data set that lacks files.")] = False,
    showing: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Use only images that show one of these classes."),
    ] = None,
    every: o.Every = 1,
    limit: o.Limit = 0,
    shard: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Count only part i of n, written i/n, for `merge`; needs --out."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder of counts and reports; the same command goes on where it stopped."),
    ] = None,
    backbone_weights: o.BackboneWeights = None,
    text_embeddings: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Text vectors (.npz) for a checkpoint without a bundle; else open_clip's."),
    ] = None,
    text_names: Annotated[Optional[Path], typer.Option(help="Names of --text-embeddings.")] = None,  # noqa: UP045
    sam: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Feed the checkpoint's decoder this SAM's features in place of the encoder's: sam (ViT-B), "
            "another on the hub, or its folder. A model without encoder needs it."
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="Where to run; PyTorch takes a GPU only with cuda.")
    ] = Device.auto,
    precision: Annotated[
        Precision,
        typer.Option(
            help="What the bundle computes in; auto takes FP16 on a GPU if the bundle has it. "
            "fp16 with --device cpu emulates it, int8 is for CPUs."
        ),
    ] = Precision.auto,
    reference: o.Reference = None,
    block: o.Block = 1,
    counts: o.Counts = None,
    as_json: o.Json = False,
) -> None:
    """Measure mIoU by the sliding-window protocol, through a bundle, a checkpoint in PyTorch, or both."""
    from ovsdino_bench.data_options import benchmarks_of
    from ovsdino_bench.machine import machine, typed_command
    from ovsdino_bench.measured import open_measured
    from ovsdino_bench.presentation import complain, present
    from ovsdino_bench.selection import Selection
    from ovsdino_bench.session import Session
    from ovsdino_runtime.queries import parse_classes

    if reference is not None and checkpoint is not None:
        raise typer.BadParameter("--reference stands where there is no PyTorch; leave out one of the two")
    if bundle is None and checkpoint is None:
        bundle = o.opened(None).path
    source = _checkpoint(bundle, checkpoint, backbone_weights, text_embeddings, text_names, sam)
    part, launched = _shard(shard, out, counts)
    if synonyms and not dataset:
        raise typer.BadParameter("--synonyms goes with --dataset; in --classes write label=prompt|prompt")
    benchmarks = benchmarks_of(dataset or [], data, classes, prompts, partial=partial)
    if counts is not None and len(benchmarks) > 1:
        raise typer.BadParameter("--counts is one file for one data set; --out takes several")
    if background is not None and not any(item.has_background for item in benchmarks):
        raise DataError(f"no data set here has a background class; leave out --background {background}")
    prepare_target(counts)
    for item in benchmarks:
        for note in item.notes:
            typer.echo(f"note: {note}", err=True)
    described = machine()
    measured = open_measured(bundle, source, device.value, precision.value, reference)
    if measured.note:
        typer.echo(f"note: {measured.note}", err=True)
    session = Session(
        measured=measured,
        selection=Selection(
            showing=parse_classes(showing) if showing is not None else (), every=every, limit=limit
        ),
        shard=part,
        launched=launched,
        background=background,
        synonyms=synonyms,
        out=out,
        machine=described,
        command=typed_command(),
    )
    plans = [session.plan(item) for item in benchmarks]
    counted = [session.count(plan) for plan in plans]
    if counted[0].shard.count == 1:
        present(counted, block=block, out=out, counts=counts, as_json=as_json)
    elif not launched:
        typer.echo(f"shard {shard} is counted; `ovsdino-bench merge {out}` adds all of them up")
        complain(counted)


def merge(
    paths: Annotated[list[Path], typer.Argument(help="Files of counts, or folders that `--out` named.")],
    out: Annotated[Optional[Path], typer.Option(help="Write a report of each data set here.")] = None,  # noqa: UP045
    block: o.Block = 1,
    counts: o.Counts = None,
    as_json: o.Json = False,
) -> None:
    """Add up the counts of shards to the report that one run would have given."""
    from ovsdino_bench.presentation import present
    from ovsdino_bench.shards import files_of_counts
    from ovsdino_bench.shards import merge as add_up

    found = add_up(files_of_counts(paths))
    if counts is not None and len(found) > 1:
        raise typer.BadParameter("--counts is one file for one data set; name its counts alone")
    prepare_target(counts)
    present(found, block=block, out=out, counts=counts, as_json=as_json)


def _checkpoint(
    bundle: Path | None,
    checkpoint: Path | None,
    backbone_weights: str | None,
    text_embeddings: Path | None,
    text_names: Path | None,
    sam: str | None,
) -> CheckpointSource | None:
    """Return the checkpoint with what it needs; None where only a bundle is measured."""
    from ovsdino_bench.measured import CheckpointSource

    if checkpoint is None and (backbone_weights or text_embeddings or text_names or sam):
        raise typer.BadParameter("--backbone-weights, --text-… and --sam belong to a --checkpoint")
    if bundle is not None and (text_embeddings or text_names):
        raise typer.BadParameter("the bundle has text vectors; --text-… serve a checkpoint without a bundle")
    if checkpoint is None:
        return None
    return CheckpointSource(
        path=checkpoint,
        backbone_weights=backbone_weights,
        text_embeddings=text_embeddings,
        text_names=text_names,
        sam=sam,
    )


def _shard(shard: str | None, out: Path | None, counts: Path | None) -> tuple[Shard, bool]:
    """Return the part of the images to count, and whether the other parts are counted beside this process."""
    from ovsdino_bench.selection import Shard
    from ovsdino_bench.shards import rank_of, take_own_gpu

    try:
        launched = rank_of(os.environ) if shard is None else None
        part = launched or (Shard() if shard is None else Shard.parse(shard))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--shard") from error
    if part.count > 1 and out is None:
        raise typer.BadParameter("shards are put together from their files; name a folder with --out")
    if counts is not None and part.count > 1 and launched is None:
        raise typer.BadParameter("a shard has counts in --out only; pass --counts to `merge`")
    if launched is not None:
        take_own_gpu(os.environ)
    return part, launched is not None
