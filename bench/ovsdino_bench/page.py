"""One HTML page that holds everything: reports, plots and pictures; it loads nothing from anywhere."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ovsdino_bench.documents import Document, read_document
from ovsdino_bench.latency_report import latency_table
from ovsdino_bench.short_table import short_table
from ovsdino_runtime.errors import DataError

_SHOWN_PX = 640  # long side of a picture in the page
_CSS = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --warn: #c8501e; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem;
  background: Canvas; color: CanvasText; }
h1 { font-size: 1.5rem; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap;
  font-variant-numeric: tabular-nums; } th { background: var(--soft); }
figure { margin: 1.5rem 0; } figcaption { font-size: .9rem; opacity: .8; margin-bottom: .3rem; }
svg { width: 100%; height: auto; max-width: 44rem; } img { width: 100%; border-radius: 4px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .5rem; }
.mark { border-left: 4px solid var(--warn); padding: .4rem .8rem; background: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; } code { font-size: .85em; }
@media (max-width: 40rem) { td:last-child { white-space: normal; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .5rem; } }
"""
_FACTS = (
    "command",
    "machine",
    "machines",
    "bundle",
    "files",
    "model",
    "checkpoint",
    "image",
    "data",
    "classes",
)


def page_of(paths: Sequence[Path], images: Path | None = None, bundle: Path | None = None) -> str:
    """Return the page of some reports.

    Args:
        paths: reports of any kind.
        images: folder of the user's pictures; those that reports of parity name as worst are shown.
        bundle: what segments them, beside the picture.

    Raises:
        DataError: a file is no report, or a folder lacks all pictures that are named.
        BundleError: the bundle cannot be used.
    """
    parts = [f"<h1>ovsdino-bench</h1>{_tables(short_table(paths))}"]
    for number, path in enumerate(paths):
        kind, reports = read_document(path)
        for place, report in enumerate(reports):
            parts.append(f"<h2>{escape(path.stem)}: {kind}</h2>")
            parts += [f'<p class="mark">{escape(mark)}</p>' for mark in report.get("marks", ())]
            parts.append(_plots(kind, report, f"r{number}-{place}"))
            if kind == "latency":
                parts.append(_tables(latency_table(report)))
            if kind == "parity" and images is not None:
                parts.append(_worst(report, images, bundle))
            parts.append(_facts(report))
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>ovsdino-bench</title><style>{_CSS}</style></head><body>"
    )
    return head + "\n".join(parts) + "</body></html>\n"


def _plots(kind: str, report: Document, name: str) -> str:
    if kind == "parity":
        return ""
    if importlib.util.find_spec("matplotlib") is None:
        return "<p>No plots: matplotlib is not installed (ovsdino[bench]).</p>"
    from ovsdino_bench.plots import iou_plot, latency_plots  # noqa: PLC0415 - optional, and slow to load

    plots = latency_plots(report, name) if kind == "latency" else [iou_plot(report, name)]
    return "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>" for caption, svg in plots
    )


def _tables(markdown: str) -> str:
    """Return the tables and lines of Markdown as HTML."""
    parts: list[str] = []
    rows: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([escape(cell.strip()) for cell in line.strip("|").split("|")])
            continue
        if rows:
            head = "".join(f"<th>{cell}</th>" for cell in rows[0])
            body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows[2:])
            parts.append(f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')
            rows = []
        if line and not line.startswith("**marked"):
            parts.append(f"<p>{escape(line)}</p>")
    return "".join(parts)


def _facts(report: Document) -> str:
    items = "".join(
        f"<dt>{name}</dt><dd>{_value(report[name])}</dd>"
        for name in _FACTS
        if report.get(name) not in (None, {}, [])
    )
    return f"<dl>{items}</dl>"


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"<code>{escape(text)}</code>"


def _worst(report: Document, images: Path, bundle: Path | None) -> str:
    from ovsdino_runtime.preprocess import load_image  # noqa: PLC0415 - OpenCV is slow to load
    from ovsdino_runtime.render import overlay_image  # noqa: PLC0415
    from ovsdino_runtime.segmenter import Segmenter  # noqa: PLC0415

    named = {
        item["file"]: item["label_agreement"] for form in report["forms"] for item in form["worst_images"]
    }
    there = [name for name in named if (images / name).is_file()]
    if named and not there:
        raise DataError(
            f"{images} holds none of the {len(named)} pictures that differ most; name their folder"
        )
    segmenter = None if bundle is None else Segmenter.open(bundle)
    parts = []
    for name in sorted(there, key=lambda item: named[item]):
        pixels = load_image(images / name)
        shown = [_picture(pixels)]
        if segmenter is not None:
            found = segmenter.segment(pixels, report["classes"], background="none")
            shown.append(_picture(overlay_image(pixels, found.labels, found.names)))
        caption = f"{escape(name)}: {100 * named[name]:.3f} % of labels agree with PyTorch"
        parts.append(
            f'<figure><figcaption>{caption}</figcaption><div class="pair">{"".join(shown)}</div></figure>'
        )
    return "".join(parts)


def _picture(pixels: Any) -> str:
    from PIL import Image  # noqa: PLC0415

    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image = image.convert("RGB")
    image.thumbnail((_SHOWN_PX, _SHOWN_PX))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'
