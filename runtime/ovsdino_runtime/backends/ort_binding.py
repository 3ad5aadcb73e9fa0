"""Inputs and outputs of an ONNX Runtime session that stay on the device from call to call.

CUDA graphs are left off: whether they help here has not been measured.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_SHAPES_KEPT = 8  # batch sizes whose buffers are kept; pictures of one size have one


@dataclass(frozen=True)
class _Bound:
    binding: Any
    input: Any
    output: Any


class BoundSession:
    """Runs a session with one input and one output on buffers bound once for each batch size.

    Threads take turns: the buffers are shared.
    """

    def __init__(self, session: Any, device: Literal["cpu", "cuda"]) -> None:
        self._session, self._device = session, device
        self._input, self._output = session.get_inputs()[0], session.get_outputs()[0]
        self._bound: OrderedDict[tuple[int, ...], _Bound] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the outputs [B, …] for inputs [B, …]."""
        with self._lock:
            bound = self._bound.pop(batch.shape, None) or self._bind(batch)
            self._bound[batch.shape] = bound  # the latest is last
            if len(self._bound) > _SHAPES_KEPT:
                self._bound.popitem(last=False)
            bound.input.update_inplace(np.ascontiguousarray(batch))
            self._session.run_with_iobinding(bound.binding)
            result: NDArray[np.generic] = bound.output.numpy()  # a copy
            return result

    def _bind(self, batch: NDArray[np.generic]) -> _Bound:
        from onnxruntime import OrtValue  # noqa: PLC0415 - optional, and slow to load

        shape = (len(batch), *self._output.shape[1:])
        dtype = np.float16 if self._output.type == "tensor(float16)" else np.float32
        taken = OrtValue.ortvalue_from_shape_and_type(batch.shape, batch.dtype, self._device, 0)
        given = OrtValue.ortvalue_from_shape_and_type(shape, dtype, self._device, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input.name, taken)
        binding.bind_ortvalue_output(self._output.name, given)
        return _Bound(binding, taken, given)
