"""Names to embeddings: the bundle's vocabulary first, its text encoder second."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino_runtime.backends.ort import open_session
from ovsdino_runtime.bundle import TEXT_GRAPH, TEXT_MAP, TOKENIZER, Bundle
from ovsdino_runtime.embeddings import Vectors, unit
from ovsdino_runtime.errors import BundleError, VocabularyError
from ovsdino_runtime.files import user_cache
from ovsdino_runtime.text_cache import TextCache
from ovsdino_runtime.tokenizer import Tokenizer
from ovsdino_runtime.vocabulary import related_sets


def ensemble(vectors: Vectors) -> Vectors:
    """Return the embedding of a name, float32 [D], from those of its prompts.

    Each is normalised, they are averaged, the mean is normalised (docs/protocol.md).

    Args:
        vectors: float32 [T, D], one a template, of any length.

    Raises:
        ValueError: a vector is zero or not finite.
    """
    mean: Vectors = unit(unit(vectors).mean(axis=0, keepdims=True))[0]
    return mean


def prompts_of(name: str, templates: Sequence[str]) -> list[str]:
    """Return a name in every template, whose `{}` it takes the place of."""
    return [template.replace("{}", name) for template in templates]


class TextEmbeddings:
    """The text side of a bundle.

    Attributes:
        known: the names that need no text encoder.
        trained: those of them that were among the training classes.
        open_vocabulary: whether the bundle has a text encoder, which takes any other name.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._table = bundle.embeddings()
        self._vectors = dict(zip(self._table.names, self._table.embeddings, strict=True))
        self.known = frozenset(self._table.names)
        self.trained = frozenset(
            name for name, trained in zip(self._table.names, self._table.trained, strict=True) if trained
        )
        self.open_vocabulary = bundle.has(TEXT_GRAPH) and bundle.has(TOKENIZER)

    def embed(self, prompts: Sequence[str], vocabulary: str | None = None) -> NDArray[np.float32]:
        """Return one vector a prompt, float32 [P, D], unit norm.

        Args:
            prompts: canonical names, as `resolve` gives them.
            vocabulary: a benchmark whose own vectors come before those of the whole table.

        Raises:
            VocabularyError: a name is not known and there is no text encoder.
            BundleError: the text encoder or its tokenizer cannot be used.
            BackendUnavailable: the text encoder is needed and there is no ONNX Runtime.
        """
        vectors = {**self._vectors, **(self._own_vectors(vocabulary) if vocabulary else {})}
        others = [name for name in dict.fromkeys(prompts) if name not in vectors]
        if others and not self.open_vocabulary:
            raise VocabularyError(
                f"the bundle {self._bundle.path} has no embedding of {others[0]!r} and no text encoder; "
                "export it with --text-encoder, or with a vocabulary that has the name"
            )
        vectors.update(self._encoded(others))
        dim = self._bundle.manifest.embedding_dim
        return np.array([vectors[name] for name in prompts], dtype=np.float32).reshape(len(prompts), dim)

    def _own_vectors(self, vocabulary: str) -> dict[str, Vectors]:
        for name in related_sets(vocabulary):
            if found := self._table.sets.get(name):
                return dict(zip(found.names, found.embeddings, strict=True))
        return {}

    def _encoded(self, names: Sequence[str]) -> dict[str, Vectors]:
        found = {name: vector for name in names if (vector := self._kept(name)) is not None}
        missing = [name for name in names if name not in found]
        # A name takes most of a second, so the bar appears only when there are several.
        for name in tqdm(missing, "text encoder", unit="name", delay=1, leave=False, disable=None):
            found[name] = self._encode(name)
            self._cache.put(name, found[name])
        return found

    def _kept(self, name: str) -> Vectors | None:
        vector = self._cache.get(name)
        return vector if vector is not None and len(vector) == self._bundle.manifest.embedding_dim else None

    def _encode(self, name: str) -> Vectors:
        # Trimmed to the longest prompt: exact under the causal mask, and 7 times faster than 77 ids.
        ids = self._tokenizer.batch(prompts_of(name, self._bundle.manifest.templates))
        path, session, text_map = self._bundle.path / TEXT_GRAPH, self._session, self._text_map
        try:
            (vectors,) = session.run(None, {session.get_inputs()[0].name: ids})
            vector = ensemble(np.asarray(vectors, dtype=np.float32))
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise BundleError(f"{path} cannot encode {name!r} ({first}); export the bundle again") from error
        wanted = self._bundle.manifest.embedding_dim if text_map is None else text_map.shape[1]
        if vector.shape != (wanted,):
            raise BundleError(
                f"{path} gives {len(vector)} numbers a name, the bundle's features need {wanted}; "
                "export the bundle again"
            )
        return vector if text_map is None else unit((text_map @ vector)[None])[0]

    @cached_property
    def _session(self) -> Any:
        return open_session(self._bundle.file(TEXT_GRAPH), "cpu")

    @cached_property
    def _text_map(self) -> Vectors | None:
        return self._bundle.text_map()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self._bundle.file(TOKENIZER))

    @cached_property
    def _cache(self) -> TextCache:
        manifest = self._bundle.manifest
        # The graph's weights may lie beside it, in text.onnx.data.
        parts = (TOKENIZER, TEXT_MAP, TEXT_GRAPH)
        names = sorted(name for name in manifest.files if name.startswith(parts))
        return TextCache(user_cache(), *(manifest.files[name].sha256 for name in names), *manifest.templates)
