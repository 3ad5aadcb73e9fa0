"""The trtexec command lines that build the same engine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ovsdino_export.builder import BuildOptions

RELEASES = (10, 11)


def trtexec_command(
    release: int, graph: Path, engine: Path, input_name: str, item_shape: Sequence[int], options: BuildOptions
) -> str:
    """Return a command line of trtexec, quoted for a shell.

    Args:
        release: TensorRT's major version. 11 has only strongly typed networks; 10 must be told.
        graph: the ONNX file.
        engine: what to write.
        input_name: the graph's input.
        item_shape: its shape without the batch.
        options: what the builder is told.
    """

    def shape(batch: int) -> str:
        return f"{input_name}:{'x'.join(str(length) for length in (batch, *item_shape))}"

    profile = options.profile
    words = [
        "trtexec",
        f"--onnx={graph}",
        f"--saveEngine={engine}",
        *(["--stronglyTyped"] if release == 10 else []),
        f"--minShapes={shape(profile.least)}",
        f"--optShapes={shape(profile.usual)}",
        f"--maxShapes={shape(profile.most)}",
        "--noTF32",
        "--profilingVerbosity=detailed",
        "--skipInference",
    ]
    if options.workspace_mb is not None:
        words.append(f"--memPoolSize=workspace:{options.workspace_mb}M")
    if options.builder_level is not None:
        words.append(f"--builderOptimizationLevel={options.builder_level}")
    if options.hardware_compatible:
        words.append("--hardwareCompatibilityLevel=ampere+")
    if options.version_compatible:
        words.append("--versionCompatible")
    return shlex.join(words)
