"""The PyTorch ways that a bundle's forms are timed against; needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ovsdino.checkpoint import load_checkpoint
from ovsdino.model import OVSDINO
from ovsdino.torch_backend import TorchBackend
from ovsdino_bench.measured import CheckpointSource
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.errors import BackendUnavailable


class BatchedTorchBackend:
    """A PyTorch model that takes all windows in one batch; copies are included.

    Attributes:
        name: `torch-cpu`, `torch-cpu-bfloat16`, `torch-cuda-compiled`, ….
    """

    def __init__(
        self, model: OVSDINO, device: str, dtype: torch.dtype | None = None, *, compiled: bool = False
    ) -> None:
        kind = "" if dtype is None else "-" + str(dtype).removeprefix("torch.")
        self.name = f"torch-{device}{kind}{'-compiled' if compiled else ''}"
        self._device, self._dtype = device, dtype
        self._model: Callable[..., Any] = model.eval().to(device)
        if compiled:
            self._model = torch.compile(self._model)

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return L2-normalised features, float32 [B, D, h, w], for uint8 windows [B, S, S, 3]."""
        autocast = torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype is not None)
        with torch.inference_mode(), autocast:
            embeddings = self._model(torch.from_numpy(windows).to(self._device)).embeddings
        return np.asarray(embeddings.float().cpu().numpy(), dtype=np.float32)


def open_alternative(name: str, source: CheckpointSource) -> Backend:
    """Open one of `ways.ALTERNATIVES`, on CUDA where PyTorch sees a GPU, else on the CPU.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        BackendUnavailable: FP16 was asked for and there is no GPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "pytorch-fp16" and device == "cpu":
        raise BackendUnavailable(
            f"pytorch-fp16 was asked for, but PyTorch {torch.__version__} sees no GPU; use pytorch-bf16"
        )
    model = load_checkpoint(source.path, source.backbone_weights)[0]
    if name == "mmseg-style":
        return TorchBackend(model, device)
    dtype = {"pytorch-bf16": torch.bfloat16, "pytorch-fp16": torch.float16}.get(name)
    return BatchedTorchBackend(model, device, dtype, compiled=name == "torch-compile")
