"""What the PyTorch model itself gives, in FP32: the reference of every export."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ovsdino.model import OVSDINO
from ovsdino_runtime.errors import ExportError


def reference_features(model: OVSDINO, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the model's features, float32 [n, D, h, w], one window at a time.

    Args:
        model: the model, not the graph made from it.
        windows: uint8 [n, window, window, 3].

    Raises:
        ExportError: they are not finite, so the weights are broken.
    """
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        features = [model(torch.from_numpy(window[None]).to(device)).embeddings.cpu() for window in windows]
    found: NDArray[np.float32] = torch.cat(features).numpy()
    if not np.all(np.isfinite(found)):
        raise ExportError("the model gives NaN or Inf in PyTorch already; export an earlier checkpoint")
    return found


def reference_scores(
    features: NDArray[np.float32], embeddings: NDArray[np.float32], prompts: Sequence[int]
) -> NDArray[np.float32]:
    """Return each class's cosine, the best of its prompts, float32 [n, C, h, w].

    Args:
        features: float32 [n, D, h, w], unit norm.
        embeddings: float32 [P, D], unit norm, the prompts of the first class first.
        prompts: how many prompts each class has.
    """
    scores = _cosines(features, embeddings)
    best = [part.amax(dim=1) for part in torch.split(scores, list(prompts), dim=1)]
    return torch.stack(best, dim=1).numpy()


def reference_labels(
    features: NDArray[np.float32], embeddings: NDArray[np.float32], prompts: Sequence[int], window_px: int
) -> NDArray[np.int64]:
    """Return labels, int64 [n, window, window]: every prompt upsampled, then the best class.

    Args:
        features: float32 [n, D, h, w], unit norm.
        embeddings: as in `reference_scores`.
        prompts: as in `reference_scores`.
        window_px: side of the window.
    """
    labels = []
    for window in _cosines(features, embeddings):
        size = (window_px, window_px)
        upsampled = F.interpolate(window[None], size=size, mode="bilinear", align_corners=False)[0]
        classes = [part.amax(dim=0) for part in torch.split(upsampled, list(prompts), dim=0)]
        labels.append(torch.stack(classes).argmax(dim=0))
    return torch.stack(labels).numpy()


def _cosines(features: NDArray[np.float32], embeddings: NDArray[np.float32]) -> torch.Tensor:
    return torch.einsum("ndhw,pd->nphw", torch.from_numpy(features), torch.from_numpy(embeddings))
