"""TensorRT's builder: from an ONNX file to a serialised engine, by the API that 10.3 to 11.4 share.

TensorRT is called directly. Polygraphy's loaders would shorten this little: what they touch of TensorRT
differs by Polygraphy's own release, which no listing of TensorRT's API can vouch for, and they report
errors in a log of their own, where a user needs one line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovsdino_export.build_progress import BuildProgress, interruptible, progress_monitor
from ovsdino_runtime.backends.gpu import collecting_logger, last_error, start
from ovsdino_runtime.errors import BackendUnavailable, ExportError
from ovsdino_runtime.sidecar import BatchProfile, Precision

OLDEST = (10, 3)  # JetPack 6


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What the builder is told.

    Attributes:
        precision: what the graph must compute in; the builder itself is told nothing of it.
        profile: the batches.
        workspace_mb: the most memory a tactic may use; None leaves TensorRT's default, all there is.
        builder_level: 0 to 5, how long to look for faster tactics; None leaves TensorRT's default, 3.
        hardware_compatible: build for every GPU from Ampere on, at some cost in speed.
        version_compatible: build so that later TensorRT releases of the same major version load it.
    """

    precision: Precision = "fp16"
    profile: BatchProfile = field(default_factory=BatchProfile)
    workspace_mb: int | None = None
    builder_level: int | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """A network and the objects that must outlive it."""

    builder: Any
    network: Any
    parser: Any


def require_version(trt: Any) -> None:
    """Let no release pass that is older than what this was written for.

    Raises:
        BackendUnavailable: TensorRT is older than 10.3.
    """
    if tuple(int(part) for part in re.findall(r"\d+", trt.__version__)[:2]) < OLDEST:
        raise BackendUnavailable(
            f"TensorRT 10.3 or later is needed, this is {trt.__version__}; upgrade it, on a Jetson to "
            "JetPack 6 or later"
        )


def parse(trt: Any, path: Path) -> Parsed:
    """Parse an ONNX file into a strongly typed network.

    Raises:
        BackendUnavailable: CUDA does not start.
        ExportError: TensorRT's parser does not take it.
    """
    builder = start(trt, "Builder")
    # 11.x types every network strongly and only tolerates the flag; 10.x needs it.
    flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flag)
    parser = trt.OnnxParser(network, collecting_logger(trt))
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        first = f"{errors[0].node_operator()} {errors[0].node_name()}: {errors[0].desc()}" if errors else ""
        raise ExportError(
            f"TensorRT {trt.__version__} cannot parse {path.name}: {first or last_error(trt)}; "
            "export it again"
        )
    return Parsed(builder=builder, network=network, parser=parser)


def build(
    trt: Any, parsed: Parsed, options: BuildOptions, timing_cache: bytes, progress: BuildProgress
) -> tuple[bytes, bytes]:
    """Return a serialised engine, and what the builder measured on the way, for the next time.

    Args:
        trt: the module tensorrt.
        parsed: the network.
        options: what to tell the builder.
        timing_cache: what an earlier build measured on this GPU with this TensorRT; may be empty.
        progress: told of TensorRT's phases.

    Raises:
        ExportError: TensorRT cannot build it, or has no such option.
        KeyboardInterrupt: the user stopped it; TensorRT has ended the build.
    """
    builder, network = parsed.builder, parsed.network
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 means FP32: TF32 keeps 10 bits, as FP16 does
    if options.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if options.builder_level is not None:
        config.builder_optimization_level = options.builder_level
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    config.add_optimization_profile(_profile(builder, network, options.profile))
    cache = config.create_timing_cache(timing_cache)
    if cache is None or not config.set_timing_cache(cache, False):  # of another release, or cut off
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    monitor = progress_monitor(trt, progress)
    config.progress_monitor = monitor
    plan = interruptible(lambda: builder.build_serialized_network(network, config), monitor.stop)
    if plan is None:
        raise ExportError(
            f"TensorRT {trt.__version__} cannot build the engine: {last_error(trt)}; if memory is short, try "
            "--workspace and a smaller --batch"
        )
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _profile(builder: Any, network: Any, batches: BatchProfile) -> Any:
    taken = network.get_input(0)
    rest = tuple(int(length) for length in taken.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(taken.name, (batches.least, *rest), (batches.usual, *rest), (batches.most, *rest))
    return profile
