"""`ovsdino-bench parity`: every form of a bundle against PyTorch, and the gates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ovsdino_bench import options as o
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import prepare_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovsdino_bench.parity import Parity
    from ovsdino_runtime.metrics import Gate


def parity(
    reference: Annotated[Path, typer.Option(help="What `reference` recorded of its checkpoint.")],
    bundle: o.Bundle = None,
    form: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(help="A form, as onnx-fp16-emulated; repeat it. All that run here by default."),
    ] = None,
    gate: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Another gate, NAME=VALUE as in label_agreement=0.99, for all forms; repeat it."),
    ] = None,
    block: o.Block = 1,
    out: o.ReportFile = None,
    as_json: o.Json = False,
) -> None:
    """Measure how every form of a bundle agrees with PyTorch FP32; exit 1 where a gate is missed."""
    from ovsdino_bench.asked import asked
    from ovsdino_bench.documents import SCHEMAS, as_document, save_document
    from ovsdino_bench.failures import Failures
    from ovsdino_bench.forms import FORMS, engine_hashes, runnable
    from ovsdino_bench.machine import machine, typed_command
    from ovsdino_bench.parity import GATE_FIELDS, Form, gate_of, how_frames_were_taken, measure_parity
    from ovsdino_bench.recorded import Recorded
    from ovsdino_runtime.command_line import complain
    from ovsdino_runtime.files import sha256_of
    from ovsdino_runtime.metrics import GATES

    unknown = [name for name in form or () if name not in FORMS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no form; there are {', '.join(FORMS)}")
    changes: dict[str, float] = {}
    for text in gate or ():
        name, _, value = text.partition("=")
        try:
            changes[name] = float(value)
        except ValueError:
            changes[name] = float("nan")
        if name not in GATE_FIELDS or changes[name] != changes[name]:
            raise typer.BadParameter(
                f"{text!r} is no gate; write NAME=VALUE, NAME being one of {', '.join(GATE_FIELDS)}"
            )
    prepare_target(out)
    described = machine()
    opened, recorded = o.opened(bundle), Recorded.open(reference)
    recorded.check(opened.manifest)
    failures = Failures()
    if form:
        backends = {name: FORMS[name].open(opened) for name in form}
    else:
        backends, missing = runnable(opened, failures)
        for name, reason in missing.items():
            typer.echo(f"note: {name} is left out: {reason}", err=True)
    if not backends and not failures.found:
        raise DataError(f"no form of {opened.path} runs here; see the notes above for what is missing")
    forms = [
        Form(name=name, precision=FORMS[name].precision, backend=backend)
        for name, backend in backends.items()
    ]
    found = measure_parity(opened, recorded, forms, failures, block)
    gates = [gate_of(item.precision, GATES, changes) for item in found]
    report = {
        "kind": "parity",
        "schema": SCHEMAS["parity"],
        "command": typed_command(),
        "bundle": opened.manifest.name,
        "files": {name: entry.sha256 for name, entry in opened.manifest.files.items()},
        "engines": engine_hashes(backends),
        "reference": {
            "sha256": sha256_of(reference),
            **{
                name: recorded.about.get(name)
                for name in ("checkpoint_sha256", "created_by", "backend", "machine", "failed")
            },
        },
        "classes": list(recorded.question.names),
        "question": asked(recorded.question, recorded.vocabulary),
        "images": len(recorded),
        "block": block,
        "interval": how_frames_were_taken(block),
        "machine": described,
        "forms": [item.as_dict(own) for item, own in zip(found, gates, strict=True)],
        "failed": failures.found,
    }
    typer.echo(as_document(report) if as_json else _table(found, gates, len(recorded), block))
    save_document(report, out)
    missed = [
        (item.form, failure) for item, own in zip(found, gates, strict=True) for failure in item.failures(own)
    ]
    for line in [*(f"{name}: {failure}" for name, failure in missed), *failures.lines()]:
        complain(line)
    if missed or failures.found:
        raise typer.Exit(1)


def _table(found: Sequence[Parity], gates: Sequence[Gate], images: int, block: int) -> str:
    from ovsdino_bench.parity import how_frames_were_taken

    lines = [
        f"{'against PyTorch FP32':22}{'cosine mean':>13}{'1st pct':>11}{'Frobenius':>11}{'labels':>10}"
        f"{'mIoU':>8}{'change':>9}{'95 % interval':>19}  gates"
    ]
    for item, gate in zip(found, gates, strict=True):
        miou = "-" if item.miou is None else f"{100 * item.miou[1]:.2f}"
        change = "-" if item.delta_miou_points is None else f"{item.delta_miou_points:+.3f}"
        ends = item.delta_interval_95
        interval = "-" if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"
        verdict = "missed" if item.failures(gate) else "met"
        lines.append(
            f"{item.form:22}{item.cosine_mean:13.7f}{item.cosine_p1:11.6f}{item.relative_frobenius:11.2e}"
            f"{item.label_agreement:10.6f}{miou:>8}{change:>9}{interval:>19}  {verdict}"
        )
    lines.append(f"over {images} images; labels: share of pixels with PyTorch's label; change in points")
    if any(item.delta_interval_95 is not None for item in found):
        lines[-1] += f"; interval: {how_frames_were_taken(block)}"
    for item in found:
        if item.worst and item.worst[0][1] < 1:
            shown = ", ".join(f"{file} {share:.4f}" for file, share in item.worst[:3] if share < 1)
            lines.append(f"{item.form} differs most on {shown}")
    return "\n".join(lines)
