"""The options that the commands of `ovsdino-bench` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from ovsdino_runtime import bundle as opened_bundle

Dataset = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this at run time on Python 3.10
    typer.Option(help="A benchmark and its folder, NAME=DIR as in voc21=VOCdevkit; any number of times."),
]
Data = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Folder with images/ and labels/ (PNG indices, 255 ignored), coco:JSON:IMAGES or yolo:DIR."
    ),
]
Bundle = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="The bundle; the small built-in one by default.", show_default=False),
]
Every = Annotated[int, typer.Option(min=1, help="Use only every so many-th image.")]
Limit = Annotated[int, typer.Option(min=0, help="Use only the first of them; 0 uses all.")]
BackboneWeights = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="The checkpoint's backbone: a file, hub:OWNER/REPO, random:SEED."),
]
Block = Annotated[
    int, typer.Option(min=1, help="Neighbouring frames that count as one sample of the interval.")
]
Counts = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Write every image's confusion counts here (.npz), for `compare`."),
]
Reference = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="What `reference` recorded of the bundle's checkpoint, in place of PyTorch."),
]
ReportFile = Annotated[Optional[Path], typer.Option("--out", help="Write the report here (.json).")]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def opened(path: Path | None) -> opened_bundle.Bundle:
    """Open a bundle, or the built-in one with a note on what it is."""
    from ovsdino_runtime.builtin import open_bundle, terms  # noqa: PLC0415 - `--help` is instant

    bundle = open_bundle(path)
    if path is None:
        typer.echo(f"note: {terms(bundle)}", err=True)
    return bundle


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width of a size as people write it: 1920x1080.

    Raises:
        typer.BadParameter: it is none.
    """
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise typer.BadParameter(f"{text!r} is no size; write it as in 1920x1080", param_hint="--size")
    return int(height), int(width)
