"""ONNX Runtime on a CPU or through CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.backends import Backend
from ovsdino_runtime.backends.ort_binding import BoundSession
from ovsdino_runtime.errors import BackendUnavailable, BundleError, InferenceError
from ovsdino_runtime.extras import how_to_install

Device = Literal["cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# FP32 means FP32: from Ampere on CUDA would multiply in TF32, which keeps 10 bits, as FP16 does. ONNX Runtime
# has the option since 1.18.
_CUDA_OPTIONS = {"use_tf32": "0"}
CUDA_WAS_ASKED_FOR = "device 'cuda' was asked for, but "  # begins what is said of CUDA where it does not work
_FATAL, _WARNING = 4, 2  # ONNX Runtime's log levels


class OrtBackend:
    """The image graph in an ONNX Runtime session.

    Attributes:
        name: `onnxruntime-cpu`, `onnxruntime-cpu-int8`, `onnxruntime-cuda` or `onnxruntime-cuda-fp16`.
    """

    def __init__(self, session: Any, device: Device, name: str | None = None) -> None:
        self.name = name or f"onnxruntime-{device}"
        self._alone = session.get_inputs()[0].shape[0] == 1
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name
        self._bound = BoundSession(session, device) if device == "cuda" else None

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return L2-normalised features, float32 [B, D, h, w], for uint8 windows [B, S, S, 3].

        Raises:
            InferenceError: ONNX Runtime fails.
        """
        try:
            if self._bound is not None:
                features = self._bound.run(windows)
            elif self._alone:
                features = np.concatenate([self._run(window[None]) for window in windows])
            else:
                features = self._run(windows)
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise InferenceError(
                f"{self.name} failed on {len(windows)} windows: {_first_line(error)}; free memory "
                "or use another --device"
            ) from error
        return np.asarray(features, dtype=np.float32)

    def _run(self, windows: NDArray[np.uint8]) -> NDArray[np.generic]:
        (features,) = self._session.run([self._output], {self._input: windows})
        result: NDArray[np.generic] = features
        return result


def open_ort(path: Path, device: Device, window_px: int, name: str | None = None) -> Backend:
    """Open an ONNX file. Windows go through it as a batch, or one by one where its batch is fixed at 1.

    Args:
        path: the image graph.
        device: where it must run; nothing else is tried.
        window_px: side of the windows it must take.
        name: what the backend is called in reports, `onnxruntime-DEVICE` by default.

    Raises:
        BackendUnavailable: there is no ONNX Runtime, or it cannot run on the device.
        BundleError: ONNX Runtime cannot load the file, or it takes other windows.
    """
    session = open_session(path, device)
    shape = session.get_inputs()[0].shape
    if list(shape[1:]) != [window_px, window_px, 3]:
        raise BundleError(
            f"{path} takes images of {shape}, the manifest says windows of {window_px} px; "
            "export the bundle again"
        )
    return OrtBackend(session, device, name)


def open_session(path: Path, device: Device) -> Any:
    """Return an `onnxruntime.InferenceSession` that really runs on the device; see `open_ort`."""
    ort = import_onnxruntime()
    provider = _PROVIDERS[device]
    available = ort.get_available_providers()
    if provider not in available:
        raise BackendUnavailable(
            f"device {device!r} was asked for, but this ONNX Runtime has only {', '.join(available)}; "
            f"on x86 remove onnxruntime and {how_to_install('gpu')}; on a Jetson use --device tensorrt "
            "(docs/edge.md); or use --device cpu"
        )
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL if device == "cuda" else 3
    try:
        with _quiet(ort):
            told = (provider, _CUDA_OPTIONS) if device == "cuda" else provider
            session = ort.InferenceSession(str(path), options, providers=[told])
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        first = _first_line(error)
        if device == "cuda":
            raise BackendUnavailable(_no_cuda(first)) from error
        raise BundleError(f"ONNX Runtime {ort.__version__} cannot load {path}: {first}") from error
    if provider not in session.get_providers():
        raise BackendUnavailable(_no_cuda("it fell back to the CPU"))
    return session


def import_onnxruntime() -> Any:
    """Return the module.

    Raises:
        BackendUnavailable: it is not installed; the message says which extra to install.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - optional, and slow to load
    except ImportError as error:
        raise BackendUnavailable(
            f"there is no ONNX Runtime here; {how_to_install('cpu')}, "
            "or ovsdino[gpu] in its place for an NVIDIA GPU"
        ) from error
    return onnxruntime


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _no_cuda(reason: str) -> str:
    return (
        f"{CUDA_WAS_ASKED_FOR}ONNX Runtime cannot use CUDA here ({reason}); check the NVIDIA driver, CUDA "
        "and cuDNN, or use --device cpu"
    )


@contextmanager
def _quiet(ort: Any) -> Iterator[None]:
    """Keep ONNX Runtime from printing what the raised error says already."""
    ort.set_default_logger_severity(_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_WARNING)
