"""Whether a graph keeps to what the project promises every runtime, TensorRT 10.1's parser first of all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ovsdino_export.restrictions import RESTRICTIONS, Node, attributes_of
from ovsdino_runtime.errors import ExportError

OPSET = 20  # the newest that every TensorRT from 10.0 on parses; Gelu and LayerNormalization are native
IR_VERSION = 10  # the newest that ONNX Runtime 1.23 loads (Python 3.10, JetPack 6)
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
_CASTS = frozenset({"Cast", "CastLike"})
_SHOWN = 5
_TYPES = {
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.FLOAT8E4M3FN: "FP8",
    onnx.TensorProto.INT4: "INT4",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.BOOL: "BOOL",
}
# The list's types are those of an operator's data; these inputs are parameters of other types …
_PARAMETER_INPUTS = {"Resize": {1, 2, 3}, "CumSum": {1}, "QuantizeLinear": {2}, "DequantizeLinear": {1}}
# … and these operators' results are of another type than their data.
_RESULT_TYPES = {
    **dict.fromkeys(
        ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN"), frozenset({"BOOL"})
    ),
    **dict.fromkeys(("NonZero", "NonMaxSuppression"), frozenset({"INT64"})),
    "QuantizeLinear": frozenset({"INT8", "FP8", "INT4"}),
    "DequantizeLinear": frozenset({"FP32", "FP16", "BF16"}),
}


@dataclass(frozen=True)
class Operator:
    """What the parser takes.

    Attributes:
        types: names such as FP32 and INT64.
        restrictions: in the list's own words; empty if there are none.
    """

    types: frozenset[str]
    restrictions: str


@cache
def allowed_operators() -> Mapping[str, Operator]:
    """Return the ONNX operators that TensorRT 10.1 parses, by name; every later release takes more."""
    source = resources.files("ovsdino_export") / "data" / "tensorrt-operators-10.1.json"
    listed = json.loads(source.read_text(encoding="utf-8"))["operators"]
    return {name: Operator(frozenset(item["types"]), item["restrictions"]) for name, item in listed.items()}


def check_file(path: Path) -> None:
    """Hold an ONNX file against onnx.checker and against `violations`.

    Args:
        path: the .onnx file; its external data, if any, lies beside it.

    Raises:
        ExportError: something is wrong with it; the first complaints are named.
    """
    _complain(path, violations(_valid(path)), "what TensorRT 10.1 and the other runtimes take")


def check_onnx_runtime_file(path: Path) -> None:
    """Hold an ONNX file for ONNX Runtime alone against onnx.checker and the project's opset and IR version.

    Raises:
        ExportError: something is wrong with it; the first complaints are named.
    """
    _complain(path, list(_frame(_valid(path))), "what every ONNX Runtime from 1.23 on takes")


def _valid(path: Path) -> onnx.ModelProto:
    """Return a file's graph, without the data of its larger weights, which onnx.checker takes."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"{path.name} is no valid ONNX graph: {str(error).strip().splitlines()[0]}"
        ) from error
    return onnx.load(path, load_external_data=False)


def _complain(path: Path, found: Sequence[str], limits: str) -> None:
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ExportError(f"{path.name} goes beyond {limits}: {'; '.join(found[:_SHOWN])}{more}")


def violations(model: onnx.ModelProto) -> list[str]:
    """Return what a graph does that the project's runtimes do not take, one sentence each.

    It must have opset 20 and IR version 10 or less, no functions, custom domains or control flow;
    each uint8 input goes into one Cast and nowhere else; every operator, tensor type and
    restriction is that of the list behind `allowed_operators`.

    Args:
        model: the graph; the data of its larger weights may be missing.
    """
    found = [*_frame(model)]
    try:
        typed = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        return [*found, f"its types cannot be inferred: {str(error).strip().splitlines()[0]}"]
    types, ranks = _tensors(typed.graph)
    constants = _constants(typed.graph)
    for proto in typed.graph.node:
        label = f"{proto.op_type} {proto.name!r}"
        if proto.domain not in ("", "ai.onnx"):
            found.append(f"{label} is of the custom domain {proto.domain}")
            continue
        operator = allowed_operators().get(proto.op_type)
        if proto.op_type in _CONTROL_FLOW:
            found.append(f"{label} is control flow")
        elif operator is None:
            found.append(f"{label} is no operator that TensorRT 10.1 parses")
        else:
            node = Node(proto, attributes_of(proto), constants, ranks)
            found += [f"{label}: {complaint}" for complaint in _restricted(node, operator)]
            found += [f"{label}: {complaint}" for complaint in _mistyped(proto, operator, types)]
    return [*found, *_uint8_inputs(typed.graph, types)]


def resize_scale(old: int, new: int) -> np.float32:
    """Return the least FP32 factor from new / old on whose product with `old`, rounded down, is `new`."""
    scale = np.float32(new / old)
    while np.floor(np.float32(old) * scale) < new:
        scale = np.nextafter(scale, np.float32(np.inf))
    return scale


def _frame(model: onnx.ModelProto) -> Iterator[str]:
    opsets = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    if opsets.get("ai.onnx") != OPSET:
        yield f"the opset is {opsets.get('ai.onnx')}, but must be {OPSET}"
    for domain in sorted(set(opsets) - {"ai.onnx"}):
        yield f"it imports the custom domain {domain}"
    if model.ir_version > IR_VERSION:
        yield f"the IR version is {model.ir_version}, but must be {IR_VERSION} or less"
    for function in model.functions:
        yield f"it defines the function {function.name}"


def _restricted(node: Node, operator: Operator) -> list[str]:
    check = RESTRICTIONS.get(node.proto.op_type)
    if check is not None:
        return check(node)
    if operator.restrictions:
        return [f"nothing here can check its restriction, {operator.restrictions!r}"]
    return []


def _mistyped(node: onnx.NodeProto, operator: Operator, types: Mapping[str, int]) -> Iterator[str]:
    parameters = _PARAMETER_INPUTS.get(node.op_type, set())
    results = _RESULT_TYPES.get(node.op_type, operator.types)
    inputs = [(name, operator.types) for index, name in enumerate(node.input) if index not in parameters]
    for name, allowed in (*inputs, *((name, results) for name in node.output)):
        if not name:
            continue
        found = types.get(name)
        if found is None:
            yield f"the type of {name!r} is not known"
        elif _TYPES.get(found) not in allowed:
            shown = _TYPES.get(found, onnx.TensorProto.DataType.Name(found))
            yield f"{name!r} is {shown}, but only {', '.join(sorted(allowed))} are taken"


def _uint8_inputs(graph: onnx.GraphProto, types: Mapping[str, int]) -> Iterator[str]:
    weights = {item.name for item in graph.initializer}
    for item in graph.input:
        if types.get(item.name) != onnx.TensorProto.UINT8 or item.name in weights:
            continue
        users = [node.op_type for node in graph.node for name in node.input if name == item.name]
        if len(users) != 1 or users[0] not in _CASTS:
            yield (
                f"the uint8 input {item.name!r} must go into one Cast and nowhere else, "
                f"but goes into {', '.join(users) or 'nothing'}"
            )


def _tensors(graph: onnx.GraphProto) -> tuple[dict[str, int], dict[str, int]]:
    values: Iterable[onnx.ValueInfoProto] = (*graph.input, *graph.value_info, *graph.output)
    types = {item.name: int(item.type.tensor_type.elem_type) for item in values}
    ranks = {
        item.name: len(item.type.tensor_type.shape.dim)
        for item in values
        if item.type.tensor_type.HasField("shape")
    }
    types.update({item.name: int(item.data_type) for item in graph.initializer})
    ranks.update({item.name: len(item.dims) for item in graph.initializer})
    return types, ranks


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.generic] | None]:
    found: dict[str, NDArray[np.generic] | None] = {}
    for tensor in graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        found[tensor.name] = None if external else onnx.numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant":
            value = attributes_of(node).get("value")
            found[node.output[0]] = None if value is None else onnx.numpy_helper.to_array(value)
    return found
