"""From an FP32 graph to one whose products with weights are sums of integers.

ONNX Runtime's own quantizer converts the graph; what stays in FP32, and whether the result is right, is
decided and proven here.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from tqdm import tqdm

from ovsdino_export.half_arithmetic import plain_session, run_plain
from ovsdino_export.scratch import scratch_folder
from ovsdino_runtime.errors import ExportError

WEIGHT_LEVELS = 64  # a weight is a whole number of this size at most, times its column's scale
_INPUT_LEVELS = 255


def products(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of a graph's products of an activation with a weight matrix, in order.

    Args:
        model: with plain weights.
    """
    weights = {item.name for item in model.graph.initializer}
    return tuple(
        node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights
    )


def to_int8(model: onnx.ModelProto, kept: Collection[str] = ()) -> onnx.ModelProto:
    """Return a graph whose products with weights multiply integers; all else stays FP32.

    Weights are signed, one scale a column, activations uint8 in the range they have in the call. Weights take
    seven bits: the eighth can overflow the 16 bits in which an x86 processor without VNNI adds two products.
    The batch is fixed at 1, or a window's features would depend on the others of its batch. Operators are
    ONNX's own.

    Args:
        model: the FP32 graph, with plain weights; not changed.
        kept: names of products that stay in FP32; not all.

    Raises:
        ExportError: ONNX Runtime cannot convert the graph.
        OutputError: there is no room for a copy of it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - slow to load

    with scratch_folder("copies of the graph") as folder, _quiet():
        path = folder / "int8.onnx"
        try:
            quantize_dynamic(
                model,
                path,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=[name for name in products(model) if name not in kept],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
            )
        except OSError:
            raise
        except Exception as error:  # what the quantizer raises has no common base but Exception
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise ExportError(f"ONNX Runtime cannot convert the graph to INT8: {first}") from error
        made = onnx.load(path)
    del made.graph.value_info[:]
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return made


def rounding_errors(model: onnx.ModelProto, windows: NDArray[np.uint8]) -> Mapping[str, float]:
    """Return for each product how much INT8 changes its result, as Frobenius norms; the worst of the windows.

    Args:
        model: the FP32 graph, with plain weights; not changed.
        windows: uint8 [n, window, window, 3].
    """
    nodes = {node.name: node for node in model.graph.node}
    chosen = [nodes[name] for name in products(model)]
    taken = list(dict.fromkeys(node.input[0] for node in chosen))
    weights = {item.name: item for item in model.graph.initializer}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in taken
    )
    session = plain_session(watched)
    worst = dict.fromkeys((node.name for node in chosen), 0.0)
    for window in tqdm(windows, "products in INT8", unit="window", leave=False, delay=1):
        seen = dict(zip(taken, run_plain(session, taken, window), strict=True))
        for node in chosen:
            matrix = numpy_helper.to_array(weights[node.input[1]]).astype(np.float32)
            error = _relative_error(seen[node.input[0]], matrix)
            worst[node.name] = float(np.maximum(worst[node.name], error))  # NaN stays
    return worst


def _relative_error(inputs: NDArray[np.float32], matrix: NDArray[np.float32]) -> float:
    rows = inputs.reshape(-1, inputs.shape[-1])
    exact = rows @ matrix
    size = max(float(np.linalg.norm(exact)), 1e-30)
    return float(np.linalg.norm(_rounded_inputs(rows) @ _rounded_weights(matrix) - exact)) / size


def _rounded_inputs(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values as uint8 between the least and the greatest (0 among them) holds them."""
    least, greatest = min(0.0, float(values.min())), max(0.0, float(values.max()))
    step = np.float32(max((greatest - least) / _INPUT_LEVELS, 1e-30))
    zero = np.rint(-least / step)
    numbers = np.clip(np.rint(values / step) + zero, 0, _INPUT_LEVELS)
    return np.asarray((numbers - zero) * step, dtype=np.float32)


def _rounded_weights(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a matrix as whole multiples of each column's scale."""
    steps = np.maximum(np.abs(matrix).max(axis=0) / WEIGHT_LEVELS, 1e-30)
    return np.asarray(np.rint(matrix / steps) * steps, dtype=np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer from advising a preparation that this graph does not need."""
    logger = logging.getLogger()
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
