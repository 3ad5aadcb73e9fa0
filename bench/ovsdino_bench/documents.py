"""Reports as files: what kind they are, whether this version reads them, and writing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovsdino_bench import report as accuracy_report
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import atomic_file

Document = Mapping[str, Any]
SCHEMAS: Mapping[str, int] = {"accuracy": accuracy_report.SCHEMA, "latency": 1, "parity": 1}
_NEEDED = {
    "latency": ("timed", "ratios", "throughput", "cold_start", "marks"),
    "parity": ("forms", "classes"),
}
_IN_A_LIST = {
    "latency": ("timed", ("way", "size_hw", "stages")),
    "parity": ("forms", ("form", "label_agreement", "cosine_mean", "cosine_p1", "delta_miou_points")),
}


def read_document(path: Path) -> tuple[str, list[Document]]:
    """Return the kind of a report, and the report; accuracy of several data sets is several.

    Raises:
        DataError: it cannot be read, is no report, or of another schema.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the report {path} ({error}); check the path") from error
    kind = _kind(document)
    if kind is None:
        raise DataError(
            f"{path} is no report of {', '.join(SCHEMAS)}; write one with the command of that name"
        )
    if kind == "accuracy":
        return kind, [dict(report) for report in accuracy_report.read_reports(path)]
    schema = document.get("schema")
    if schema != SCHEMAS[kind]:
        raise DataError(
            f"{path} is a report of {kind} of schema {schema!r}, this version reads {SCHEMAS[kind]}; measure "
            "again, or upgrade ovsdino"
        )
    place, fields = _IN_A_LIST[kind]
    try:
        for name in _NEEDED[kind]:
            document[name]
        for item in document[place]:
            for name in fields:
                item[name]
        if kind == "latency":
            for item in document[place]:
                [float(value) for value in item["stages"]["total"]["observations_ms"]]
            for item in document.get("engine_times", ()):  # earlier reports have none
                (item["way"], item["batch"])
                [float(item[figure]["p50"]) for figure in ("with_transfers", "without_transfers")]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: it lacks {error}; measure again") from error
    return kind, [document]


def as_document(report: Document) -> str:
    """Return a report as JSON."""
    return json.dumps(report, indent=2)


def save_document(report: Document, path: Path) -> None:
    """Write a report as JSON; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_file(path) as staged:
        staged.write_text(as_document(report) + "\n", encoding="utf-8")


def _kind(document: object) -> str | None:
    """Return the kind; reports of accuracy and parity did not always name it."""
    if not isinstance(document, dict):
        return None
    named = document.get("kind")
    if named is not None:
        return named if named in SCHEMAS else None
    return "parity" if "forms" in document else "accuracy"  # whose reader says what is wrong with it
