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
from ovsdino_runtime.queries import ClassQuery, asked_name
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
        queries: list[ClassQuery | None] = []
        for name in source.names:
            if asked_name(name).lower() in _NOT_ASKED:
                queries.append(None)
                continue
            try:
                # One at a time: two labels of a data set may well be one class.
                resolution = resolve([name], known, open_vocabulary=open_vocabulary)
            except VocabularyError as error:
                raise VocabularyError(
                    f"{source.spec}: {error}; in the data set's names, write label=prompt"
                ) from error
            queries.append(resolution.queries[0])
            notes.extend(note for note in resolution.notes if note not in notes)
        for name, query in zip(source.names, queries, strict=True):
            if query is None:
                own.append(_NOT_ASKED[asked_name(name).lower()])
                continue
            prompts = _beside_others(name, query, queries)
            if prompts not in row_of:
                row_of[prompts] = len(names)
                names.append(query.label)
            own.append(row_of[prompts])
        if all(row < 0 for row in own):
            raise DataError(f"{source.spec} names no class")
        rows.append(tuple(own))
    groups = tuple(row_of)
    every = sorted({name for group in groups for name in group})
    vector = dict(zip(every, embed(every), strict=True))
    vectors = unit(np.stack([np.mean([vector[name] for name in group], axis=0) for group in groups]))
    return ClassTable(tuple(names), groups, vectors, tuple(rows), tuple(notes))


def _beside_others(name: str, query: ClassQuery, queries: Sequence[ClassQuery | None]) -> tuple[str, ...]:
    """Return a class's prompts; a general word stands for those that are not a class of the data set too.

    As at inference: where "vehicle" and "car" are classes, cars are no vehicles.
    """
    if set("=|") & set(name) or len(query.prompts) == 1:
        return query.prompts
    taken = {prompt for other in queries if other and len(other.prompts) == 1 for prompt in other.prompts}
    return tuple(prompt for prompt in query.prompts if prompt not in taken) or query.prompts
