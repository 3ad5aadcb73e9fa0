"""Class names and their text embeddings, as a bundle ships them (vocabulary.npz)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.errors import BundleError
from ovsdino_runtime.files import NPZ_DAMAGE

Vectors = NDArray[np.float32]
_SET = "set/"


@dataclass(frozen=True, kw_only=True)
class EmbeddingSet:
    """The vectors of one named vocabulary, in its own order: what its benchmark uses.

    Attributes:
        names: n prompt names.
        embeddings: float32 [n, D], unit norm.
    """

    names: tuple[str, ...]
    embeddings: Vectors


@dataclass(frozen=True, kw_only=True)
class EmbeddingTable:
    """Every name that is known, once.

    Attributes:
        names: N different names, sorted.
        embeddings: float32 [N, D], unit norm.
        trained: bool [N], whether the name was among the training classes.
        sets: the vocabularies the names came from, by name (`cityscapes`, `ade20k`, …).
    """

    names: tuple[str, ...]
    embeddings: Vectors
    trained: NDArray[np.bool_]
    sets: Mapping[str, EmbeddingSet]

    @classmethod
    def from_sets(cls, sets: Mapping[str, EmbeddingSet], trained: Collection[str]) -> EmbeddingTable:
        """Return the union of the sets.

        Ours: a name that stands in several sets gets the mean of its vectors, renormalised.

        Args:
            sets: vocabularies by name.
            trained: the names that training used.

        Raises:
            ValueError: no names, or the sets differ in D.
        """
        sums: dict[str, Vectors] = {}
        for item in sets.values():
            for name, vector in zip(item.names, item.embeddings, strict=True):
                sums[name] = sums.get(name, np.zeros_like(vector)) + vector
        if not sums:
            raise ValueError("an embedding table needs at least one name")
        names = tuple(sorted(sums))
        stacked = np.stack([sums[name] for name in names])
        return cls(
            names=names,
            embeddings=unit(stacked),
            trained=np.array([name in set(trained) for name in names], dtype=np.bool_),
            sets=dict(sets),
        )

    def lookup(self, names: Collection[str]) -> Vectors:
        """Return the vectors of known names, float32 [len(names), D].

        Raises:
            KeyError: a name is not known.
        """
        index = {name: row for row, name in enumerate(self.names)}
        return self.embeddings[[index[name] for name in names]]

    def save(self, path: Path) -> None:
        """Write the table as an .npz without pickles."""
        arrays: dict[str, NDArray[np.generic]] = {
            "names": np.array(self.names, dtype=np.str_),
            "embeddings": self.embeddings.astype(np.float32),
            "trained": self.trained,
        }
        for key, item in self.sets.items():
            arrays[f"{_SET}{key}/names"] = np.array(item.names, dtype=np.str_)
            arrays[f"{_SET}{key}/embeddings"] = item.embeddings.astype(np.float32)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> EmbeddingTable:
        """Read a table.

        Raises:
            BundleError: the file is not such a table, or its vectors are not finite unit vectors.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                keys = sorted(key[len(_SET) : -len("/names")] for key in data if key.endswith("/names"))
                table = cls(
                    names=tuple(data["names"].tolist()),
                    embeddings=data["embeddings"].astype(np.float32),
                    trained=data["trained"].astype(np.bool_),
                    sets={
                        key: EmbeddingSet(
                            names=tuple(data[f"{_SET}{key}/names"].tolist()),
                            embeddings=data[f"{_SET}{key}/embeddings"].astype(np.float32),
                        )
                        for key in keys
                    },
                )
        except NPZ_DAMAGE as error:
            raise BundleError(f"{path} is no embedding table ({error}); export the bundle again") from error
        fit = len(table.names) == len(table.trained) and _are_unit(table.embeddings, len(table.names))
        dim = table.embeddings.shape[-1]
        sets_fit = (_are_unit(item.embeddings, len(item.names), dim) for item in table.sets.values())
        if not fit or not all(sets_fit):
            raise BundleError(f"{path} holds vectors that are not of unit norm; export the bundle again")
        return table


def _are_unit(vectors: Vectors, count: int, dim: int | None = None) -> bool:
    """Return whether there are so many vectors, of so many numbers, all of unit norm."""
    shaped = vectors.ndim == 2 and len(vectors) == count and dim in (None, vectors.shape[1])
    return shaped and bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3))


def unit(vectors: Vectors) -> Vectors:
    """Return the rows of [n, D] scaled to unit norm.

    Raises:
        ValueError: a row is zero or not finite.
    """
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)) or not np.all(norms > 0):
        raise ValueError("a text embedding is zero or not finite")
    return np.asarray(vectors / norms, dtype=np.float32)
