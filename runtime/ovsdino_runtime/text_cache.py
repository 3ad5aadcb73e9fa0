"""Text embeddings kept on disk between runs, one small file a name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.errors import OutputError
from ovsdino_runtime.files import NPZ_DAMAGE, atomic_file, ensure_folder

_UNIT_NORM_TOLERANCE = 1e-3


class TextCache:
    """Embeddings by name, for one text encoder and one list of templates.

    Whatever is wrong with the disk, the cache is only slower: what cannot be read is missing, and
    what cannot be written is not kept.

    Args:
        parent: the folder of all caches; None keeps nothing.
        key: everything the embeddings depend on beside the name.
    """

    def __init__(self, parent: Path | None, *key: object) -> None:
        digest = hashlib.sha256(json.dumps([str(part) for part in key]).encode()).hexdigest()
        self._folder = None if parent is None else parent / "text" / digest[:32]

    def get(self, name: str) -> NDArray[np.float32] | None:
        """Return the name's embedding, float32 [D], unit norm, or None if it is not kept whole."""
        if self._folder is None:
            return None
        try:
            # An .npz is a zip, which checksums its members.
            with self._path(name).open("rb") as file, np.load(file, allow_pickle=False) as data:
                kept, vector = str(data["name"]), data["embedding"]
        except NPZ_DAMAGE:
            return None
        whole = kept == name and vector.dtype == np.float32 and vector.ndim == 1
        if not whole or not abs(float(np.linalg.norm(vector)) - 1) < _UNIT_NORM_TOLERANCE:
            return None
        return np.asarray(vector, dtype=np.float32)

    def put(self, name: str, embedding: NDArray[np.float32]) -> None:
        """Keep a name's embedding, float32 [D], if the disk allows."""
        if self._folder is None:
            return
        try:
            ensure_folder(self._folder)
            with atomic_file(self._path(name)) as staged, staged.open("wb") as file:
                np.savez(file, name=np.array(name), embedding=embedding)
        except OutputError:
            pass

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.npz"
