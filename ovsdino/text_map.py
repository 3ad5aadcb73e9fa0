"""A linear map that shortens text vectors, so that a small model has a small space of scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.embeddings import unit


def distinguishing_map(vectors: NDArray[np.float32], numbers: int) -> NDArray[np.float32]:
    """Return the linear map [numbers, D] that keeps most of what tells some vectors apart.

    Ours: the right singular vectors of the known names' embeddings from the second on, the strongest first.
    The first is what all names have in common, as Mu and Viswanath ("All-but-the-top", 2018) found of words:
    CLIP's vectors of two names have a cosine of 0.8 on average, and only the rest says which name it is.
    Without it the average is 0, and a small model has less to learn.

    Args:
        vectors: unit embeddings of the known names, float32 [N, D].
        numbers: how many are kept.

    Raises:
        ValueError: there are fewer vectors, or shorter ones.
    """
    if numbers >= min(vectors.shape):
        raise ValueError(f"{len(vectors)} vectors of {vectors.shape[1]} numbers do not fill {numbers}")
    _, _, directions = np.linalg.svd(vectors.astype(np.float64), full_matrices=False)
    kept = directions[1 : numbers + 1]
    # The signs of singular vectors are arbitrary; this makes them the same everywhere.
    largest = np.abs(kept).argmax(axis=1)
    signs = np.sign(kept[np.arange(numbers), largest])
    return np.asarray(kept * signs[:, None], dtype=np.float32)


def mapped(matrix: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors [N, D] in the shorter space, unit float32 [N, numbers]."""
    return unit(vectors @ matrix.T)
