"""A bundle's graph with a vocabulary behind it: scores or labels come out. A device can do it: no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ovsdino_export.baked_contract import OutputKind, baked_metadata
from ovsdino_export.baked_engine import ISLANDS_KEY
from ovsdino_export.graph_source import Graph
from ovsdino_export.large_graph import EXTERNAL_DATA_BYTES, weight_bytes
from ovsdino_export.operators import check_file, resize_scale
from ovsdino_export.output_agreement import leads_of
from ovsdino_runtime.backends import NoBackend
from ovsdino_runtime.background import Background
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import ExportError
from ovsdino_runtime.files import atomic_file
from ovsdino_runtime.queries import ClassQuery
from ovsdino_runtime.question import Question
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.windows import bilinear

_REASON = "cosines lie close together, and their argmax decides"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The classes of a baked graph, with their text embeddings.

    Attributes:
        queries: labels and prompts, in the order of the output.
        embeddings: float32 [P, D], unit norm, the first class's prompts first.
        notes: names that were understood as others.
    """

    queries: tuple[ClassQuery, ...]
    embeddings: NDArray[np.float32]
    notes: tuple[str, ...]

    @property
    def prompts(self) -> tuple[int, ...]:
        """How many prompts each class has."""
        return tuple(len(query.prompts) for query in self.queries)


def asked_of(bundle: Bundle, classes: Sequence[str], background: Background) -> Asked:
    """Return classes with a bundle's embeddings.

    Args:
        bundle: the bundle.
        classes: as `ovsdino-run --classes` takes them.
        background: what is none of the classes; a last class, or left out.

    Raises:
        VocabularyError: a name is unknown.
        ExportError: the background policy is a threshold, which no argmax holds.
    """
    if background.threshold is not None:
        raise ExportError(
            "a threshold cannot be baked into a graph; name the background's stuff as in sky|wall, or none"
        )
    question: Question = Segmenter(bundle, NoBackend()).ask(classes, background)
    queries = tuple(
        ClassQuery(label=name, prompts=tuple(prompts)) for name, prompts in question.by_class.items()
    )
    return Asked(queries=queries, embeddings=question.embeddings, notes=question.notes)


def bake(graph: Graph, asked: Asked, output: OutputKind, out: Path) -> Path:
    """Write a graph that gives cosines [B, C, h, w] or labels [B, window, window], and return its path.

    What is added computes in FP32, on the FP32 features; an FP16 graph's islands are noted in its metadata.

    Args:
        graph: the bundle's graph.
        asked: the classes.
        output: what comes out: the best prompt of each class at the features' grid, or the class of the best
            prompt at the window's size, upsampled bilinearly before the argmax.
        out: the .onnx file.

    Raises:
        ExportError: the weights are too large for one file, or the result is no graph that the project's
            runtimes take.
        OutputError: it cannot be written.
    """
    model = onnx.load(graph.path)
    size_bytes = weight_bytes(model)
    if size_bytes > EXTERNAL_DATA_BYTES:
        raise ExportError(
            f"the weights of {graph.path} take {size_bytes / 1e9:.1f} GB, too much for one ONNX file; bake "
            "with `ovsdino-export onnx CHECKPOINT --classes … --out FOLDER`, or a smaller model"
        )
    manifest = graph.bundle.manifest
    added = _behind(model.graph, asked, output, manifest.window_px, manifest.grid_hw)
    islands = [
        *(dict(island) for island in graph.islands),
        *({"node": node.name, "op": node.op_type, "reason": _REASON} for node in added),
    ]
    metadata = baked_metadata(
        asked.queries,
        output=output,
        input="uint8-nhwc",
        score_scale=manifest.score_scale,
        license=manifest.license,
    )
    if graph.islands:
        metadata[ISLANDS_KEY] = json.dumps(islands)
    del model.metadata_props[:]
    helper.set_model_props(model, metadata)
    del model.graph.value_info[:]
    with atomic_file(out) as staged:
        onnx.save(model, staged)
        try:
            check_file(staged)
        except ExportError as error:
            raise ExportError(str(error).replace(staged.name, out.name)) from error
    return out


def expected_outputs(
    features: NDArray[np.float32], asked: Asked, output: OutputKind, window_px: int
) -> NDArray[np.generic]:
    """Return what a baked graph must give where PyTorch gives these features, float32 or int32.

    Args:
        features: float32 [n, D, h, w].
        asked: the classes.
        output: what comes out.
        window_px: side of the window.
    """
    if output == "scores":
        cosines = _cosines(features, asked)
        return np.maximum.reduceat(cosines, _first_prompts(asked), axis=1).astype(np.float32)
    labels = [scores.argmax(axis=0) for scores in _large_scores(features, asked, window_px)]
    return np.stack(labels).astype(np.int32)


def expected_leads(features: NDArray[np.float32], asked: Asked, window_px: int) -> NDArray[np.floating]:
    """Return by how much the best class leads the next where PyTorch gives these features; see `leads_of`.

    Args:
        features: float32 [n, D, h, w].
        asked: the classes.
        window_px: side of the window.

    Returns:
        float64 [n, window, window].
    """
    return np.concatenate([leads_of(scores[None]) for scores in _large_scores(features, asked, window_px)])


def _cosines(features: NDArray[np.float32], asked: Asked) -> NDArray[np.float64]:
    """Return the cosine of every prompt, float64 [n, P, h, w]."""
    count, dim, *grid = features.shape
    flat: NDArray[np.float64] = asked.embeddings.astype(np.float64) @ features.reshape(count, dim, -1)
    return flat.reshape(count, -1, *grid)


def _first_prompts(asked: Asked) -> NDArray[np.intp]:
    """Return the place of each class's first prompt, intp [C]."""
    return np.cumsum([0, *asked.prompts[:-1]])


def _large_scores(
    features: NDArray[np.float32], asked: Asked, window_px: int
) -> Iterator[NDArray[np.float64]]:
    """Yield each window's cosines, of a class its best prompt's, upsampled, float64 [C, window, window]."""
    up, across = (bilinear(length, window_px) for length in features.shape[2:])
    for image in _cosines(features, asked):
        yield np.maximum.reduceat(up @ image @ across.T, _first_prompts(asked), axis=0)


def _behind(
    graph: onnx.GraphProto, asked: Asked, output: OutputKind, window_px: int, grid_hw: tuple[int, int]
) -> list[onnx.NodeProto]:
    """Add nodes behind the features, replace the graph's output, and return the nodes."""
    (features,) = graph.output
    batch = features.type.tensor_type.shape.dim[0].dim_param
    most, classes = max(asked.prompts), len(asked.queries)
    rows = np.arange(len(asked.embeddings))
    if output == "scores" and most > 1:  # every class the same number of prompts, the last repeated
        steps, counts = np.arange(most), np.array(asked.prompts)
        ends = counts.cumsum()
        rows = np.minimum((ends - counts)[:, None] + steps, ends[:, None] - 1).ravel()
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, values: NDArray[np.generic]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), f"baked.{name}"))
        return f"baked.{name}"

    def add(op: str, inputs: Sequence[str], result: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [result], name=f"Baked{op}_{len(nodes)}", **attributes))
        return result

    weight = constant("text", asked.embeddings[rows][:, :, None, None].astype(np.float32))
    if output == "scores":
        last = add("Conv", [features.name, weight], "scores" if most == 1 else "cosines")
        if most > 1:
            shape = constant("shape", np.array([-1, classes, most, *grid_hw]))
            grouped = add("Reshape", [last, shape], "grouped")
            add("ReduceMax", [grouped, constant("axis", np.array([2]))], "scores", keepdims=0)
        made = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, classes, *grid_hw])
    else:
        cosines = add("Conv", [features.name, weight], "cosines")
        factors = [1, 1, *(resize_scale(side, window_px) for side in grid_hw)]
        scales = constant("scales", np.array(factors, np.float32))
        large = add("Resize", [cosines, "", scales], "upsampled", mode="linear")
        best = add("ArgMax", [large], "best", axis=1, keepdims=0)
        if most > 1:
            groups = np.repeat(np.arange(classes, dtype=np.int32), asked.prompts)
            add("Gather", [constant("classes", groups), best], "labels", axis=0)
        else:
            add("Cast", [best], "labels", to=TensorProto.INT32)
        made = helper.make_tensor_value_info("labels", TensorProto.INT32, [batch, window_px, window_px])
    del graph.output[:]
    graph.output.append(made)
    graph.node.extend(nodes)
    return nodes
