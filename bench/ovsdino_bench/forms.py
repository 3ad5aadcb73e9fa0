"""The forms in which a bundle runs, and which of them this machine can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ovsdino_bench.failures import Failures
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.builtin import command_on
from ovsdino_runtime.bundle import IMAGE_GRAPH_FP16, Bundle
from ovsdino_runtime.errors import BackendUnavailable, BundleError, OvsDinoError
from ovsdino_runtime.extras import needing_packages


@dataclass(frozen=True, kw_only=True)
class FormKind:
    """A way to run a bundle.

    Attributes:
        precision: whose gates it must meet.
        open: opens it; raises BackendUnavailable where it cannot be had, and another OvsDinoError where it
            is there and broken.
        what: for people.
    """

    precision: str
    open: Callable[[Bundle], Backend]
    what: str


def _emulated(bundle: Bundle) -> Backend:
    if not bundle.has(IMAGE_GRAPH_FP16):
        raise BackendUnavailable(
            f"the bundle ships no {IMAGE_GRAPH_FP16}; derive it with "
            f"`{command_on(bundle, 'ovsdino-export fp16')}`"
        )
    with needing_packages(["onnx"], "emulating FP16"):
        import onnx  # noqa: PLC0415 - optional

        from ovsdino_export.half_arithmetic import HalfBackend  # noqa: PLC0415
    path = bundle.file(IMAGE_GRAPH_FP16)
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's exceptions have no common base but Exception
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(f"onnx cannot load {path}: {first}; derive or export it again") from error
    return HalfBackend(model)


FORMS: Mapping[str, FormKind] = {
    "onnx-fp32-cpu": FormKind(
        precision="fp32", open=lambda bundle: open_backend(bundle, "cpu", "fp32"), what="ONNX Runtime, CPU"
    ),
    "onnx-fp16-emulated": FormKind(
        precision="fp16", open=_emulated, what="the FP16 graph with half rounding after every operator, CPU"
    ),
    "onnx-int8-cpu": FormKind(
        precision="int8",
        open=lambda bundle: open_backend(bundle, "cpu", "int8"),
        what="the INT8 graph, CPU",
    ),
    "onnx-fp32-cuda": FormKind(
        precision="fp32", open=lambda bundle: open_backend(bundle, "cuda", "fp32"), what="ONNX Runtime, CUDA"
    ),
    "onnx-fp16-cuda": FormKind(
        precision="fp16",
        open=lambda bundle: open_backend(bundle, "cuda", "fp16"),
        what="ONNX Runtime, CUDA, the FP16 graph",
    ),
    "tensorrt-fp32": FormKind(
        precision="fp32", open=lambda bundle: open_backend(bundle, "tensorrt", "fp32"), what="TensorRT, FP32"
    ),
    "tensorrt-fp16": FormKind(
        precision="fp16", open=lambda bundle: open_backend(bundle, "tensorrt", "fp16"), what="TensorRT, FP16"
    ),
}


@runtime_checkable
class _EngineBackend(Protocol):
    """A backend whose features a TensorRT engine computes."""

    @property
    def engine_sha256(self) -> str:
        """The engine file's SHA-256."""


def engine_hashes(backends: Mapping[str, Backend]) -> dict[str, str]:
    """Return the SHA-256 of the engines of those backends, by name, that run TensorRT; it may be empty.

    A bundle's manifest does not list them, since each is of one machine.
    """
    return {
        name: backend.engine_sha256
        for name, backend in backends.items()
        if isinstance(backend, _EngineBackend)
    }


def runnable(
    bundle: Bundle, failures: Failures, names: Sequence[str] = tuple(FORMS)
) -> tuple[dict[str, Backend], dict[str, str]]:
    """Return those of some forms that run here, opened, and for the others why they cannot be had.

    Args:
        bundle: the bundle.
        failures: takes those that are there and broken, as a graph that does not load.
        names: of `FORMS`.
    """
    opened: dict[str, Backend] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            opened[name] = FORMS[name].open(bundle)
        except BackendUnavailable as error:
            missing[name] = str(error)
        except OvsDinoError as error:
            failures.add(name, "opening it", error)
    return opened, missing
