"""`ovsdino-export int8`: the options of deriving an INT8 graph for CPUs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from ovsdino_export.steps import progress_bar
from ovsdino_runtime.extras import needing_packages

_STEPS = 3


def int8(
    bundle: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Argument(
            help="A bundle that `ovsdino-export onnx` wrote; by default a copy of the built-in one among the "
            "user's caches.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[str],
        typer.Option(
            "--images",
            help="Pictures, folders or patterns in quotes to prove it on; repeat it. Take what the model "
            "will see.",
        ),
    ] = [],  # noqa: B006
    fp32_node: Annotated[list[str], typer.Option(help="Keep a MatMul in FP32, by name; repeat it.")] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Add a graph whose products with weights are INT8, for CPUs, to a bundle, proven on pictures."""
    with needing_packages(("onnx", "onnxruntime"), "deriving INT8"):
        from ovsdino_export.int8 import write_int8
    from ovsdino_runtime.builtin import open_bundle
    from ovsdino_runtime.bundle import IMAGE_GRAPH, IMAGE_GRAPH_INT8
    from ovsdino_runtime.inputs import pictures_of, without_repetitions

    opened = open_bundle(bundle, to_write=True)
    pictures = without_repetitions([path for argument in images for path in pictures_of(argument)])
    with progress_bar(_STEPS) as progress:
        written, made = write_int8(opened, pictures, fp32_nodes=fp32_node, progress=progress)
    sizes = {name: written.manifest.files[name].bytes for name in (IMAGE_GRAPH, IMAGE_GRAPH_INT8)}
    if as_json:
        print(
            json.dumps(
                {"bundle": str(written.path), "bytes": sizes[IMAGE_GRAPH_INT8], **made.record()}, indent=2
            )
        )
        return
    print(
        f"{written.file(IMAGE_GRAPH_INT8)}: {sizes[IMAGE_GRAPH_INT8] / 1e6:.1f} MB, "
        f"{IMAGE_GRAPH} {sizes[IMAGE_GRAPH] / 1e6:.1f} MB"
    )
    print(f"agreement with FP32 ({made.evidence}), on the pictures:")
    print("  " + ", ".join(f"{name} {value:.6g}" for name, value in made.parity.as_dict().items()))
    print(f"{made.converted} products in INT8, {len(made.islands)} in FP32; serve it with --precision int8")
    for island in made.islands:
        print(f"  {island.node}: {island.reason}")
    if made.widened:
        print(f"note: the gates were met only after {made.widened} widenings", file=sys.stderr)
