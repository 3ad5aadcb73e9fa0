"""A graph without its weights' data: enough to judge types and shapes, at a few megabytes."""

from __future__ import annotations

from pathlib import Path

import onnx

_KEPT_BYTES = 1024  # shapes, axes and scales, which shape inference reads


def load_light(path: Path) -> onnx.ModelProto:
    """Return the graph of an ONNX file; its larger weights keep their types and shapes only."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > _KEPT_BYTES:
            tensor.ClearField("raw_data")
    return model
