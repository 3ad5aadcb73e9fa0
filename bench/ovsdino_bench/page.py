"""One HTML page that holds everything: reports, plots and pictures; it loads nothing from anywhere."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ovsdino_bench.documents import Document, read_document
from ovsdino_bench.failures import failure_lines
from ovsdino_bench.latency_report import latency_table
from ovsdino_bench.short_table import short_table

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
.four { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: .8rem; }
.four figure { margin: 0; }
.mark { border-left: 4px solid var(--warn); padding: .4rem .8rem; background: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; }
dt { opacity: .7; } dd { margin: 0; overflow-wrap: anywhere; } code { font-size: .85em; }
@media (max-width: 40rem) { td:last-child { white-space: normal; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .5rem; } }
"""
_FACTS = (
    "command",
    "commands",
    "machine",
    "machines",
    "bundle",
    "files",
    "engines",
    "model",
    "checkpoint",
    "checkpoint_sha256",
    "reference",
    "interval",
    "image",
    "data",
    "classes",
)


def page_of(
    paths: Sequence[Path],
    images: Path | None = None,
    bundle: Path | None = None,
    reference: Path | None = None,
) -> str:
    """Return the page of some reports.

    Args:
        paths: reports of any kind.
        images: folder of the user's pictures; those that reports of parity name as worst are shown.
        bundle: what was measured, to segment them beside the picture.
        reference: what parity was measured against: with it, PyTorch's labels stand beside those of every
            form of the bundle, and what differs is marked.

    Raises:
        DataError: a file is no report, a folder lacks all pictures that are named, bundle and reference are
            not those that were measured, or an earlier report needs the reference to say what was asked.
        BundleError, InferenceError: the bundle cannot be used.
    """
    parts = [f"<h1>ovsdino-bench</h1>{_tables(short_table(paths))}"]
    for number, path in enumerate(paths):
        kind, reports = read_document(path)
        for place, report in enumerate(reports):
            parts.append(f"<h2>{escape(path.stem)}: {kind}</h2>")
            parts += [f'<p class="mark">{escape(mark)}</p>' for mark in report.get("marks", ())]
            if kind == "parity":  # of latency the tables say it
                parts += [f'<p class="mark">{escape(line)}</p>' for line in failure_lines(report)]
            parts.append(_plots(kind, report, f"r{number}-{place}"))
            if kind == "latency":
                parts.append(_tables(latency_table(report)))
            if kind == "parity" and images is not None:
                parts.append(_worst(path, report, images, bundle, reference))
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


def _worst(path: Path, report: Document, images: Path, bundle: Path | None, reference: Path | None) -> str:
    from ovsdino_bench.worst import worst_labels, worst_pictures  # noqa: PLC0415 - OpenCV is slow to load

    if bundle is None or reference is None:
        return worst_pictures(path, report, images, bundle)
    return worst_labels(path, report, images, bundle, reference)
