"""`ovsdino-bench latency`: every form and named alternatives, timed in turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ovsdino_bench import options as o
from ovsdino_runtime.errors import DataError, InferenceError
from ovsdino_runtime.files import prepare_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovsdino_bench.failures import Failures
    from ovsdino_bench.measured import CheckpointSource
    from ovsdino_bench.ways import Way
    from ovsdino_runtime.bundle import Bundle


def latency(
    image: Annotated[Path, typer.Option(help="A picture.")],
    bundle: o.Bundle = None,
    classes: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(help="What to look for: car,road or car,vehicle=bus|truck."),
    ] = None,
    vocabulary: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="All classes of a benchmark in place of --classes."),
    ] = None,
    form: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Forms with commas between, as onnx-fp32-cpu. All that run here by default."),
    ] = None,
    against: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="pytorch-eager, pytorch-bf16, pytorch-fp16, torch-compile, mmseg-style; commas between."
        ),
    ] = None,
    checkpoint: Annotated[Optional[Path], typer.Option(help="What --against runs.")] = None,  # noqa: UP045
    backbone_weights: o.BackboneWeights = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted rounds.")] = 20,
    warmup: Annotated[int, typer.Option(min=0, help="Rounds before, that are not counted.")] = 3,
    batches: Annotated[
        str, typer.Option(help="Windows in a batch, for throughput; empty leaves it out.")
    ] = "1,2,4,8",
    cold: Annotated[int, typer.Option(min=0, help="Fresh processes started of each; 0 leaves it out.")] = 3,
    size: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Width x height the picture is resized to first; any number of times."),
    ] = None,
    reference: o.Reference = None,
    out: o.ReportFile = None,
    as_json: o.Json = False,
) -> None:
    """Time a bundle's forms by stage and end to end, beside PyTorch in the same run if asked for."""
    from ovsdino_bench.agreement import agreement_with
    from ovsdino_bench.cpu_telemetry import load_now
    from ovsdino_bench.documents import as_document, save_document
    from ovsdino_bench.engine_times import time_engines
    from ovsdino_bench.failures import Failures
    from ovsdino_bench.forms import engine_hashes
    from ovsdino_bench.latency import check_batches, time_batches, time_ways
    from ovsdino_bench.latency_report import latency_report, latency_table
    from ovsdino_bench.machine import machine, typed_command
    from ovsdino_bench.measured import weights_sha256
    from ovsdino_bench.telemetry import Watch
    from ovsdino_runtime import vocabulary as vocabularies
    from ovsdino_runtime.files import sha256_of
    from ovsdino_runtime.preprocess import load_image

    if (classes is None) == (vocabulary is None):
        raise typer.BadParameter("name what to look for with either --classes or --vocabulary")
    sizes = [o.parse_size(text) for text in size or ()]
    counts = [_batch(text) for text in batches.split(",") if text.strip()]
    source = _source(against, checkpoint, backbone_weights)
    prepare_target(out)
    load, described = load_now(), machine()  # of the time before this command's own work
    load_image(image)  # a picture that cannot be read ends the run before models are loaded
    asked: Any
    if vocabulary is not None:
        asked = vocabularies.vocabulary(vocabulary)
    else:
        asked = list(vocabularies.parse_classes(classes or ""))
    opened = o.opened(bundle)
    failures = Failures()
    ways = _ways(opened, _names(form), _names(against), source, failures)
    checkpoint_sha256 = None if source is None else weights_sha256(source.path)
    check_batches(ways, counts)
    question = ways[0].segmenter.ask(asked)
    agreement = None if reference is None else agreement_with(reference, ways, opened, failures)
    with Watch(load) as watch:
        timed = time_ways(ways, image, asked, sizes, runs, warmup, failures)
        if not timed:
            _complain(failures)
            raise InferenceError(f"none of {len(ways)} ways could be timed; see the errors above")
        able = [way for way in ways if any(item.way == way.name for item in timed)]
        throughput = time_batches(able, counts, runs, warmup, failures)
        engines = time_engines(able, counts, runs, warmup, failures)
        started = _cold(
            able, cold, opened.path, source, image, classes=asked, vocabulary=vocabulary, failures=failures
        )
    report = latency_report(
        timed=timed,
        throughput=throughput,
        engines=engines,
        cold=started,
        telemetry=watch.seen,
        facts={
            "command": typed_command(),
            "machine": described,
            "bundle": opened.manifest.name,
            "files": {name: entry.sha256 for name, entry in opened.manifest.files.items()},
            "engines": engine_hashes({way.name: way.segmenter.backend for way in ways}),
            "checkpoint": None if source is None else source.path.name,
            "checkpoint_sha256": checkpoint_sha256,
            "image": {"file": image.name, "sha256": sha256_of(image)},
            "classes": {"names": len(question.names), "prompts": len(question.prompts)},
            "vocabulary": vocabulary,
            "runs": runs,
            "warmup": warmup,
            "agreement": agreement,
            "ways": {way.name: way.segmenter.backend.name for way in ways},
            "failed": failures.found,
        },
    )
    typer.echo(as_document(report) if as_json else latency_table(report))
    save_document(report, out)
    _complain(failures)
    if failures.found:
        raise typer.Exit(1)


def _ways(
    bundle: Bundle,
    forms: Sequence[str],
    against: Sequence[str],
    source: CheckpointSource | None,
    failures: Failures,
) -> list[Way]:
    from ovsdino_bench.ways import ALTERNATIVES, TIMED_FORMS, open_all, open_way

    for name, known in [(name, TIMED_FORMS) for name in forms] + [(n, tuple(ALTERNATIVES)) for n in against]:
        if name not in known:
            kind = "form that is timed" if known is TIMED_FORMS else "alternative"
            raise typer.BadParameter(f"{name!r} is no {kind}; there are {', '.join(known)}")
    if forms:
        ways = [open_way(name, bundle, None) for name in forms]
    else:
        ways, missing = open_all(bundle, failures)
        for name, reason in missing.items():
            typer.echo(f"note: {name} is left out: {reason}", err=True)
    ways += [open_way(name, bundle, source, known=place > 0) for place, name in enumerate(against)]
    if not ways:
        _complain(failures)
        raise DataError(f"no form of {bundle.path} runs here; see the notes above for what is missing")
    return ways


def _cold(
    ways: Sequence[Way],
    count: int,
    bundle: Path,
    source: CheckpointSource | None,
    image: Path,
    *,
    classes: Any,
    vocabulary: str | None,
    failures: Failures,
) -> dict[str, list[dict[str, Any]]]:
    """Return what fresh processes took by way; one that fails is noted, and its way started no more."""
    from dataclasses import asdict

    from ovsdino_bench.cold import start_cold

    asked = {"names": classes} if vocabulary is None else {"vocabulary": vocabulary}
    found: dict[str, list[dict[str, Any]]] = {way.name: [] for way in ways}
    starting = list(found)
    for _ in range(count):
        for name in list(starting):
            try:
                found[name].append(asdict(start_cold(name, bundle, source, image, asked)))
            except InferenceError as error:
                failures.add(name, "cold start", error)
                starting.remove(name)
    return found


def _source(
    against: Sequence[str] | None, checkpoint: Path | None, backbone_weights: str | None
) -> CheckpointSource | None:
    from ovsdino_bench.measured import CheckpointSource

    if against and checkpoint is None:
        raise typer.BadParameter("--against runs a checkpoint in PyTorch; name it with --checkpoint")
    if not against and (checkpoint or backbone_weights):
        raise typer.BadParameter("--checkpoint and --backbone-weights belong to --against")
    return (
        None if checkpoint is None else CheckpointSource(path=checkpoint, backbone_weights=backbone_weights)
    )


def _complain(failures: Failures) -> None:
    from ovsdino_runtime.command_line import complain

    for line in failures.lines():
        complain(line)


def _names(texts: Sequence[str] | None) -> list[str]:
    names = [name.strip() for text in texts or () for name in text.split(",") if name.strip()]
    return list(dict.fromkeys(names))


def _batch(text: str) -> int:
    if not text.strip().isdecimal() or not int(text):
        raise typer.BadParameter(f"{text!r} is no number of windows; write 1,2,4", param_hint="--batches")
    return int(text)
