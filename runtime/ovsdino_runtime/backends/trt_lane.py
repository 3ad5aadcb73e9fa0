"""One thread's way through an engine: a stream, its buffers, and an execution context for each batch size."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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

    Attributes:
        context: TensorRT's.
        graph: copies and engine, recorded; None where that is not wanted.
        engine_graph: the engine without its copies, recorded when it is first timed.
    """

    context: Any
    graph: Any = None
    engine_graph: Any = None


@dataclass(frozen=True, kw_only=True)
class EngineTime:
    """How long an engine took for a batch, by the GPU's own clock.

    Attributes:
        without_transfers_ms: the engine alone, from the end of the upload to the start of the download.
        with_transfers_ms: from the start of the upload to the end of the download.
        cuda_graph: whether the engine was replayed as a CUDA graph, as it is when it is run.
    """

    without_transfers_ms: float
    with_transfers_ms: float
    cuda_graph: bool


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
        batch = max(count, self._profile.least)  # what lies beyond `count` is computed and not read
        self._in[:count] = inputs
        prepared = self._prepared.get(batch)
        if prepared is None:
            prepared = self._prepare(batch)
        elif prepared.graph is not None:
            self._cuda.launch(prepared.graph, self._stream)
        else:
            self._enqueue(prepared.context, batch)
        self._cuda.synchronize(self._stream)
        results[...] = self._out[:count]

    def time(self, inputs: NDArray[np.generic]) -> EngineTime:
        """Compute what `run` does on `inputs` [n, …] with events between the steps, and return the times.

        The copies stand beside the graph here, not in it: events of a graph cannot be asked for their time.

        Raises:
            InferenceError: the GPU or TensorRT fails.
        """
        count = len(inputs)
        batch = max(count, self._profile.least)
        self._in[:count] = inputs
        prepared = self._prepared.get(batch) or self._prepare(batch)
        if prepared.graph is not None and prepared.engine_graph is None:
            prepared.engine_graph = self._record(partial(self._execute, prepared.context, batch))
        with contextlib.ExitStack() as owned:
            start, uploaded, computed, end = (self._event(owned) for _ in range(4))
            self._cuda.record(start, self._stream)
            self._upload(batch)
            self._cuda.record(uploaded, self._stream)
            if prepared.engine_graph is not None:
                self._cuda.launch(prepared.engine_graph, self._stream)
            else:
                self._execute(prepared.context, batch)
            self._cuda.record(computed, self._stream)
            self._download(batch)
            self._cuda.record(end, self._stream)
            self._cuda.wait(end)
            return EngineTime(
                without_transfers_ms=self._cuda.between_ms(uploaded, computed),
                with_transfers_ms=self._cuda.between_ms(start, end),
                cuda_graph=prepared.engine_graph is not None,
            )

    def _event(self, owned: contextlib.ExitStack) -> Any:
        event = self._cuda.event()
        owned.callback(self._cuda.destroy_event, event)
        return event

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
                prepared.graph = self._record(partial(self._enqueue, context, batch))
            except InferenceError as error:
                self._recording.give_up(str(error))
        return prepared

    def _enqueue(self, context: Any, batch: int) -> None:
        self._upload(batch)
        self._execute(context, batch)
        self._download(batch)

    def _upload(self, batch: int) -> None:
        self._cuda.upload(self._device_in, self._host_in, batch * self._input.item_bytes, self._stream)

    def _execute(self, context: Any, batch: int) -> None:
        if not context.execute_async_v3(int(self._stream)):
            raise InferenceError(f"TensorRT failed on {batch} windows; free memory or use another --device")

    def _download(self, batch: int) -> None:
        self._cuda.download(self._host_out, self._device_out, batch * self._output.item_bytes, self._stream)

    def _record(self, work: Callable[[], None]) -> Any:
        self._cuda.begin_capture(self._stream)
        try:
            work()
        except InferenceError:
            with contextlib.suppress(InferenceError):  # a stream must not stay in capture
                self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
            raise
        return self._cuda.end_capture(self._stream)

    def close(self) -> None:
        """Free everything; the lane cannot be used any more."""
        for prepared in self._prepared.values():
            for graph in (prepared.graph, prepared.engine_graph):
                if graph is not None:
                    self._owned.callback(self._cuda.destroy_graph, graph)
        self._owned.close()  # the last one first: graphs, then buffers, then the stream
        self._prepared.clear()
