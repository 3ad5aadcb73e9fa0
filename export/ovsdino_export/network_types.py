"""In which type every layer of a parsed network computes, held against the FP32 islands: this decides.

TensorRT's inspector sees fused kernels, not layers, so its word on precision is only reported. The parsed
strongly typed network is what TensorRT promises to compute.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from ovsdino_runtime.errors import ExportError
from ovsdino_runtime.sidecar import Precision

_MOVES = {"Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile"}
# These operators move, convert or state numbers, and compute none …
_NO_WORK = frozenset(_MOVES | {"Transpose", "Unsqueeze", "Cast", "Constant", "ConstantOfShape"})
# … and these are TensorRT's layers that do so, by the names of all releases.
_MOVING_LAYERS = frozenset(
    {"CONSTANT", "CONCATENATION", "GATHER", "IDENTITY", "SHAPE", "SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE"}
)
_ONNX_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")  # what the parser leaves in a layer's metadata
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class NetworkTypes:
    """Layers of a parsed network by the type they compute in.

    Attributes:
        half: in FP16.
        full: in FP32.
        casts: between types.
        other: such as compute no floating-point numbers: constants, reshapes, integers.
    """

    half: int
    full: int
    casts: int
    other: int

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


def check_graph(model: onnx.ModelProto, precision: Precision, islands: Collection[str]) -> None:
    """Hold a graph's own types against its islands, without TensorRT.

    Args:
        model: the graph; the data of its weights may be missing.
        precision: what it claims to be.
        islands: names of the nodes that may compute in FP32 in an FP16 graph.

    Raises:
        ExportError: a node computes in another type than it may, or nothing is in FP16.
    """
    typed = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {item.name: item.type.tensor_type.elem_type for item in (*typed.value_info, *typed.output)}
    half, full = [], []
    for node in typed.node:
        if node.op_type in _NO_WORK:
            continue
        found = {types.get(name) for name in node.output}
        if onnx.TensorProto.FLOAT in found:
            full.append(node.name)
        elif onnx.TensorProto.FLOAT16 in found:
            half.append(node.name)
    if precision == "fp32":
        _refuse("the graph", "FP16", "FP32", half)
        return
    if not half:
        raise ExportError(
            "FP16 was asked for, but the graph computes nothing in it; pass --fp32, derive a bundle's graph "
            "with `ovsdino-export fp16`, or bake classes into it with `ovsdino-export trt BUNDLE --classes …`"
        )
    _refuse("the graph", "FP32", "FP16", [name for name in full if name not in islands])


def check_network(
    trt: Any, network: Any, model: onnx.ModelProto, precision: Precision, islands: Collection[str]
) -> NetworkTypes:
    """Hold a parsed network's types against the islands.

    Args:
        trt: the module tensorrt.
        network: what its parser made of the graph.
        model: the graph.
        precision: what was asked for.
        islands: names of the nodes that may compute in FP32 in an FP16 engine.

    Returns:
        How many layers compute in which type.

    Raises:
        ExportError: a layer computes in another type than it may, or nothing is in FP16.
    """
    operators = {node.name: node.op_type for node in model.graph.node}
    counts = {"half": 0, "full": 0, "casts": 0, "other": 0}
    halves: list[str] = []
    beyond: list[str] = []
    explained = {network.get_input(index).name for index in range(network.num_inputs)}
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
        floats = {tensor.dtype for tensor in outputs} & {trt.DataType.FLOAT, trt.DataType.HALF}
        kind = layer.type.name
        if kind == "CAST" or kind in _MOVING_LAYERS or not floats:
            counts["casts" if kind == "CAST" else "other"] += 1
        elif trt.DataType.FLOAT not in floats:
            counts["half"] += 1
            halves.append(layer.name)
            continue
        else:
            counts["full"] += 1
            nodes, sources = nodes_of(layer, operators), set(_inputs(layer))
            # What the parser adds for itself belongs to what feeds it.
            if not (_may_be_full(nodes, operators, islands) if nodes else sources and sources <= explained):
                beyond.append(layer.name)
                continue
        explained |= {tensor.name for tensor in outputs}
    if precision == "fp32":
        _refuse("the parsed network", "FP16", "FP32", halves)
    else:
        _refuse("the parsed network", "FP32", "FP16", beyond)
        if not halves:
            raise ExportError(
                "FP16 was asked for, but the parsed network computes no layer in it; derive the graph again "
                "with `ovsdino-export fp16`"
            )
    return NetworkTypes(**counts)


def nodes_of(layer: Any, operators: Mapping[str, str]) -> list[str]:
    """Return the ONNX nodes that a layer was made from; none for what the parser added for itself."""
    named = [name for name in _ONNX_NODE.findall(layer.metadata or "") if name in operators]
    return named or ([layer.name] if layer.name in operators else [])


def _may_be_full(nodes: list[str], operators: Mapping[str, str], islands: Collection[str]) -> bool:
    return bool(nodes) and all(name in islands or operators[name] in _NO_WORK for name in nodes)


def _inputs(layer: Any) -> Iterator[str]:
    for index in range(layer.num_inputs):
        tensor = layer.get_input(index)
        if tensor is not None:
            yield tensor.name


def _refuse(what: str, found: str, asked: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise ExportError(
            f"{asked} was asked for, but {what} computes {found} in {', '.join(names[:_SHOWN])}{more}, which "
            "no recorded island explains; derive the graph again or use another precision"
        )
