"""What the stand-in's builder and parser do: layers from ONNX nodes, a plan that holds the ONNX graph."""

from __future__ import annotations

import json
from typing import Any

import onnx

from tests.standins.tensorrt_faults import report, start_cuda

MAGIC = b"stand-in plan\n"
_KINDS = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow"), "ELEMENTWISE"),
    **dict.fromkeys(("Reshape", "Transpose", "Squeeze", "Unsqueeze"), "SHUFFLE"),
    **{"Cast": "CAST", "MatMul": "MATRIX_MULTIPLY", "Conv": "CONVOLUTION", "Concat": "CONCATENATION"},
    **{"Softmax": "SOFTMAX", "LayerNormalization": "NORMALIZATION", "Slice": "SLICE", "Gather": "GATHER"},
    **{"AveragePool": "POOLING", "ReduceSum": "REDUCE", "Resize": "RESIZE", "Constant": "CONSTANT"},
}
_TYPES = {
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.FLOAT16: "HALF",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.BOOL: "BOOL",
}


class Tensor:
    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...] = ()) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape


class Layer:
    def __init__(self, name: str, type: Any, metadata: str, inputs: list[Any], outputs: list[Any]) -> None:
        self.name, self.type, self.metadata = name, type, metadata
        self._inputs, self._outputs = inputs, outputs
        self.num_inputs, self.num_outputs = len(inputs), len(outputs)

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]


class Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.model: onnx.ModelProto | None = None
        self.layers: list[Any] = []
        self.inputs: list[Any] = []

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_layer(self, index: int) -> Any:
        return self.layers[index]

    def get_input(self, index: int) -> Any:
        return self.inputs[index]


class ParserComplaint:
    def __init__(self, node: onnx.NodeProto | None, text: str) -> None:
        self._node, self._text = node, text

    def node_name(self) -> str:
        return "" if self._node is None else self._node.name

    def node_operator(self) -> str:
        return "" if self._node is None else self._node.op_type

    def desc(self) -> str:
        return self._text


class Parser:
    """Makes one layer of every node, and a nameless one for each weight that must be broadcast."""

    def __init__(self, module: Any, network: Any, logger: Any) -> None:
        self._module, self._network = module, network.__dict__["_behaviour"]
        self._errors: list[ParserComplaint] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self._module.new("ParserError", self._errors[index])

    def parse_from_file(self, path: str) -> bool:
        model = onnx.load(path)
        refused = self._module.faults.get("refused operator")
        for node in model.graph.node:
            if node.op_type == refused:
                self._errors.append(ParserComplaint(node, "no importer"))
                return False
        self._fill(model)
        return True

    def _fill(self, model: onnx.ModelProto) -> None:
        typed = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        types = {
            value.name: value.type.tensor_type.elem_type
            for value in (*typed.input, *typed.value_info, *typed.output)
        }
        types.update({tensor.name: tensor.data_type for tensor in typed.initializer})
        faulty = {
            name: kind
            for fault, kind in (
                ("layers in FP32", onnx.TensorProto.FLOAT),
                ("layers in FP16", onnx.TensorProto.FLOAT16),
            )
            for name in self._module.faults.get(fault, ())
        }
        tensors = {name: self._tensor(name, kind) for name, kind in types.items()}
        for value in typed.input:
            shape = tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)
            tensors[value.name] = self._tensor(value.name, types[value.name], shape)
            self._network.inputs.append(tensors[value.name])
        weights = {tensor.name for tensor in typed.initializer}
        for name in weights:
            self._layer(name, "CONSTANT", "", [], [tensors[name]])
        for number, node in enumerate(typed.node):
            inputs = []
            for name in node.input:
                if name in weights and node.op_type in ("Add", "Sub", "Mul", "Div"):
                    inner = self._tensor(f"(Unnamed Layer* {number}) [Shuffle]_output", types[name])
                    self._layer(
                        f"(Unnamed Layer* {number}) [Shuffle]", "SHUFFLE", "", [tensors[name]], [inner]
                    )
                    inputs.append(inner)
                else:
                    inputs.append(tensors.get(name))
            for name in node.output if node.name in faulty else ():
                tensors[name] = self._tensor(name, faulty[node.name])
            kind = _KINDS.get(node.op_type, "UNARY")
            metadata = f"[ONNX Layer: {node.name}]" if node.name else ""
            self._layer(node.name, kind, metadata, inputs, [tensors[name] for name in node.output])
        self._network.model = model

    def _tensor(self, name: str, kind: int, shape: tuple[int, ...] = ()) -> Any:
        return self._module.new("ITensor", Tensor(name, getattr(self._module.DataType, _TYPES[kind]), shape))

    def _layer(self, name: str, kind: str, metadata: str, inputs: list[Any], outputs: list[Any]) -> None:
        layer = Layer(name, getattr(self._module.LayerType, kind), metadata, inputs, outputs)
        self._network.layers.append(self._module.new("ILayer", layer))


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        self.shapes[input] = (tuple(min), tuple(opt), tuple(max))


class TimingCache:
    def __init__(self, module: Any, content: bytes) -> None:
        self.module, self.content = module, content

    def serialize(self) -> Any:
        return self.module.new("IHostMemory", self.content)


class Config:
    def __init__(self, module: Any) -> None:
        self._module = module
        self.profiling_verbosity = module.ProfilingVerbosity.LAYER_NAMES_ONLY
        self.builder_optimization_level = 3
        self.hardware_compatibility_level = module.HardwareCompatibilityLevel.NONE
        self.progress_monitor: Any = None
        self.switched_on = {"TF32"}  # as TensorRT has it
        self.pools: dict[str, int] = {}
        self.profiles: list[Any] = []
        self._cache: Any = None

    def set_flag(self, flag: Any) -> None:
        self.switched_on.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.switched_on.discard(flag.name)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.pools[pool.name] = pool_size

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.__dict__["_behaviour"])
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        content = bytes(serialized_timing_cache)
        known = not content or content.startswith(b"timings of " + self._module.__version__.encode())
        return self._module.new("ITimingCache", TimingCache(self._module, content)) if known else None

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class Builder:
    def __init__(self, module: Any, logger: Any) -> None:
        start_cuda(module, logger)
        self._module, self._logger = module, logger

    def create_network(self, flags: int = 0) -> Any:
        return self._module.new("INetworkDefinition", Network(int(flags)))

    def create_builder_config(self) -> Any:
        return self._module.new("IBuilderConfig", Config(self._module))

    def create_optimization_profile(self) -> Any:
        return self._module.new("IOptimizationProfile", Profile())

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        """The plan: what the builder was told, and the graph. Nothing where the library would give None."""
        net, told = network.__dict__["_behaviour"], config.__dict__["_behaviour"]
        strong = 1 << int(self._module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        if not net.flags & strong and self._module.__version__.startswith("10."):
            raise AssertionError("on 10.x a network is strongly typed only with the flag")
        if not told.profiles or "cannot build" in self._module.faults:
            self._logger.log(self._module.ILogger.ERROR, "could not find any\nimplementation")
            return None
        tactics = self._module.faults.get("tactics", 1)
        if told.progress_monitor is not None and not report(told.progress_monitor, tactics):
            return None
        told._cache.__dict__["_behaviour"].content = f"timings of {self._module.__version__}".encode()
        header = {
            "tensorrt": self._module.__version__,
            "profile": told.profiles[0].shapes,
            "flags": sorted(told.switched_on),
            "verbosity": told.profiling_verbosity.name,
            "level": told.builder_optimization_level,
            "hardware": told.hardware_compatibility_level.name,
            "pools": told.pools,
        }
        self._module.built.append(header)
        content = MAGIC + json.dumps(header).encode() + b"\n" + net.model.SerializeToString()
        return self._module.new("IHostMemory", content)
