"""A report of accuracy: what was measured, in full, and the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovsdino_bench import shapes as sh
from ovsdino_bench.accuracy import Comparison
from ovsdino_bench.benchmark import Benchmark
from ovsdino_bench.folder import LabelledImage
from ovsdino_bench.machine import hash_of_place, shown_source
from ovsdino_bench.plain_json import json_text
from ovsdino_bench.runs import PLACE, Recorded, Run
from ovsdino_bench.selection import Selection, list_hash
from ovsdino_runtime.bundle import IMAGE_GRAPH
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import atomic_file
from ovsdino_runtime.manifest import Manifest
from ovsdino_runtime.question import Question

KIND, SCHEMA = "accuracy", 2  # schema 1 had neither of the two, no selection and no question
Report = Mapping[str, Any]
_SHARE = sh.optional(sh.number)
_BACKEND = sh.record(
    {
        "backend": sh.text,
        **sh.fields(("miou", "boundary_f_mean"), _SHARE),
        "miou_interval_95": sh.listed(_SHARE, least=2, most=2),
        "iou": sh.named(_SHARE),
    }
)
_SCALARS = sh.named(sh.optional(sh.number_or_numbers))
_OF_SCHEMA_1 = sh.record(
    {"backends": sh.listed(_BACKEND, least=1)},
    {"model": sh.optional(sh.record({}, {"scalars": sh.optional(_SCALARS)}))},
)
_OF_SCHEMA_2 = sh.record(
    {
        "benchmark": sh.text,
        "dataset": sh.record({"published": sh.optional(sh.number)}),
        "model": sh.record(
            {
                **sh.fields(("name", "backbone"), sh.text),
                **sh.fields(("backbone_source", "text_model"), sh.optional(sh.text)),
                **sh.fields(("templates", "steps"), sh.optional(sh.number)),
            },
            {
                **sh.fields(("image_graph_sha256", "checkpoint_sha256"), sh.optional(sh.text)),
                **sh.fields(
                    ("window_px", "stride_px", "short_side_px", "long_side_px"), sh.optional(sh.number)
                ),
            },
        ),
        "question": sh.record({"background": sh.text, "prompts": sh.named(sh.listed(sh.text))}),
        "images": sh.number,
        "failed": sh.listed(sh.anything),
    },
    sh.fields(("files", "engines"), sh.named(sh.text)),
)


def run_of(
    benchmark: Benchmark,
    images: Sequence[LabelledImage],
    selection: Selection,
    question: Question,
    background: str,
    manifest: Manifest,
    backends: Sequence[str],
    checkpoint_sha256: str | None = None,
    reference: Mapping[str, Any] | None = None,
    engines: Mapping[str, str] | None = None,
) -> Run:
    """Return what is measured, in full.

    Args:
        benchmark: the data.
        images: those selected, over all shards.
        selection: how they were.
        question: the classes.
        background: the policy, as in `parse_background`.
        manifest: of the bundle, or made from the checkpoint.
        backends: what runs.
        checkpoint_sha256: of the checkpoint's weights, where it is measured.
        reference: what stands for PyTorch, where it was recorded elsewhere.
        engines: SHA-256 of the engines that run, by backend.
    """
    names = [item.image.name for item in images]
    facts = {
        "data": shown_source(benchmark.source),
        PLACE: hash_of_place(benchmark.source),
        "benchmark": benchmark.name,
        "dataset": {
            "images": len(benchmark.images),
            "published": benchmark.published or None,
            "left_out": benchmark.left_out,
            **({"values": list(benchmark.values)} if benchmark.values else {}),
        },
        "selection": {**selection.as_dict(), "images": len(names), "list_sha256": list_hash(names)},
        "model": _model(manifest, checkpoint_sha256),
        "files": {name: entry.sha256 for name, entry in manifest.files.items()},
        "question": _asked(question, background),
    }
    if reference is not None:
        facts["reference"] = dict(reference)
    if engines:
        facts["engines"] = dict(engines)
    return Run(
        name=benchmark.name,
        names=question.names,
        backends=tuple(backends),
        images=len(images),
        facts=facts,
    )


def report_of(recorded: Recorded, block: int) -> tuple[dict[str, Any], Comparison]:
    """Return a report as JSON takes it, and the figures in it.

    Args:
        recorded: the counts of all images.
        block: neighbouring images that count as one sample of the interval.

    Raises:
        DataError: no image could be measured.
    """
    run = recorded.run
    found = Comparison.of(run.names, run.backends, recorded.results.values())
    report = {
        "kind": KIND,
        "schema": SCHEMA,
        **{name: fact for name, fact in run.facts.items() if name != PLACE},
        "shards": recorded.parts,
        "machines": [dict(item) for item in recorded.machines],
        "commands": list(recorded.commands),
        **found.as_dict(block),
    }
    return report, found


def save_report(report: Report, path: Path) -> None:
    """Write a report as JSON; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_file(path) as staged:
        staged.write_text(as_text([report]) + "\n", encoding="utf-8")


def as_text(reports: Sequence[Report], *, several: bool = False) -> str:
    """Return one report as JSON, or several as one document.

    Args:
        reports: the reports.
        several: whether one is written as several are, since others were asked for too.
    """
    alone = len(reports) == 1 and not several
    return json_text(reports[0] if alone else {"kind": KIND, "schema": SCHEMA, "reports": list(reports)})


def read_reports(path: Path) -> list[Report]:
    """Return the reports in a file that `ovsdino-bench accuracy` wrote, of this version or an earlier one.

    Raises:
        DataError: it cannot be read, is something else or of a newer version.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}; `ovsdino-bench accuracy --json > {path}` writes a report")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("kind", KIND) != KIND:
            raise ValueError(f"it holds {document['kind']!r}")
        schema = document.get("schema", 1)
        if not isinstance(schema, int) or schema > SCHEMA:
            raise DataError(f"{path} has schema {schema}, this version reads up to {SCHEMA}; upgrade ovsdino")
        reports: list[Report] = document.get("reports", [document])
        for report in reports:
            _OF_SCHEMA_1(report, "")
            if schema > 1:
                _OF_SCHEMA_2(report, "")
            if any(list(item["iou"]) != list(report["backends"][0]["iou"]) for item in report["backends"]):
                raise ValueError("its backends have different classes")
        if not reports:
            raise ValueError("it has no report in it")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path} is no report of accuracy ({error!r}); write one with `ovsdino-bench accuracy --json`"
        ) from error
    return reports


def _model(manifest: Manifest, checkpoint_sha256: str | None) -> dict[str, Any]:
    recorded = manifest.provenance
    graph = manifest.files.get(IMAGE_GRAPH)
    return {
        "name": manifest.name,
        "backbone": manifest.backbone.name,
        "backbone_source": shown_source(manifest.backbone.source),
        "grid_hw": list(manifest.grid_hw),
        "window_px": manifest.window_px,
        "stride_px": manifest.stride_px,
        "short_side_px": manifest.short_side_px,
        "long_side_px": manifest.long_side_px,
        "text_model": manifest.text_model,
        "templates": len(manifest.templates) or None,
        "steps": recorded.get("steps_done"),
        "scalars": recorded.get("scalars"),
        "image_graph_sha256": graph.sha256 if graph is not None else None,
        "checkpoint_sha256": checkpoint_sha256,
    }


def _asked(question: Question, background: str) -> dict[str, Any]:
    return {
        "background": background,
        "threshold_cosine": question.threshold,
        "prompts": question.by_class,
        "notes": list(question.notes),
        "untrained": list(question.untrained),
    }
