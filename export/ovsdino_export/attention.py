"""Whether attention stands in the graph as TensorRT's fused attention recognises it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import onnx
from onnx import TensorProto

from ovsdino_export.typed_graph import float_types, links


@dataclass(frozen=True, kw_only=True)
class AttentionBlock:
    """One attention of a graph.

    Attributes:
        softmax: the name of its Softmax.
        fusable: whether softmax stands between two MatMuls of one float type with nothing in between, so that
            Q is scaled before QKᵀ.
        type: `fp16`, `fp32` or `mixed`.
    """

    softmax: str
    fusable: bool
    type: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def attention_blocks(model: onnx.ModelProto) -> tuple[AttentionBlock, ...]:
    """Return every attention of a graph, in order.

    Raises:
        ExportError: the graph's types cannot be inferred.
    """
    types = float_types(model)
    producer, users = links(model.graph)
    found = []
    for node in model.graph.node:
        if node.op_type != "Softmax":
            continue
        before, after = producer.get(node.input[0]), users.get(node.output[0], [])
        around = [item for item in (before, *after) if item is not None]
        whole = len(around) == 2 and all(item.op_type == "MatMul" for item in around)
        kinds = {types.get(name) for item in (node, *around) for name in (*item.input, *item.output)}
        kind = {
            frozenset({int(TensorProto.FLOAT16)}): "fp16",
            frozenset({int(TensorProto.FLOAT)}): "fp32",
        }.get(frozenset(item for item in kinds if item is not None), "mixed")
        found.append(AttentionBlock(softmax=node.name, fusable=whole and kind != "mixed", type=kind))
    return tuple(found)
