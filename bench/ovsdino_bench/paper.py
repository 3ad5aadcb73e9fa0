"""Reports beside Table 1 of the paper, and what differs between the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ovsdino_bench.report import Report
from ovsdino_runtime.bundle import IMAGE_GRAPH, IMAGE_GRAPH_FP16, IMAGE_GRAPH_INT8
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.vocabulary import IMAGENET_TEMPLATES

# Benchmarks in the table's order, by their canonical names.
COLUMNS: Mapping[str, str] = {
    "voc21": "V21",
    "context60": "C60",
    "coco_object": "Obj",
    "voc20": "V20",
    "context59": "C59",
    "coco_stuff": "Stuff",
    "cityscapes": "City",
    "ade20k": "ADE",
}
# mIoU in percent as the paper's Table 1 states it; the averages are stated too, not computed.
TABLE_1: Mapping[str, tuple[float, ...]] = {
    "OVS-DINO (paper)": (64.0, 42.0, 38.6, 83.5, 49.4, 34.2, 42.9, 20.6, 46.9),
    "Talk2DINO (paper)": (61.5, 35.1, 41.0, 87.1, 39.8, 28.1, 36.6, 21.1, 43.8),
    "CLIP-DINOiser (paper)": (62.1, 32.4, 34.8, 80.9, 35.9, 24.6, 31.1, 20.0, 40.2),
}
_BACKBONE, _TEXT = "vit_base_patch14_dinov2", "open_clip ViT-B-16 openai"  # sec. 5.1
_GEOMETRY: Mapping[str, tuple[str, int]] = {  # sec. 5.1; the bound on the long side is docs/protocol.md's
    "window_px": ("windows of", 448),
    "stride_px": ("stride", 224),
    "short_side_px": ("short side", 448),
    "long_side_px": ("long side at most", 2048),
}
_GRAPHS = {"fp16": IMAGE_GRAPH_FP16, "int8": IMAGE_GRAPH_INT8}
_PART = "*"
_DIGITS = 8  # of a hash, to tell rows apart


def beside_the_paper(reports: Sequence[Report]) -> str:
    """Return reports as a Markdown table beside the paper's Table 1, then what differs.

    A model's row holds the last backend of its reports; models of one name are told apart by their hashes.
    An average is given only over all eight.

    Args:
        reports: of any benchmarks; those that are none of the eight are named below the table.

    Raises:
        DataError: none is of the eight, or two are of the same model and benchmark.
    """
    by_model: dict[tuple[str, str], dict[str, Report]] = {}
    others: list[str] = []
    for report in reports:
        benchmark = str(report.get("benchmark", report.get("data", "an earlier version's report")))
        if benchmark not in COLUMNS:
            others.append(benchmark)
            continue
        name = f"{report['model']['name']}, {report['backends'][-1]['backend']}"
        row = by_model.setdefault((name, _hash_of(report)), {})
        if benchmark in row:
            raise DataError(f"two reports are of {name} on {benchmark}; show them in two tables")
        row[benchmark] = report
    if not by_model:
        raise DataError(
            f"no report is of one of the eight benchmarks ({', '.join(COLUMNS)}); measure one with "
            "`ovsdino-bench accuracy --dataset NAME=DIR`"
        )
    names = [name for name, _ in by_model]
    rows = [
        (name if names.count(name) == 1 else f"{name}, {digest[:_DIGITS] or 'no hash'}", row)
        for (name, digest), row in by_model.items()
    ]
    lines = ["| | " + " | ".join([*COLUMNS.values(), "avg"]) + " |", "|---|" + "---|" * (len(COLUMNS) + 1)]
    lines += [_line(name, [f"{value:.1f}" for value in values]) for name, values in TABLE_1.items()]
    lines += [_line(name, _cells(row)) for name, row in rows]
    lines += ["", "mIoU in percent. What differs from the paper's rows:", ""]
    for name, row in rows:
        lines += [f"* {name}: {note}" for note in _notes(row)]
    if others:
        lines.append(f"* not shown, since they are none of the eight: {', '.join(others)}")
    return "\n".join(lines)


def _hash_of(report: Report) -> str:
    """Return the hash of what the last backend computes: its graph, of PyTorch the checkpoint; "" without."""
    backend, model, files = report["backends"][-1]["backend"], report["model"], report.get("files", {})
    checkpoint: str = model.get("checkpoint_sha256") or ""
    image_graph: str = model.get("image_graph_sha256") or ""
    if backend.startswith("torch-"):
        return checkpoint
    graph = next((file for precision, file in _GRAPHS.items() if precision in backend), IMAGE_GRAPH)
    # large weights lie in a file beside their graph, which then may be the same for two models
    hashes = "".join(files.get(file, "") for file in (f"{graph}.data", graph))
    return hashes or image_graph or checkpoint


def _cells(row: Mapping[str, Report]) -> list[str]:
    values = [row[name]["backends"][-1]["miou"] if name in row else None for name in COLUMNS]
    cells = [
        "-" if value is None else f"{100 * value:.1f}{_PART if name in row and _shortfall(row[name]) else ''}"
        for name, value in zip(COLUMNS, values, strict=True)
    ]
    known = [value for value in values if value is not None]
    mark = _PART if any(_shortfall(report) for report in row.values()) else ""
    average = f"{100 * sum(known) / len(known):.1f}{mark}" if len(known) == len(COLUMNS) else "-"
    return [*cells, average]


def _notes(row: Mapping[str, Report]) -> list[str]:
    notes = [note for said in (_weights, _text, _geometry) for note in _of_models(row, said)]
    engines = {report.get("engines", {}).get(report["backends"][-1]["backend"]) for report in row.values()}
    if len(engines - {None}) > 1:
        notes.append(f"engines: {len(engines - {None})} different ones, as the reports list")
    policies = {COLUMNS[name]: row[name]["question"]["background"] for name in COLUMNS if name in row}
    used = [f"{column} {policy}" for column, policy in policies.items() if policy != "none"]
    if used:
        notes.append(f"background: {', '.join(used)}; the paper does not state its own")
    renamed = {
        label
        for report in row.values()
        for label, prompts in report["question"]["prompts"].items()
        if prompts != [label] and label != "background"
    }
    if renamed:
        notes.append(
            f"prompts: {len(renamed)} classes are asked for by other names than their labels, as the reports "
            "list; the paper does not state its own"
        )
    for name in COLUMNS:
        shortfall = _shortfall(row[name]) if name in row else None
        if shortfall:
            notes.append(f"{COLUMNS[name]}{_PART}: {shortfall}")
    return notes


def _of_models(row: Mapping[str, Report], said: Callable[[Mapping[str, Any]], str | None]) -> list[str]:
    """Return what is to be said of the models in a row, each once; with the benchmarks where not of all."""
    found: dict[str, list[str]] = {}
    for name, column in COLUMNS.items():
        note = said(row[name]["model"]) if name in row else None
        if note is not None:
            found.setdefault(note, []).append(column)
    return [note if len(at) == len(row) else f"{', '.join(at)}: {note}" for note, at in found.items()]


def _weights(model: Mapping[str, Any]) -> str:
    other = "" if model["backbone"] == _BACKBONE else f"; the paper's backbone is {_BACKBONE}"
    return (
        f"weights: {model['backbone']} from {model['backbone_source'] or 'nobody said where'}, "
        f"{model['steps'] or 'an unstated number of'} steps{other}"
    )


def _text(model: Mapping[str, Any]) -> str:
    same = (model["text_model"], model["templates"]) == (_TEXT, len(IMAGENET_TEMPLATES))
    other = "" if same else f"; the paper's are {_TEXT} and the {len(IMAGENET_TEMPLATES)} of ImageNet"
    return (
        f"text: {model['text_model'] or 'nobody said what'}, {model['templates'] or 'unstated'} "
        f"templates{other}"
    )


def _geometry(model: Mapping[str, Any]) -> str | None:
    """Return how windows and resizing differ from the paper's; earlier versions did not keep all of it."""
    known = [
        (said, model[name], papers)
        for name, (said, papers) in _GEOMETRY.items()
        if model.get(name) is not None
    ]
    if all(size == papers for _, size, papers in known):
        return None
    sizes = ", ".join(f"{said} {size}" for said, size, _ in known)
    return f"geometry: {sizes}; the paper's are {', '.join(str(papers) for *_, papers in known)}"


def _shortfall(report: Report) -> str | None:
    """Return how the images differ from all that are published; None if they do not."""
    published = report["dataset"]["published"]
    if report["images"] == published:
        return None
    failed = f", {len(report['failed'])} could not be measured" if report["failed"] else ""
    return f"over {report['images']} images in place of {published}{failed}"


def _line(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"
