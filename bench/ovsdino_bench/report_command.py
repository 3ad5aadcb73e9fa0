"""`ovsdino-bench report` and `readme`: reports for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ovsdino_runtime.errors import DataError


def report(
    reports: Annotated[list[Path], typer.Argument(help="Reports of latency, parity or accuracy (.json).")],
    out: Annotated[Path, typer.Option(help="The page (.html).")],
    images: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(help="Your folder of pictures: those that differ most are put into the page."),
    ] = None,
    bundle: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Segments those pictures, to be shown beside them."),
    ] = None,
    reference: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="What parity was measured against: shows PyTorch's labels beside each form's."),
    ] = None,
) -> None:
    """Write reports as one HTML page that loads nothing from anywhere."""
    from ovsdino_bench.page import page_of
    from ovsdino_runtime.files import atomic_file

    if bundle is not None and images is None:
        raise typer.BadParameter("--bundle segments the pictures of --images; name their folder")
    if reference is not None and bundle is None:
        raise typer.BadParameter("--reference is held against forms of a bundle; name --bundle and --images")
    text = page_of(reports, images, bundle, reference)
    with atomic_file(out) as staged:
        staged.write_text(text, encoding="utf-8")
    typer.echo(f"{out}: {len(text.encode()) / 1000:.0f} kB")


def readme(
    page: Annotated[Path, typer.Argument(help="A Markdown page with <!-- results: FILES --> in it.")],
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is as its files are.")] = False,
) -> None:
    """Make a page's short tables of results anew from the files it names."""
    from ovsdino_bench.short_table import fill, filled

    if not check:
        fill(page)
    elif filled(page) != page.read_text(encoding="utf-8"):
        raise DataError(
            f"the results in {page} are not those of its files; run `ovsdino-bench readme {page}`"
        )
