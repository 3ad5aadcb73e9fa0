"""The classes of all data sets together: their names, their text embeddings, their rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovsdino.data.labels import NO_CLASS, UNLABELLED
from ovsdino.data.samples import Source
from ovsdino_runtime.embeddings import unit
from ovsdino_runtime.errors import DataError, VocabularyError
from ovsdino_runtime.queries import asked_name
from ovsdino_runtime.vocabulary import resolve

_NOT_ASKED = {"-": UNLABELLED, "background": NO_CLASS}
Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class ClassTable:
    """One row for each different class of the training data.

    Attributes:
        names: N labels, as the first data set that has the class calls it.
        prompts: what the text encoder was asked for each.
        vectors: float32 [N, D], unit norm.
        rows: for each data set, the row of each of its class indices, or UNLABELLED (`-`), or
            NO_CLASS (`background`).
        notes: a sentence for each name that stands under another spelling.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    vectors: NDArray[np.float32]
    rows: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]

    @property
    def prompt_names(self) -> tuple[str, ...]:
        """Every name that the text encoder was asked for, sorted."""
        return tuple(sorted({name for prompts in self.prompts for name in prompts}))

    def rows_of(self, source: int) -> NDArray[np.int64]:
        """Return the different rows of a data set's classes, ascending, int64 [n]."""
        rows = sorted({row for row in self.rows[source] if row >= 0})
        return np.array(rows, dtype=np.int64)


def class_table(
    sources: Sequence[Source], known: Collection[str], embed: Embed, *, open_vocabulary: bool
) -> ClassTable:
    """Return the classes of data sets; those that ask for the same prompts share a row.

    Ours: a class of several prompts (`vehicle=car|bus`) gets the mean of their vectors, renormalised.

    Args:
        sources: the data sets.
        known: names that have an embedding.
        embed: names to unit vectors, float32 [n, D].
        open_vocabulary: whether any name can be embedded.

    Raises:
        VocabularyError: a name is not known.
        DataError: a data set names no class.
    """
    names: list[str] = []
    row_of: dict[tuple[str, ...], int] = {}
    rows: list[tuple[int, ...]] = []
    notes: list[str] = []
    for source in sources:
        own: list[int] = []
        for name in source.names:
            asked = asked_name(name).lower()
            if asked in _NOT_ASKED:
                own.append(_NOT_ASKED[asked])
                continue
            try:
                # One at a time: two labels of a data set may well be one class.
                resolution = resolve([name], known, open_vocabulary=open_vocabulary)
            except VocabularyError as error:
                raise VocabularyError(
                    f"{source.spec}: {error}; in the data set's names, write label=prompt"
                ) from error
            query = resolution.queries[0]
            notes.extend(note for note in resolution.notes if note not in notes)
            if query.prompts not in row_of:
                row_of[query.prompts] = len(names)
                names.append(query.label)
            own.append(row_of[query.prompts])
        if all(row < 0 for row in own):
            raise DataError(f"{source.spec} names no class")
        rows.append(tuple(own))
    prompts = tuple(row_of)
    every = sorted({name for group in prompts for name in group})
    vector = dict(zip(every, embed(every), strict=True))
    vectors = unit(np.stack([np.mean([vector[name] for name in group], axis=0) for group in prompts]))
    return ClassTable(tuple(names), prompts, vectors, tuple(rows), tuple(notes))
