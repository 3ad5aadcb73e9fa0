"""One self-contained HTML page from reports: figures, plots, machines and hashes; nothing is fetched."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from ovsdino_bench.plots import bars
from ovsdino_runtime import __version__
from ovsdino_runtime.errors import DataError, ImageError
from ovsdino_runtime.preprocess import load_image

Report = Mapping[str, Any]
_THUMBNAIL_PX = 360
_STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --soft: #f3f5f8; --bad: #c9444a; --good: #2f8f55; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4150; --soft: #1d222b; --good: #5cc98a; --bad: #ff7b81; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); }
th, td { text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
.met { color: var(--good); } .missed { color: var(--bad); }
svg { max-width: 100%; height: auto; } pre { background: var(--soft); padding: .7rem; overflow-x: auto; }
details { margin: .7rem 0; } figure { display: inline-block; margin: .5rem; }
figcaption { font-size: .85rem; }
img { max-width: 100%; height: auto; border-radius: 4px; }
"""


def page(reports: Sequence[tuple[str, Report]], images: Path | None = None) -> str:
    """Return the page.

    Args:
        reports: what to call each, and the report of accuracy or parity.
        images: the folder of the photographs, to show those that differ most; None shows none.

    Raises:
        DataError: a report is of a kind this version does not show.
        ImageError: a photograph is not in the folder, or cannot be read.
    """
    accuracy = [(name, report) for name, report in reports if report.get("kind", "accuracy") == "accuracy"]
    parts = [_accuracy(accuracy)] if accuracy else []
    for name, report in reports:
        kind = report.get("kind", "accuracy")
        if kind == "parity":
            parts.append(_parity(name, report, images))
        elif kind != "accuracy":
            raise DataError(f"{name} is a report of {kind}; the page shows accuracy and parity")
    parts.append(_sources(reports))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>OVS-DINO: measured</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>OVS-DINO: what was measured</h1>\n{''.join(parts)}"
        f"<p><small>ovsdino-bench {escape(__version__)}</small></p></body></html>\n"
    )


def read_any(path: Path) -> Report:
    """Return a report of any kind.

    Raises:
        DataError: it is none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or not ({"backends", "forms", "kind"} & set(document)):
            raise ValueError("no figures in it")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is no report ({error}); `ovsdino-bench accuracy` and `parity` write them"
        ) from error
    return document


def _accuracy(reports: Sequence[tuple[str, Report]]) -> str:
    columns: dict[str, Mapping[str, Any]] = {}
    for name, report in reports:
        for backend in report["backends"]:
            single = len(report["backends"]) == 1
            columns[name if single else f"{name}, {backend['backend']}"] = backend
    classes = list(dict.fromkeys(label for backend in columns.values() for label in backend["iou"]))
    values = {
        name: [_percent(backend["iou"].get(label)) for label in classes] for name, backend in columns.items()
    }
    rows = [
        [
            name,
            _shown(backend["miou"]),
            _interval(backend["miou_interval_95"]),
            _shown(backend["boundary_f_mean"]),
        ]
        for name, backend in columns.items()
    ]
    table = _table(["", "mIoU", "95 % interval", "boundary F"], rows)
    plot = bars(classes, values, "IoU, percent")
    return f'<h2>Accuracy</h2>{table}<div class="wide">{plot}</div>'


def _parity(name: str, report: Report, images: Path | None) -> str:
    rows, missed = [], []
    for form in report["forms"]:
        miou = form["miou"]
        change = form["delta_miou_points"]
        verdict = '<span class="missed">missed</span>' if form["missed"] else '<span class="met">met</span>'
        rows.append(
            [
                escape(form["form"]),
                f"{form['cosine_mean']:.6f}",
                f"{form['cosine_p1']:.6f}",
                f"{form['relative_frobenius']:.2e}",
                f"{form['label_agreement']:.6f}",
                "-" if miou is None else f"{100 * miou['form']:.2f}",
                "-" if change is None else f"{change:+.3f}",
                verdict,
            ]
        )
        missed += [f"{escape(form['form'])}: {escape(text)}" for text in form["missed"]]
    heads = ["form", "cosine", "1st percentile", "Frobenius", "labels", "mIoU", "change", "gates"]
    complaints = "".join(f'<p class="missed">{text}</p>' for text in missed)
    worst = "" if images is None else _worst(report, images)
    title = f"<h2>Parity with PyTorch FP32: {escape(name)}</h2>"
    about = f"<p>{report['images']} images; change of mIoU in points.</p>"
    return f"{title}{about}{_table(heads, rows, raw=True)}{complaints}{worst}"


def _worst(report: Report, images: Path) -> str:
    shown: list[str] = []
    for form in report["forms"]:
        for item in form["worst_images"]:
            if item["label_agreement"] < 1:
                share = f"{form['form']}: {item['label_agreement']:.4f} of the labels as PyTorch's"
                source = _thumbnail(images / item["file"])
                caption = f"{escape(item['file'])}<br>{escape(share)}"
                shown.append(
                    f'<figure><img alt="" src="{source}"><figcaption>{caption}</figcaption></figure>'
                )
    return f"<h3>Where labels differ most</h3>{''.join(shown)}" if shown else ""


def _thumbnail(path: Path) -> str:
    if not path.is_file():
        raise ImageError(
            f"{path.parent} holds no {path.name}, which a report names; give --images its folder"
        )
    picture = Image.fromarray(load_image(path))
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _sources(reports: Sequence[tuple[str, Report]]) -> str:
    """Return what each report says beside its figures, folded."""
    figures = {"backends", "forms", "label_agreement_with_first"}
    parts = []
    for name, report in reports:
        rest = {key: value for key, value in report.items() if key not in figures}
        text = escape(json.dumps(rest, indent=2, ensure_ascii=False))
        parts.append(f"<details><summary>{escape(name)}</summary><pre>{text}</pre></details>")
    return f"<h2>Machines, artifacts, commands</h2>{''.join(parts)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, raw: bool = False) -> str:
    cells = "".join(f"<th>{escape(head)}</th>" for head in heads)
    lines = [
        "<tr>" + "".join(f"<td>{cell if raw else escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    ]
    return f'<div class="wide"><table><tr>{cells}</tr>{"".join(lines)}</table></div>'


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _interval(ends: Sequence[float | None]) -> str:
    return " to ".join(_shown(end) for end in ends)
