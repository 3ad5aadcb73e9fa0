"""One thread's way through an engine: a stream, its buffers, and an execution context for each batch size."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.backends.gpu import Cuda
from ovsdino_runtime.errors import InferenceError
from ovsdino_runtime.sidecar import BatchProfile

if TYPE_CHECKING:
    from ovsdino_runtime.backends.trt_engine import EngineTensor

_log = logging.getLogger(__name__)


@dataclass
class _Prepared:
    """A context whose shapes and addresses are set for one batch size.

    A recorded graph is bound to its context's state, so no context serves two batch sizes.
    """

    context: Any
    graph: Any = None


@dataclass
class Recording:
    """Whether batch sizes are recorded as CUDA graphs; all lanes of an engine share it.

    Attributes:
        wanted: true until asked otherwise, or until the first attempt fails.
    """

    wanted: bool

    def give_up(self, reason: str) -> None:
        """Go on without CUDA graphs, and say so once."""
        if self.wanted:
            self.wanted = False
            _log.warning("running without CUDA graphs, somewhat slower: %s", reason)


class Lane:
    """Buffers for the largest batch, allocated once; used by one thread at a time."""

    def __init__(
        self,
        *,
        cuda: Cuda,
        new_context: Callable[[], Any],
        input: EngineTensor,
        output: EngineTensor,
        profile: BatchProfile,
        activation_bytes: int,
        recording: Recording,
    ) -> None:
        """Allocate the buffers.

        Args:
            cuda: the GPU.
            new_context: returns an execution context without memory of its own.
            input: what goes in.
            output: what comes out.
            profile: the batches the engine takes.
            activation_bytes: what a context needs; all contexts of a lane share it.
            recording: whether each batch size is recorded as a CUDA graph.

        Raises:
            InferenceError: the GPU has too little memory.
        """
        self._cuda, self._new_context, self._recording = cuda, new_context, recording
        self._input, self._output, self._profile = input, output, profile
        self._activation_bytes = activation_bytes
        self._prepared: dict[int, _Prepared] = {}
        with contextlib.ExitStack() as owned:  # what was allocated is freed again if a later step fails
            self._stream = cuda.stream()
            owned.callback(cuda.destroy_stream, self._stream)
            self._device_in = self._allocate(owned, profile.most * input.item_bytes)
            self._device_out = self._allocate(owned, profile.most * output.item_bytes)
            self._activations = self._allocate(owned, max(1, activation_bytes))
            self._host_in, self._in = self._pinned(owned, input)
            self._host_out, self._out = self._pinned(owned, output)
            self._owned = owned.pop_all()

    def _allocate(self, owned: contextlib.ExitStack, size_bytes: int) -> int:
        address = self._cuda.allocate(size_bytes)
        owned.callback(self._cuda.free, address)
        return address

    def _pinned(self, owned: contextlib.ExitStack, tensor: EngineTensor) -> tuple[int, NDArray[np.generic]]:
        address, memory = self._cuda.pinned(self._profile.most * tensor.item_bytes)
        owned.callback(self._cuda.free_pinned, address)
        return address, memory.view(tensor.dtype).reshape(self._profile.most, *tensor.shape)

    def run(self, inputs: NDArray[np.generic], results: NDArray[np.generic]) -> None:
        """Compute `results` [n, …] from `inputs` [n, …]; n is at most the profile's largest batch.

        Raises:
            InferenceError: the GPU or TensorRT fails.
        """
        count = len(inputs)
        batch = max(count, self._profile.least)
        self._in[:count] = inputs
        self._in[count:batch] = 0  # the profile takes no fewer
        prepared = self._prepared.get(batch)
        if prepared is None:
            prepared = self._prepare(batch)
        elif prepared.graph is not None:
            self._cuda.launch(prepared.graph, self._stream)
        else:
            self._enqueue(prepared.context, batch)
        self._cuda.synchronize(self._stream)
        results[...] = self._out[:count]

    def _prepare(self, batch: int) -> _Prepared:
        """Run a batch size for the first time, then record it."""
        context = self._new_context()
        context.set_device_memory(self._activations, self._activation_bytes)
        for tensor, address in ((self._input, self._device_in), (self._output, self._device_out)):
            if not context.set_tensor_address(tensor.name, address):
                raise InferenceError(f"TensorRT does not take the address of {tensor.name}; report it")
        if not context.set_input_shape(self._input.name, (batch, *self._input.shape)):
            raise InferenceError(f"the engine does not take {batch} windows; build it with a larger --batch")
        prepared = self._prepared[batch] = _Prepared(context)
        self._enqueue(context, batch)  # the first run of a shape allocates, which no graph may hold
        if self._recording.wanted:
            self._cuda.synchronize(self._stream)
            try:
                prepared.graph = self._record(context, batch)
            except InferenceError as error:
                self._recording.give_up(str(error))
        return prepared

    def _enqueue(self, context: Any, batch: int) -> None:
        cuda, stream = self._cuda, self._stream
        cuda.upload(self._device_in, self._host_in, batch * self._input.item_bytes, stream)
        if not context.execute_async_v3(int(stream)):
            raise InferenceError(f"TensorRT failed on {batch} windows; free memory or use another --device")
        cuda.download(self._host_out, self._device_out, batch * self._output.item_bytes, stream)

    def _record(self, context: Any, batch: int) -> Any:
        self._cuda.begin_capture(self._stream)
        try:
            self._enqueue(context, batch)
        except InferenceError:
            with contextlib.suppress(InferenceError):  # a stream must not stay in capture
                self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
            raise
        return self._cuda.end_capture(self._stream)

    def close(self) -> None:
        """Free everything; the lane cannot be used any more."""
        for prepared in self._prepared.values():
            if prepared.graph is not None:
                self._owned.callback(self._cuda.destroy_graph, prepared.graph)
        self._owned.close()  # the last one first: graphs, then buffers, then the stream
        self._prepared.clear()
