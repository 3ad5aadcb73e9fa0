"""THE STORY of INT8: a bundle's FP32 graph -> one with integer products that meets its gates -> both."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import onnx

from ovsdino_export.evidence import evidence_of
from ovsdino_export.integer_graph import IntegerGraph, integer_graph, kept_by_name
from ovsdino_export.large_graph import save_proto
from ovsdino_export.operators import check_onnx_runtime_file
from ovsdino_export.steps import Progress, silent
from ovsdino_export.typed_graph import with_plain_weights
from ovsdino_runtime.bundle import IMAGE_GRAPH, IMAGE_GRAPH_INT8, Bundle
from ovsdino_runtime.bundle_writing import require_revisable, revised_bundle
from ovsdino_runtime.errors import ExportError

PRECISION = "int8"
_FILES = (IMAGE_GRAPH_INT8, f"{IMAGE_GRAPH_INT8}.data")  # the second where the weights are too many


def write_int8(
    bundle: Bundle,
    pictures: Sequence[Path],
    *,
    fp32_nodes: Collection[str] = (),
    progress: Progress = silent,
) -> tuple[Bundle, IntegerGraph]:
    """Derive an INT8 graph for CPUs, write it into the bundle, and return both. Needs no torch.

    Args:
        bundle: the bundle; it is replaced once everything is proven.
        pictures: files to prove on, as the model will see them. The golden windows alone cannot: which of
            some hundred names wins on noise lies within INT8's rounding and says nothing.
        fp32_nodes: products that stay in FP32, by name.
        progress: told what begins.

    Raises:
        ParityError: INT8 misses its gates.
        ExportError: no picture is given, a name is wrong, or the graph cannot be converted.
        ImageError: a picture cannot be read.
        OutputError: the bundle cannot be replaced, or there is no room for copies of the graph.
    """
    if not pictures:
        raise ExportError(
            "INT8 is proven on pictures, and none is given; name some that the model will see with --images"
        )
    require_revisable(bundle, IMAGE_GRAPH_INT8)
    model = with_plain_weights(onnx.load(bundle.file(IMAGE_GRAPH)))
    kept = kept_by_name(model, fp32_nodes)
    progress("windows in FP32")
    evidence = evidence_of(bundle, pictures)
    made = integer_graph(model, evidence, window_px=bundle.manifest.window_px, kept=kept, progress=progress)
    progress("writing the bundle")
    precisions = {PRECISION: made.record()}
    with revised_bundle(bundle, without=_FILES, precisions=precisions) as staged:
        save_proto(made.model, staged / IMAGE_GRAPH_INT8)
        check_onnx_runtime_file(staged / IMAGE_GRAPH_INT8)
    return Bundle.open(bundle.path), made
