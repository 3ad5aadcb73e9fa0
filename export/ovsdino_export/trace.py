"""From a torch module to a clean ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxscript
import torch
from torch import Tensor, nn

from ovsdino_export.large_graph import EXTERNAL_DATA_BYTES, INLINE_BYTES
from ovsdino_export.operators import IR_VERSION, OPSET, resize_scale
from ovsdino_runtime import __version__
from ovsdino_runtime.errors import ExportError

_BATCH = "batch"
_EXAMPLES = 2  # the exporter takes a dimension of 1 for a constant

_op = onnxscript.opset20


def trace(
    module: nn.Module,
    example: Tensor,
    *,
    input_name: str,
    output_name: str,
    metadata: Mapping[str, str] | None = None,
    dynamic: Mapping[int, torch.export.Dim] | None = None,
) -> ir.Model:
    """Return the ONNX graph of a module with one input and one output and a dynamic batch.

    Args:
        module: in eval mode, on the CPU.
        example: one input [1, …]; its shape apart from the batch is the graph's.
        input_name: what the graph calls its input.
        output_name: what the graph calls its output.
        metadata: text by key, stored in the model.
        dynamic: dimensions of the input that vary beside the batch.

    Raises:
        ExportError: torch cannot trace the module.
    """
    batch = example.expand(_EXAMPLES, *example.shape[1:]).contiguous()
    with warnings.catch_warnings():
        # The exporter warns of deprecations inside torch, onnxscript and copyreg that no caller can act on.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                (batch,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim(_BATCH), **(dynamic or {})},),
                input_names=[input_name],
                output_names=[output_name],
                custom_translation_table={torch.ops.aten.upsample_bilinear2d.vec: _resize},
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ExportError(f"torch cannot trace the model to ONNX: {first}") from error
    assert program is not None  # dynamo=True always returns one
    model = program.model
    _clean(model)
    model.metadata_props.clear()
    model.metadata_props.update(metadata or {})
    return model


def save(model: ir.Model, path: Path, external_data_bytes: int = EXTERNAL_DATA_BYTES) -> None:
    """Write a graph; its weights go beside it into `NAME.data` where they are too many for one file.

    Args:
        model: the graph.
        path: the .onnx file.
        external_data_bytes: weights of more than this go into the second file.
    """
    if weight_bytes(model) > external_data_bytes:
        ir.save(model, path, external_data=f"{path.name}.data", size_threshold_bytes=INLINE_BYTES)
    else:
        ir.save(model, path)


def weight_bytes(model: ir.Model) -> int:
    """Return how much room the weights of a graph take."""
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)


def _resize(
    features: onnxscript.FLOAT,
    output_size: Sequence[int],
    align_corners: bool,
    scale_factors: Sequence[float] | None = None,
) -> onnxscript.FLOAT:
    """Translate a bilinear upsampling into one Resize with constant scales.

    torch's own translation asks the shape of its input for batch and channels.
    """
    if align_corners or not output_size or features.shape is None:
        raise ExportError("only bilinear resizing to a given size, without align_corners, exports")
    source = [int(length) for length in features.shape[2:]]
    scales = [resize_scale(old, int(new)) for old, new in zip(source, output_size, strict=True)]
    constant = _op.Constant(value=onnx.numpy_helper.from_array(np.array([1, 1, *scales], np.float32)))
    return _op.Resize(features, None, constant, mode="linear", coordinate_transformation_mode="half_pixel")


def _clean(model: ir.Model) -> None:
    """Take away what only the exporter knows: stack traces with file names, its own metadata."""
    model.ir_version = min(model.ir_version, IR_VERSION)
    model.producer_name, model.producer_version = "ovsdino", __version__
    model.doc_string = None
    for domain in [name for name in model.opset_imports if name]:
        del model.opset_imports[domain]
    graph = model.graph
    graph.name, graph.doc_string = "ovsdino", None
    graph.metadata_props.clear()
    for number, node in enumerate(graph):
        node.name = f"{node.op_type}_{number}"
        node.doc_string = None
        node.metadata_props.clear()
        if node.op_type == "Reshape":
            _drop_allowzero(node)
        for value in node.outputs:
            _forget(value)
    for value in (*graph.inputs, *graph.initializers.values()):
        _forget(value)


def _drop_allowzero(node: ir.Node) -> None:
    shape = node.inputs[1]
    if shape is not None and shape.const_value is not None and 0 not in shape.const_value.numpy():
        node.attributes.pop("allowzero", None)  # without a zero it says nothing; old parsers refuse it


def _forget(value: ir.Value) -> None:
    value.doc_string = None
    value.metadata_props.clear()
