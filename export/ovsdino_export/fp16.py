"""THE STORY of FP16: a bundle's FP32 graph -> an FP16 graph that meets its gates -> the bundle with both."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import onnx

from ovsdino_export.evidence import evidence_of
from ovsdino_export.islands import Island
from ovsdino_export.large_graph import save_proto
from ovsdino_export.operators import check_file
from ovsdino_export.precision import HalfGraph, half_graph
from ovsdino_export.steps import Progress, silent
from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.bundle import IMAGE_GRAPH, IMAGE_GRAPH_FP16, Bundle, revised_bundle
from ovsdino_runtime.errors import ExportError

PRECISION = "fp16"


def ensure_fp16(bundle: Bundle, *, widen: int = 0, progress: Progress = silent) -> Bundle:
    """Return the bundle with an FP16 graph whose islands were widened at least so many times.

    Islands that an earlier derivation found, on pictures perhaps, stay.

    Args:
        bundle: left as it is if it has such a graph.
        widen: see `half_graph`.
        progress: told what begins.

    Raises:
        ParityError: FP16 misses its gates.
        ExportError: the manifest does not say how the graph was derived.
        OutputError: the bundle cannot be replaced.
    """
    if bundle.has(IMAGE_GRAPH_FP16) and widenings_of(bundle) >= widen:
        return bundle
    return write_fp16(bundle, kept=islands_of(bundle), widen=widen, progress=progress)[0]


def widenings_of(bundle: Bundle) -> int:
    """Return how often the islands of a bundle's FP16 graph were widened; 0 where it has no such graph.

    Raises:
        ExportError: the manifest does not say it.
    """
    if not bundle.has(IMAGE_GRAPH_FP16):
        return 0
    widened = bundle.manifest.precisions.get(PRECISION, {}).get("widened", 0)
    if not isinstance(widened, int):
        raise ExportError(_unsaid(bundle, "how often the islands were widened"))
    return widened


def islands_of(bundle: Bundle) -> list[Island]:
    """Return the islands that a bundle's manifest names; none where FP16 was never derived.

    Raises:
        ExportError: what it names are no islands.
    """
    try:
        named = bundle.manifest.precisions.get(PRECISION, {}).get("islands", ())
        return [Island(**{key: str(item[key]) for key in ("node", "op", "reason")}) for item in named]
    except (KeyError, TypeError) as error:
        raise ExportError(_unsaid(bundle, "which nodes stay in FP32, and why")) from error


def _unsaid(bundle: Bundle, what: str) -> str:
    return (
        f"the manifest of {bundle.path} does not say {what} in {IMAGE_GRAPH_FP16}; derive it again with "
        f"`{command_on(bundle, 'ovsdino-export fp16')}`"
    )


def write_fp16(
    bundle: Bundle,
    pictures: Sequence[Path] = (),
    *,
    fp32_ops: Collection[str] = (),
    fp32_nodes: Collection[str] = (),
    kept: Sequence[Island] = (),
    widen: int = 0,
    progress: Progress = silent,
) -> tuple[Bundle, HalfGraph]:
    """Derive an FP16 graph, write it into the bundle, and return both.

    Needs no torch: the golden windows come with PyTorch's own features, and what pictures are held against is
    the FP32 graph, which was proven against PyTorch at export.

    Args:
        bundle: the bundle; it is replaced once everything is proven.
        pictures: files to calibrate and prove on beside the golden windows.
        fp32_ops: see `half_graph`, as the others.
        fp32_nodes: nodes that stay in FP32 too.
        kept: islands of an earlier derivation that stay.
        widen: how often the islands are widened to begin with.
        progress: told what begins.

    Raises:
        ParityError: FP16 misses its gates.
        ExportError: the graph cannot be converted.
        ImageError: a picture cannot be read.
        OutputError: the bundle cannot be replaced.
    """
    progress("windows in FP32")
    evidence = evidence_of(bundle, pictures)
    model = onnx.load(bundle.file(IMAGE_GRAPH))
    half = half_graph(
        model, evidence, fp32_ops=fp32_ops, fp32_nodes=fp32_nodes, kept=kept, widen=widen, progress=progress
    )
    progress("writing the bundle")
    precisions = {**bundle.manifest.precisions, PRECISION: half.record()}
    data = f"{IMAGE_GRAPH_FP16}.data"
    with revised_bundle(bundle, without=(IMAGE_GRAPH_FP16, data), precisions=precisions) as staged:
        save_proto(half.model, staged / IMAGE_GRAPH_FP16)
        check_file(staged / IMAGE_GRAPH_FP16)
    return Bundle.open(bundle.path), half
