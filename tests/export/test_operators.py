"""The check on operators, types and restrictions: what it must let pass and what it must not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ovsdino_export.operators import allowed_operators, check_file, violations
from ovsdino_runtime.errors import ExportError

FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


def _graph(
    nodes: Sequence[onnx.NodeProto],
    *,
    dtype: int = UINT8,
    out: int = FLOAT,
    out_shape: Sequence[int | str] | None = None,
    shape: Sequence[int | str] = ("batch", 4, 4, 3),
    opset: int = 20,
    ir_version: int = 10,
    constants: dict[str, np.ndarray] | None = None,
    domains: Sequence[str] = (),
    inputs: Sequence[onnx.ValueInfoProto] = (),
) -> onnx.ModelProto:
    """Return a graph from `image` to `out`."""
    graph = helper.make_graph(
        list(nodes),
        "planted",
        [helper.make_tensor_value_info("image", dtype, list(shape)), *inputs],
        [helper.make_tensor_value_info("out", out, out_shape)],
        initializer=[numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def _node(op: str, inputs: str, outputs: str = "out", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name=f"the_{op}", **attributes)


CAST = _node("Cast", "image", "float", to=FLOAT)
INT = {"zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "axes": np.array([1, 2])}
BOOL_INPUT = [helper.make_tensor_value_info("flag", TensorProto.BOOL, [])]
AXES_INPUT = [helper.make_tensor_value_info("given", INT64, [1])]


def test_a_graph_that_casts_first_passes() -> None:
    nodes = [CAST, _node("Transpose", "float", "turned", perm=[0, 3, 1, 2]), _node("Relu", "turned")]
    assert violations(_graph(nodes)) == []


def test_transposing_the_uint8_input_before_casting_fails() -> None:
    nodes = [_node("Transpose", "image", "turned", perm=[0, 3, 1, 2]), _node("Cast", "turned", to=FLOAT)]
    found = violations(_graph(nodes))
    assert any("UINT8" in item and "Transpose" in item for item in found)
    assert any("must go into one Cast and nowhere else" in item for item in found)


def test_asking_the_uint8_input_for_its_shape_beside_the_cast_fails() -> None:
    nodes = [CAST, _node("Shape", "image", "shape"), _node("Expand", "float shape")]
    assert any("goes into Cast, Shape" in item for item in violations(_graph(nodes)))


def test_two_casts_of_the_uint8_input_fail() -> None:
    nodes = [CAST, _node("Cast", "image", "again", to=FLOAT), _node("Add", "float again")]
    assert any("goes into Cast, Cast" in item for item in violations(_graph(nodes)))


def _branch(name: str) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(name, FLOAT, None)
    return helper.make_graph([helper.make_node("Identity", ["float"], [name])], name, [], [value])


PLANTED: dict[str, tuple[onnx.ModelProto, str]] = {
    "cubic Resize": (
        _graph(
            [CAST, _node("Resize", "float  scales", mode="cubic")],
            constants={"scales": np.ones(4, np.float32)},
        ),
        "mode 'cubic' is not supported",
    ),
    "antialiased Resize": (
        _graph(
            [CAST, _node("Resize", "float  scales", mode="linear", antialias=1)],
            constants={"scales": np.ones(4, np.float32)},
        ),
        "antialiasing",
    ),
    "Resize with scales for some axes": (
        _graph(
            [CAST, _node("Resize", "float  scales", mode="linear", axes=[1, 2])],
            constants={"scales": np.ones(2, np.float32)},
        ),
        "must name every dimension",
    ),
    "Resize that keeps the aspect ratio": (
        _graph(
            [
                CAST,
                _node(
                    "Resize",
                    "float   sizes",
                    mode="linear",
                    axes=[1, 2],
                    keep_aspect_ratio_policy="not_larger",
                ),
            ],
            constants={"sizes": np.array([8, 8])},
        ),
        "keep_aspect_ratio_policy 'not_larger'",
    ),
    "control flow": (
        _graph(
            [CAST, _node("If", "flag", then_branch=_branch("a"), else_branch=_branch("b"))],
            inputs=BOOL_INPUT,
        ),
        "is control flow",
    ),
    "an operator TensorRT lacks": (
        _graph([CAST, _node("Det", "float")], shape=(2, 3, 3)),
        "no operator that TensorRT",
    ),
    "a custom domain": (
        _graph(
            [CAST, helper.make_node("FusedGelu", ["float"], ["out"], domain="com.example")],
            domains=["com.example"],
        ),
        "custom domain com.example",
    ),
    "opset 21": (_graph([CAST, _node("Relu", "float")], opset=21), "the opset is 21"),
    "opset 17": (_graph([CAST, _node("Relu", "float")], opset=17), "the opset is 17"),
    "IR version 11": (_graph([CAST, _node("Relu", "float")], ir_version=11), "the IR version is 11"),
    "a double": (
        _graph([_node("Cast", "image", to=TensorProto.DOUBLE)], out=TensorProto.DOUBLE),
        "'out' is DOUBLE",
    ),
    "Softmax of integers": (
        _graph([_node("Cast", "image", "int", to=INT64), _node("Softmax", "int")], out=INT64),
        "cannot be inferred",
    ),
    "Clip of integers": (
        _graph([_node("Cast", "image", "int", to=INT64), _node("Clip", "int")], out=INT64),
        "'int' is INT64, but only",
    ),
    "ReduceL2 over axes that are an input": (
        _graph([CAST, _node("ReduceL2", "float given")], inputs=AXES_INPUT),
        "`axes` must be a constant",
    ),
    "Squeeze of axes that are computed": (
        _graph([CAST, _node("Add", "given given", "sum"), _node("Squeeze", "float sum")], inputs=AXES_INPUT),
        "`axes` must be a constant",
    ),
    "Slice along axes that are an input": (
        _graph([CAST, _node("Slice", "float zero one given")], constants=INT, inputs=AXES_INPUT),
        "`axes` must be a constant",
    ),
    "Pad along axes that are an input": (
        _graph([CAST, _node("Pad", "float axes  given")], constants=INT, inputs=AXES_INPUT),
        "`axes` must be a constant",
    ),
    "Unsqueeze at axes that are an input": (
        _graph([CAST, _node("Unsqueeze", "float given")], inputs=AXES_INPUT),
        "`axes` must be a constant",
    ),
    "LayerNormalization's mean": (
        _graph(
            [CAST, _node("LayerNormalization", "float scale", "norm out", axis=-1)],
            constants={"scale": np.ones(3, np.float32)},
        ),
        "only its first output",
    ),
    "unsorted TopK": (
        _graph([CAST, _node("TopK", "float two", "out places", sorted=0)], constants=INT),
        "`sorted` must be 1",
    ),
    "TopK of too many": (
        _graph(
            [CAST, _node("TopK", "float many", "out places")],
            shape=("batch", 5000),
            constants={"many": np.array([4000])},
        ),
        "less than 3840",
    ),
    "CumSum along an axis that is an input": (
        _graph([CAST, _node("CumSum", "float given")], inputs=AXES_INPUT),
        "`axis` must be a constant",
    ),
    "OneHot of a depth that is an input": (
        _graph(
            [
                _node("Cast", "image", "int", to=INT64),
                _node("OneHot", "int given values"),
            ],
            constants={"values": np.array([0, 1], np.float32)},
            inputs=AXES_INPUT,
        ),
        "`depth` must be a constant",
    ),
}


@pytest.mark.parametrize(("model", "complaint"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_found(model: onnx.ModelProto, complaint: str) -> None:
    found = violations(model)
    assert any(complaint in item for item in found), found


def test_a_restriction_that_nothing_here_checks_is_itself_a_violation() -> None:
    model = _graph(
        [_node("EyeLike", "image")], dtype=FLOAT, shape=(3, 3)
    )  # "`input` must have static dimensions"
    assert any("nothing here can check" in item for item in violations(model))


def test_constants_may_be_nodes_instead_of_initializers() -> None:
    axes = _node("Constant", "", "axes", value=numpy_helper.from_array(np.array([1])))
    axes.ClearField("input")
    assert violations(_graph([axes, CAST, _node("ReduceL2", "float axes")])) == []


def test_a_comparison_may_give_booleans_but_not_take_bytes() -> None:
    equal = _graph([CAST, _node("Equal", "float float")], out=TensorProto.BOOL)
    assert violations(equal) == []
    assert any(
        "UINT8" in item for item in violations(_graph([_node("Equal", "image image")], out=TensorProto.BOOL))
    )


def test_the_list_holds_what_the_graphs_are_made_of_and_nothing_unsupported() -> None:
    listed = allowed_operators()
    assert {"LayerNormalization", "Gelu", "InstanceNormalization", "Cast", "Resize"} <= set(listed)
    assert not {"Det", "GroupNorm", "STFT"} & set(listed)
    takers = {name for name, operator in listed.items() if "UINT8" in operator.types}
    assert takers == {"Cast", "CastLike"}


def test_a_file_with_violations_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    nodes = [_node("Transpose", "image", "turned"), _node("Cast", "turned", to=FLOAT)]
    onnx.save(_graph(nodes, out_shape=(3, 4, 4, "batch")), path)
    with pytest.raises(ExportError, match=r"bad\.onnx goes beyond") as raised:
        check_file(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_valid_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cycle.onnx"
    onnx.save(_graph([CAST, _node("Relu", "missing")], out_shape=("batch", 4, 4, 3)), path)
    with pytest.raises(ExportError, match="no valid ONNX graph"):
        check_file(path)
