"""What changed from one report to another, and whether it is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ovsdino_bench.documents import Document, read_document
from ovsdino_bench.latency_changes import cautions, latency_changes, latency_text
from ovsdino_runtime.errors import DataError


def compare_files(before: Path, after: Path) -> tuple[list[dict[str, Any]], str]:
    """Return what changed as JSON takes it, and as text.

    Raises:
        DataError: they are no reports of latency or parity, of different kinds, or have nothing in common.
    """
    (kind, (first, *_)), (other, (second, *_)) = read_document(before), read_document(after)
    if kind != other:
        raise DataError(f"{before} is a report of {kind}, {after} of {other}; compare two of one kind")
    if kind == "accuracy":
        raise DataError(
            f"{before} is a report of accuracy, which has no counts by image; compare "
            "what --counts wrote (.npz)"
        )
    if kind == "latency":
        changes = latency_changes(first, second)
        if not changes:
            raise DataError(
                f"{before} and {after} have no way in common on the same size, with the same batch or from "
                "a cold start; time the same ways"
            )
        return [asdict(item) for item in changes], latency_text(changes, cautions(first, second))
    rows = _parity_rows(first, second)
    if not rows:
        raise DataError(f"{before} and {after} have no form in common; measure the same forms")
    return rows, "\n".join([_parity_text(rows), *_other_facts(first, second)])


def _parity_rows(before: Document, after: Document) -> list[dict[str, Any]]:
    earlier = {item["form"]: item for item in before["forms"]}
    fields = ("label_agreement", "cosine_mean", "cosine_p1", "delta_miou_points")
    return [
        {"form": item["form"], **{name: [earlier[item["form"]][name], item[name]] for name in fields}}
        for item in after["forms"]
        if item["form"] in earlier
    ]


def _other_facts(before: Document, after: Document) -> list[str]:
    """Return a caution for what two reports of parity are not measured alike in."""
    facts = {
        "references": [item.get("reference", {}).get("sha256") for item in (before, after)],
        "numbers of images": [item.get("images") for item in (before, after)],
        "classes": [item["classes"] for item in (before, after)],
    }
    return [f"note: the two are of different {name}" for name, (one, other) in facts.items() if one != other]


def _parity_text(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        parts = [
            f"{name.replace('_', ' ')} {_figure(pair[0])} -> {_figure(pair[1])}"
            for name, pair in row.items()
            if name != "form"
        ]
        lines.append(f"{row['form']}: {'; '.join(parts)}")
    return "\n".join(
        [*lines, "parity has no repetitions to tell noise by: on the same images it repeats itself"]
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"
