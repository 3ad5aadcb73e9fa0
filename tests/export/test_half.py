"""FP16 graphs: one float type an operator, half rounding as NumPy rounds, islands where numbers need them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from ovsdino_export.attention import attention_blocks
from ovsdino_export.calibration import by_node, calibrate
from ovsdino_export.evidence import Evidence
from ovsdino_export.half_arithmetic import HalfBackend, plain_session
from ovsdino_export.islands import Choice
from ovsdino_export.precision import half_graph, prove
from ovsdino_export.typed_graph import casts_of, float_types, to_half, with_plain_weights
from ovsdino_runtime.errors import ExportError, ParityError
from ovsdino_runtime.metrics import GATES

SIDE, DIM = 8, 6
WINDOWS = np.random.default_rng(3).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
EMBEDDINGS = np.random.default_rng(4).normal(size=(5, DIM)).astype(np.float32)

Node = tuple[str, list[str], list[str], dict[str, object]]


def graph(middle: Sequence[Node], weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Return uint8 [B, 8, 8, 3] -> features [B, 6, 8, 8]; `middle` leads from `x` [B, 6, 8, 8] to `y`."""
    random = np.random.default_rng(0)
    first: list[Node] = [
        ("Cast", ["image"], ["floats"], {"to": TensorProto.FLOAT}),
        ("Transpose", ["floats"], ["planes"], {"perm": [0, 3, 1, 2]}),
        ("Div", ["planes", "top"], ["scaled"], {}),
        ("Conv", ["scaled", "kernel"], ["x"], {}),
    ]
    last: list[Node] = [
        ("ReduceL2", ["y", "axis"], ["norm"], {"keepdims": 1}),
        ("Div", ["y", "norm"], ["features"], {}),
    ]
    nodes = [
        helper.make_node(op, inputs, outputs, name=f"{op}_{place}", **attributes)
        for place, (op, inputs, outputs, attributes) in enumerate([*first, *middle, *last])
    ]
    constants = {
        "top": np.array(255, np.float32), "axis": np.array([1]),
        "kernel": random.normal(size=(DIM, 3, 1, 1)).astype(np.float32), **weights,
    }  # fmt: skip
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIM, SIDE, SIDE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def evidence(model: onnx.ModelProto) -> Evidence:
    session = plain_session(model)
    features = np.concatenate([session.run(None, {"image": window[None]})[0] for window in WINDOWS])
    return Evidence(
        windows=WINDOWS, features=features, embeddings=EMBEDDINGS, golden=len(WINDOWS), source="the test"
    )


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


HARMLESS = graph([("Gelu", ["x"], ["y"], {})], {})
# 300 x 300 is beyond 65504, though what comes out is of ordinary size again.
OVERFLOWING = graph(
    [
        ("Mul", ["x", "large"], ["grown"], {}),
        ("Mul", ["grown", "large"], ["huge"], {}),
        ("Div", ["huge", "squared"], ["y"], {}),
    ],
    {"large": number(1000), "squared": number(1e4)},
)
# Adding and taking away 3000 leaves nothing of the digits behind the comma that FP16 has there.
CANCELLING = graph(
    [("Add", ["x", "far"], ["shifted"], {}), ("Sub", ["shifted", "far"], ["y"], {})], {"far": number(3000)}
)


@settings(deadline=None)  # the first call loads ONNX Runtime
@given(
    hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32)),
    hnp.arrays(np.float32, st.just(1), elements=st.floats(-1e3, 1e3, width=32)),
)
def test_every_operator_is_followed_by_numpy_s_half_rounding(values: np.ndarray, factor: np.ndarray) -> None:
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["product"], name="product"),
        helper.make_node("Add", ["product", "a"], ["sum"], name="sum"),
    ]
    kind = TensorProto.FLOAT16
    made = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("a", kind, ["n"])],
        [helper.make_tensor_value_info("sum", kind, ["n"])],
        [numpy_helper.from_array(factor.astype(np.float16), "b")],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with np.errstate(over="ignore", invalid="ignore"):
        half, times = values.astype(np.float16), factor.astype(np.float16)
        # one operator in FP32 on FP16 values, then rounded: the double rounding-free definition of FP16
        product = (half.astype(np.float32) * times.astype(np.float32)).astype(np.float16)
        expected = (product.astype(np.float32) + half.astype(np.float32)).astype(np.float16)
        assert np.array_equal(expected, half * times + half, equal_nan=True)
    found = HalfBackend(model).features(half.astype(np.float32))  # one number a call
    assert np.array_equal(found.ravel(), expected.astype(np.float32), equal_nan=True)


def test_a_matrix_product_beyond_the_range_is_infinite_here_though_onnx_runtime_s_cpu_keeps_it() -> None:
    kind = TensorProto.FLOAT16
    made = helper.make_graph(
        [
            helper.make_node("MatMul", ["a", "b"], ["large"], name="product"),
            helper.make_node("Mul", ["large", "small"], ["c"], name="shrunk"),
        ],
        "test",
        [helper.make_tensor_value_info("a", kind, ["n", 1, 4])],
        [helper.make_tensor_value_info("c", kind, ["n", 1, 1])],
        [
            numpy_helper.from_array(np.full((4, 1), 200, np.float16), "b"),
            numpy_helper.from_array(np.array(0.001, np.float16), "small"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    values = np.full((1, 1, 4), 200, np.float16)  # 4 x 200 x 200 = 160,000
    assert np.isinf(HalfBackend(model).features(values.astype(np.float32))).all()


def test_no_operator_mixes_types_and_no_cast_is_undone() -> None:
    half = to_half(OVERFLOWING, ["Div_2", "Mul_5", "ReduceL2_7", "Div_8"])
    onnx.checker.check_model(half, full_check=True)
    types = float_types(half)
    for node in half.graph.node:
        kinds = {types[name] for name in (*node.input, *node.output) if name in types}
        assert len(kinds) == 1 or node.op_type == "Cast", node
    wide = {node.name for node in half.graph.node if types.get(node.output[0]) == TensorProto.FLOAT}
    assert {"Div_2", "Mul_5", "ReduceL2_7", "Div_8"} <= wide
    # scaled -> Conv, grown -> Mul_5, huge -> Div_6, y -> ReduceL2 and Div_8 (once), planes -> Div_2
    assert casts_of(half).count == 5
    assert casts_of(half).needless == 0


@settings(deadline=None)
@given(st.sets(st.sampled_from([node.name for node in OVERFLOWING.graph.node])))
def test_whatever_stays_in_fp32_the_graph_is_valid_and_casts_only_where_types_meet(names: set[str]) -> None:
    half = to_half(OVERFLOWING, names)
    onnx.checker.check_model(half, full_check=True)
    found = casts_of(half)
    assert found.needless == 0
    chosen = {node.name: node for node in OVERFLOWING.graph.node}
    producer = {node.output[0]: node.name for node in chosen.values()}
    meetings = {
        (name, node.name in names)
        for node in chosen.values()
        for name in node.input
        if name in producer and (producer[name] in names) != (node.name in names)
    }
    last = "Div_8" not in names  # the output is FP32 whatever computes it
    assert found.count == len(meetings) + last


def test_all_in_fp32_computes_what_the_graph_computed() -> None:
    wide = to_half(CANCELLING, [node.name for node in CANCELLING.graph.node])
    np.testing.assert_array_equal(HalfBackend(wide).features(WINDOWS), evidence(CANCELLING).features)


def test_weights_stored_in_fp16_and_constants_become_plain_weights() -> None:
    stored = onnx.ModelProto()
    stored.CopyFrom(HARMLESS)
    kernel = next(item for item in stored.graph.initializer if item.name == "kernel")
    half = numpy_helper.to_array(kernel).astype(np.float16)
    stored.graph.initializer.remove(kernel)
    stored.graph.initializer.append(numpy_helper.from_array(half, "stored"))
    cast = helper.make_node("Cast", ["stored"], ["kernel"], name="Cast_kernel", to=TensorProto.FLOAT)
    stored.graph.node.insert(0, cast)
    plain = with_plain_weights(stored)
    assert [node.op_type for node in plain.graph.node] == [node.op_type for node in HARMLESS.graph.node]
    weights = {item.name: numpy_helper.to_array(item) for item in plain.graph.initializer}
    np.testing.assert_array_equal(weights["kernel"], half.astype(np.float32))
    assert "stored" not in weights


def test_nodes_without_a_name_of_their_own_get_one() -> None:
    anonymous = onnx.ModelProto()
    anonymous.CopyFrom(OVERFLOWING)
    for node in anonymous.graph.node:
        node.name = "same" if node.op_type == "Mul" else ""
    proof = evidence(OVERFLOWING)
    found = half_graph(anonymous, proof)
    names = [node.name for node in found.model.graph.node]
    assert len(set(names)) == len(names)
    assert "" not in names
    assert not found.parity.failures(GATES["fp16"])


def test_an_output_that_is_read_inside_the_graph_too_is_cast_once() -> None:
    both = onnx.ModelProto()
    both.CopyFrom(HARMLESS)
    both.graph.output.append(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", DIM, SIDE, SIDE])
    )
    half = to_half(both, ["ReduceL2_5", "Div_6"])
    onnx.checker.check_model(half, full_check=True)
    assert {item.type.tensor_type.elem_type for item in half.graph.output} == {TensorProto.FLOAT}
    assert casts_of(half).count == 1  # y for the output, which the islands read too
    onnx.checker.check_model(to_half(both, []), full_check=True)


def test_an_unknown_island_and_a_weight_beyond_the_range_are_one_line_errors() -> None:
    with pytest.raises(ExportError, match="no node of that name"):
        to_half(HARMLESS, ["Gelu_99"])
    heavy = graph([("Mul", ["x", "w"], ["y"], {})], {"w": number(1e5)})
    with pytest.raises(ExportError, match=r"'w' of 'Mul_4' reaches 100000.*--fp32-node Mul_4"):
        to_half(heavy, [])
    kept = half_graph(heavy, evidence(heavy))
    assert any("a weight reaches 1e+05" in island.reason for island in kept.islands)


def test_calibration_sees_the_largest_magnitude_and_what_rounded_inputs_change() -> None:
    records = by_node(calibrate(CANCELLING, WINDOWS))
    planes = WINDOWS.astype(np.float64).transpose(0, 3, 1, 2) / 255
    kernel = numpy_helper.to_array(
        next(item for item in CANCELLING.graph.initializer if item.name == "kernel")
    )
    x = np.einsum("oi,bihw->bohw", kernel[:, :, 0, 0], planes)
    assert records["Add_4"].largest == pytest.approx(np.abs(x + 3000).max(), rel=1e-6)
    shifted = (x + 3000).astype(np.float16).astype(np.float64) - 3000
    changes = np.linalg.norm((shifted - x).reshape(3, -1), axis=1) / np.linalg.norm(x.reshape(3, -1), axis=1)
    assert records["Sub_5"].disturbance == pytest.approx(changes.max(), rel=0.05)
    assert records["Add_4"].disturbance < 1e-4
    assert records["Transpose_1"].disturbance == 0


@pytest.mark.parametrize(
    ("planted", "why"), [(OVERFLOWING, "within a factor of 4"), (CANCELLING, "change y")]
)
def test_a_planted_fault_fails_the_gate_and_the_islands_that_calibration_finds_mend_it(
    planted: onnx.ModelProto, why: str
) -> None:
    proof = evidence(planted)
    assert prove(to_half(planted, []), proof).failures(GATES["fp16"])
    found = half_graph(planted, proof)
    assert not found.parity.failures(GATES["fp16"])
    assert found.widened == 0
    assert any(why in island.reason for island in found.islands)
    assert found.largest * 4 <= 65504
    assert not half_graph(HARMLESS, evidence(HARMLESS)).record()["widened"]


def test_weights_too_small_for_fp16_keep_their_node_in_fp32_and_not_what_feeds_it() -> None:
    tiny = np.random.default_rng(5).normal(scale=1e-7, size=(SIDE, SIDE)).astype(np.float32)
    model = graph(
        [
            ("Transpose", ["x"], ["keys"], {"perm": [0, 1, 3, 2]}),
            ("MatMul", ["x", "keys"], ["scores"], {}),
            ("Softmax", ["scores"], ["shares"], {"axis": -1}),
            ("MatMul", ["shares", "x"], ["mixed"], {}),
            ("MatMul", ["mixed", "tiny"], ["little"], {}),
            ("Mul", ["little", "large"], ["y"], {}),
        ],
        {"tiny": tiny, "large": number(1e6)},
    )
    found = half_graph(model, evidence(model))
    reasons = {island.node: island.reason for island in found.islands}
    assert "so small that FP16 changes them" in reasons["MatMul_8"]
    assert "MatMul_7" not in reasons
    assert [block.fusable for block in found.attention] == [True]
    assert not found.parity.failures(GATES["fp16"])


def test_where_calibration_finds_nothing_the_islands_widen_until_the_gates_are_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ovsdino_export.islands.DISTURBANCE_LIMIT", 1e9)
    found = half_graph(CANCELLING, evidence(CANCELLING))
    assert found.widened > 0
    assert any(island.reason.startswith("widened to meet the gates") for island in found.islands)


def test_a_gate_that_no_island_can_meet_is_an_error_that_names_the_worst_tensors() -> None:
    proof = evidence(HARMLESS)
    other = Evidence(
        windows=proof.windows,
        features=-proof.features,
        embeddings=EMBEDDINGS,
        golden=proof.golden,
        source="of another model",
    )
    with pytest.raises(ParityError, match=r"mean patch cosine is -1\.0.*disturbed by .*--fp32-node"):
        half_graph(HARMLESS, other)


def test_operators_and_nodes_can_be_kept_by_name() -> None:
    found = half_graph(HARMLESS, evidence(HARMLESS), fp32_ops=["Gelu"], fp32_nodes=["Conv_3"])
    assert {"Gelu_4", "Conv_3", "ReduceL2_5", "Div_6"} == {island.node for island in found.islands}
    for wrong in ({"fp32_ops": ["Softmax"]}, {"fp32_nodes": ["Conv_9"]}):
        with pytest.raises(ExportError, match="graph has no"):
            half_graph(HARMLESS, evidence(HARMLESS), **wrong)


def test_group_norm_is_one_island_with_its_affine_and_ends_at_an_activation() -> None:
    shape = np.array([-1, DIM, SIDE, SIDE])
    normed = graph(
        [
            ("Reshape", ["x", "grouped"], ["groups"], {}),
            ("InstanceNormalization", ["groups", "one", "zero"], ["even"], {}),
            ("Reshape", ["even", "shape"], ["back"], {}),
            ("Mul", ["back", "weight"], ["times"], {}),
            ("Add", ["times", "bias"], ["plus"], {}),
            ("Gelu", ["plus"], ["active"], {}),
            ("Add", ["active", "x"], ["y"], {}),
        ],
        {
            "grouped": np.array([-1, 2, DIM // 2 * SIDE * SIDE]), "shape": shape,
            "one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32),
            "weight": np.ones((DIM, 1, 1), np.float32), "bias": np.zeros((DIM, 1, 1), np.float32),
        },
    )  # fmt: skip
    choice = Choice(with_plain_weights(normed))
    choice.by_rule()
    kept = {name for name, island in choice.islands.items() if island.reason.startswith("GroupNorm")}
    assert kept == {"InstanceNormalization_5", "Reshape_6", "Mul_7", "Add_8"}


def test_attention_is_fusable_in_one_type_and_not_with_a_cast_in_between() -> None:
    model = graph(
        [
            ("Transpose", ["x"], ["keys"], {"perm": [0, 1, 3, 2]}),
            ("MatMul", ["x", "keys"], ["scores"], {}),
            ("Softmax", ["scores"], ["weights"], {"axis": -1}),
            ("MatMul", ["weights", "x"], ["y"], {}),
        ],
        {},
    )
    (whole,) = attention_blocks(to_half(model, ["ReduceL2_8", "Div_9"]))
    assert (whole.fusable, whole.type) == (True, "fp16")
    (parted,) = attention_blocks(to_half(model, ["Softmax_6"]))
    assert not parted.fusable
    (wide,) = attention_blocks(model)
    assert (wide.fusable, wide.type) == (True, "fp32")


_DEEP = """
import resource
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from ovsdino_export.calibration import calibrate

shape = [1, 20000, 100]
nodes = [helper.make_node("Cast", ["image"], ["x0"], name="cast", to=TensorProto.FLOAT)]
for place in range(DEPTH):
    nodes.append(helper.make_node("MatMul", [f"x{place}", "weight"], [f"y{place}"], name=f"product{place}"))
    nodes.append(helper.make_node("Tanh", [f"y{place}"], [f"z{place}"], name=f"tanh{place}"))
    nodes.append(helper.make_node("Add", [f"x{place}", f"z{place}"], [f"x{place + 1}"], name=f"add{place}"))
graph = helper.make_graph(
    nodes, "deep", [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
    [helper.make_tensor_value_info(f"x{DEPTH}", TensorProto.FLOAT, shape)],
    [numpy_helper.from_array(np.full((100, 100), 0.01, np.float32), "weight")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
calibrate(model, np.zeros(shape, np.uint8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_calibrating_a_deep_graph_keeps_no_tensor_longer_than_it_is_read() -> None:
    peaks_mb = [
        int(
            subprocess.run(
                [sys.executable, "-c", _DEEP.replace("DEPTH", str(depth))],
                check=True, capture_output=True, text=True,
            ).stdout
        )
        for depth in (4, 44)
    ]  # fmt: skip
    # Of forty layers more, a tensor each of 8 MB would be 320 MB.
    assert peaks_mb[1] - peaks_mb[0] < 100
