"""TensorRT without torch: an engine that was built and proven on this machine serves the bundle."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.backends.gpu import driver_version, gpu_properties, import_cuda, import_tensorrt
from ovsdino_runtime.backends.trt_engine import TrtEngine
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.engines import EngineFile, build_command, read_engine
from ovsdino_runtime.errors import BackendUnavailable, InferenceError
from ovsdino_runtime.sidecar import Machine, Precision


class TrtBackend:
    """The image graph as a TensorRT engine; any number of threads may use it.

    Attributes:
        name: `tensorrt-fp16` or `tensorrt-fp32`.
        file: the engine and its sidecar.
        engine: the engine, deserialised.
    """

    def __init__(self, engine: TrtEngine, file: EngineFile) -> None:
        self.name = f"tensorrt-{file.sidecar.precision}"
        self.file, self.engine = file, engine

    @property
    def engine_sha256(self) -> str:
        """SHA-256 of the engine's file, which was checked when it was read."""
        return self.file.sidecar.sha256

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return L2-normalised features, float32 [B, D, h, w], for uint8 windows [B, S, S, 3].

        Raises:
            InferenceError: the GPU or TensorRT fails.
        """
        return np.asarray(self.engine.run(windows), dtype=np.float32)

    def close(self) -> None:
        """Free the GPU's memory; the backend cannot be used any more."""
        self.engine.close()

    def __enter__(self) -> TrtBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def this_machine() -> Machine:
    """Return the first GPU and the TensorRT that would run an engine here.

    Raises:
        BackendUnavailable: TensorRT, cuda-python or a GPU is missing; the message says what to do.
    """
    return machine_of(import_tensorrt(), import_cuda())


def machine_of(trt: Any, runtime: Any) -> Machine:
    """Return the first GPU with a TensorRT; see `this_machine`."""
    try:
        gpu, compute, _ = gpu_properties(runtime)
        driver = driver_version(runtime)
    except InferenceError as error:
        raise BackendUnavailable(f"the GPU does not say what it is: {error}, and check nvidia-smi") from error
    return Machine(gpu=gpu, compute=compute, driver=driver, tensorrt=trt.__version__)


def open_trt(bundle: Bundle, precision: Precision | None = None, *, cuda_graphs: bool = True) -> TrtBackend:
    """Open the engine that serves a bundle on this machine.

    Args:
        bundle: the bundle.
        precision: which engine it must be; None takes FP16 if there is one, else FP32.
        cuda_graphs: whether batch sizes are recorded and replayed.

    Raises:
        BackendUnavailable: something is missing here, no engine matches or is trusted, or it does not load.
    """
    trt, runtime = import_tensorrt(), import_cuda()
    file, plan = read_engine(bundle, machine_of(trt, runtime), precision)
    engine = TrtEngine(
        plan,
        trt,
        runtime,
        cuda_graphs=cuda_graphs,
        host_code=file.sidecar.version_compatible,
    )
    manifest = bundle.manifest
    expected = ((manifest.window_px,) * 2 + (3,), (manifest.embedding_dim, *manifest.grid_hw))
    if (engine.input.shape, engine.output.shape) != expected or engine.input.dtype != np.uint8:
        found = f"{engine.input.dtype} {engine.input.shape} -> {engine.output.shape}"
        engine.close()
        raise BackendUnavailable(
            f"the engine {file.path} computes {found}, the manifest says uint8 {expected[0]} -> "
            f"{expected[1]}; rebuild it here with `{build_command(bundle, file.sidecar.precision)}`"
        )
    return TrtBackend(engine, file)
