"""What the stand-in's engines do: ONNX Runtime's CPU provider computes the graph that the plan holds."""

from __future__ import annotations

import ctypes
import json
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime

from tests.standins.tensorrt_build import _TYPES, MAGIC
from tests.standins.tensorrt_faults import start_cuda

_NUMPY = {"UINT8": np.uint8, "FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32}
_ACTIVATIONS = 4096


class Runtime:
    def __init__(self, module: Any, logger: Any) -> None:
        start_cuda(module, logger)
        self._module, self._logger = module, logger
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        if not bytes(plan).startswith(MAGIC):
            self._logger.log(self._module.ILogger.ERROR, "magic tag does not match")
            return None
        header, graph = bytes(plan)[len(MAGIC) :].split(b"\n", 1)
        told = json.loads(header)
        compatible = "VERSION_COMPATIBLE" in told["flags"] and self.engine_host_code_allowed
        if told["tensorrt"] != self._module.__version__ and not compatible:
            self._logger.log(self._module.ILogger.ERROR, "version tag does not match")
            return None
        return self._module.new("ICudaEngine", Engine(self._module, told, onnx.ModelProto.FromString(graph)))


class Engine:
    def __init__(self, module: Any, told: dict[str, Any], model: onnx.ModelProto) -> None:
        self.module, self.told, self.model = module, told, model
        self.wrong = "wrong builds" in module.faults and len(module.built) <= module.faults["wrong builds"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.values = [*model.graph.input, *model.graph.output]
        self.num_io_tensors = len(self.values)
        self.device_memory_size_v2 = _ACTIVATIONS

    def _value(self, name: str) -> onnx.ValueInfoProto:
        return next(value for value in self.values if value.name == name)

    def get_tensor_name(self, index: int) -> str:
        return str(self.values[index].name)

    def get_tensor_mode(self, name: str) -> Any:
        taken = name in {value.name for value in self.model.graph.input}
        return self.module.TensorIOMode.INPUT if taken else self.module.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self.module.DataType, _TYPES[self._value(name).type.tensor_type.elem_type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(dim.dim_value or -1 for dim in self._value(name).type.tensor_type.shape.dim)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        assert profile_index == 0
        return [tuple(shape) for shape in self.told["profile"][name]]

    def create_engine_inspector(self) -> Any:
        if "no inspector" in self.module.faults:
            return None
        return self.module.new("EngineInspector", Inspector(self))

    def create_execution_context(self, strategy: Any = None) -> Any:
        if "no context" in self.module.faults:
            return None
        context = self.module.new("IExecutionContext", Context(self, strategy))
        self.module.contexts.add(context)
        return context

    def compute(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        stub = self.module.faults.get("compute")
        if stub is not None:
            return np.asarray(stub(batch))
        (found,) = self._session.run(None, {self.values[0].name: batch})
        return np.asarray(found) * np.asarray(-1 if self.wrong else 1, found.dtype)


class Context:
    """Holds what was set; enqueued work uses the shape and the addresses of that moment."""

    def __init__(self, engine: Engine, strategy: Any) -> None:
        self._engine, self._strategy = engine, strategy
        self._addresses: dict[str, int] = {}
        self._batch: int | None = None
        self._memory: int | None = None

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self._strategy is self._engine.module.ExecutionContextAllocationStrategy.USER_MANAGED
        assert size >= self._engine.device_memory_size_v2
        self._memory = self._engine.module.cuda.memory(memory, size, "device")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        self._batch = shape[0]
        return all(low <= length <= high for low, length, high in zip(least, shape, most, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        cuda, engine, batch = self._engine.module.cuda, self._engine, self._batch
        assert self._memory is not None, "no memory for activations"
        assert batch is not None, "no input shape"
        if "execute" in engine.module.faults:
            return False
        sides = []
        for value in engine.values:
            shape = (batch, *engine.get_tensor_shape(value.name)[1:])
            dtype = np.dtype(_NUMPY[engine.get_tensor_dtype(value.name).name])
            size = prod(shape) * dtype.itemsize
            address = cuda.memory(self._addresses[value.name], size, "device")
            sides.append((address, size, shape, dtype))

        def work() -> None:
            (source, size, shape, dtype), (target, bytes_out, _, out_dtype) = sides
            raw = (ctypes.c_uint8 * size).from_address(source)
            result = engine.compute(np.frombuffer(raw, dtype).reshape(shape).copy())
            content = np.ascontiguousarray(result, out_dtype)
            assert content.nbytes == bytes_out
            ctypes.memmove(target, content.ctypes.data, bytes_out)
            cuda.clock_ms += batch * cuda.engine_ms_per_item

        cuda.streams[stream_handle].put(work)
        return True


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_engine_information(self, format: Any) -> str:
        """Layers with their types, in the words of the release; nothing but names if built so."""
        assert format is self._engine.module.LayerInformationFormat.JSON
        if self._engine.told["verbosity"] != "DETAILED":
            return json.dumps({"Layers": [node.name for node in self._engine.model.graph.node]})
        typed = onnx.shape_inference.infer_shapes(self._engine.model, data_prop=True).graph
        kinds = {
            value.name: _TYPES[value.type.tensor_type.elem_type].title()
            for value in (*typed.input, *typed.value_info, *typed.output)
        }
        new = not self._engine.module.__version__.startswith("10.")

        def tensor(name: str) -> dict[str, str]:
            kind = kinds[name]
            return {"DataType": kind, "Format": "Linear"} if new else {"Format/Datatype": kind}

        layers = [
            {
                "Name": node.name,
                "Inputs": [tensor(name) for name in node.input if name in kinds],
                "Outputs": [tensor(name) for name in node.output],
            }
            for node in typed.node
        ]
        return json.dumps({"Layers": layers})
