"""Which graph an engine is built from, and the wider ones to fall back on when a gate is missed.

A graph that must be derived, or widened, lies elsewhere until an engine built from it is proven: a build that
fails leaves the bundle as it was, and with it the engines that were built from it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovsdino_export.scratch import no_room
from ovsdino_export.steps import Progress, silent
from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.bundle import IMAGE_GRAPH_FP16, Bundle
from ovsdino_runtime.bundle_writing import require_revisable
from ovsdino_runtime.engines import GRAPHS, graph_files
from ovsdino_runtime.errors import BackendUnavailable, ExportError, InferenceError, OutputError
from ovsdino_runtime.sidecar import Precision

WIDENINGS = 3  # how often a missed gate is answered with more FP32 islands


@dataclass(frozen=True, kw_only=True)
class Derived:
    """Where an FP16 graph lies that its bundle does not have yet.

    Attributes:
        path: the file; its weights may lie in a second one beside it.
        record: what the bundle's manifest is to say about it.
    """

    path: Path
    record: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One graph to build an engine from.

    Attributes:
        bundle: the bundle it is of; the engine is built for this one.
        name: its file in the bundle.
        islands: nodes that compute in FP32 in an FP16 graph: `node`, `op` and `reason` of each.
        derived: where it lies as long as the bundle does not ship it; None where it does.
    """

    bundle: Bundle
    name: str
    islands: tuple[Mapping[str, str], ...] = ()
    derived: Derived | None = None

    @property
    def path(self) -> Path:
        """Where the graph lies."""
        return self.bundle.file(self.name) if self.derived is None else self.derived.path

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by name, of the graph as shipped and of its weights where they lie in a second file."""
        files = self.bundle.manifest.files
        return {name: files[name].sha256 for name in graph_files(self.bundle, self.name)}

    def kept(self) -> Graph:
        """Return the graph as its bundle ships it; one that was derived is written into the bundle for that.

        Raises:
            OutputError: the bundle cannot be replaced.
        """
        if self.derived is None:
            return self
        from ovsdino_export.fp16 import add_fp16  # noqa: PLC0415 - FP32 needs none of it

        return graph_of(add_fp16(self.bundle, self.derived.path, self.derived.record), "fp16")


Graphs = Callable[[int], Graph | None]
"""The graph of a widening level: 0 is the first, each further one has more FP32 islands than the one before.

None where there is no wider one.
"""


def shipped_graphs(bundle: Bundle, precision: Precision) -> Graphs:
    """Return the graph that a bundle ships for a precision, which cannot be widened.

    Raises:
        ExportError: the bundle ships none.
    """
    only = graph_of(bundle, precision)
    return lambda level: only if level == 0 else None


@contextmanager
def graphs_of(
    bundle: Bundle, precision: Precision, progress: Progress = silent, *, to_keep: bool = False
) -> Iterator[Graphs]:
    """Yield a bundle's graph for a precision, derived if it is not there, and its wider ones in FP16.

    The bundle stays as it is: what is derived is gone when the block ends, but for what `Graph.kept` wrote.
    Deriving needs ONNX Runtime, but no torch and no GPU.

    Args:
        bundle: the bundle.
        precision: FP32 has one graph; that of FP16 can be widened as often as `half_graph` can.
        progress: told what begins.
        to_keep: whether the bundle is to have what serves in the end: then nothing is derived for a bundle
            that cannot be written to.

    Raises:
        ExportError: the manifest does not say how the FP16 graph was derived.
        BackendUnavailable: a graph must be derived, and there is no ONNX Runtime (when it is asked for).
        OutputError: there is no room for it, or the bundle could not keep it (when it is asked for).
    """
    if precision == "fp32":
        yield shipped_graphs(bundle, precision)
        return
    from ovsdino_export.fp16 import widenings_of  # noqa: PLC0415 - FP32 needs none of it
    from ovsdino_export.islands import WIDENINGS  # noqa: PLC0415 - as above

    widened = widenings_of(bundle)
    with ExitStack() as folders:

        def graph(level: int) -> Graph | None:
            nonlocal widened
            if level == 0 and bundle.has(IMAGE_GRAPH_FP16):
                return graph_of(bundle, precision)
            widen = widened + 1 if level else 0  # a graph may have been widened further than it was asked to
            if widen > len(WIDENINGS):
                return None
            made = _derived(bundle, widen, folders, progress, to_keep=to_keep)
            widened = int(made.record["widened"])
            islands = tuple(dict(island) for island in made.record["islands"])
            return Graph(bundle=bundle, name=IMAGE_GRAPH_FP16, islands=islands, derived=made)

        yield graph


def _derived(bundle: Bundle, widen: int, folders: ExitStack, progress: Progress, *, to_keep: bool) -> Derived:
    """Derive an FP16 graph in a folder that is gone when the stack of them ends."""
    from ovsdino_export.fp16 import (  # noqa: PLC0415 - FP32 needs none of it
        derive_fp16,
        islands_of,
        save_fp16,
    )

    if to_keep:
        require_revisable(bundle, IMAGE_GRAPH_FP16)
    try:
        half = derive_fp16(bundle, kept=islands_of(bundle), widen=widen, progress=progress)
    except BackendUnavailable as error:
        raise underivable(bundle, error) from error
    try:
        folder = folders.enter_context(tempfile.TemporaryDirectory(prefix="ovsdino-export."))
        path = Path(folder) / IMAGE_GRAPH_FP16
        save_fp16(half, path)
    except OSError as error:
        raise no_room(IMAGE_GRAPH_FP16, error) from error
    return Derived(path=path, record=half.record())


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
            ExportError, BackendUnavailable, InferenceError, OutputError: the first graph cannot be had.
        """
        while self.tried <= WIDENINGS:
            try:
                graph = self._graphs(self.tried)
            except (OutputError, BackendUnavailable, InferenceError, ExportError) as error:
                if not self.tried:
                    raise
                self.stopped = f" (wider islands cannot be had: {error})"
                return
            if graph is None:
                return
            self.tried += 1
            yield graph
