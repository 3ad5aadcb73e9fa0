"""What TensorRT's inspector says of an engine: how many of its layers work on FP16."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_HALF = re.compile(r"half|fp16", re.IGNORECASE)
_FLOATING = re.compile(r"half|fp16|float|fp32|bf16", re.IGNORECASE)
# 10.x gives one field, "Format/Datatype"; 11.x a field for each.
_FIELDS = ("Format/Datatype", "DataType", "Format")


def half_share(inspected: str) -> float | None:
    """Return the share of an engine's floating-point layers that give or take FP16, in [0, 1].

    Fused kernels hide layers, so this is reported and decides nothing.

    Args:
        inspected: the engine's information as JSON, built with detailed profiling verbosity.

    Returns:
        The share, or None where the inspector tells no types.
    """
    try:
        layers = json.loads(inspected)["Layers"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(layers, list):
        return None
    kinds = [
        " ".join(_kind(tensor) for side in ("Inputs", "Outputs") for tensor in layer.get(side) or ())
        for layer in layers
        if isinstance(layer, Mapping)
    ]
    floating = [kind for kind in kinds if _FLOATING.search(kind)]
    if not floating:
        return None
    return sum(bool(_HALF.search(kind)) for kind in floating) / len(floating)


def _kind(tensor: Any) -> str:
    return " ".join(str(tensor.get(field, "")) for field in _FIELDS) if isinstance(tensor, Mapping) else ""
