"""What can be asked for: class lists, and names as people write them resolved to names that are known."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ovsdino_runtime.class_lists import (
    IMAGENET_TEMPLATES,
    Vocabulary,
    benchmark_labels,
    canonical_set,
    related_sets,
    told_apart,
    vocabularies,
    vocabulary,
)
from ovsdino_runtime.errors import VocabularyError
from ovsdino_runtime.meanings import meanings
from ovsdino_runtime.names import NameIndex, plain
from ovsdino_runtime.queries import ClassQuery, parse_classes, parse_query, read_classes_file

__all__ = [
    "CLASS_LIMIT",
    "IMAGENET_TEMPLATES",
    "ClassQuery",
    "Resolution",
    "Vocabulary",
    "canonical_set",
    "parse_classes",
    "parse_query",
    "read_classes_file",
    "related_sets",
    "resolve",
    "vocabularies",
    "vocabulary",
]

CLASS_LIMIT = 65_535  # label maps are uint16 at most
_UNKNOWN_IN_AN_ERROR = 5
_NAME_IN_AN_ERROR = 60  # letters of one


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Names as they were understood.

    Attributes:
        queries: one for each request, in order.
        notes: one for each name that was understood as another ("'cars' -> car"), or is asked for by another.
    """

    queries: tuple[ClassQuery, ...]
    notes: tuple[str, ...]


def resolve(
    requests: Sequence[str | ClassQuery],
    known: Collection[str],
    *,
    open_vocabulary: bool,
    trained: Collection[str] = (),
) -> Resolution:
    """Return what is asked for, in names that are known.

    A name resolves if it is known exactly, in another case or spacing, as a benchmark's label, or in
    the plural; without a text encoder also by synonym ("automobile") or as a general word for known
    names ("vehicle"). There, a plain name that is known but not trained keeps its label and is asked for by
    a trained synonym ("motorbike" by "motorcycle"), unless a benchmark tells the two apart; in
    `label=name` the name is asked for itself.

    Args:
        requests: names, `label=name|name` for a class with synonyms, or ready queries.
        known: the names that have embeddings.
        open_vocabulary: whether a text encoder takes any other name as it is.
        trained: those of the known names that were among the training classes, as far as that matters.

    Raises:
        VocabularyError: there are no requests or more than 65,535; a name is empty or unknown; two
            requests have the same label or ask for the same names.
    """
    if not requests:
        raise VocabularyError("the class list is empty; name at least one class, as in: cars,road")
    if len(requests) > CLASS_LIMIT:
        raise VocabularyError(
            f"{len(requests):,} classes were asked for; at most {CLASS_LIMIT:,} are possible"
        )
    resolver = _Resolver(known, open_vocabulary, trained)
    asked = [_parsed(item) if isinstance(item, str) else item for item in requests]
    answers = [resolver.names(query.prompts) for query in asked]
    if resolver.unknown:
        raise VocabularyError(resolver.complaint())
    plain_words = [isinstance(item, str) and not set("=|") & set(item) for item in requests]
    general = [word and len(names) > 1 for word, names in zip(plain_words, answers, strict=True)]
    answers = _without_named_members(answers, general, resolver)
    queries = []
    for query, names, word in zip(asked, answers, plain_words, strict=True):
        label = query.label if not word else names[0] if len(names) == 1 else plain(query.label)
        prompts = (resolver.trained_for(names[0]),) if word and len(names) == 1 else names
        queries.append(ClassQuery(label=label, prompts=prompts))
    _refuse_duplicates(asked, queries)
    return Resolution(queries=tuple(queries), notes=tuple(_notes(asked, queries, resolver)))


@lru_cache(maxsize=4)
def _index_of(known: tuple[str, ...]) -> NameIndex:
    """Return the index of a bundle's names, which serves every question."""
    return NameIndex(known, benchmark_labels())


class _Resolver:
    """Looks names up; remembers how each was understood and which are unknown."""

    def __init__(self, known: Collection[str], open_vocabulary: bool, trained: Collection[str]) -> None:
        self.unknown: list[str] = []
        self.taken: dict[str, tuple[str, ...]] = {}
        self._known = known
        self._open = open_vocabulary
        self._trained = frozenset(trained)
        self._index = _index_of(tuple(known))

    def names(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Return the known names that prompts stand for, each once."""
        for prompt in prompts:
            if prompt not in self.taken:
                self.taken[prompt] = self._look_up(prompt)
        return tuple(dict.fromkeys(itertools.chain.from_iterable(self.taken[prompt] for prompt in prompts)))

    def trained_for(self, name: str) -> str:
        """Return a trained synonym to ask for a known name by; the name itself if it needs or has none."""
        if self._open or not self._trained or name in self._trained:
            return name
        return next((word for word in self.same(name) if word in self._trained), name)

    def same(self, name: str) -> Iterator[str]:
        """Yield the known names that mean what a known name means, the best first; it may be among them."""
        synonyms = itertools.chain.from_iterable(self._index.find(word) for word in meanings().same(name))
        return (word for word in synonyms if not told_apart(name, word))

    def complaint(self) -> str:
        """Return one line on all unknown names, offering the nearest known ones."""
        parts = []
        for name in self.unknown[:_UNKNOWN_IN_AN_ERROR]:
            if several := self._index.several(name):
                hint = f"separate classes by commas: {','.join(several)}"
            elif near := self._index.nearest(name):
                hint = f"nearest: {', '.join(near)}"
            else:
                hint = "nothing is near it"
            shown = name if len(name) <= _NAME_IN_AN_ERROR else f"{name[:_NAME_IN_AN_ERROR]}…"
            parts.append(f"{shown!r} ({hint})")
        more = len(self.unknown) - len(parts)
        listed = ", ".join(parts) + (f" and {more} more" if more > 0 else "")
        return (
            f"unknown class {listed}; without a text encoder only {len(self._known)} names are known, which "
            "`ovsdino-run --list-classes` lists: choose among them or export the bundle with --text-encoder"
        )

    def _look_up(self, name: str) -> tuple[str, ...]:
        if found := self._index.find(name):
            return found
        if self._open and plain(name):
            if "," in name:  # a text encoder would take all of it for one thing
                raise VocabularyError(
                    f"the class {name!r} holds a comma; give every class by itself, one a line"
                )
            return (plain(name),)
        for candidate in meanings().synonyms(name):
            if found := self._index.find(candidate):
                return found
        members = tuple(self._index.find(member) for member in meanings().members(name))
        if not any(members):
            self.unknown.append(name)
        return tuple(dict.fromkeys(itertools.chain.from_iterable(members)))


def _parsed(text: str) -> ClassQuery:
    query = parse_query(text)
    if plain(query.label) == "background":
        raise VocabularyError(
            f"{query.label!r} is no class to look for: leave it out and say what it is with --background"
        )
    return query


def _without_named_members(
    answers: Sequence[tuple[str, ...]], general: Sequence[bool], resolver: _Resolver
) -> list[tuple[str, ...]]:
    """Take out of a general word what is asked for by itself: in "vehicles, cars", cars are no vehicles.

    By whatever name: what is asked for as a motorbike is no vehicle as a motorcycle either.
    """
    if not any(general):
        return list(answers)
    plainly = [name for names, skip in zip(answers, general, strict=True) if not skip for name in names]
    named = {*plainly, *itertools.chain.from_iterable(map(resolver.same, plainly))}
    return [
        tuple(name for name in names if name not in named) or names if is_general else names
        for names, is_general in zip(answers, general, strict=True)
    ]


def _refuse_duplicates(asked: Sequence[ClassQuery], queries: Sequence[ClassQuery]) -> None:
    first: dict[object, int] = {}
    for number, query in enumerate(queries):
        for identity in (plain(query.label), frozenset(query.prompts)):
            other = first.setdefault(identity, number)
            if set(queries[other].prompts) != set(query.prompts):
                raise VocabularyError(
                    f"two classes are called {query.label!r}; give one of them another label"
                )
            if other != number:
                raise VocabularyError(
                    f"{asked[other].label!r} and {asked[number].label!r} are the same class, "
                    f"{' | '.join(query.prompts)}; name it once"
                )


def _notes(asked: Sequence[ClassQuery], queries: Sequence[ClassQuery], resolver: _Resolver) -> list[str]:
    notes = []
    for original, query in zip(asked, queries, strict=True):
        for prompt in original.prompts:
            names = [name for name in resolver.taken[prompt] if name in query.prompts]
            if not names:
                notes.append(f"{prompt!r} is asked for as {query.prompts[0]}, a synonym that was trained")
            elif names != [prompt]:
                notes.append(f"{prompt!r} -> {' | '.join(names)}")
    shared = Counter(name for query in queries for name in query.prompts)
    notes += [
        f"{name!r} is asked for by {count} classes; where they tie, the first wins"
        for name, count in shared.items()
        if count > 1
    ]
    return list(dict.fromkeys(notes))
