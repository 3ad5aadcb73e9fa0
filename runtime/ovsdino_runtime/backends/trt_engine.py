"""A TensorRT engine that runs batches of arrays; what it allocates it reuses, and frees when closed."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.backends.gpu import Cuda, last_error, start
from ovsdino_runtime.backends.trt_lane import EngineTime, Lane, Recording
from ovsdino_runtime.errors import BackendUnavailable, InferenceError
from ovsdino_runtime.sidecar import BatchProfile

_TYPES = {"UINT8": np.uint8, "HALF": np.float16, "FLOAT": np.float32, "INT32": np.int32, "INT64": np.int64}


@dataclass(frozen=True, kw_only=True)
class EngineTensor:
    """The input or the output of an engine.

    Attributes:
        name: its name.
        dtype: NumPy's type.
        shape: its shape without the batch.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def item_bytes(self) -> int:
        """Bytes of one item of the batch."""
        return prod(self.shape) * self.dtype.itemsize


class TrtEngine:
    """A deserialised engine with one input and one output, both with a leading batch.

    Any number of threads may call `run`: each takes a lane, an execution context of its own with stream
    and buffers, and gives it back. There are as many lanes as threads were ever inside at once.

    Attributes:
        input: what it takes.
        output: what it gives.
        profile: the batches it takes; larger ones are split, smaller ones filled up.
        activation_bytes: device memory that each lane holds for activations.
    """

    def __init__(
        self, plan: bytes, trt: Any, runtime: Any, *, cuda_graphs: bool = True, host_code: bool = False
    ) -> None:
        """Deserialise an engine.

        Args:
            plan: the plan file's content; deserialising runs native code, so know where it is from.
            trt: the module tensorrt.
            runtime: cuda-python's runtime module.
            cuda_graphs: whether each batch size is recorded once and replayed.
            host_code: whether the plan may bring its own runtime, as version-compatible ones do.

        Raises:
            BackendUnavailable: CUDA does not start, TensorRT does not take the plan, or it has other inputs
                and outputs.
        """
        self._cuda, self._trt, self._recording = Cuda(runtime), trt, Recording(cuda_graphs)
        self._runtime = start(trt, "Runtime")
        if host_code:
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BackendUnavailable(
                f"TensorRT {trt.__version__} cannot load the engine: {last_error(trt)}; build it again here"
            )
        self.input, self.output = self._tensors()
        self.activation_bytes = int(self._engine.device_memory_size_v2)
        least, usual, most = self._engine.get_tensor_profile_shape(self.input.name, 0)
        self.profile = BatchProfile(least=least[0], usual=usual[0], most=most[0])
        self._lock = threading.Lock()
        self._idle: list[Lane] = []
        self._closed = False
        self._finalizer = weakref.finalize(self, _close_all, self._idle)

    def _tensors(self) -> tuple[EngineTensor, EngineTensor]:
        engine, modes = self._engine, self._trt.TensorIOMode
        found: dict[bool, list[EngineTensor]] = {True: [], False: []}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            kind = engine.get_tensor_dtype(name).name
            if kind not in _TYPES:
                raise BackendUnavailable(f"the engine's {name} is {kind}, which this version does not know")
            shape = tuple(int(length) for length in engine.get_tensor_shape(name))
            tensor = EngineTensor(name=name, dtype=np.dtype(_TYPES[kind]), shape=shape[1:])
            found[engine.get_tensor_mode(name) == modes.INPUT].append(tensor)
        if len(found[True]) != 1 or len(found[False]) != 1:
            raise BackendUnavailable(
                f"the engine has {len(found[True])} inputs and {len(found[False])} outputs, but must have "
                "one of each; build it again here"
            )
        return found[True][0], found[False][0]

    def inspect(self) -> str:
        """Return what TensorRT's inspector says of the layers, as JSON text; empty where it gives none."""
        inspector = self._engine.create_engine_inspector()
        if inspector is None:
            return ""
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return the outputs [B, …] for inputs [B, …] of any number, in the engine's own types.

        Raises:
            InferenceError: the inputs are of another shape or type, or the GPU fails.
        """
        self._check(batch)
        results = np.empty((len(batch), *self.output.shape), self.output.dtype)
        with self._lane() as lane:
            for first in range(0, len(batch), self.profile.most):
                part = slice(first, first + self.profile.most)
                lane.run(batch[part], results[part])
        return results

    def time(self, batch: NDArray[np.generic]) -> EngineTime:
        """Run inputs [B, …] once for the GPU's own times; `run` never takes them.

        Raises:
            InferenceError: the inputs are of another shape or type, more than the engine takes at once, or
                the GPU fails.
        """
        self._check(batch)
        if not 1 <= len(batch) <= self.profile.most:
            raise InferenceError(
                f"a batch of {len(batch)} was to be timed, but the engine takes 1 to {self.profile.most}; "
                "build it with a larger --batch"
            )
        with self._lane() as lane:
            return lane.time(batch)

    def _check(self, batch: NDArray[np.generic]) -> None:
        if batch.shape[1:] != self.input.shape or batch.dtype != self.input.dtype:
            raise InferenceError(
                f"the engine takes {self.input.dtype} {list(self.input.shape)} an item, "
                f"got {batch.dtype} {list(batch.shape[1:])}; build it again for this model"
            )

    @contextlib.contextmanager
    def _lane(self) -> Iterator[Lane]:
        with self._lock:
            if self._closed:
                raise InferenceError("the engine is closed; open it again")
            lane = self._idle.pop() if self._idle else None
            engine = self._engine
        if lane is None:
            lane = self._new_lane(engine)
        try:
            yield lane
        except BaseException:
            with contextlib.suppress(InferenceError):
                lane.close()  # what failed once is not used again
            raise
        with self._lock:
            kept = not self._closed
            if kept:
                self._idle.append(lane)
        if not kept:
            lane.close()

    def _new_lane(self, engine: Any) -> Lane:
        return Lane(
            cuda=self._cuda,
            new_context=partial(_new_context, self._trt, engine),
            input=self.input,
            output=self.output,
            profile=self.profile,
            activation_bytes=self.activation_bytes,
            recording=self._recording,
        )

    def close(self) -> None:
        """Free all that the engine holds; threads still inside free theirs when they come out."""
        with self._lock:
            self._closed = True
        _close_all(self._idle)
        self._engine = self._runtime = None

    def __enter__(self) -> TrtEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _close_all(lanes: list[Lane]) -> None:
    while lanes:
        lanes.pop().close()


def _new_context(trt: Any, engine: Any) -> Any:
    """Return an execution context whose activations lie where the lane says."""
    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is None:
        raise InferenceError(f"TensorRT gives no execution context: {last_error(trt)}; free GPU memory")
    return context
