"""Which backend serves a bundle on this machine."""

from __future__ import annotations

from typing import Literal

from ovsdino_runtime.backends import Backend
from ovsdino_runtime.backends.ort import import_onnxruntime, open_ort
from ovsdino_runtime.bundle import IMAGE_GRAPH, Bundle
from ovsdino_runtime.errors import BackendUnavailable

DeviceChoice = Literal["auto", "cpu", "cuda"]


def open_backend(bundle: Bundle, device: DeviceChoice) -> Backend:
    """Return a backend for the bundle's image graph.

    Args:
        bundle: the bundle.
        device: `cpu` and `cuda` are held to; `auto` takes CUDA where it works, else the CPU, and the
            backend's name says which.

    Raises:
        BackendUnavailable: the device cannot be had, or there is no ONNX Runtime.
        BundleError: the graph cannot be loaded.
        ValueError: no such device.
    """
    path = bundle.file(IMAGE_GRAPH)
    if device in ("cpu", "cuda"):
        return open_ort(path, device)
    if device != "auto":
        raise ValueError(f"device is {device!r}, but must be 'auto', 'cpu' or 'cuda'")
    if "CUDAExecutionProvider" in import_onnxruntime().get_available_providers():
        try:
            return open_ort(path, "cuda")
        except BackendUnavailable:
            pass  # a GPU build of ONNX Runtime on a machine without a GPU
    return open_ort(path, "cpu")
