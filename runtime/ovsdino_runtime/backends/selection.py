"""Which backend serves a bundle on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ovsdino_runtime.backends import Backend
from ovsdino_runtime.backends.ort import import_onnxruntime, open_ort
from ovsdino_runtime.bundle import IMAGE_GRAPH, Bundle
from ovsdino_runtime.errors import BackendUnavailable

DeviceChoice = Literal["auto", "cpu", "cuda"]
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvhost-gpu", "/dev/nvgpu/igpu0")  # of NVIDIA's driver, of a Jetson's


def choose_backend(bundle: Bundle, device: DeviceChoice) -> tuple[Backend, str | None]:
    """Return a backend for the bundle's image graph, and what a person should know about the choice.

    Args:
        bundle: the bundle.
        device: `cpu` and `cuda` are held to; `auto` takes CUDA where it works, else the CPU. Where
            there is an NVIDIA GPU and the CPU is taken all the same, the note says so.

    Raises:
        BackendUnavailable: the device cannot be had, or there is no ONNX Runtime.
        BundleError: the graph cannot be loaded, or takes other windows than the manifest says.
        ValueError: no such device.
    """
    path, window = bundle.file(IMAGE_GRAPH), bundle.manifest.window_px
    if device in ("cpu", "cuda"):
        return open_ort(path, device, window), None
    if device != "auto":
        raise ValueError(f"device is {device!r}, but must be 'auto', 'cpu' or 'cuda'")
    note = None
    if "CUDAExecutionProvider" in import_onnxruntime().get_available_providers():
        try:
            return open_ort(path, "cuda", window), None
        except BackendUnavailable:
            if any(Path(device_file).exists() for device_file in _GPU_FILES):
                note = "running on the CPU: ONNX Runtime cannot use the GPU here; --device cuda says why"
    return open_ort(path, "cpu", window), note


def open_backend(bundle: Bundle, device: DeviceChoice) -> Backend:
    """Return a backend for the bundle's image graph; see `choose_backend`."""
    return choose_backend(bundle, device)[0]
