"""What this machine can run a bundle on, and what is missing for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from ovsdino_runtime.backends.gpu import import_cuda
from ovsdino_runtime.backends.ort import import_onnxruntime
from ovsdino_runtime.backends.selection import choose_backend, gpu_is_here
from ovsdino_runtime.backends.trt import this_machine
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.engines import find_engine
from ovsdino_runtime.errors import BackendUnavailable, BundleError
from ovsdino_runtime.extras import how_to_install


@dataclass(frozen=True, kw_only=True)
class DeviceState:
    """One value of `--device`.

    Attributes:
        device: `cpu`, `cuda` or `tensorrt`.
        available: whether it works here, as far as could be tried.
        explanation: what it would use, or what is missing.
    """

    device: str
    available: bool
    explanation: str


def list_devices(bundle: Bundle | None = None) -> list[DeviceState]:
    """Return every device with what it would use or what it lacks.

    Args:
        bundle: what would run; with it, CUDA is really tried and TensorRT's engines are looked at.
    """
    return [_cpu(), _cuda(bundle), _tensorrt(bundle)]


def _cpu() -> DeviceState:
    try:
        version = import_onnxruntime().__version__
    except BackendUnavailable as error:
        return DeviceState(device="cpu", available=False, explanation=str(error))
    return DeviceState(device="cpu", available=True, explanation=f"ONNX Runtime {version}")


def _cuda(bundle: Bundle | None) -> DeviceState:
    def missing(why: str) -> DeviceState:
        return DeviceState(device="cuda", available=False, explanation=why)

    try:
        ort = import_onnxruntime()
    except BackendUnavailable as error:
        return missing(str(error))
    providers = ort.get_available_providers()
    if "CUDAExecutionProvider" not in providers:
        return missing(
            f"this ONNX Runtime has only {', '.join(providers)}; on x86 remove onnxruntime and "
            f"{how_to_install('gpu')}; on a Jetson use TensorRT (docs/edge.md)"
        )
    if not gpu_is_here():
        return missing(f"ONNX Runtime {ort.__version__} has CUDA, but no NVIDIA GPU is visible here")
    if bundle is None:
        explanation = f"ONNX Runtime {ort.__version__} has CUDA, and there is a GPU; pass --bundle to try it"
        return DeviceState(device="cuda", available=True, explanation=explanation)
    try:
        backend, note = choose_backend(bundle, "cuda")
    except (BackendUnavailable, BundleError) as error:
        return missing(str(error))
    explanation = f"ONNX Runtime {ort.__version__}, {backend.name}" + (f"; {note}" if note else "")
    return DeviceState(device="cuda", available=True, explanation=explanation)


def _tensorrt(bundle: Bundle | None) -> DeviceState:
    try:
        machine = this_machine()
    except BackendUnavailable as error:
        return DeviceState(device="tensorrt", available=False, explanation=_all_missing(str(error)))
    here = (
        f"TensorRT {machine.tensorrt} on {machine.gpu} (compute {machine.compute}, driver {machine.driver})"
    )
    if bundle is None:
        return DeviceState(
            device="tensorrt", available=True, explanation=f"{here}; pass --bundle to see its engines"
        )
    try:
        engine = find_engine(bundle, machine)
    except BackendUnavailable as error:
        return DeviceState(device="tensorrt", available=False, explanation=f"{here}, but {error}")
    return DeviceState(device="tensorrt", available=True, explanation=f"{here}; {engine.path}")


def _all_missing(first: str) -> str:
    """Return the first lack, with that of cuda-python, which a person would run into next."""
    try:
        import_cuda()
    except BackendUnavailable as error:
        return first if str(error) == first else f"{first}; and {error}"
    return first
