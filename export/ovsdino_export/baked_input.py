"""What baked graphs take; needs no torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

InputKind = Literal["uint8-nhwc", "float-nchw"]


def baked_input(windows: NDArray[np.uint8], kind: InputKind) -> NDArray[np.generic]:
    """Return uint8 windows [n, window, window, 3] as a graph of that input takes them."""
    if kind == "uint8-nhwc":
        return windows
    return np.ascontiguousarray((windows.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2))
