"""`ovsdino-bench prepare`: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    name: Annotated[str, typer.Argument(help="The benchmark, as in coco_stuff.")],
    folder: Annotated[Path, typer.Argument(help="Where it was unpacked.")],
) -> None:
    """Make the label maps that are not downloaded, and check that a data set is complete."""
    from ovsdino_bench.datasets import adapter_of
    from ovsdino_bench.datasets.prepare import prepare as run

    done = run(adapter_of(name), folder)
    typer.echo(
        f"{done.root}: {done.images} images with labels; {done.written} label maps made, "
        f"{done.kept} were there already"
    )
