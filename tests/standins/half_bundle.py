"""The tiny bundle with an FP16 graph beside its FP32 one: the same colours, one FP32 island."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ovsdino_runtime.bundle import IMAGE_GRAPH_FP16, Bundle
from ovsdino_runtime.bundle_writing import new_bundle

ISLAND = {"node": "Divide", "op": "Div", "reason": "the final normalisation"}


def write_half_bundle(
    source: Path,
    target: Path,
    *,
    half: float = 127.5,
    islands: tuple[dict[str, str], ...] = (ISLAND,),
    all_full: bool = False,
) -> Path:
    """Copy the tiny bundle and give it an FP16 graph whose island is named in the manifest.

    Args:
        source: the tiny bundle.
        target: the new one.
        half: what the graph scales colours by; another number than 127.5 makes it wrong.
        islands: what the manifest says of them.
        all_full: whether the graph really is FP32.
    """
    bundle = Bundle.open(source)
    manifest = dataclasses.replace(bundle.manifest, precisions={"fp16": {"islands": list(islands)}})
    with new_bundle(target, manifest) as staged:
        for name in bundle.manifest.files:
            shutil.copy(source / name, staged / name)
        _write_graph(staged / IMAGE_GRAPH_FP16, half, TensorProto.FLOAT if all_full else TensorProto.FLOAT16)
    return target


def _write_graph(path: Path, half: float, kind: int) -> None:
    dtype = np.float16 if kind == TensorProto.FLOAT16 else np.float32

    def node(operator: str, name: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(operator, inputs.split(), [output], name=name, **attributes)

    nodes = [
        node("Cast", "Enter", "image", "as_half", to=kind),
        node("Transpose", "Planes", "as_half", "planes", perm=[0, 3, 1, 2]),
        node("AveragePool", "Pool", "planes", "means", kernel_shape=[7, 7], strides=[7, 7]),
        node("Div", "Scale", "means half", "scaled"),
        node("Sub", "Centre", "scaled one", "position"),
        node("Mul", "Square", "position position", "squares"),
        node("ReduceSum", "Sum", "squares channel_axis", "square", keepdims=1),
        node("Add", "Twice", "position position", "twice"),
        node("Sub", "Height", "square one", "height"),
        node("Concat", "Lift", "twice height", "lifted", axis=1),
        node("Add", "Norm", "square one", "norm"),
        node("Cast", "Widen", "lifted", "wide_lifted", to=TensorProto.FLOAT),
        node("Cast", "WidenNorm", "norm", "wide_norm", to=TensorProto.FLOAT),
        node("Div", "Divide", "wide_lifted wide_norm", "features"),
    ]
    graph = helper.make_graph(
        nodes,
        "colour_on_the_sphere_in_half",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 28, 28, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4, 4, 4])],
        initializer=[
            numpy_helper.from_array(np.array(half, dtype), "half"),
            numpy_helper.from_array(np.array(1, dtype), "one"),
            numpy_helper.from_array(np.array([1], np.int64), "channel_axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
