"""From an FP32 graph to a strongly typed FP16 one: each operator computes in one float type, chosen here.

Written here, and not taken from onnxruntime.transformers.float16 or onnxconverter-common: those put a pair of
Casts around every operator that stays in FP32, also between two that do, which rounds what should not be
rounded, and they clamp small weights. Here a tensor is cast only where its producer and a consumer differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ovsdino_runtime.errors import ExportError

FP16_MAX = 65504.0
# Operators that move numbers and compute none: nothing is rounded in them.
VIEWS = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze"}
    | {"Tile", "Transpose", "Unsqueeze"}
)
_KEPT_INPUTS = {"Resize": {1, 2}}  # float parameters whose type the operator fixes
_SMALL_BYTES = 4096  # shapes and axes, which inference reads
_FLOAT, _HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)


@dataclass(frozen=True, kw_only=True)
class Casts:
    """Casts between FP32 and FP16 in a graph.

    Attributes:
        count: how many.
        needless: those that cast back what was cast just before.
    """

    count: int
    needless: int


def to_half(model: onnx.ModelProto, islands: Collection[str]) -> onnx.ModelProto:
    """Return the graph in FP16 but for some nodes; inputs and outputs keep their types.

    Args:
        model: an FP32 graph, with its weights; not changed.
        islands: names of nodes that compute in FP32.

    Raises:
        ExportError: an island is no node, a weight exceeds FP16's range outside the islands, or the graph's
            types cannot be inferred.
    """
    plain = with_plain_weights(model)
    nodes = {node.name for node in plain.graph.node}
    for name in sorted(islands):
        if name not in nodes:
            raise ExportError(f"node {name!r} was to stay in FP32, but the graph has no node of that name")
    return _Conversion(plain, frozenset(islands)).run()


def casts_of(model: onnx.ModelProto) -> Casts:
    """Return how many Casts between float types a graph has."""
    types = float_types(model)
    made: set[str] = set()
    count = needless = 0
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in types and node.output[0] in types:
            count += 1
            needless += node.input[0] in made
            made.add(node.output[0])
    return Casts(count=count, needless=needless)


def float_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every FP32 or FP16 tensor by name.

    Raises:
        ExportError: types cannot be inferred: two inputs of an operator differ, for instance.
    """
    graph = inferred(model).graph
    found = {
        item.name: int(item.type.tensor_type.elem_type)
        for item in (*graph.input, *graph.value_info, *graph.output)
    }
    found.update({item.name: int(item.data_type) for item in graph.initializer})
    return {name: kind for name, kind in found.items() if kind in (_FLOAT, _HALF)}


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with every tensor's type and shape, its larger weights as inputs without data.

    Weights are what makes a graph too large for protobuf, and types do not depend on them.

    Raises:
        ExportError: types cannot be inferred: two inputs of an operator differ, for instance.
    """
    graph = model.graph
    small = [item for item in graph.initializer if item.ByteSize() <= _SMALL_BYTES]
    large = [
        helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
        for item in graph.initializer
        if item.ByteSize() > _SMALL_BYTES
    ]
    bare = helper.make_graph(list(graph.node), graph.name, [*graph.input, *large], list(graph.output), small)
    frame = helper.make_model(bare, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    try:
        return onnx.shape_inference.infer_shapes(frame, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(
            f"the types of the graph cannot be inferred: {str(error).splitlines()[0]}"
        ) from error


def with_plain_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with constants as initializers, weights in FP32, and a name of its own for every node."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    graph = plain.graph
    stored = {item.name: item for item in graph.initializer}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        value = _constant(node, stored)
        if value is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    taken: set[str] = set()
    for place, node in enumerate(kept):
        if not node.name or node.name in taken:  # names tell nodes apart, also in the manifest
            node.name = f"{node.op_type}_node_{place}"
        taken.add(node.name)
    del graph.node[:]
    graph.node.extend(kept)
    _drop_unused_weights(graph)
    return plain


def _constant(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> NDArray[np.generic] | None:
    """Return what a node gives whatever the input, if it is a Constant or widens a stored weight."""
    if node.op_type == "Constant":
        for attribute in node.attribute:
            if attribute.name == "value":
                return np.asarray(numpy_helper.to_array(attribute.t))
        return None
    if node.op_type == "Cast" and node.input[0] in stored and node.attribute[0].i == _FLOAT:
        return np.asarray(numpy_helper.to_array(stored[node.input[0]])).astype(np.float32)
    return None


def _drop_unused_weights(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
    kept = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def links(graph: onnx.GraphProto) -> tuple[dict[str, onnx.NodeProto], dict[str, list[onnx.NodeProto]]]:
    """Return for each tensor the node that makes it, and for each the nodes that read it."""
    producer = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return producer, users


def float_inputs(node: onnx.NodeProto, types: Mapping[str, int]) -> Iterator[tuple[int, str]]:
    """Yield place and name of the inputs that take part in a node's float type."""
    kept = _KEPT_INPUTS.get(node.op_type, set())
    for place, name in enumerate(node.input):
        if name in types and place not in kept:
            yield place, name


class _Conversion:
    """One conversion under way."""

    def __init__(self, model: onnx.ModelProto, islands: frozenset[str]) -> None:
        self.model, self.islands = model, islands
        self.types = float_types(model)
        self.weights = {item.name: item for item in model.graph.initializer}
        self.is_type = dict.fromkeys((item.name for item in model.graph.input), _FLOAT)
        self.made: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> onnx.ModelProto:
        graph = self.model.graph
        outputs = {item.name for item in graph.output}
        for node in graph.node:
            kind = _FLOAT if node.name in self.islands else _HALF
            for place, name in float_inputs(node, self.types):
                node.input[place] = self._as(name, kind, node)
            if node.op_type == "Cast" and node.output[0] in self.types:
                node.attribute[0].i = kind
            self.nodes.append(node)
            for place, name in enumerate(node.output):
                self.is_type[name] = kind
                if name in outputs and name in self.types and kind == _HALF:
                    node.output[place] = f"{name}_half"
                    self.made.add(f"{name}_half")
                    self._cast(f"{name}_half", name, _FLOAT)
                    self.is_type[name] = _FLOAT
        del graph.node[:]
        graph.node.extend(self.nodes)
        _drop_unused_weights(graph)
        del graph.value_info[:]
        graph.value_info.extend(inferred(self.model).graph.value_info)
        return self.model

    def _as(self, name: str, kind: int, node: onnx.NodeProto) -> str:
        """Return the name of a tensor in a type, made where it is not there yet."""
        wanted = f"{name}_{'half' if kind == _HALF else 'wide'}"
        if name in self.weights:
            if kind == _FLOAT:
                return name
            if wanted not in self.made:
                self.made.add(wanted)
                self.model.graph.initializer.append(_halved(self.weights[name], wanted, node))
            return wanted
        if self.is_type[name] == kind:
            return name
        if wanted not in self.made:
            self.made.add(wanted)
            self._cast(name, wanted, kind)
        return wanted

    def _cast(self, source: str, target: str, kind: int) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [target], name=f"Cast_{target}", to=kind))


def _halved(weight: onnx.TensorProto, name: str, node: onnx.NodeProto) -> onnx.TensorProto:
    wide = numpy_helper.to_array(weight)
    largest = float(np.abs(wide).max(initial=0))
    if not largest <= FP16_MAX:
        raise ExportError(
            f"the weight {weight.name!r} of {node.name!r} reaches {largest:g}, beyond FP16's {FP16_MAX:g}; "
            f"keep that node in FP32 with --fp32-node {node.name}"
        )
    return numpy_helper.from_array(wide.astype(np.float16), name)
