"""`ovsdino-train scenes`: generated streets and rooms as a data set."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ovsdino_runtime.extras import needing
from ovsdino_runtime.queries import parse_classes


class SceneKind(str, Enum):
    """What scenes show."""

    street = "street"
    indoor = "indoor"
    both = "both"


def scenes(
    out: Annotated[Path, typer.Argument(help="Folder for images/, labels/ and names.txt.")],
    count: Annotated[int, typer.Option(min=1, help="How many, those already there included.")] = 1000,
    first_seed: Annotated[int, typer.Option(min=0, help="The first scene's seed; the others' follow.")] = 0,
    kind: Annotated[
        SceneKind, typer.Option(help="Streets, rooms, or three streets to two rooms.")
    ] = SceneKind.both,
    size: Annotated[str, typer.Option(help="Width x height.")] = "480x360",
    lossless: Annotated[bool, typer.Option("--lossless", help="Pictures as PNG, not JPEG.")] = False,
    showing: Annotated[
        str, typer.Option(help="Only scenes that show one of these classes: bench,rider. Default: all.")
    ] = "",
) -> None:
    """Generate scenes with exact labels, free of anyone's licence; a seed gives the same one again."""
    with needing("train", "generating scenes"):
        from ovsdino.scenes import write_scenes
        from ovsdino.scenes.generator import LARGEST_PX, SMALLEST_PX

    width, cross, height = size.partition("x")
    sides = [int(side) for side in (width, height) if cross and side.isdecimal()]
    if len(sides) < 2 or not all(SMALLEST_PX <= side <= LARGEST_PX for side in sides):
        least, most = f"{SMALLEST_PX}x{SMALLEST_PX}", f"{LARGEST_PX}x{LARGEST_PX}"
        raise typer.BadParameter(f"{size!r} is no size from {least} to {most}; write it as in 480x360")
    written = write_scenes(
        out,
        count,
        first_seed=first_seed,
        kind=None if kind is SceneKind.both else kind.value,
        size_hw=(sides[1], sides[0]),
        lossless=lossless,
        showing=parse_classes(showing) if showing else (),
    )
    typer.echo(f"{out}: {written} new scenes")
    typer.echo(f"use them as --data folder:{out}:{out}/names.txt")
