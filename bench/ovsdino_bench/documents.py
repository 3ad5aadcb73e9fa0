"""Reports as files: what kind they are, whether this version reads them, and writing them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovsdino_bench import report as accuracy_report
from ovsdino_bench import shapes as sh
from ovsdino_bench.plain_json import json_text
from ovsdino_bench.ways import STAGES
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import atomic_file

Document = Mapping[str, Any]
SCHEMAS: Mapping[str, int] = {"accuracy": accuracy_report.SCHEMA, "latency": 1, "parity": 1, "merging": 1}
SHOWN = ("accuracy", "latency", "parity")  # the kinds that tables, pages and comparisons take
_SIZE = sh.listed(sh.positive, least=2, most=2)
_FIGURES = {
    "observations_ms": sh.listed(sh.positive, least=1),
    **sh.fields(("p50", "p95", "min", "max"), sh.number),
}
_ENGINE = sh.record({"observations_ms": sh.listed(sh.positive, least=1), "p50": sh.number})
_OBSERVED = {"observations_ms": sh.listed(sh.number)}
_STAGES = {stage: sh.record({"p50": sh.number}, _OBSERVED) for stage in STAGES}
_COSINE = sh.optional(sh.number)  # null where a form's features are not finite
_AGREEING = sh.record({"way": sh.text, "label_agreement": sh.number, "cosine_mean": _COSINE})
_START = sh.record(sh.fields(("total_ms", "open_ms"), sh.number))
_SHAPES: Mapping[str, sh.Shape] = {
    "latency": sh.record(
        {
            "timed": sh.listed(
                sh.record(
                    {
                        "way": sh.text,
                        "size_hw": _SIZE,
                        "stages": sh.record({**_STAGES, "total": sh.record(_FIGURES)}),
                    }
                )
            ),
            "ratios": sh.listed(
                sh.record(
                    {
                        **sh.fields(("way", "to"), sh.text),
                        "size_hw": _SIZE,
                        **sh.fields(("min", "median", "max"), sh.number),
                    }
                )
            ),
            "throughput": sh.listed(
                sh.record(
                    {
                        "way": sh.text,
                        "batch": sh.positive,
                        "windows_per_s": sh.optional(sh.number),
                        "p50": sh.number,
                    },
                    _OBSERVED,
                )
            ),
            "cold_start": sh.named(
                sh.record(
                    {
                        **sh.fields(("total_ms", "open_ms"), sh.number),
                        "peak_host_bytes": sh.optional(sh.number),
                    },
                    {"observations": sh.listed(_START)},
                )
            ),
            "marks": sh.listed(sh.text),
            **sh.fields(("runs", "warmup"), sh.number),
            "includes": sh.text,
        },
        {
            "engine_times": sh.listed(  # earlier reports have none
                sh.record(
                    {
                        "way": sh.text,
                        "batch": sh.positive,
                        **sh.fields(("with_transfers", "without_transfers"), _ENGINE),
                    }
                )
            ),
            "agreement": sh.optional(sh.record({"images": sh.number, "ways": sh.listed(_AGREEING)})),
        },
    ),
    "parity": sh.record(
        {
            "forms": sh.listed(
                sh.record(
                    {
                        "form": sh.text,
                        "label_agreement": sh.number,
                        **sh.fields(("cosine_mean", "cosine_p1"), _COSINE),
                        "delta_miou_points": sh.optional(sh.number),
                    }
                )
            ),
            "classes": sh.listed(sh.text),
        }
    ),
    "merging": sh.record(
        {
            "timings": sh.listed(
                sh.record(
                    {
                        "size_hw": _SIZE,
                        "classes": sh.text,
                        **sh.fields(("planes", "different_px"), sh.number),
                        **sh.fields(("exact_ms", "usual_ms"), sh.listed(sh.positive, least=1)),
                        "usual_to_exact": sh.record(sh.fields(("min", "median", "max"), sh.number)),
                    }
                )
            )
        }
    ),
}


def read_document(path: Path, kinds: Sequence[str] = SHOWN) -> tuple[str, list[Document]]:
    """Return the kind of a report, and the report; accuracy of several data sets is several.

    Args:
        path: the file.
        kinds: those that are wanted.

    Raises:
        DataError: it cannot be read, is no report of these kinds, or of another schema.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the report {path} ({error}); check the path") from error
    kind = _kind(document)
    if kind is None or kind not in kinds:
        found = "" if kind is None else f", but of {kind}"
        raise DataError(
            f"{path} is no report of {', '.join(kinds)}{found}; write one with the command of that name"
        )
    if kind == "accuracy":
        return kind, [dict(report) for report in accuracy_report.read_reports(path)]
    # the first reports of merging named neither kind nor schema
    schema = document.get("schema", 1 if kind == "merging" and "kind" not in document else None)
    if schema != SCHEMAS[kind]:
        raise DataError(
            f"{path} is a report of {kind} of schema {schema!r}, this version reads {SCHEMAS[kind]}; measure "
            "again, or upgrade ovsdino"
        )
    try:
        _SHAPES[kind](document, "")
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}; measure again") from error
    return kind, [document]


def as_document(report: Document) -> str:
    """Return a report as JSON; a figure that is not finite is null."""
    return json_text(report)


def save_document(report: Document, path: Path | None) -> None:
    """Write a report as JSON where a file was named for it; it appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    if path is None:
        return
    with atomic_file(path) as staged:
        staged.write_text(as_document(report) + "\n", encoding="utf-8")


def _kind(document: object) -> str | None:
    """Return the kind; reports of accuracy, parity and merging did not always name it."""
    if not isinstance(document, dict):
        return None
    named = document.get("kind")
    if named is not None:
        return named if isinstance(named, str) and named in SCHEMAS else None
    if "forms" in document:
        return "parity"
    return "merging" if "timings" in document else "accuracy"  # whose reader says what is wrong with it
