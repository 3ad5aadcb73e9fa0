"""What a run says: a table for people, a document for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ovsdino_runtime import __version__
from ovsdino_runtime.batch import Done, Failed
from ovsdino_runtime.legend import percent
from ovsdino_runtime.question import Question
from ovsdino_runtime.segmenter import Segmenter

_NAMES_IN_A_NOTE = 8


def table(result: Done, names: Sequence[str], backend: str) -> str:
    """Return what computed a picture, and its classes with numbers and shares, largest first, as lines."""
    height, width = result.size_hw
    present = sorted((i for i, area in enumerate(result.area_px) if area), key=lambda i: -result.area_px[i])
    column = max(len(names[i]) for i in present)
    lines = [f"{result.file}  {width} x {height}  {result.timings_ms['total']:.0f} ms  {backend}"]
    digits = len(str(max(present)))
    lines += [
        f"  {i:>{digits}} {names[i]:<{column}}  {percent(result.area_px[i], height * width):>7}"
        for i in present
    ]
    lines += [f"  -> {path}" for path in result.outputs.values()]
    return "\n".join(lines)


def document(segmenter: Segmenter, question: Question, results: Sequence[Done | Failed]) -> dict[str, Any]:
    """Return a run as what JSON can hold; `images` keeps the order of the run."""
    manifest = segmenter.bundle.manifest
    return {
        "version": __version__,
        "bundle": {"name": manifest.name, "path": str(segmenter.bundle.path), "license": manifest.license},
        "device": segmenter.backend.name,
        "device_note": segmenter.note,
        "classes": list(question.names),
        "background_index": question.background_index,
        "notes": list(question.notes),
        "untrained": list(question.untrained),
        "images": [_image(result, question.names) for result in results],
        "failures": sum(isinstance(result, Failed) for result in results),
    }


def notes(question: Question) -> list[str]:
    """Return what a person should know about how the classes were understood, a line each."""
    found = list(question.notes)
    if question.untrained:
        shown = ", ".join(question.untrained[:_NAMES_IN_A_NOTE])
        more = len(question.untrained) - _NAMES_IN_A_NOTE
        found.append(f"not among the training classes: {shown}" + (f" and {more} more" if more > 0 else ""))
    return found


def _image(result: Done | Failed, names: Sequence[str]) -> dict[str, Any]:
    if isinstance(result, Failed):
        return {"file": result.file, "error": result.error}
    height, width = result.size_hw
    return {
        "file": str(result.file),
        "height": height,
        "width": width,
        "notes": list(result.notes),
        "outputs": {kind: str(path) for kind, path in result.outputs.items()},
        "classes": [
            {"index": index, "name": name, "area_px": area, "area_share": area / (height * width)}
            for index, (name, area) in enumerate(zip(names, result.area_px, strict=True))
        ],
        "timings_ms": {stage: round(value, 3) for stage, value in result.timings_ms.items()},
    }
