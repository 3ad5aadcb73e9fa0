"""The short table of results in a page, made from the files of reports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ovsdino_bench.documents import Document, read_document
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import atomic_file

_BLOCK = re.compile(r"(<!-- results: (?P<files>[^>]+?) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def short_table(paths: Sequence[Path]) -> str:
    """Return a Markdown table, a row for every backend, form or way in the files.

    Raises:
        DataError: a file is no report.
    """
    lines = ["| file | what | result |", "|---|---|---|"]
    for path in paths:
        kind, reports = read_document(path)
        for report in reports:
            rows = {"accuracy": _accuracy, "parity": _parity, "latency": _latency}[kind](report)
            lines += [f"| {path.stem} | {what} | {result} |" for what, result in rows]
    return "\n".join(lines)


def filled(page: Path) -> str:
    """Return a page whose tables between `<!-- results: FILES -->` and `<!-- end of results -->` are new.

    Files are named from the page's folder, with spaces between.

    Raises:
        DataError: the page cannot be read or has no such place, or a file is no report.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the page {page} ({error}); check the path") from error
    if not _BLOCK.search(text):
        raise DataError(
            f"{page} has no place for results; put <!-- results: FILES --> and <!-- end of results --> in it"
        )

    def table(match: re.Match[str]) -> str:
        made = short_table([page.parent / name for name in match["files"].split()])
        return f"{match[1]}{made}\n{match[3]}"

    return _BLOCK.sub(table, text)


def fill(page: Path) -> None:
    """Write `filled` in the page's place; see there for the errors."""
    text = filled(page)
    with atomic_file(page) as staged:
        staged.write_text(text, encoding="utf-8")


def _accuracy(report: Document) -> list[tuple[str, str]]:
    name = report.get("benchmark") or "mIoU"
    rows = []
    for item in report["backends"]:
        low, high = (_percent(end) for end in item["miou_interval_95"])
        figure = f"{_percent(item['miou'])} % mIoU (95 % interval {low}–{high})"
        rows.append((f"{name}, {item['backend']}", "no class occurs" if item["miou"] is None else figure))
    return rows


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _parity(report: Document) -> list[tuple[str, str]]:
    rows = []
    for item in report["forms"]:
        change = item["delta_miou_points"]
        more = "" if change is None else f", mIoU {change:+.3f} points"
        rows.append(
            (f"{item['form']} against PyTorch", f"{100 * item['label_agreement']:.4f} % of labels{more}")
        )
    return rows


def _latency(report: Document) -> list[tuple[str, str]]:
    ratios = {(item["way"], *item["size_hw"]): item for item in report["ratios"]}
    rows = []
    for item in report["timed"]:
        (height, width), total = item["size_hw"], item["stages"]["total"]
        ratio = ratios.get((item["way"], *item["size_hw"]))
        more = "" if ratio is None else f", {ratio['median']:.2f} times {ratio['to']}"
        marked = ", marked" if report["marks"] else ""
        rows.append((f"{item['way']}, {width}x{height}", f"{total['p50']:.0f} ms{more}{marked}"))
    return rows
