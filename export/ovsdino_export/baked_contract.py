"""What baked graphs take, give and say about themselves; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.queries import ClassQuery

InputKind = Literal["uint8-nhwc", "float-nchw"]
OutputKind = Literal["scores", "labels"]


def baked_input(windows: NDArray[np.uint8], kind: InputKind) -> NDArray[np.generic]:
    """Return uint8 windows [n, window, window, 3] as a graph of that input takes them."""
    if kind == "uint8-nhwc":
        return windows
    return np.ascontiguousarray((windows.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2))


def baked_metadata(
    queries: Sequence[ClassQuery], *, output: OutputKind, input: InputKind, score_scale: float, license: str
) -> dict[str, str]:
    """Return what a baked graph says about itself in ONNX's metadata_props, text by key."""
    units = {
        "uint8-nhwc": "uint8 [batch, height, width, 3], RGB, 0 to 255",
        "float-nchw": "float32 [batch, 3, height, width], RGB, 0 to 1",
    }
    results = {
        "scores": "float32 [batch, class, rows, columns], cosines; upsample bilinearly before the argmax",
        "labels": "int32 [batch, height, width], index into class_names",
    }
    return {
        "class_names": json.dumps([query.label for query in queries], ensure_ascii=False),
        "class_prompts": json.dumps([list(query.prompts) for query in queries], ensure_ascii=False),
        "input": units[input],
        "output": results[output],
        "score_scale": repr(score_scale),
        "license": license,
    }
