"""The few CUDA calls this package makes, through cuda-python, each of them checked."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.errors import BackendUnavailable, InferenceError
from ovsdino_runtime.extras import how_to_install

_DRIVER_VERSION = Path("/sys/module/nvidia/version")
_JETSON = (
    "on a Jetson take JetPack's own through an environment made with "
    "`python3 -m venv --system-site-packages` (docs/edge.md)"
)


def import_cuda() -> Any:
    """Return cuda-python's runtime module, wherever the installed release keeps it.

    Raises:
        BackendUnavailable: cuda-python is not installed, or cannot be loaded.
    """
    try:
        from cuda.bindings import runtime  # noqa: PLC0415 - optional
    except ImportError:
        try:
            from cuda import cudart  # type: ignore[attr-defined, unused-ignore] # noqa: PLC0415 - before 12.6
        except ImportError as error:
            raise BackendUnavailable(
                f"there is no cuda-python here; {how_to_install('tensorrt')}; on a Jetson run "
                "pip install cuda-python, of JetPack's CUDA release (docs/edge.md)"
            ) from error
        return cudart
    return runtime


def import_tensorrt() -> Any:
    """Return the module tensorrt.

    Raises:
        BackendUnavailable: it is not installed, or its libraries cannot be loaded.
    """
    try:
        import tensorrt  # noqa: PLC0415 - optional
    except ImportError as error:
        raise BackendUnavailable(
            f"there is no TensorRT here; on x86 {how_to_install('tensorrt')}; {_JETSON}"
        ) from error
    except (OSError, RuntimeError) as error:
        raise BackendUnavailable(
            f"TensorRT is installed but cannot be loaded ({_first_line(error)}); on x86 "
            f"{how_to_install('tensorrt')} again; {_JETSON}"
        ) from error
    return tensorrt


def driver_version(runtime: Any) -> str:
    """Return the NVIDIA driver's version, or the CUDA release it serves where it does not say."""
    try:
        return _DRIVER_VERSION.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        number = int(Cuda(runtime).call("cudaDriverGetVersion"))
        return f"CUDA {number // 1000}.{number % 1000 // 10}"


def gpu_properties(runtime: Any) -> tuple[str, str, int]:
    """Return the first GPU's name, compute capability (`8.9`) and memory in bytes.

    Raises:
        BackendUnavailable: there is no GPU, or no driver, or it does not work.
    """
    try:
        error, *count = runtime.cudaGetDeviceCount()
    except RuntimeError as failure:  # cuda-python looks for the driver's library at its first call
        raise BackendUnavailable(_no_gpu(_first_line(failure))) from failure
    if int(error) != 0 or not count[0]:
        raise BackendUnavailable(_no_gpu(_text(runtime, error) if int(error) != 0 else "none is visible"))
    found = Cuda(runtime).call("cudaGetDeviceProperties", 0)
    name = found.name.split(b"\0")[0].decode("utf-8", "replace").strip()
    return name, f"{found.major}.{found.minor}", int(found.totalGlobalMem)


def _no_gpu(reason: str) -> str:
    return (
        f"there is no NVIDIA GPU that CUDA can use here ({reason}); check nvidia-smi, CUDA_VISIBLE_DEVICES "
        "and, in a container, that the GPU is passed through"
    )


class Cuda:
    """Memory, streams, graphs and events of the first GPU; CUDA_VISIBLE_DEVICES says which one is first.

    Addresses are plain numbers. Every method raises InferenceError when CUDA refuses.
    """

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime and return its one result, if it has one.

        Raises:
            InferenceError: CUDA reports an error.
        """
        error, *results = getattr(self._runtime, name)(*arguments)
        if int(error) != 0:
            raise InferenceError(f"{name} failed: {_text(self._runtime, error)}; free GPU memory or restart")
        return results[0] if results else None

    def allocate(self, size_bytes: int) -> int:
        """Return the address of new device memory."""
        return int(self.call("cudaMalloc", size_bytes))

    def free(self, address: int) -> None:
        """Free device memory."""
        self.call("cudaFree", address)

    def pinned(self, size_bytes: int) -> tuple[int, NDArray[np.uint8]]:
        """Return the address of new page-locked host memory, and it as uint8 [size]."""
        address = int(self.call("cudaMallocHost", size_bytes))
        view = (ctypes.c_uint8 * size_bytes).from_address(address)
        return address, np.frombuffer(memoryview(view), dtype=np.uint8)

    def free_pinned(self, address: int) -> None:
        """Free page-locked host memory; no view of it may be used any more."""
        self.call("cudaFreeHost", address)

    def stream(self) -> Any:
        """Return a new stream that does not wait for the default one."""
        return self.call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)

    def destroy_stream(self, stream: Any) -> None:
        """Destroy a stream."""
        self.call("cudaStreamDestroy", stream)

    def synchronize(self, stream: Any) -> None:
        """Wait for all that was put on a stream."""
        self.call("cudaStreamSynchronize", stream)

    def upload(self, device: int, host: int, size_bytes: int, stream: Any) -> None:
        """Put a copy from host to device on a stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", device, host, size_bytes, kind, stream)

    def download(self, host: int, device: int, size_bytes: int, stream: Any) -> None:
        """Put a copy from device to host on a stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", host, device, size_bytes, kind, stream)

    def begin_capture(self, stream: Any) -> None:
        """Record what this thread puts on a stream from now on, in place of running it."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: Any) -> Any:
        """Return what was recorded, as a graph that can be launched."""
        graph = self.call("cudaStreamEndCapture", stream)
        try:
            return self.call("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self.call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: Any) -> None:
        """Put a graph on a stream."""
        self.call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        """Destroy a graph that could be launched."""
        self.call("cudaGraphExecDestroy", graph)

    def event(self) -> Any:
        """Return a new event, which notes the GPU's time when the work before it on a stream is done."""
        return self.call("cudaEventCreate")

    def destroy_event(self, event: Any) -> None:
        """Destroy an event."""
        self.call("cudaEventDestroy", event)

    def record(self, event: Any, stream: Any) -> None:
        """Put an event on a stream."""
        self.call("cudaEventRecord", event, stream)

    def wait(self, event: Any) -> None:
        """Wait for an event, and so for all that was put on its stream before it."""
        self.call("cudaEventSynchronize", event)

    def between_ms(self, first: Any, last: Any) -> float:
        """Return the milliseconds between two events that have passed; CUDA resolves about 0.0005."""
        return float(self.call("cudaEventElapsedTime", first, last))


@cache
def collecting_logger(trt: Any) -> Any:
    """Return the one logger of this process, a `tensorrt.ILogger` whose `errors` keeps the latest errors."""

    class Messages(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors = [*self.errors[-9:], msg]

    return Messages()


def start(trt: Any, kind: Literal["Builder", "Runtime"]) -> Any:
    """Return a new `tensorrt.Builder` or `tensorrt.Runtime`, which starts CUDA.

    Raises:
        BackendUnavailable: CUDA does not start: the driver is too old, the GPU is not passed through, …
    """
    logger = collecting_logger(trt)
    logger.errors = []
    try:
        return getattr(trt, kind)(logger)
    except (TypeError, RuntimeError) as error:  # a TypeError where the library has returned nullptr
        reason = last_error(trt) if logger.errors else _first_line(error)
        raise BackendUnavailable(
            f"TensorRT {trt.__version__} cannot start CUDA here: {reason}; check nvidia-smi, that the driver "
            "serves this TensorRT's CUDA release and, in a container, that the GPU is passed through"
        ) from error


def last_error(trt: Any) -> str:
    """Return what TensorRT complained of last, as one line."""
    errors = collecting_logger(trt).errors
    return " ".join(errors[-1].split()) if errors else "TensorRT gave no reason"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _text(runtime: Any, error: Any) -> str:
    text = runtime.cudaGetErrorString(error)[1]
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
