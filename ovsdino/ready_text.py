"""Ready-made text embeddings: an .npz of arrays and a JSON file of their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ovsdino_runtime.embeddings import EmbeddingSet, Vectors, unit
from ovsdino_runtime.errors import CheckpointError
from ovsdino_runtime.files import NPZ_DAMAGE
from ovsdino_runtime.vocabulary import canonical_set

_UNIT_NORM_TOLERANCE = 1e-2  # they may have been stored in half precision


def read_embedding_sets(embeddings: Path, names: Path) -> dict[str, EmbeddingSet]:
    """Return ready-made vectors by vocabulary.

    Args:
        embeddings: an .npz with an array [n, D] for each set.
        names: a JSON object with the n names of each set, in the arrays' order.

    Raises:
        CheckpointError: a file cannot be read, the two do not fit together, or the vectors are no
            unit vectors of one size.
    """
    arrays, listed = _read_arrays(embeddings), _read_names(names)
    if set(arrays) != set(listed):
        odd = sorted(set(arrays) ^ set(listed))[0]
        raise CheckpointError(f"{embeddings} and {names} do not fit together: only one of them has {odd!r}")
    if not arrays:
        raise CheckpointError(f"{embeddings} holds no embeddings; give a file with an array a vocabulary")
    sizes = {array.shape[1:] for array in arrays.values()}
    if len(sizes) != 1 or any(array.ndim != 2 for array in arrays.values()):
        raise CheckpointError(
            f"{embeddings} must hold arrays [names, D] of one D; found shapes {sorted(sizes)}"
        )
    sets = {}
    for key, array in arrays.items():
        if len(array) != len(listed[key]):
            raise CheckpointError(
                f"{embeddings} has {len(array)} vectors for {key!r}, {names} has {len(listed[key])} names"
            )
        if not np.allclose(np.linalg.norm(array, axis=1), 1, atol=_UNIT_NORM_TOLERANCE):
            raise CheckpointError(f"{embeddings} holds vectors for {key!r} that are not of unit norm")
        sets[canonical_set(key)] = EmbeddingSet(names=listed[key], embeddings=unit(array))
    return sets


def _read_arrays(path: Path) -> dict[str, Vectors]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return {key: np.asarray(data[key], dtype=np.float32) for key in data.files}
    except NPZ_DAMAGE as error:
        raise CheckpointError(
            f"cannot read the text embeddings {path} ({error}); give an .npz of arrays"
        ) from error


def _read_names(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(name, str) for names in data.values() for name in names):
            raise ValueError("it holds other things than names")
        return {key: tuple(names) for key, names in data.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"cannot read the text names {path} ({error}); give a JSON object of lists of names"
        ) from error
