"""Graphs too large for one protobuf file: their weights lie beside them."""

from __future__ import annotations

from pathlib import Path

import onnx

EXTERNAL_DATA_BYTES = 1_500_000_000  # protobuf ends at 2 GB
INLINE_BYTES = 1024  # what stays in the graph even then: shapes and axes, which parsers read as constants


def save_proto(model: onnx.ModelProto, path: Path, external_data_bytes: int = EXTERNAL_DATA_BYTES) -> None:
    """Write a graph; its weights go beside it into `NAME.data` where they are too many for one file.

    Args:
        model: the graph; not changed.
        path: the .onnx file.
        external_data_bytes: weights of more than this go into the second file.
    """
    if weight_bytes(model) <= external_data_bytes:
        onnx.save(model, path)
        return
    parted = onnx.ModelProto()
    parted.CopyFrom(model)  # onnx.save takes the weights out of what it is given
    onnx.save(
        parted,
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=INLINE_BYTES,
    )


def weight_bytes(model: onnx.ModelProto) -> int:
    """Return how much room the weights of a graph take."""
    return sum(len(item.raw_data) or item.ByteSize() for item in model.graph.initializer)
