"""`ovsdino-train publish`: the options of publishing a checkpoint."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from ovsdino_runtime.extras import needing


class Stored(str, Enum):
    """Precision of a published checkpoint."""

    float16 = "float16"
    float32 = "float32"


def publish(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that `ovsdino-train fit` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder of the published checkpoint.")],
    name: Annotated[str, typer.Option(help="What the model is called.")],
    license: Annotated[str, typer.Option(help="Terms of the weights.")],
    backbone_source: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(help="Where others find the backbone: hub:OWNER/REPO[/FILE]."),
    ] = None,
    precision: Annotated[Stored, typer.Option(help="Precision on disk.")] = Stored.float16,
    window_px: Annotated[
        Optional[int],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(
            min=1, help="Make it a model for windows of this size; without: of those it was trained on."
        ),
    ] = None,
) -> None:
    """Write a checkpoint as others may have it: half the size, named, with its terms and no local paths."""
    with needing("train", "publishing"):
        from ovsdino.publish import publish as run

    written = run(
        checkpoint,
        out,
        name=name,
        license=license,
        backbone_source=backbone_source,
        half=precision is Stored.float16,
        window_px=window_px,
    )
    typer.echo(f"{out}: {written.tensors} tensors, {written.bytes / 1e6:.1f} MB, {name}, {license}")
    for removed in written.removed:
        typer.echo(f"  left out of the record: {removed}")
