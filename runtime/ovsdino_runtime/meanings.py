"""Which words mean the same, and which are kinds or parts of which."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import resources

from ovsdino_runtime.names import plain, readings


class Meanings:
    """Which words mean the same, and which are kinds of which (data/synonyms.json).

    Args:
        same: lists of words of one meaning.
        taken_as: a word, and narrower words that may be answered with it.
        groups: a general word, and what it comprises.
        parts: a thing, and what is seen of it.
    """

    def __init__(
        self,
        same: Iterable[list[str]],
        taken_as: Mapping[str, list[str]],
        groups: Mapping[str, list[str]],
        parts: Mapping[str, list[str]],
    ) -> None:
        self._same: dict[str, list[list[str]]] = defaultdict(list)
        for words in same:
            for key in {readings(word)[0] for word in words}:
                self._same[key].append(words)
        self._broader: dict[str, list[str]] = defaultdict(list)
        self._narrower: dict[str, list[str]] = defaultdict(list)
        self._answers: dict[str, list[str]] = defaultdict(list)
        for general, words in [*taken_as.items(), *groups.items()]:
            for word in words:
                self._broader[readings(word)[0]].append(general)
                self._narrower[readings(general)[0]].append(word)
        for whole, words in parts.items():
            self._narrower[readings(whole)[0]] += words
        for general, words in taken_as.items():
            for word in words:
                self._answers[readings(word)[0]].append(general)
        self._groups = {readings(general)[0]: words for general, words in groups.items()}

    def same(self, text: str) -> Iterator[str]:
        """Yield the words of one meaning with the text, itself among them if it is listed."""
        for key in readings(text):
            for words in self._same.get(key, ()):
                yield from words

    def synonyms(self, text: str) -> Iterator[str]:
        """Yield words that can stand for the text, the best first."""
        yield from self.same(text)
        for key in readings(text):
            for general in self._answers.get(key, ()):
                yield general
                for words in self._same.get(readings(general)[0], ()):
                    yield from words

    def members(self, text: str) -> Iterator[str]:
        """Yield what a general word comprises, each followed by its synonyms."""
        for key in readings(text):
            for member in self._groups.get(key, ()):
                yield member
                for words in self._same.get(readings(member)[0], ()):
                    yield from words

    def overlapping(self, text: str) -> frozenset[str]:
        """Return the keys of everything a thing of that name may also be called.

        These are the name's synonyms, its kinds and parts, and what it is a kind of: a house is a
        building, so where houses are asked for, "building" is no name for the rest of the image. A name
        that is listed nowhere is a kind of its last word, a brick house of house; one that is listed is no
        more than what the lists say: neither is a potted plant all plants, nor a traffic light a lamp.
        """
        keys = set(readings(text))
        own = keys | {readings(word)[0] for word in self._neighbours(keys, {})}
        kinds = self._closure(own, self._narrower)
        listed = any(key in table for table in (self._same, self._broader, self._narrower) for key in keys)
        return frozenset(kinds | self._closure(own if listed else own | _head_keys(text), self._broader))

    def _closure(self, start: set[str], relation: Mapping[str, list[str]]) -> set[str]:
        found, new = set(start), set(start)
        while new:
            new = {readings(word)[0] for word in self._neighbours(new, relation)} - found
            found |= new
        return found

    def _neighbours(self, keys: Iterable[str], relation: Mapping[str, list[str]]) -> Iterator[str]:
        for key in keys:
            yield from itertools.chain.from_iterable(self._same.get(key, ()))
            yield from relation.get(key, ())


def _head_keys(text: str) -> set[str]:
    """Return the keys of a name's last word: a brick wall is a wall."""
    words = plain(text).split()
    return set(readings(words[-1])) if len(words) > 1 else set()


@lru_cache(maxsize=1)
def meanings() -> Meanings:
    """Return the synonyms and kinds that ship with the package."""
    text = resources.files("ovsdino_runtime").joinpath("data/synonyms.json").read_text(encoding="utf-8")
    return Meanings(**json.loads(text))
