"""What is asked of an image: classes as people write them, made into prompts and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.background import (
    BACKGROUND,
    STUFF,
    Background,
    background_notes,
    background_query,
    names_by_hand,
    parse_background,
)
from ovsdino_runtime.errors import VocabularyError
from ovsdino_runtime.text import TextEmbeddings
from ovsdino_runtime.vocabulary import ClassQuery, Vocabulary, resolve


@dataclass(frozen=True, kw_only=True)
class Question:
    """Classes to look for, with their text embeddings; one question serves many images.

    Attributes:
        names: labels in output order; the background, if there is one, is last.
        background_index: index of the background in `names`, or None.
        prompts: what the text encoder was asked, ascending by class.
        embeddings: float32 [P, D], one row a prompt.
        groups: int [P], the class of each prompt.
        threshold: cosine below which a pixel is background, or None.
        notes: what was understood differently from how it was written ("cars" is car).
        untrained: prompts whose name was not among the training classes.
    """

    names: tuple[str, ...]
    background_index: int | None
    prompts: tuple[str, ...]
    embeddings: NDArray[np.float32]
    groups: NDArray[np.intp]
    threshold: float | None
    notes: tuple[str, ...]
    untrained: tuple[str, ...]

    @property
    def by_class(self) -> dict[str, list[str]]:
        """The prompts of every class, by its name; none where a threshold decides."""
        found: dict[str, list[str]] = {name: [] for name in self.names}
        for prompt, group in zip(self.prompts, self.groups, strict=True):
            found[self.names[group]].append(prompt)
        return found


def prepare_question(
    text: TextEmbeddings,
    classes: Sequence[str | ClassQuery] | Vocabulary,
    background: Background | str = "auto",
) -> Question:
    """Return the question that stands for some classes.

    Args:
        text: names to embeddings.
        classes: names as people write them, or a benchmark's vocabulary, which uses its own vectors.
        background: what happens to pixels of none of the classes, see `parse_background`.

    Raises:
        VocabularyError: a name is unknown, twice there or missing, or the policy makes no sense.
        TypeError: `classes` is one text instead of a list.
    """
    if isinstance(classes, str):
        raise TypeError(f"classes must be a list of names; for one class pass [{classes!r}]")
    whole = isinstance(classes, Vocabulary)
    requests: Sequence[str | ClassQuery] = classes.queries if isinstance(classes, Vocabulary) else classes
    policy = parse_background(background) if isinstance(background, str) else background
    if policy.kind == "auto" and isinstance(classes, Vocabulary) and classes.has_background:
        policy = Background(kind="names", names=STUFF)
    known, is_open = text.known, text.open_vocabulary
    resolution = resolve(requests, known, open_vocabulary=is_open, trained=text.trained)
    queries = list(resolution.queries)
    names = [query.label for query in queries]
    rest = background_query(
        policy,
        queries,
        known,
        whole_vocabulary=whole,
        open_vocabulary=is_open,
        trained=text.trained,
    )
    if rest is not None:
        queries.append(rest)
    has_background = rest is not None or policy.threshold is not None
    if has_background and BACKGROUND in names:
        raise VocabularyError(
            f"a class is called {BACKGROUND!r} and the policy adds one of that name; "
            "call it otherwise or use --background none"
        )
    more_notes = background_notes(
        policy, resolution.queries, known, open_vocabulary=is_open, trained=text.trained
    )
    prompts = tuple(prompt for query in queries for prompt in query.prompts)
    typed = queries if names_by_hand(policy) else resolution.queries
    asked = {prompt for query in typed for prompt in query.prompts}
    return Question(
        names=(*names, BACKGROUND) if has_background else tuple(names),
        background_index=len(names) if has_background else None,
        prompts=prompts,
        embeddings=text.embed(prompts, classes.name if isinstance(classes, Vocabulary) else None),
        groups=np.repeat(np.arange(len(queries)), [len(query.prompts) for query in queries]),
        threshold=policy.threshold,
        notes=(*resolution.notes, *more_notes),
        untrained=tuple(sorted(asked - text.trained)),
    )
