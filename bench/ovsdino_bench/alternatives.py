"""The PyTorch ways that a bundle's forms are timed against; needs torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ovsdino.checkpoint import load_checkpoint
from ovsdino.model import OVSDINO
from ovsdino.torch_backend import TorchBackend, told_in_a_line
from ovsdino_bench.measured import CheckpointSource
from ovsdino_bench.same_model import load_same_model
from ovsdino_runtime.backends import Backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import BackendUnavailable

_FREE = "free memory, ask for smaller --batches, or leave this way out of --against"
_COMPILE = (
    "install a compiler if there is none (g++ for a CPU, Triton for a GPU), or leave torch-compile out of "
    "--against"
)


class BatchedTorchBackend:
    """A PyTorch model that takes all windows in one batch; copies are included.

    Attributes:
        name: `torch-cpu`, `torch-cpu-bfloat16`, `torch-cuda-compiled`, ….
    """

    def __init__(
        self, model: OVSDINO, device: str, dtype: torch.dtype | None = None, *, compiled: bool = False
    ) -> None:
        """Prepare a model.

        Args:
            model: the model.
            device: where to compute.
            dtype: of the autocast; None for FP32.
            compiled: whether it goes through torch.compile, which does its work with the first windows.

        Raises:
            InferenceError: the device has no room for the model, or nothing can be compiled here.
        """
        kind = "" if dtype is None else "-" + str(dtype).removeprefix("torch.")
        self.name = f"torch-{device}{kind}{'-compiled' if compiled else ''}"
        self._device, self._dtype, self._compiled = device, dtype, compiled
        with self._telling("to take the model"):
            self._model: Callable[..., Any] = model.eval().to(device)
            if compiled:
                self._model = torch.compile(self._model)

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return L2-normalised features, float32 [B, D, h, w], for uint8 windows [B, S, S, 3].

        Raises:
            InferenceError: PyTorch fails, or torch.compile and the compiler that it calls.
        """
        autocast = torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype is not None)
        with self._telling(f"on {len(windows)} windows"), torch.inference_mode(), autocast:
            embeddings = self._model(torch.from_numpy(windows).to(self._device)).embeddings
            features = embeddings.float().cpu().numpy()
        return np.asarray(features, dtype=np.float32)

    def _telling(self, doing: str) -> AbstractContextManager[None]:
        # what compiling may raise has no common base but Exception
        kinds: tuple[type[Exception], ...] = (Exception,) if self._compiled else (RuntimeError, MemoryError)
        return told_in_a_line(self.name, doing, _COMPILE if self._compiled else _FREE, kinds)


def open_alternative(name: str, source: CheckpointSource, bundle: Bundle | None) -> Backend:
    """Open one of `ways.ALTERNATIVES`, on CUDA where PyTorch sees a GPU, else on the CPU.

    Args:
        name: which.
        source: the checkpoint.
        bundle: what must have been exported from it; None where that is known.

    Raises:
        CheckpointError: the checkpoint cannot be used, or is not the bundle's.
        BackendUnavailable: FP16 was asked for and there is no GPU.
        InferenceError: PyTorch cannot take the model.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "pytorch-fp16" and device == "cpu":
        raise BackendUnavailable(
            f"pytorch-fp16 was asked for, but PyTorch {torch.__version__} sees no GPU; use pytorch-bf16"
        )
    if bundle is None:
        model, _ = load_checkpoint(source.path, source.backbone_weights)
    else:
        model = load_same_model(bundle, source.path, source.backbone_weights)
    if name == "mmseg-style":
        return TorchBackend(model, device)
    dtype = {"pytorch-bf16": torch.bfloat16, "pytorch-fp16": torch.float16}.get(name)
    return BatchedTorchBackend(model, device, dtype, compiled=name == "torch-compile")
