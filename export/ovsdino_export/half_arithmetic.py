"""FP16 as a GPU computes it, on any CPU: half rounding after every operator of the exported graph.

ONNX Runtime's CPU provider computes most of an FP16 graph in FP32 and so hides overflow and rounding. Here
the graph is rewritten: every operator runs in FP32 on numbers that are FP16 values, and what it gives is
rounded to FP16 (to infinity beyond 65504), or not, where the graph says FP32. That is what a GPU does that
accumulates in FP32 and stores FP16; sums inside an operator are therefore as wide as a tensor core's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ovsdino_export.large_graph import save_proto
from ovsdino_export.scratch import scratch_folder
from ovsdino_export.typed_graph import VIEWS, float_types
from ovsdino_runtime.backends.ort import import_onnxruntime
from ovsdino_runtime.errors import ExportError, InferenceError

ARITHMETIC = "FP16 emulated on a CPU: half rounding after every operator, sums in FP32"
_FLOAT, _HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)


def rounding_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an FP32 graph that computes what an FP16 graph computes with half rounding.

    Args:
        model: a graph of FP16 and FP32 operators, with its weights; not changed.

    Raises:
        ExportError: the graph's types cannot be inferred.
    """
    types = float_types(model)
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    for item in (*graph.input, *graph.output):
        if item.type.tensor_type.elem_type == _HALF:
            item.type.tensor_type.elem_type = _FLOAT
    weights = [_widened(item) for item in graph.initializer]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in types:
            node.attribute[0].i = _FLOAT
        nodes.append(node)
        if node.op_type in VIEWS:
            continue
        for place, name in enumerate(node.output):
            if types.get(name) == _HALF:
                node.output[place] = f"{name}_unrounded"
                nodes += rounded(f"{name}_unrounded", name)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return twin


def rounded(source: str, target: str) -> list[onnx.NodeProto]:
    """Return nodes that round an FP32 tensor to FP16's values and keep it FP32."""
    return [
        helper.make_node("Cast", [source], [f"{target}_fp16"], name=f"Round_{target}", to=_HALF),
        helper.make_node("Cast", [f"{target}_fp16"], [target], name=f"Widen_{target}", to=_FLOAT),
    ]


def plain_session(model: onnx.ModelProto) -> Any:
    """Return an ONNX Runtime session that runs a graph node by node, as it stands.

    Raises:
        BackendUnavailable: there is no ONNX Runtime.
        ExportError: it cannot load the graph.
        OutputError: there is no room for a copy of it.
    """
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # No rewriting: two Casts there and back must stay, and no two operators become one.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # In the nodes' own order, in which what watches a tensor follows it: by default ONNX Runtime puts such
    # side branches off and keeps all their tensors, 22 GB of a ViT-L.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    # By way of a file: of a graph as a message protobuf takes 2 GB at most.
    with scratch_folder("a copy of the graph") as folder:
        path = folder / "graph.onnx"
        save_proto(model, path)
        try:
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise ExportError(
                f"the graph does not load: {(str(error) or repr(error)).splitlines()[0]}"
            ) from error


def run_plain(session: Any, wanted: Sequence[str] | None, window: NDArray[np.generic]) -> list[Any]:
    """Return what a session of `plain_session` gives for one window; None wants all.

    Raises:
        InferenceError: ONNX Runtime fails, as for lack of memory.
    """
    try:
        results: list[Any] = session.run(wanted, {session.get_inputs()[0].name: window[None]})
    except Exception as error:  # as above
        first = (str(error) or repr(error)).splitlines()[0]
        raise InferenceError(
            f"ONNX Runtime failed on the graph: {first}; where that is for lack of memory, do it on a "
            "larger machine"
        ) from error
    return results


class HalfBackend:
    """The image graph in emulated FP16.

    Attributes:
        name: `fp16-emulated`.
    """

    name = "fp16-emulated"

    def __init__(self, model: onnx.ModelProto) -> None:
        """Prepare an FP16 graph; see `rounding_twin` for the errors."""
        self._session = plain_session(rounding_twin(model))

    def features(self, windows: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return what the graph gives for some windows, one at a time, float32.

        Raises:
            InferenceError: ONNX Runtime fails.
        """
        results = [run_plain(self._session, None, window)[0] for window in windows]
        return np.concatenate(results).astype(np.float32)


def _widened(weight: onnx.TensorProto) -> onnx.TensorProto:
    if weight.data_type != _HALF:
        return weight
    return numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name)
