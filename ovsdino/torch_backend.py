"""The PyTorch model behind the runtime's backend protocol, so that only the backend differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ovsdino.checkpoint import load_checkpoint
from ovsdino.model import OVSDINO


class TorchBackend:
    """Runs a model eagerly, one window after another.

    Attributes:
        name: `torch-cpu`, `torch-cuda`, ….
        model: the model, in eval mode.
    """

    def __init__(self, model: OVSDINO, device: str = "cpu") -> None:
        self.model = model.eval().to(device)
        self.name = f"torch-{device}"
        self._device = device

    @classmethod
    def open(cls, checkpoint: Path, backbone_weights: str | None = None, device: str = "cpu") -> TorchBackend:
        """Open a checkpoint; see `load_checkpoint` for the errors."""
        return cls(load_checkpoint(checkpoint, backbone_weights)[0], device)

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return L2-normalised features, float32 [B, D, h, w], for uint8 windows [B, S, S, 3]."""
        with torch.inference_mode():
            parts = [
                self.model(torch.from_numpy(windows[index : index + 1]).to(self._device)).embeddings.cpu()
                for index in range(len(windows))
            ]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)
