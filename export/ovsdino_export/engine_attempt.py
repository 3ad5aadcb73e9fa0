"""One attempt at an engine: parsed, built, loaded again and run; what it misses decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_export.build_progress import BuildProgress
from ovsdino_export.builder import BuildOptions, build, parse, require_version
from ovsdino_export.inspection import half_share
from ovsdino_export.light_graph import load_light
from ovsdino_export.network_types import check_graph, check_network
from ovsdino_export.operators import check_file
from ovsdino_export.timing_cache import keep_timing_cache, load_timing_cache
from ovsdino_runtime.backends.gpu import import_cuda, import_tensorrt
from ovsdino_runtime.backends.trt import machine_of
from ovsdino_runtime.backends.trt_engine import TrtEngine
from ovsdino_runtime.sidecar import Machine

Verdict = tuple[Mapping[str, float], Sequence[str]]
Judge = Callable[[NDArray[np.generic], NDArray[np.intp]], Verdict]
"""From outputs, and the numbers of the inputs they are of, to how they agree with the reference, and what
misses the gates."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where engines are built.

    Attributes:
        trt: the module tensorrt.
        runtime: cuda-python's runtime module.
        machine: the GPU and the TensorRT.
    """

    trt: Any
    runtime: Any
    machine: Machine


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An engine that was built and run, and is not written yet.

    Attributes:
        plan: the serialised engine.
        built: layers by type, the inspector's share and the batches that were tried, for the sidecar.
        parity: how its outputs agree with the reference.
        failures: what misses the gates; empty if it may be written.
    """

    plan: bytes
    built: dict[str, Any]
    parity: Mapping[str, float]
    failures: Sequence[str]


def workshop() -> Workshop:
    """Return what is needed to build engines here.

    Raises:
        BackendUnavailable: TensorRT, cuda-python or a GPU is missing, or TensorRT is too old.
    """
    trt, runtime = import_tensorrt(), import_cuda()
    require_version(trt)
    return Workshop(trt=trt, runtime=runtime, machine=machine_of(trt, runtime))


def attempt(
    shop: Workshop,
    path: Path,
    islands: Sequence[Mapping[str, str]],
    inputs: NDArray[np.generic],
    judge: Judge,
    options: BuildOptions,
    progress: BuildProgress,
) -> Attempt:
    """Build a graph's engine and run it.

    Args:
        shop: TensorRT and a GPU.
        path: the ONNX file.
        islands: nodes that may compute in FP32 in an FP16 engine: `node`, `op` and `reason` of each.
        inputs: what the engine is tried on.
        judge: decides on its outputs.
        options: precision, batches and what the builder is told.
        progress: told what begins.

    Raises:
        BackendUnavailable: CUDA does not start.
        ExportError: the graph goes beyond TensorRT's operators, TensorRT cannot build it, or its types
            are not those asked for.
        KeyboardInterrupt: the user stopped it.
    """
    trt = shop.trt
    progress.step("checking the graph")
    check_file(path)
    model = load_light(path)
    names = [item["node"] for item in islands]
    check_graph(model, options.precision, names)
    progress.step("parsing the graph")
    parsed = parse(trt, path)
    types = check_network(trt, parsed.network, model, options.precision, names)
    progress.step("building the engine")
    plan, measured = build(trt, parsed, options, load_timing_cache(shop.machine), progress)
    keep_timing_cache(shop.machine, measured)
    del parsed  # a Jetson's memory holds the weights once
    progress.step("running golden inputs")
    with TrtEngine(plan, trt, shop.runtime, host_code=options.version_compatible) as engine:
        parity, failures = _held_against(judge, engine, inputs)
        built = {
            "layers": types.as_dict(),
            "batches_proven": _batches(engine),
            "inspector_half_share": half_share(engine.inspect()),
            "activation_bytes": engine.activation_bytes,
        }
    return Attempt(plan=plan, built=built, parity=parity, failures=failures)


def _held_against(judge: Judge, engine: TrtEngine, inputs: NDArray[np.generic]) -> Verdict:
    """Return the verdict on every input alone, and what is missed in a full batch, in whatever place.

    A batch size may have kernels of its own, so batches of the usual and the largest one are filled with all
    inputs, some repeated. Everything runs twice: what a recorded CUDA graph gives is what is judged.
    """
    parity: Mapping[str, float] = {}
    for size in _batches(engine):
        which = np.arange(-(-len(inputs) // size) * size) % len(inputs)
        parts = np.split(which, len(which) // size)
        engine.run(inputs[parts[0]])
        found, failures = judge(np.concatenate([engine.run(inputs[part]) for part in parts]), which)
        parity = parity or found
        if failures:
            return parity, failures if size == 1 else [f"in batches of {size}: {text}" for text in failures]
    return parity, ()


def _batches(engine: TrtEngine) -> list[int]:
    return sorted({1, engine.profile.usual, engine.profile.most})
