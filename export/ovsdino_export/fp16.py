"""THE STORY of FP16: a bundle's FP32 graph -> an FP16 graph that meets its gates -> the bundle with both."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import onnx

from ovsdino_export.evidence import evidence_of
from ovsdino_export.islands import Island
from ovsdino_export.large_graph import save_proto
from ovsdino_export.operators import check_file
from ovsdino_export.precision import HalfGraph, half_graph
from ovsdino_export.steps import Progress, silent
from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.bundle import IMAGE_GRAPH, IMAGE_GRAPH_FP16, Bundle
from ovsdino_runtime.bundle_writing import require_revisable, revised_bundle
from ovsdino_runtime.errors import ExportError, OutputError

PRECISION = "fp16"
_FILES = (IMAGE_GRAPH_FP16, f"{IMAGE_GRAPH_FP16}.data")  # the second where the weights are too many


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


def derive_fp16(
    bundle: Bundle,
    pictures: Sequence[Path] = (),
    *,
    fp32_ops: Collection[str] = (),
    fp32_nodes: Collection[str] = (),
    kept: Sequence[Island] = (),
    widen: int = 0,
    progress: Progress = silent,
) -> HalfGraph:
    """Return an FP16 graph for a bundle, proven; the bundle stays as it is.

    Needs no torch: the golden windows come with PyTorch's own features, and what pictures are held against is
    the FP32 graph, which was proven against PyTorch at export.

    Args:
        bundle: the bundle.
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
        BundleError: the golden windows are missing or broken.
    """
    progress("windows in FP32")
    evidence = evidence_of(bundle, pictures)
    model = onnx.load(bundle.file(IMAGE_GRAPH))
    return half_graph(
        model, evidence, fp32_ops=fp32_ops, fp32_nodes=fp32_nodes, kept=kept, widen=widen, progress=progress
    )


def write_fp16(
    bundle: Bundle,
    pictures: Sequence[Path] = (),
    *,
    fp32_ops: Collection[str] = (),
    fp32_nodes: Collection[str] = (),
    progress: Progress = silent,
) -> tuple[Bundle, HalfGraph]:
    """Derive an FP16 graph, write it into the bundle, which is replaced once all is proven, and return both.

    Args:
        bundle: see `derive_fp16`, as of the others.
        pictures: files to calibrate and prove on.
        fp32_ops: operators that stay in FP32 too.
        fp32_nodes: nodes that stay in FP32 too.
        progress: told what begins.

    Raises:
        ParityError, ExportError, ImageError, BundleError: as `derive_fp16`.
        OutputError: the bundle cannot be replaced.
    """
    require_revisable(bundle, IMAGE_GRAPH_FP16)
    half = derive_fp16(bundle, pictures, fp32_ops=fp32_ops, fp32_nodes=fp32_nodes, progress=progress)
    progress("writing the bundle")
    with _revised(bundle, half.record()) as staged:
        save_fp16(half, staged / IMAGE_GRAPH_FP16)
    return Bundle.open(bundle.path), half


def save_fp16(half: HalfGraph, path: Path) -> None:
    """Write an FP16 graph, its weights beside it where they are too many for one file.

    Raises:
        ExportError: it goes beyond TensorRT's operators.
    """
    save_proto(half.model, path)
    check_file(path)


def add_fp16(bundle: Bundle, path: Path, record: Mapping[str, Any]) -> Bundle:
    """Return a bundle after an FP16 graph was added to it, in place of one that it had.

    Args:
        bundle: the bundle; it is replaced.
        path: the graph, as `save_fp16` wrote it.
        record: what the manifest is to say about it, see `HalfGraph.record`.

    Raises:
        OutputError: the bundle cannot be replaced.
    """
    with _revised(bundle, record) as staged:
        try:
            for source in filter(Path.is_file, (path.with_name(name) for name in _FILES)):
                shutil.copyfile(source, staged / source.name)
        except OSError as error:
            raise OutputError(
                f"cannot write {IMAGE_GRAPH_FP16} into {bundle.path}: {error.strerror or error}; make room "
                "there"
            ) from error
    return Bundle.open(bundle.path)


def _revised(bundle: Bundle, record: Mapping[str, Any]) -> AbstractContextManager[Path]:
    return revised_bundle(bundle, without=_FILES, precisions={PRECISION: record})
