"""Which layers of a parsed network may compute in FP32, on networks made of plain objects."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from ovsdino_export.network_types import check_graph, check_network, nodes_of
from ovsdino_runtime.errors import ExportError
from tests.standins.release import make_release

TRT, _ = make_release("11.4")
FLOAT, HALF, INT32 = TRT.DataType.FLOAT, TRT.DataType.HALF, TRT.DataType.INT32
OPERATORS = {"Norm": "LayerNormalization", "Dense": "MatMul", "Turn": "Transpose", "Widen": "Cast"}
MODEL = helper.make_model(
    helper.make_graph(
        [helper.make_node(op, [], [], name=name) for name, op in OPERATORS.items()], "g", [], []
    )
)


def _tensor(name: str, dtype: Any) -> SimpleNamespace:
    return SimpleNamespace(name=name, dtype=dtype)


def _layer(
    kind: str, inputs: Sequence[Any], output: Any, *, node: str = "", name: str = "(Unnamed Layer* 1)"
) -> SimpleNamespace:
    return SimpleNamespace(
        name=name,
        type=getattr(TRT.LayerType, kind),
        metadata=f"[ONNX Layer: {node}]" if node else "",
        num_inputs=len(inputs),
        num_outputs=1,
        get_input=lambda index: inputs[index],
        get_output=lambda index: output,
    )


def _network(*layers: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(
        num_inputs=1,
        get_input=lambda index: _tensor("image", TRT.DataType.UINT8),
        num_layers=len(layers),
        get_layer=lambda index: layers[index],
    )


def _check(*layers: SimpleNamespace, islands: Sequence[str] = ("Norm",)) -> dict[str, int]:
    dense = _layer("MATRIX_MULTIPLY", [_tensor("a", HALF)], _tensor("b", HALF), node="Dense")
    return check_network(TRT, _network(dense, *layers), MODEL, "fp16", islands).as_dict()


CONSTANT = _layer("CONSTANT", [], _tensor("weight", FLOAT), name="weight")
CAST = _layer("CAST", [_tensor("b", HALF)], _tensor("wide", FLOAT), node="Widen")


def test_islands_casts_constants_and_moves_may_be_fp32() -> None:
    wide, normed = _tensor("wide", FLOAT), _tensor("normed", FLOAT)
    norm = _layer("NORMALIZATION", [wide, _tensor("weight", FLOAT)], normed, node="Norm")
    turn = _layer("SHUFFLE", [normed], _tensor("turned", FLOAT), node="Turn")
    whole = _layer("ELEMENTWISE", [_tensor("shape", INT32)], _tensor("twice", INT32))
    assert _check(CONSTANT, CAST, norm, turn, whole) == {"half": 1, "full": 1, "casts": 1, "other": 3}


def test_what_the_parser_adds_for_an_island_is_allowed_and_what_it_adds_elsewhere_is_not() -> None:
    scaled = _tensor("scaled", FLOAT)
    added = _layer("ELEMENTWISE", [_tensor("wide", FLOAT), _tensor("weight", FLOAT)], scaled)
    after = _layer("ELEMENTWISE", [scaled], _tensor("more", FLOAT), name="(Unnamed Layer* 2)")
    assert _check(CONSTANT, CAST, added, after)["full"] == 2
    from_half = _layer("ELEMENTWISE", [_tensor("b", HALF)], scaled)
    with pytest.raises(ExportError, match=r"computes FP32 in \(Unnamed Layer\* 1\), \(Unnamed Layer\* 2\)"):
        _check(CONSTANT, CAST, from_half, after)


def test_a_layer_of_several_nodes_must_be_all_islands() -> None:
    fused = _layer("NORMALIZATION", [_tensor("wide", FLOAT)], _tensor("x", FLOAT), name="fused")
    fused.metadata = "[ONNX Layer: Norm]\x1f[ONNX Layer: Dense]"
    assert nodes_of(fused, OPERATORS) == ["Norm", "Dense"]
    with pytest.raises(ExportError, match="FP32 in fused"):
        _check(CAST, fused)
    _check(CAST, fused, islands=("Norm", "Dense"))


def test_a_release_that_leaves_no_metadata_is_read_by_the_layers_name() -> None:
    norm = _layer("NORMALIZATION", [_tensor("b", HALF)], _tensor("x", FLOAT), name="Norm")
    assert _check(norm)["full"] == 1
    with pytest.raises(ExportError, match="FP32 in Norm"):
        _check(norm, islands=())


def test_many_layers_beyond_the_islands_are_counted_not_listed() -> None:
    layers = [
        _layer("ACTIVATION", [_tensor("b", HALF)], _tensor(f"t{i}", FLOAT), name=f"act{i}") for i in range(9)
    ]
    with pytest.raises(ExportError, match="act0, act1, act2, act3, act4 and 4 more"):
        _check(*layers)


def test_a_graph_is_held_against_its_islands_before_tensorrt_sees_it() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], name="In", to=TensorProto.FLOAT16),
        helper.make_node("Exp", ["h"], ["e"], name="Exp"),
        helper.make_node("Cast", ["e"], ["f"], name="Out", to=TensorProto.FLOAT),
        helper.make_node("Exp", ["f"], ["g"], name="Late"),
        helper.make_node("Transpose", ["g"], ["y"], name="Turn"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], [helper.make_tensor_value_info("y", 1, [2, "b"])])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    check_graph(model, "fp16", ["Late"])
    with pytest.raises(ExportError, match="the graph computes FP32 in Late"):
        check_graph(model, "fp16", [])
    with pytest.raises(ExportError, match="the graph computes FP16 in Exp"):
        check_graph(model, "fp32", [])
