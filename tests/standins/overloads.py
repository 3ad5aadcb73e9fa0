"""The signatures of overloaded methods, which TensorRT's listings leave out.

They are those of the binding's source (github.com/NVIDIA/TensorRT, python/src/infer/pyCore.cpp), for the
methods that this project calls. One that takes a class that a release's listing lacks is not of that release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

OVERLOADS: Mapping[str, Sequence[str]] = {
    "Builder.build_serialized_network": (
        "build_serialized_network(self: tensorrt.Builder, network: tensorrt.INetworkDefinition, "
        "config: tensorrt.IBuilderConfig) -> tensorrt.IHostMemory",
        "build_serialized_network(self: tensorrt.Builder, network: tensorrt.INetworkDefinition, "
        "config: tensorrt.IBuilderConfig, kernel_text: object) -> tensorrt.IHostMemory",
    ),
    "ICudaEngine.create_execution_context": (
        "create_execution_context(self: tensorrt.ICudaEngine, "
        "strategy: tensorrt.ExecutionContextAllocationStrategy = STATIC) -> tensorrt.IExecutionContext",
        "create_execution_context(self: tensorrt.ICudaEngine, "
        "runtime_config: tensorrt.IRuntimeConfig = None) -> tensorrt.IExecutionContext",
    ),
    "Runtime.deserialize_cuda_engine": (
        "deserialize_cuda_engine(self: tensorrt.Runtime, serialized_engine: buffer) -> tensorrt.ICudaEngine",
        "deserialize_cuda_engine(self: tensorrt.Runtime, stream_reader: tensorrt.IStreamReader) "
        "-> tensorrt.ICudaEngine",
        "deserialize_cuda_engine(self: tensorrt.Runtime, stream_reader_v2: tensorrt.IStreamReaderV2) "
        "-> tensorrt.ICudaEngine",
    ),
    "IExecutionContext.set_input_shape": (
        "set_input_shape(self: tensorrt.IExecutionContext, name: str, shape: tuple) -> bool",
        "set_input_shape(self: tensorrt.IExecutionContext, name: str, shape: list) -> bool",
        "set_input_shape(self: tensorrt.IExecutionContext, name: str, shape: tensorrt.Dims) -> bool",
    ),
}


def overloads(where: str, names: Mapping[str, Any]) -> list[str]:
    """The signatures of an overloaded method in a release.

    Args:
        where: class and method.
        names: what the release's listing has.
    """
    return [
        signature
        for signature in OVERLOADS.get(where, ())
        if all(name in names for name in re.findall(r"tensorrt\.(\w+)", signature))
    ]
