"""`ovsdino-export fp16`: the options of deriving an FP16 graph."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from ovsdino_export.steps import progress_bar
from ovsdino_runtime.extras import needing_packages

_STEPS = 4


def fp16(
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
            help="Pictures, folders or patterns in quotes to calibrate and prove on, beside the bundle's "
            "golden windows; repeat it. Take what the model will see.",
        ),
    ] = [],  # noqa: B006
    fp32_op: Annotated[list[str], typer.Option(help="Keep an operator in FP32, as Softmax; repeat it.")] = [],  # noqa: B006
    fp32_node: Annotated[list[str], typer.Option(help="Keep a node in FP32, by name; repeat it.")] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Add a strongly typed FP16 graph, proven with half rounding after every operator, to a bundle."""
    with needing_packages(("onnx", "onnxruntime"), "deriving FP16"):
        from ovsdino_export.fp16 import write_fp16
    from ovsdino_export.islands import reasons
    from ovsdino_runtime.builtin import open_bundle
    from ovsdino_runtime.bundle import IMAGE_GRAPH_FP16
    from ovsdino_runtime.inputs import pictures_of, without_repetitions

    opened = open_bundle(bundle, to_write=True)
    pictures = without_repetitions([path for argument in images for path in pictures_of(argument)])
    with progress_bar(_STEPS) as progress:
        written, half = write_fp16(
            opened,
            pictures,
            fp32_ops=fp32_op,
            fp32_nodes=fp32_node,
            progress=progress,
        )
    size = written.manifest.files[IMAGE_GRAPH_FP16].bytes
    if as_json:
        print(json.dumps({"bundle": str(written.path), "bytes": size, **half.record()}, indent=2))
        return
    print(f"{written.file(IMAGE_GRAPH_FP16)}: {size / 1e6:.1f} MB")
    print(f"agreement with FP32 ({half.record()['arithmetic']}; {half.evidence}):")
    print("  " + ", ".join(f"{name} {value:.6g}" for name, value in half.parity.as_dict().items()))
    fused = sum(block.fusable for block in half.attention)
    print(
        f"{len(half.islands)} nodes in FP32, {half.casts.count} Casts ({half.casts.needless} needless), "
        f"largest FP16 magnitude {half.largest:.4g}; "
        f"{fused} of {len(half.attention)} attentions stay fusable"
    )
    for reason, count in reasons(half.islands).items():
        print(f"  {count} x {reason}")
    if half.widened:
        print(f"note: the gates were met only after {half.widened} widenings", file=sys.stderr)
