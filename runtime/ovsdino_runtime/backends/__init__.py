"""What turns windows into features; several implementations behind one protocol."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Backend(Protocol):
    """Runs the image graph."""

    @property
    def name(self) -> str:
        """What ran, for reports: `onnxruntime-cpu`, `onnxruntime-cpu-int8`, `tensorrt-fp16`, …."""

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return L2-normalised features, float32 [B, D, h, w].

        Args:
            windows: uint8 [B, window, window, 3], RGB, in [0, 255].
        """


class NoBackend:
    """Stands where classes are asked for and no window is encoded.

    Attributes:
        name: `none`.
    """

    name = "none"

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode nothing."""
        raise AssertionError("windows were to be encoded where there is no backend")
