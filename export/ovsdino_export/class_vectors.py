"""Which names a bundle or a baked graph knows, with their text embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ovsdino.checkpoint import CheckpointInfo
from ovsdino.model import OVSDINO
from ovsdino.text import (
    MODEL,
    PRETRAINED,
    embedding_sets,
    encode_names,
    read_embedding_sets,
    text_model_name,
)
from ovsdino.text_map import mapped
from ovsdino_export.baked import BakedClasses
from ovsdino_runtime.background import Background, background_notes, background_query
from ovsdino_runtime.embeddings import EmbeddingTable, Vectors
from ovsdino_runtime.errors import ExportError, VocabularyError
from ovsdino_runtime.vocabulary import IMAGENET_TEMPLATES, resolve, vocabularies, vocabulary


def text_map_of(model: OVSDINO) -> Vectors | None:
    """Return a model's map of text vectors, float32 [D, text_dim]; None where it has none."""
    return None if model.text_map is None else model.text_map.detach().cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where text embeddings come from: ready-made vectors if they are given, else open_clip.

    Attributes:
        vocabularies: the benchmarks whose names are wanted; empty for all.
        embeddings: ready-made vectors (.npz).
        names: their names, in the arrays' order (.json).
        model: open_clip's architecture; None is the paper's, or for ready-made vectors the checkpoint's.
        pretrained: open_clip's tag of its weights; None likewise.
    """

    vocabularies: tuple[str, ...] = ()
    embeddings: Path | None = None
    names: Path | None = None
    model: str | None = None
    pretrained: str | None = None

    def check(self, info: CheckpointInfo, *, text_encoder: bool = False) -> str:
        """Return the name of the text encoder; empty where nobody said what made ready-made vectors.

        Args:
            info: the checkpoint.
            text_encoder: whether the encoder itself is wanted beside the vectors.

        Raises:
            ExportError: the checkpoint was trained for another one.
        """
        unsaid = self.model is None and self.pretrained is None
        if self.embeddings is not None and unsaid and not text_encoder:
            return info.text_model
        name = text_model_name(self.model, self.pretrained)
        if info.text_model and info.text_model != name:
            raise ExportError(
                f"the checkpoint was trained for the text encoder {info.text_model}, but {name} was asked "
                "for; name the same with --text-model and --text-pretrained"
            )
        return name

    def templates(self, *, text_encoder: bool = False) -> tuple[str, ...]:
        """Return the prompts behind the vectors; none where ready-made ones do not say theirs.

        Args:
            text_encoder: whether the encoder itself is wanted, which asks in these prompts.
        """
        return IMAGENET_TEMPLATES if self.embeddings is None or text_encoder else ()


def embedding_table(source: TextSource, info: CheckpointInfo, text_map: Vectors | None) -> EmbeddingTable:
    """Return every name a bundle shall know; the names of the training are marked.

    Args:
        source: where vectors come from.
        info: the checkpoint.
        text_map: the model's map of text vectors, float32 [D, text_dim], or None.

    Raises:
        ExportError: the vectors are not of the checkpoint's size.
        VocabularyError: a vocabulary is unknown.
    """
    wanted = source.vocabularies
    if not wanted and source.embeddings is None:
        wanted = tuple(vocabularies())
    sets = embedding_sets(
        source.embeddings,
        source.names,
        wanted,
        _trained_beside(wanted, source, info.trained_names),
        model=source.model or MODEL,
        pretrained=source.pretrained or PRETRAINED,
    )
    table = EmbeddingTable.from_sets(sets, trained=info.trained_names)
    _check_size(table.embeddings.shape[1], info)
    if text_map is None:
        return table
    return replace(
        table,
        embeddings=mapped(text_map, table.embeddings),
        sets={
            key: replace(item, embeddings=mapped(text_map, item.embeddings))
            for key, item in table.sets.items()
        },
    )


def baked_classes(
    requests: Sequence[str],
    background: Background,
    source: TextSource,
    info: CheckpointInfo,
    text_map: Vectors | None,
) -> tuple[BakedClasses, tuple[str, ...]]:
    """Return classes for a baked graph, the background last if there is one, and notes on their names.

    Args:
        requests: as `ovsdino-run --classes` takes them.
        background: `threshold` cannot be baked.
        source: where embeddings come from.
        info: the checkpoint.
        text_map: see `embedding_table`.

    Raises:
        ExportError: the vectors are not of the checkpoint's size.
        VocabularyError: a class is unknown or named twice, or the background is a threshold.
    """
    if background.kind == "threshold":
        raise VocabularyError("a background threshold cannot be baked into a graph; use none, auto or names")
    table = embedding_table(source, info, text_map) if source.embeddings is not None else None
    if table is not None:
        known = frozenset(table.names)
    else:
        known = frozenset(
            name for item in vocabularies().values() for query in item.queries for name in query.prompts
        )
    resolution = resolve(requests, known, open_vocabulary=table is None, trained=info.trained_names)
    rest = background_query(
        background,
        resolution.queries,
        known,
        whole_vocabulary=False,
        open_vocabulary=table is None,
        trained=info.trained_names,
    )
    more_notes = background_notes(
        background,
        resolution.queries,
        known,
        open_vocabulary=table is None,
        trained=info.trained_names,
    )
    queries = resolution.queries if rest is None else (*resolution.queries, rest)
    prompts = [name for query in queries for name in query.prompts]
    if table is not None:
        vectors = table.lookup(prompts)
    else:
        vectors = encode_names(
            prompts, model=source.model or MODEL, pretrained=source.pretrained or PRETRAINED
        )
        _check_size(vectors.shape[1], info)
        vectors = vectors if text_map is None else mapped(text_map, vectors)
    baked = BakedClasses(queries=queries, embeddings=np.asarray(vectors, dtype=np.float32))
    return baked, (*resolution.notes, *more_notes)


def _trained_beside(wanted: Sequence[str], source: TextSource, trained: Sequence[str]) -> tuple[str, ...]:
    """Return the trained names that no wanted vocabulary holds but that have, or can get, a vector."""
    if not wanted:
        return ()
    named = {name for item in wanted for query in vocabulary(item).queries for name in query.prompts}
    beside = [name for name in trained if name not in named]
    if source.embeddings is not None and source.names is not None:
        ready = read_embedding_sets(source.embeddings, source.names)
        available = {name for item in ready.values() for name in item.names}
        beside = [name for name in beside if name in available]
    return tuple(beside)


def _check_size(found: int, info: CheckpointInfo) -> None:
    wanted = info.model.text_dim or info.model.embedding_dim
    if found != wanted:
        raise ExportError(
            f"the text embeddings have {found} numbers, but the checkpoint was trained on {wanted}; "
            "give the text encoder it was trained for"
        )
