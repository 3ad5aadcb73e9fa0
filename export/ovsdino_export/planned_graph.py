"""The graph of a plan: the bundle's own, or one derived for the plan alone, as a build would derive it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ovsdino_export.graph_source import Graph, graphs_of
from ovsdino_export.steps import Progress, silent
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.sidecar import Precision


@contextmanager
def planned_graph(bundle: Bundle, precision: Precision, progress: Progress = silent) -> Iterator[Graph]:
    """Yield the graph that an engine would be built from first, and leave the bundle as it is.

    Args:
        bundle: the bundle.
        precision: which graph.
        progress: told what begins, where the graph is derived.

    Raises:
        BackendUnavailable: a graph must be derived, and there is no ONNX Runtime.
        ExportError: the manifest does not name the graph's islands, or FP16 misses its gates.
        OutputError: there is no room for a graph that must be derived.
    """
    with graphs_of(bundle, precision, progress) as graphs:
        graph = graphs(0)
        if graph is None:
            raise ValueError("a bundle has at least one graph")
        yield graph
