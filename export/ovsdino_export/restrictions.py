"""What TensorRT 10.1's parser demands of single operators, as functions from a node to complaints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

_MODES = {"nearest", "linear"}
_COORDINATES = {"half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"}
_NEAREST = {"floor", "ceil", "round_prefer_floor", "round_prefer_ceil"}
_TOP_K_LIMIT = 3840


@dataclass(frozen=True)
class Node:
    """One node with what must be known to judge it.

    Attributes:
        proto: the node.
        attributes: its attributes by name, text as str.
        constants: every constant tensor of the graph by name; None where its data lies in another file.
        ranks: number of dimensions by tensor name, where known.
    """

    proto: onnx.NodeProto
    attributes: Mapping[str, Any]
    constants: Mapping[str, NDArray[np.generic] | None]
    ranks: Mapping[str, int]

    def input_name(self, index: int) -> str:
        """Return the name of an input, or "" where it is left out."""
        return str(self.proto.input[index]) if index < len(self.proto.input) else ""

    def constant(self, index: int) -> NDArray[np.generic] | None:
        """Return the value of a constant input; None where it is none or its data lies elsewhere."""
        return self.constants.get(self.input_name(index))


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name, text as str."""
    values = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def _constant_input(node: Node, index: int, name: str) -> list[str]:
    given = node.input_name(index)
    return [f"`{name}` must be a constant"] if given and given not in node.constants else []


def _zero_input(node: Node, index: int, name: str) -> list[str]:
    value = node.constant(index)
    if not node.input_name(index) or (value is not None and not np.any(value)):
        return []
    return [f"`{name}` must be a constant 0"]


def _first_output_only(node: Node) -> list[str]:
    return ["only its first output is supported"] if any(node.proto.output[1:]) else []


def _plain_pooling(node: Node) -> list[str]:
    complaints = _first_output_only(node)
    if any(step != 1 for step in node.attributes.get("dilations", ())):
        complaints.append("`dilations` must be ones")
    if node.ranks.get(node.input_name(0), 4) not in (4, 5):
        complaints.append("only 2D and 3D pooling is supported")
    return complaints


def _resize(node: Node) -> list[str]:
    given = node.attributes
    complaints = []
    for name, allowed, default in (
        ("mode", _MODES, "nearest"),
        ("coordinate_transformation_mode", _COORDINATES, "half_pixel"),
        ("keep_aspect_ratio_policy", {"stretch"}, "stretch"),
    ):
        if given.get(name, default) not in allowed:
            complaints.append(f"{name} {given[name]!r} is not supported")
    if given.get("mode", "nearest") == "nearest":
        nearest = given.get("nearest_mode", "round_prefer_floor")
        if nearest not in _NEAREST:
            complaints.append(f"nearest_mode {nearest!r} is not supported")
    if given.get("antialias", 0):
        complaints.append("antialiasing is not supported")
    axes = given.get("axes")
    if axes is not None and node.input_name(2):
        rank = node.ranks.get(node.input_name(0))
        if list(axes) != list(range(rank if rank is not None else len(axes))):
            complaints.append("with `scales`, `axes` must name every dimension in order")
    return complaints


def _top_k(node: Node) -> list[str]:
    complaints = [] if node.attributes.get("sorted", 1) == 1 else ["`sorted` must be 1"]
    count = node.constant(1)
    if count is not None and int(count.reshape(-1)[0]) >= _TOP_K_LIMIT:
        complaints.append(f"`K` must be less than {_TOP_K_LIMIT}")
    return complaints


def _constant(node: Node) -> list[str]:
    refused = sorted({"sparse_value", "value_string", "value_strings"} & set(node.attributes))
    return [f"`{name}` is not supported" for name in refused]


def _scatter(node: Node) -> list[str]:
    return ["`reduction` is not supported"] if node.attributes.get("reduction", "none") != "none" else []


def _grid_sample(node: Node) -> list[str]:
    return [] if node.ranks.get(node.input_name(0)) == 4 else ["the input must have 4 dimensions"]


def _by_name(
    names: Sequence[str], check: Callable[[Node], list[str]]
) -> dict[str, Callable[[Node], list[str]]]:
    return dict.fromkeys(names, check)


RESTRICTIONS: Mapping[str, Callable[[Node], list[str]]] = {
    **_by_name(
        [f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum")]
        + ["ReduceSumSquare", "Squeeze", "Unsqueeze"],
        partial(_constant_input, index=1, name="axes"),
    ),
    **_by_name(["Slice", "Pad"], partial(_constant_input, index=3, name="axes")),
    **_by_name(["MaxPool", "AveragePool"], _plain_pooling),
    "Constant": _constant,
    "CumSum": partial(_constant_input, index=1, name="axis"),
    "DequantizeLinear": partial(_zero_input, index=2, name="x_zero_point"),
    "GridSample": _grid_sample,
    "LayerNormalization": _first_output_only,
    "OneHot": partial(_constant_input, index=1, name="depth"),
    "QuantizeLinear": partial(_zero_input, index=2, name="y_zero_point"),
    "Resize": _resize,
    "ScatterND": _scatter,
    "TopK": _top_k,
}
