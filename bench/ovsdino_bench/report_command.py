"""`ovsdino-bench report`: one page from reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ovsdino_runtime.extras import needing


def report(
    reports: Annotated[list[Path], typer.Argument(help="Reports that `accuracy` and `parity` wrote.")],
    out: Annotated[Path, typer.Option(help="The page (.html); it needs nothing else.")],
    images: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(help="Folder of the photographs: those that differ most go into the page."),
    ] = None,
) -> None:
    """Write one self-contained HTML page with figures, plots, machines and hashes."""
    with needing("bench", "drawing a page"):
        from ovsdino_bench.page import page, read_any
    from ovsdino_runtime.files import atomic_file

    read = [(path.stem, read_any(path)) for path in reports]
    text = page(read, images)
    with atomic_file(out) as staged:
        staged.write_text(text, encoding="utf-8")
    typer.echo(f"{out}: {len(reports)} reports, {out.stat().st_size / 1e3:.0f} kB")
