"""The text side of a training: which names are known, their vectors, and the classes of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino import text
from ovsdino.data.classes import ClassTable, class_table
from ovsdino.data.leave_out import leave_out
from ovsdino.data.samples import Sample, Source
from ovsdino.settings import TrainConfig
from ovsdino_runtime.embeddings import EmbeddingTable
from ovsdino_runtime.vocabulary import parse_classes, vocabularies

_NAMES_IN_A_NOTE = 8


class KnownNames:
    """Names and their text vectors: ready-made ones, or whatever open_clip is asked for.

    Attributes:
        names: those that need no asking; all there are, or those of the benchmarks.
        open_vocabulary: whether any other name can be embedded too.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Read ready-made vectors where the settings name them.

        Raises:
            CheckpointError: they cannot be read.
        """
        self._model = config.text_model or text.MODEL
        self._pretrained = config.text_pretrained or text.PRETRAINED
        self._ready: EmbeddingTable | None = None
        if config.text_embeddings is not None and config.text_names is not None:
            sets = text.read_embedding_sets(config.text_embeddings, config.text_names)
            self._ready = EmbeddingTable.from_sets(sets, ())
            self.names = frozenset(self._ready.names)
        else:
            queries = (query for item in vocabularies().values() for query in item.queries)
            self.names = frozenset(name for query in queries for name in query.prompts)
        self.open_vocabulary = self._ready is None

    def embed(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of names, float32 [n, D].

        Raises:
            CheckpointError: the text encoder cannot be loaded.
        """
        if self._ready is not None:
            return self._ready.lookup(names)
        return text.encode_names(names, model=self._model, pretrained=self._pretrained)

    def all(self) -> tuple[NDArray[np.float32], str]:
        """Return the vectors of `names` in alphabetical order, float32 [N, D], and a digest of both."""
        names = sorted(self.names)
        vectors = self.embed(names)
        digest = hashlib.sha256("\n".join(names).encode() + np.ascontiguousarray(vectors).tobytes())
        return vectors, digest.hexdigest()

    def identity(self) -> str:
        """Return a digest of the names and of what gives their vectors, the same on every machine.

        An encoder's own vectors differ in their last bits from machine to machine, its name does not.
        """
        if self._ready is not None:
            return self.all()[1]
        names = "\n".join(sorted(self.names))
        maker = text.text_model_name(self._model, self._pretrained)
        return hashlib.sha256(f"{names}\n{maker}".encode()).hexdigest()


def training_classes(
    config: TrainConfig, known: KnownNames, sources: Sequence[Source], extra: Sequence[Source]
) -> tuple[tuple[Source, ...], ClassTable]:
    """Return the training data without the names left out, and the classes of all data.

    Raises:
        DataError: a data set names no class, or has nothing left without the names left out.
        VocabularyError: a name is unknown.
    """
    if config.leave_out:
        names = parse_classes(config.leave_out)
        sources = leave_out(sources, names, known.names, open_vocabulary=known.open_vocabulary)
    table = class_table([*sources, *extra], known.names, known.embed, open_vocabulary=known.open_vocabulary)
    return tuple(sources), table


def trained_names(table: ClassTable, samples: Sequence[tuple[int, Sample]]) -> tuple[tuple[str, ...], str]:
    """Return what the text encoder was asked for, for each class that an image shows, and a note on others.

    A class that no image shows is only ever learned as absent: that is no training. Labels are read until
    each of a data set's classes was met.

    Args:
        table: the classes.
        samples: number of the data set and sample of each training image.

    Raises:
        DataError: labels cannot be read.
    """
    missing = {source: {row for row in table.rows[source] if row >= 0} for source, _ in samples}
    asked = set[int]().union(*missing.values())
    found: set[int] = set()
    for source, sample in tqdm(samples, "looking for classes", unit="image", leave=False, delay=1):
        if missing[source]:
            shown = {table.rows[source][index] for index in sample.shown()}
            found |= shown & missing[source]
            missing[source] -= shown
    names = tuple(sorted({name for row in found for name in table.prompts[row]}))
    unseen = sorted(table.names[row] for row in asked - found)
    if not unseen:
        return names, ""
    more = f" and {len(unseen) - _NAMES_IN_A_NOTE} more" if len(unseen) > _NAMES_IN_A_NOTE else ""
    return names, f"no image shows {', '.join(unseen[:_NAMES_IN_A_NOTE])}{more}; they count as untrained"


def text_model_of(config: TrainConfig, numbers: int) -> tuple[str, str]:
    """Return what made the text vectors, empty where nobody said, and a description for people.

    Ready-made vectors do not tell.
    """
    name = text.text_model_name(config.text_model, config.text_pretrained)
    if config.text_embeddings is None:
        return name, name
    said = name if config.text_model or config.text_pretrained else ""
    described = f"ready-made: {config.text_embeddings.name}, {numbers} numbers"
    return said, f"{described}, {said}" if said else described
