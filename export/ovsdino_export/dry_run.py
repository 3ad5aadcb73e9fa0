"""What a build would do, told without TensorRT and without a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx

from ovsdino_export.builder import BuildOptions
from ovsdino_export.light_graph import load_light
from ovsdino_export.network_types import check_graph
from ovsdino_export.operators import check_file
from ovsdino_export.trtexec import RELEASES, trtexec_command
from ovsdino_runtime.sidecar import Precision


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would be built.

    Attributes:
        graph: the ONNX file.
        precision: `fp16` or `fp32`.
        input: name, type and shape of what the engine takes, the batch as `B`.
        output: the same of what it gives.
        profile: least, usual and most windows at once.
        operators: how many nodes of each operator; all of them are on TensorRT 10.1's list.
        islands: nodes that compute in FP32 in an FP16 engine, with reasons.
        memory_mb: estimates: the weights, the activations of the largest batch without TensorRT's fusions
            and workspace, and the buffers of inputs and outputs.
        trtexec: the same build by trtexec, by TensorRT's major version.
    """

    graph: str
    precision: str
    input: str
    output: str
    profile: dict[str, int]
    operators: dict[str, int]
    islands: tuple[dict[str, str], ...]
    memory_mb: dict[str, float]
    trtexec: dict[str, str]


def plan_build(
    path: Path,
    islands: Sequence[Mapping[str, str]],
    options: BuildOptions,
    target: Path,
    *,
    source: Path | None = None,
) -> Plan:
    """Return what would be built, after holding the graph against what TensorRT takes.

    Args:
        path: the ONNX file.
        islands: nodes that may compute in FP32 in an FP16 engine: `node`, `op` and `reason` of each.
        options: precision, batches and what the builder is told.
        target: what to call the engine in trtexec's command line.
        source: what the ONNX file will be called when it is built; by default what it is called now.

    Raises:
        ExportError: the graph goes beyond TensorRT's operators, or its types are not those asked for.
    """
    check_file(path)
    model, source = load_light(path), source or path
    check_graph(model, options.precision, [item["node"] for item in islands])
    taken, given = model.graph.input[0], model.graph.output[0]
    item_shape = _item_shape(taken)
    return Plan(
        graph=str(source),
        precision=options.precision,
        input=_described(taken),
        output=_described(given),
        profile={
            "least": options.profile.least,
            "usual": options.profile.usual,
            "most": options.profile.most,
        },
        operators=dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
        islands=tuple(dict(item) for item in islands),
        memory_mb=_memory_mb(model, options.profile.most),
        trtexec={
            f"{release}.x": trtexec_command(release, source, target, taken.name, item_shape, options)
            for release in RELEASES
        },
    )


def nameless_engine(precision: Precision) -> str:
    """Return what an engine is called where neither GPU nor TensorRT are known."""
    return f"GPU-COMPUTE-trtVERSION-{precision}.engine"


def plan_lines(plan: Plan) -> list[str]:
    """Return a plan in words, a line each."""
    batches = "/".join(str(plan.profile[name]) for name in ("least", "usual", "most"))
    memory = ", ".join(f"{name} {value:.1f} MB" for name, value in plan.memory_mb.items())
    nodes = sum(plan.operators.values())
    lines = [
        f"{plan.graph}: {plan.precision.upper()}, {nodes} nodes, every operator on TensorRT 10.1's list",
        f"input   {plan.input}",
        f"output  {plan.output}",
        f"batches {batches} (least/usual/most)",
        f"memory  about: {memory}; TensorRT's workspace comes on top, its fusions take off",
    ]
    if plan.precision == "fp16":
        lines.append(f"islands {len(plan.islands)} nodes compute in FP32:")
        reasons = Counter((item.get("op", ""), item.get("reason", "")) for item in plan.islands)
        lines += [f"        {count} x {op}: {reason}" for (op, reason), count in reasons.most_common()]
    lines += [f"TensorRT {release}: {command}" for release, command in plan.trtexec.items()]
    return lines


def _described(value: onnx.ValueInfoProto) -> str:
    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return f"{value.name} {kind} [B, {', '.join(str(length) for length in _item_shape(value))}]"


def _item_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(int(dim.dim_value) for dim in value.type.tensor_type.shape.dim[1:])


def _memory_mb(model: onnx.ModelProto, batch: int) -> dict[str, float]:
    """Return estimates in 10^6 bytes for a batch of that many windows."""
    graph = model.graph
    ends = (*graph.input, *graph.output)
    buffers = sum(batch * prod(_item_shape(value)) * _item_bytes(_kind(value)) for value in ends)
    return {
        "weights": _weight_bytes(graph) / 1e6,
        "activations": _peak_bytes(model, batch) / 1e6,
        "buffers": buffers / 1e6,
    }


def _weight_bytes(graph: onnx.GraphProto) -> int:
    """Return the weights' size as they are computed with: those stored in FP16 behind a Cast are FP32."""
    widened = {
        node.input[0]: {item.name: item.i for item in node.attribute}.get("to", 0)
        for node in graph.node
        if node.op_type == "Cast"
    }
    return sum(
        prod(tensor.dims) * _item_bytes(widened.get(tensor.name, tensor.data_type))
        for tensor in graph.initializer
    )


def _peak_bytes(model: onnx.ModelProto, batch: int) -> int:
    """Return the most bytes of results that are needed at one time when nodes run in order."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del fixed.graph.value_info[:]
    typed = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    sizes = {
        value.name: prod(max(1, dim.dim_value) for dim in value.type.tensor_type.shape.dim)
        * _item_bytes(_kind(value))
        for value in (*typed.value_info, *typed.output)
    }
    last_use = {name: index for index, node in enumerate(typed.node) for name in node.input}
    alive: dict[str, int] = {}
    peak = 0
    for index, node in enumerate(typed.node):
        alive.update({name: sizes.get(name, 0) for name in node.output})
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_use.get(name, index) > index}
    return peak


def _kind(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _item_bytes(kind: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind else 0


def as_document(plan: Plan) -> dict[str, Any]:
    """Return a plan as what JSON can hold."""
    return {**plan.__dict__, "graph": str(Path(plan.graph)), "dry_run": True}
