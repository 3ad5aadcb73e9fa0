"""A stand-in for cuda-python's runtime module: host memory in place of a GPU's, counted and checked.

Copies and engines run only when their stream or an event after them is waited for, so a missing wait shows
as a wrong result. The GPU's clock stands still but for what they take, so times are known exactly.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

Error = IntEnum(
    "Error",
    {
        "cudaSuccess": 0,
        "cudaErrorInvalidValue": 1,
        "cudaErrorMemoryAllocation": 2,
        "cudaErrorNoDevice": 100,
        "cudaErrorInvalidResourceHandle": 400,
        "cudaErrorNotReady": 600,
        "cudaErrorStreamCaptureUnsupported": 900,
        "cudaErrorCapturedEvent": 907,
    },
)  # the codes of cudaError_t that the tests provoke


class Stream:
    """Work in order, done on synchronising; while capturing, work is recorded and not done."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.waiting: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None

    def __int__(self) -> int:
        return self.number

    def put(self, work: Callable[[], None]) -> None:
        (self.waiting if self.captured is None else self.captured).append(work)


class Event:
    """A point in a stream's work; it has no time until the work before it is done."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.captured = False
        self.records = 0
        self.passed_ms: float | None = None


class FakeCuda(ModuleType):
    """One GPU.

    Attributes:
        gpus: how many there are.
        gpu_name, compute, driver: what the GPU says of itself.
        fail: functions that report an error, by name.
        made: how often things were made, by kind; `freed` the same of what was freed.
        live: the memory in use, by address: its kind and its bytes.
        clock_ms: the GPU's time; a copy takes `copy_ms_per_byte`, an engine `engine_ms_per_item`.
    """

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.gpus, self.gpu_name, self.compute, self.driver = 1, "NVIDIA L4", (8, 9), 12080
        self.fail: dict[str, Error] = {}
        self.made: Counter[str] = Counter()
        self.freed: Counter[str] = Counter()
        self.live: dict[int, tuple[str, np.ndarray[Any, Any]]] = {}
        self.streams: dict[int, Stream] = {}
        self.events: set[Event] = set()
        self.clock_ms, self.copy_ms_per_byte, self.engine_ms_per_item = 0.0, 2.0**-12, 8.0  # exact in binary
        self.cudaStreamNonBlocking = 1
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    @property
    def alive(self) -> dict[str, int]:
        """How many of each kind were made and not freed."""
        return {kind: self.made[kind] - self.freed[kind] for kind in self.made}

    def _error(self, name: str) -> Error:
        return self.fail.get(name, Error.cudaSuccess)

    def _make(self, name: str, kind: str, size: int) -> tuple[Any, ...]:
        if self._error(name):
            return (self._error(name), None)
        memory = np.full(size, 0xCD, np.uint8)  # never what was asked for
        self.live[memory.ctypes.data] = (kind, memory)
        self.made[kind] += 1
        return Error.cudaSuccess, memory.ctypes.data

    def _release(self, kind: str, address: int) -> tuple[Any, ...]:
        if self.live.get(address, ("", None))[0] != kind:
            return (Error.cudaErrorInvalidValue,)
        del self.live[address]
        self.freed[kind] += 1
        return (Error.cudaSuccess,)

    def memory(self, address: int, size: int, kind: str) -> int:
        """The address, if that many bytes of that kind lie there."""
        for start, (found, memory) in self.live.items():
            if found == kind and start <= address and address + size <= start + memory.size:
                return address
        raise AssertionError(f"{size} bytes at {address:#x} are no {kind} memory in use")

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return (Error.cudaSuccess, self.gpus) if self.gpus else (Error.cudaErrorNoDevice, None)

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        assert device == 0
        major, minor = self.compute
        name = self.gpu_name.encode().ljust(256, b"\0")
        found = SimpleNamespace(name=name, major=major, minor=minor, totalGlobalMem=1 << 34)
        return self._error("cudaGetDeviceProperties"), found

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return Error.cudaSuccess, self.driver

    def cudaGetErrorString(self, error: Error) -> tuple[Any, ...]:
        return Error.cudaSuccess, error.name.encode()

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._make("cudaMalloc", "device", size)

    def cudaFree(self, pointer: int) -> tuple[Any, ...]:
        return self._release("device", pointer)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return self._make("cudaMallocHost", "pinned", size)

    def cudaFreeHost(self, pointer: int) -> tuple[Any, ...]:
        return self._release("pinned", pointer)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: int, stream: Stream) -> tuple[Any, ...]:
        to_device = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.memory(dst, count, "device" if to_device else "pinned")
        self.memory(src, count, "pinned" if to_device else "device")

        def work() -> None:
            ctypes.memmove(dst, src, count)
            self.clock_ms += count * self.copy_ms_per_byte

        stream.put(work)
        return (Error.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = Stream(1000 + self.made["stream"])
        self.made["stream"] += 1
        self.streams[stream.number] = stream
        return Error.cudaSuccess, stream

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:
        del self.streams[stream.number]
        self.freed["stream"] += 1
        return (Error.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:
        assert stream.captured is None, "a stream in capture cannot be waited for"
        work, stream.waiting = stream.waiting, []
        for piece in work:
            piece()
        return (self._error("cudaStreamSynchronize"),)

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> tuple[Any, ...]:
        assert stream.captured is None
        stream.captured = []
        return (Error.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:
        assert stream.captured is not None
        work, stream.captured = stream.captured, None
        if self._error("cudaStreamEndCapture"):
            return self._error("cudaStreamEndCapture"), None
        self.made["graph"] += 1
        return Error.cudaSuccess, SimpleNamespace(work=work)

    def cudaGraphInstantiateWithFlags(self, graph: Any, flags: int) -> tuple[Any, ...]:
        self.made["launchable"] += 1
        return Error.cudaSuccess, SimpleNamespace(work=graph.work, launches=0)

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        self.freed["graph"] += 1
        return (Error.cudaSuccess,)

    def cudaGraphLaunch(self, graph: Any, stream: Stream) -> tuple[Any, ...]:
        graph.launches += 1
        self.made["launch"] += 1
        self.freed["launch"] += 1
        for piece in graph.work:
            stream.put(piece)
        return (Error.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[Any, ...]:
        self.freed["launchable"] += 1
        return (Error.cudaSuccess,)

    def cudaEventCreate(self) -> tuple[Any, ...]:
        if self._error("cudaEventCreate"):
            return self._error("cudaEventCreate"), None
        event = Event()
        self.made["event"] += 1
        self.events.add(event)
        return Error.cudaSuccess, event

    def cudaEventDestroy(self, event: Event) -> tuple[Any, ...]:
        if event not in self.events:
            return (Error.cudaErrorInvalidResourceHandle,)
        self.events.remove(event)
        self.freed["event"] += 1
        return (Error.cudaSuccess,)

    def cudaEventRecord(self, event: Event, stream: Stream) -> tuple[Any, ...]:
        if event not in self.events or stream.number not in self.streams:
            return (Error.cudaErrorInvalidResourceHandle,)
        event.stream, event.passed_ms = stream, None
        event.captured, event.records = stream.captured is not None, event.records + 1
        latest = event.records

        def work() -> None:
            if event.records == latest:  # recorded anew, an event forgets where it stood before
                event.passed_ms = self.clock_ms

        if not event.captured:
            stream.put(work)
        return (Error.cudaSuccess,)

    def cudaEventSynchronize(self, event: Event) -> tuple[Any, ...]:
        if event not in self.events:
            return (Error.cudaErrorInvalidResourceHandle,)
        if event.captured:
            return (Error.cudaErrorCapturedEvent,)
        while event.stream is not None and event.passed_ms is None:
            event.stream.waiting.pop(0)()
        return (self._error("cudaEventSynchronize"),)

    def cudaEventElapsedTime(self, start: Event, end: Event) -> tuple[Any, ...]:
        if not {start, end} <= self.events or start.stream is None or end.stream is None:
            return Error.cudaErrorInvalidResourceHandle, None
        if start.captured or end.captured:
            return Error.cudaErrorCapturedEvent, None
        if start.passed_ms is None or end.passed_ms is None:
            return Error.cudaErrorNotReady, None
        return Error.cudaSuccess, end.passed_ms - start.passed_ms
