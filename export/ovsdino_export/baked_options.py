"""The options of baking that `ovsdino-export onnx` and `trt` share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

PANEL = "Baked graph"


class Output(str, Enum):
    """What a graph or an engine with a vocabulary gives."""

    SCORES = "scores"
    LABELS = "labels"


Background = Annotated[
    str | None,
    typer.Option(
        help="none (the default), auto, list, or names a|b: a last class for all else.",
        rich_help_panel=PANEL,
    ),
]
