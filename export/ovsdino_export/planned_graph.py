"""The graph of a plan: the bundle's own, or one derived for the plan alone, as a build would derive it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovsdino_export.graph_source import Graph, graph_of, underivable
from ovsdino_export.steps import Progress, silent
from ovsdino_runtime.bundle import IMAGE_GRAPH_FP16, MANIFEST, Bundle
from ovsdino_runtime.errors import BackendUnavailable, OutputError
from ovsdino_runtime.sidecar import Precision


@contextmanager
def planned_graph(bundle: Bundle, precision: Precision, progress: Progress = silent) -> Iterator[Graph]:
    """Yield the graph that an engine would be built from, and leave the bundle as it is.

    An FP16 graph that is not there is derived in a copy, which is gone when the block ends.

    Args:
        bundle: the bundle.
        precision: which graph.
        progress: told what begins, where the graph is derived.

    Raises:
        BackendUnavailable: a graph must be derived, and there is no ONNX Runtime.
        ExportError: the manifest does not name the graph's islands, or FP16 misses its gates.
        OutputError: there is no room for the copy.
    """
    if precision == "fp32" or bundle.has(IMAGE_GRAPH_FP16):
        yield graph_of(bundle, precision)
        return
    from ovsdino_export.fp16 import write_fp16  # noqa: PLC0415 - where the graph is there, none of it is needed

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        try:
            for name in (MANIFEST, *bundle.manifest.files):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle.path / name, copy / name)
        except OSError as error:
            raise OutputError(
                f"there is no room to derive {IMAGE_GRAPH_FP16} in {folder}: {error.strerror or error}; "
                "set TMPDIR to another folder"
            ) from error
        try:
            derived, _ = write_fp16(Bundle.open(copy), progress=progress)
        except BackendUnavailable as error:
            raise underivable(bundle, error) from error
        yield graph_of(derived, precision)
