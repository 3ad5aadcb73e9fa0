"""Which graph an engine is built from, and the wider ones to fall back on when a gate is missed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ovsdino_export.steps import Progress, silent
from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.bundle import IMAGE_GRAPH_FP16, Bundle
from ovsdino_runtime.engines import GRAPHS, graph_files
from ovsdino_runtime.errors import BackendUnavailable, ExportError, OutputError, ParityError
from ovsdino_runtime.sidecar import Precision

WIDENINGS = 3  # how often a missed gate is answered with more FP32 islands


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One graph to build an engine from.

    Attributes:
        bundle: the bundle that ships it; the engine is built for this one.
        name: its file in the bundle.
        islands: nodes that compute in FP32 in an FP16 graph: `node`, `op` and `reason` of each.
    """

    bundle: Bundle
    name: str
    islands: tuple[Mapping[str, str], ...] = ()

    @property
    def path(self) -> Path:
        """Where the graph lies."""
        return self.bundle.file(self.name)

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by name, of the graph and of its weights where they lie in a second file."""
        files = self.bundle.manifest.files
        return {name: files[name].sha256 for name in graph_files(self.bundle, self.name)}


Graphs = Callable[[int], Graph | None]
"""The graph of a widening level: 0 is the first, each further one has more FP32 islands.

None where there is no wider one.
"""


def shipped_graphs(bundle: Bundle, precision: Precision) -> Graphs:
    """Return the graph that a bundle ships for a precision, which cannot be widened.

    Raises:
        ExportError: the bundle ships none.
    """
    only = graph_of(bundle, precision)
    return lambda level: only if level == 0 else None


def graphs_of(bundle: Bundle, precision: Precision, progress: Progress = silent) -> Graphs:
    """Return a bundle's graph for a precision, derived if it is not there, and its wider ones in FP16.

    Deriving and widening write into the bundle and need ONNX Runtime, but no torch and no GPU.

    Args:
        bundle: the bundle.
        precision: FP32 has one graph; that of FP16 can be widened as often as `half_graph` can.
        progress: told what begins.

    Raises:
        ExportError: the manifest does not say how the FP16 graph was derived.
        BackendUnavailable: a graph must be derived, and there is no ONNX Runtime (when it is asked for).
    """
    if precision == "fp32":
        return shipped_graphs(bundle, precision)
    from ovsdino_export.fp16 import ensure_fp16, widenings_of  # noqa: PLC0415 - FP32 needs none of it
    from ovsdino_export.islands import WIDENINGS  # noqa: PLC0415 - as above

    shipped = widenings_of(bundle)

    def graph(level: int) -> Graph | None:
        if shipped + level > len(WIDENINGS):
            return None
        try:
            return graph_of(ensure_fp16(bundle, widen=shipped + level, progress=progress), precision)
        except BackendUnavailable as error:
            raise underivable(bundle, error) from error

    return graph


def underivable(bundle: Bundle, error: BackendUnavailable) -> BackendUnavailable:
    """Return what to raise where an FP16 graph cannot be derived, or widened, for want of something."""
    return BackendUnavailable(
        f"{IMAGE_GRAPH_FP16} cannot be derived or widened here: {error}; or derive it with "
        f"`{command_on(bundle, 'ovsdino-export fp16')}` where the bundle was exported"
    )


def graph_of(bundle: Bundle, precision: Precision) -> Graph:
    """Return the graph that a bundle ships for a precision.

    Raises:
        ExportError: the bundle ships none, or its manifest does not say which islands it has.
    """
    name = GRAPHS[precision]
    if not bundle.has(name):
        raise ExportError(
            f"the bundle {bundle.path} ships no {name}; derive it with "
            f"`{command_on(bundle, 'ovsdino-export fp16')}`"
        )
    islands: tuple[Mapping[str, str], ...] = ()
    if name == IMAGE_GRAPH_FP16:
        try:
            islands = tuple(dict(item) for item in bundle.manifest.precisions["fp16"]["islands"])
            [item["node"] for item in islands]
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(
                f"the manifest of {bundle.path} does not name the FP32 islands of {name}; derive it again "
                f"with `{command_on(bundle, 'ovsdino-export fp16')}`"
            ) from error
    return Graph(bundle=bundle, name=name, islands=islands)


class Widening:
    """The graphs to try, one after the other, each with more FP32 islands.

    Attributes:
        tried: how many were given.
        stopped: why no wider one could be had, as the end of a sentence; empty where there is none.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self.tried, self.stopped = 0, ""

    def __iter__(self) -> Iterator[Graph]:
        """Yield the graphs; an error of the first one is raised, of a later one it ends the row.

        Raises:
            ExportError, BackendUnavailable, OutputError: the first graph cannot be had.
        """
        while self.tried <= WIDENINGS:
            try:
                graph = self._graphs(self.tried)
            except (OutputError, BackendUnavailable, ParityError) as error:
                if not self.tried:
                    raise
                self.stopped = f" (wider islands cannot be had: {error})"
                return
            if graph is None:
                return
            self.tried += 1
            yield graph
