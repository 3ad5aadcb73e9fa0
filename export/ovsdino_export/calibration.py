"""What windows show of a graph: how large each tensor grows, how much each operator suffers from FP16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tqdm import tqdm

from ovsdino_export.half_arithmetic import plain_session, rounded, run_plain
from ovsdino_export.typed_graph import VIEWS, float_inputs, float_types, with_plain_weights

_FLOAT = int(TensorProto.FLOAT)
_LARGEST, _ERROR, _SIZE = "largest", "error", "size"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one node of an FP32 graph showed.

    Attributes:
        node: its name.
        op: its operator.
        largest: the largest magnitude it gave, in FP32; NaN if it gave one.
        disturbance: relative change of its result, as Frobenius norms, when its inputs and weights alone
            are rounded to FP16; 0 for operators that only move numbers. The rounding of a single number is
            2^-12 on average, so that 0.0003 is usual, and 0.01 says that something cancels.
    """

    node: str
    op: str
    largest: float
    disturbance: float


def calibrate(model: onnx.ModelProto, windows: NDArray[np.uint8]) -> tuple[Record, ...]:
    """Run an FP32 graph on windows and return a record of every node with a float result, in order.

    Args:
        model: the FP32 graph, with its weights; not changed.
        windows: uint8 [n, window, window, 3]: real pictures tell the most.

    Raises:
        ExportError: the graph does not load.
        InferenceError: it does not run, as for lack of memory.
    """
    watched, names = _instrumented(with_plain_weights(model))
    session = plain_session(watched)
    wanted = [item.name for item in session.get_outputs()]
    largest: dict[str, float] = {}
    disturbance: dict[str, float] = {}
    for window in tqdm(windows, "calibrating", unit="window", leave=False, delay=1):
        found = dict(zip(wanted, run_plain(session, wanted, window), strict=True))
        for index, (node, _) in enumerate(names):
            peak = float(found[f"{_LARGEST}_{index}"])
            largest[node] = float(np.maximum(largest.get(node, 0.0), peak))  # NaN stays
            if f"{_ERROR}_{index}" in found:
                size = max(float(found[f"{_SIZE}_{index}"]), 1e-30)
                share = float(found[f"{_ERROR}_{index}"]) / size
                disturbance[node] = float(np.maximum(disturbance.get(node, 0.0), share))
    return tuple(
        Record(node=node, op=op, largest=largest[node], disturbance=disturbance.get(node, 0.0))
        for node, op in names
    )


def _instrumented(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[tuple[str, str]]]:
    """Return a graph whose outputs are figures on its nodes, and name and operator of these nodes."""
    types = float_types(model)
    nodes: list[onnx.NodeProto] = []
    names: list[tuple[str, str]] = []
    outputs: list[str] = []
    halved: set[str] = set()
    for node in model.graph.node:
        nodes.append(node)
        result = node.output[0]
        if result not in types:
            continue
        index = len(names)
        names.append((node.name, node.op_type))
        nodes.append(helper.make_node("Abs", [result], [f"magnitude_{index}"]))
        nodes.append(_figure("ReduceMax", f"magnitude_{index}", f"{_LARGEST}_{index}"))
        outputs.append(f"{_LARGEST}_{index}")
        inputs = dict(float_inputs(node, types))
        if node.op_type in VIEWS or not inputs:
            continue
        for name in inputs.values():
            if name not in halved:
                halved.add(name)
                nodes += rounded(name, f"{name}_halved")
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = f"{node.name}_halved"
        for place, name in inputs.items():
            twin.input[place] = f"{name}_halved"
        for place, name in enumerate(node.output):
            twin.output[place] = f"{name}_from_halved"
        nodes.append(twin)
        nodes.append(helper.make_node("Sub", [f"{result}_from_halved", result], [f"difference_{index}"]))
        nodes.append(_figure("ReduceL2", f"difference_{index}", f"{_ERROR}_{index}"))
        nodes.append(_figure("ReduceL2", result, f"{_SIZE}_{index}"))
        outputs += [f"{_ERROR}_{index}", f"{_SIZE}_{index}"]
    graph = model.graph
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.output.extend(helper.make_tensor_value_info(name, _FLOAT, []) for name in outputs)
    return model, names


def _figure(op: str, tensor: str, output: str) -> onnx.NodeProto:
    return helper.make_node(op, [tensor], [output], keepdims=0)


def by_node(records: Sequence[Record]) -> Mapping[str, Record]:
    """Return records by the name of their node."""
    return {record.node: record for record in records}
