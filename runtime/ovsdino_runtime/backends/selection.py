"""Which backend serves a bundle on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from ovsdino_runtime.backends import Backend
from ovsdino_runtime.backends.ort import CUDA_WAS_ASKED_FOR, import_onnxruntime, open_ort
from ovsdino_runtime.backends.trt import TrtBackend, open_trt
from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.bundle import IMAGE_GRAPH, IMAGE_GRAPH_FP16, IMAGE_GRAPH_INT8, Bundle
from ovsdino_runtime.engines import engine_files
from ovsdino_runtime.errors import BackendUnavailable
from ovsdino_runtime.sidecar import Precision

DeviceChoice = Literal["auto", "cpu", "cuda", "tensorrt"]
PrecisionChoice = Literal["auto", "fp16", "fp32", "int8"]
# Of NVIDIA's driver, of a Jetson's, and of Windows's where Linux runs in it (WSL 2).
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu/igpu0", "/dev/dxg")


def choose_backend(
    bundle: Bundle, device: DeviceChoice, precision: PrecisionChoice = "auto"
) -> tuple[Backend, str | None]:
    """Return a backend for the bundle's image graph, and what a person should know about the choice.

    Args:
        bundle: the bundle.
        device: `cpu`, `cuda` and `tensorrt` are held to. `auto` takes TensorRT where an engine matches and
            is trusted, else CUDA where it works, else the CPU; where there is an NVIDIA GPU or an engine,
            the note says which, and why none before it.
        precision: `fp16`, `fp32` and `int8` are held to; `int8` is for the CPU alone. `auto` takes FP16
            on a GPU where the bundle has an engine or a graph of it, and FP32 elsewhere.

    Raises:
        BackendUnavailable: the device or the precision cannot be had, or there is no ONNX Runtime; with
            `auto` the message says what was wrong with each device.
        BundleError: the graph cannot be loaded, or takes other windows than the manifest says.
        ValueError: no such device or precision.
    """
    if precision not in get_args(PrecisionChoice):
        raise ValueError(f"precision is {precision!r}, but must be {_one_of(get_args(PrecisionChoice))}")
    if device not in get_args(DeviceChoice):
        raise ValueError(f"device is {device!r}, but must be {_one_of(get_args(DeviceChoice))}")
    if precision == "int8":
        return _int8(bundle, device)
    if device == "cpu":
        return _cpu(bundle, precision), None
    if device == "cuda":
        return _cuda(bundle, precision)
    wanted: Precision | None = None if precision == "auto" else precision
    if device == "tensorrt":
        try:
            return open_trt(bundle, wanted), None
        except BackendUnavailable as error:
            raise BackendUnavailable(f"device 'tensorrt' was asked for, but {error}") from error
    return _best(bundle, precision, wanted)


def open_backend(bundle: Bundle, device: DeviceChoice, precision: PrecisionChoice = "auto") -> Backend:
    """Return a backend for the bundle's image graph; see `choose_backend`."""
    return choose_backend(bundle, device, precision)[0]


def _one_of(names: Sequence[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}"


def gpu_is_here() -> bool:
    """Return whether an NVIDIA driver has a GPU on this machine; on Windows, whether there is a driver."""
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    return any(Path(device_file).exists() for device_file in _GPU_FILES)


def _best(bundle: Bundle, precision: PrecisionChoice, wanted: Precision | None) -> tuple[Backend, str | None]:
    passed_over = "TensorRT has no engine of this bundle"
    if engine_files(bundle):
        try:
            engine = open_trt(bundle, wanted)
        except BackendUnavailable as error:
            passed_over = f"TensorRT cannot serve it: {error}"
        else:
            return engine, _because(engine)
    try:
        import_onnxruntime()
    except BackendUnavailable as error:
        raise BackendUnavailable(f"{passed_over}; and for CUDA and the CPU {error}") from error
    try:
        backend, note = _cuda(bundle, precision)
    except BackendUnavailable as error:
        passed_over += f"; CUDA cannot serve it: {str(error).removeprefix(CUDA_WAS_ASKED_FOR)}"
    else:
        return backend, f"running on CUDA: {passed_over}" + (f"; {note}" if note else "")
    try:
        backend = _cpu(bundle, precision)
    except BackendUnavailable as error:
        raise BackendUnavailable(f"{error}; {passed_over}") from error
    worth_a_word = gpu_is_here() or engine_files(bundle)  # else nobody expects more than the CPU
    return backend, f"running on the CPU: {passed_over}" if worth_a_word else None


def _because(backend: TrtBackend) -> str:
    sidecar = backend.file.sidecar
    return (
        f"running on TensorRT {sidecar.machine.tensorrt} in {sidecar.precision.upper()}: "
        f"{backend.file.path} was built for this bundle and {sidecar.machine.gpu}"
    )


def _cpu(bundle: Bundle, precision: PrecisionChoice) -> Backend:
    if precision == "fp16":
        raise BackendUnavailable(
            "precision 'fp16' was asked for, but ONNX Runtime computes FP16 graphs on a CPU mostly in FP32, "
            "and slower; use --precision fp32, or a GPU"
        )
    return open_ort(bundle.file(IMAGE_GRAPH), "cpu", bundle.manifest.window_px)


def _int8(bundle: Bundle, device: DeviceChoice) -> tuple[Backend, str | None]:
    if device in ("cuda", "tensorrt"):
        raise BackendUnavailable(
            f"precision 'int8' was asked for on device {device!r}, but {IMAGE_GRAPH_INT8} is for CPUs alone; "
            "use --precision fp16, or --device cpu"
        )
    if not bundle.has(IMAGE_GRAPH_INT8):
        raise BackendUnavailable(
            f"precision 'int8' was asked for, but the bundle {bundle.path} ships no {IMAGE_GRAPH_INT8}; "
            f"derive it with `{command_on(bundle, 'ovsdino-export int8')} --images PICTURES`, or use "
            "--precision fp32"
        )
    path, window = bundle.file(IMAGE_GRAPH_INT8), bundle.manifest.window_px
    note = "running on the CPU, the only place for INT8" if device == "auto" and gpu_is_here() else None
    return open_ort(path, "cpu", window, "onnxruntime-cpu-int8"), note


def _cuda(bundle: Bundle, precision: PrecisionChoice) -> tuple[Backend, str | None]:
    window = bundle.manifest.window_px
    if precision == "fp16" and not bundle.has(IMAGE_GRAPH_FP16):
        raise BackendUnavailable(
            f"precision 'fp16' was asked for, but the bundle {bundle.path} ships no {IMAGE_GRAPH_FP16}; "
            f"derive it with `{command_on(bundle, 'ovsdino-export fp16')}`, or use --precision fp32"
        )
    if precision == "fp32" or not bundle.has(IMAGE_GRAPH_FP16):
        return open_ort(bundle.file(IMAGE_GRAPH), "cuda", window), None
    backend = open_ort(bundle.file(IMAGE_GRAPH_FP16), "cuda", window, "onnxruntime-cuda-fp16")
    note = None if precision == "fp16" else f"computing {IMAGE_GRAPH_FP16}; --precision fp32 takes FP32"
    return backend, note
