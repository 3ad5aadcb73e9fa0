"""A backend that keeps what passes through another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.backends import Backend


class RecordingBackend:
    """Another backend, whose windows and features are kept.

    Attributes:
        name: the other backend's.
        kept: windows uint8 [B, S, S, 3] and features float32 [B, D, h, w] of every call, in order.
    """

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self.kept: list[tuple[NDArray[np.uint8], NDArray[np.float32]]] = []
        self._backend = backend

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the other backend's features, float32 [B, D, h, w], for uint8 windows [B, S, S, 3]."""
        features = self._backend.features(windows)
        self.kept.append((windows, features))
        return features
