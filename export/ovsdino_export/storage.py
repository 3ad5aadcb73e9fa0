"""Weights stored in half precision inside a graph that computes in FP32: half the file, the same graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ovsdino_runtime.errors import ExportError

_LEAST_STEP = 2.0**-24  # between FP16's subnormal numbers
_LEAST_ELEMENTS = 256  # smaller tensors are not worth a Cast


def store_half(model: ir.Model) -> int:
    """Store a graph's larger FP32 weights in FP16, each followed by a Cast to FP32.

    Runtimes fold these Casts when they load the graph, so that it computes as fast as before, on weights
    rounded to FP16. Where most of the weights are FP16 numbers already, as those of a published checkpoint
    are, the few that are not (convolutions with a BatchNorm folded in) stay in FP32: nothing is rounded then.

    Args:
        model: the graph; changed in place.

    Returns:
        How many weights are stored so.

    Raises:
        ExportError: a weight exceeds FP16's range.
    """
    graph = model.graph
    large = _large_weights(graph)
    exact = [name for name, value in large.items() if _is_half(value)]
    if 2 * sum(large[name].size for name in exact) > sum(value.size for value in large.values()):
        large = {name: large[name] for name in exact}
    casts: list[ir.Node] = []
    for name, wide in large.items():
        value = graph.initializers[name]
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float16)
        if not np.isfinite(narrow).all():
            raise ExportError(f"the weight {name} reaches {np.abs(wide).max():g}, beyond FP16; store FP32")
        stored = ir.Value(
            name=f"{name}_half",
            shape=value.shape,
            type=ir.TensorType(ir.DataType.FLOAT16),
            const_value=ir.tensor(narrow, name=f"{name}_half"),
        )
        cast = ir.node("Cast", [stored], {"to": int(ir.DataType.FLOAT)}, name=f"Cast_{name}")
        widened = cast.outputs[0]
        widened.shape, widened.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
        for user, index in list(value.uses()):
            user.replace_input_with(index, widened)
        del graph.initializers[name]
        widened.name = name
        graph.register_initializer(stored)
        casts.append(cast)
    first = next(iter(graph), None)
    if first is not None:
        graph.insert_before(first, casts)
    return len(casts)


def _large_weights(graph: ir.Graph) -> dict[str, NDArray[np.float32]]:
    """Return the FP32 weights that are worth a Cast, by name."""
    found: dict[str, NDArray[np.float32]] = {}
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT and tensor.size >= _LEAST_ELEMENTS:
            found[name] = tensor.numpy()
    return found


def _is_half(wide: NDArray[np.float32]) -> bool:
    """Return whether FP16 holds these numbers, but for steps of its smallest."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool((np.abs(wide.astype(np.float16).astype(np.float32) - wide) <= _LEAST_STEP).all())
