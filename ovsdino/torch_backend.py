"""The PyTorch model behind the runtime's backend protocol, so that only the backend differs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovsdino.checkpoint import load_checkpoint
from ovsdino.model import OVSDINO
from ovsdino.teacher import Teacher
from ovsdino_runtime.errors import CheckpointError, InferenceError, OvsDinoError

_REMEDY = "free memory, or compute on another device"


class TorchBackend:
    """Runs a model eagerly, one window after another.

    Attributes:
        name: `torch-cpu`, `torch-cuda`, …; `torch-cpu-sam` where SAM's features go into the decoder.
        model: the model, in eval mode.
    """

    def __init__(self, model: OVSDINO, device: str = "cpu", sam: Teacher | None = None) -> None:
        """Prepare a model.

        Args:
            model: the model.
            device: where to compute.
            sam: whose features go into the decoder in place of the encoder's (table 4); a model without
                encoder (table 2) has no others.

        Raises:
            CheckpointError: the model has no encoder and no SAM is given, or a linear head, which has no use
                for one.
            InferenceError: the device has no room for the model, or cannot be used.
        """
        if sam is None and not model.config.encoder:
            raise CheckpointError(
                "the model was trained without encoder: it needs SAM's features at inference; name "
                "the SAM it was trained with by --sam"
            )
        if sam is not None and model.decoder is None:
            raise CheckpointError(
                "the model has a linear head, which has no use for SAM's features; leave out --sam"
            )
        self.name = f"torch-{device}" if sam is None else f"torch-{device}-sam"
        self._device = device
        self._sam = sam
        with told_in_a_line(self.name, "to take the model", _REMEDY):
            self.model = model.eval().to(device)
            if sam is not None:
                sam.to(torch.device(device))

    @classmethod
    def open(
        cls,
        checkpoint: Path,
        backbone_weights: str | None = None,
        device: str = "cpu",
        sam: Teacher | None = None,
    ) -> TorchBackend:
        """Open a checkpoint; see `load_checkpoint` and `TorchBackend` for the rest."""
        return cls(load_checkpoint(checkpoint, backbone_weights)[0], device, sam)

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return L2-normalised features, float32 [B, D, h, w], for uint8 windows [B, S, S, 3].

        Raises:
            InferenceError: PyTorch fails: out of memory, for instance.
        """
        with told_in_a_line(self.name, f"on {len(windows)} windows", _REMEDY), torch.inference_mode():
            parts = [self._embedded(torch.from_numpy(window[None])).cpu() for window in windows]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def _embedded(self, window: Tensor) -> Tensor:
        window = window.to(self._device)
        structure = None if self._sam is None else self._sam.features(enlarged(window, self._sam.image_px))
        embeddings: Tensor = self.model(window, structure=structure).embeddings
        return embeddings


@contextmanager
def told_in_a_line(
    name: str, doing: str, remedy: str, kinds: tuple[type[Exception], ...] = (RuntimeError, MemoryError)
) -> Iterator[None]:
    """Turn what PyTorch raises into one line.

    Args:
        name: the backend's.
        doing: what it was to do: "on 3 windows".
        remedy: what to do about it.
        kinds: what is turned; lack of memory and of a device are RuntimeErrors.

    Raises:
        InferenceError: PyTorch failed.
    """
    try:
        yield
    except OvsDinoError:
        raise
    except kinds as error:
        raise InferenceError(f"{name} failed {doing}: {_reason(error)}; {remedy}") from error


def _reason(error: Exception) -> str:
    """Return the first line of what PyTorch says, and the next where that only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def enlarged(windows: Tensor, side: int) -> Tensor:
    """Return uint8 windows [B, S, S, 3] as SAM sees them, uint8 [B, side, side, 3].

    Ours: bilinear, from the window itself. In training SAM sees its square of the photograph at the
    photograph's own resolution, which a window of the sliding protocol no longer has.
    """
    planes = windows.permute(0, 3, 1, 2).float()
    resized = F.interpolate(planes, size=(side, side), mode="bilinear", align_corners=False)
    return resized.round().to(torch.uint8).permute(0, 2, 3, 1)
