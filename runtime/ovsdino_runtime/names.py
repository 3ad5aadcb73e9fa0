"""Names as people spell them: case, separators, plurals, and what is near a name."""

from __future__ import annotations

import difflib
import itertools
import re
import unicodedata
from collections.abc import Collection, Mapping

_SEPARATORS = re.compile(r"[\W_]+")
_IRREGULAR = {
    "men": "man",
    "people": "person",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "calves": "calf",
    "halves": "half",
    "busses": "bus",
    "quizzes": "quiz",
}
_ENDINGS = (  # plural ending, what the singular may end in; the likelier reading first
    ("ies", ("y", "ie")),
    ("ves", ("f", "fe", "ve")),
    ("men", ("man",)),
    ("sses", ("ss",)),
    ("ses", ("s", "se")),
    ("xes", ("x", "xe")),
    ("zes", ("z", "ze")),
    ("ches", ("ch", "che")),
    ("shes", ("sh", "she")),
    ("oes", ("o", "oe")),
)
_WORDS_WITH_ALL_READINGS = 4
_LEAST_LIKENESS = 0.75  # difflib's ratio: "zebar" is to zebra 0.8, "cone" to counter 0.73
_LEAST_LIKENESS_OF_SHORT = 0.66  # of three letters two must do: "dgo" is to dog 0.67


def plain(text: str) -> str:
    """Return a name as the text encoder should read it: lower case, single spaces, no underscores."""
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").split()).lower()


def readings(text: str) -> tuple[str, ...]:
    """Return the keys a name may be found under, the most literal first; empty for mere punctuation.

    A key is the name in lower case without anything between its letters; further keys read its words
    as plurals. Two names mean the same if they share a key.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = [word for word in _SEPARATORS.split(folded) if word]
    if not words:
        return ()
    options = [_word_readings(word) for word in words]
    if len(words) > _WORDS_WITH_ALL_READINGS:
        options = [choices[:1] for choices in options[:-1]] + options[-1:]
    return tuple(dict.fromkeys("".join(choice) for choice in itertools.product(*options)))


def _word_readings(word: str) -> list[str]:
    found = [word]
    if word in _IRREGULAR:
        found.append(_IRREGULAR[word])
    for ending, singulars in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending):
            found += [word[: -len(ending)] + singular for singular in singulars]
            break
    if word.endswith("s") and not word.endswith("ss") and len(word) > 2:
        found.append(word[:-1])
    return found


class NameIndex:
    """Finds known names under any spelling.

    Args:
        known: canonical names.
        labels: other words for lists of canonical names, such as a benchmark's labels.
    """

    def __init__(self, known: Collection[str], labels: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._known = frozenset(known)
        self._literal: dict[str, str] = {}
        self._derived: dict[str, str] = {}
        for name in sorted(self._known):
            keys = readings(name)
            for key in keys[:1]:
                self._literal.setdefault(key, name)
            for key in keys[1:]:
                self._derived.setdefault(key, name)
        self._labels = {
            readings(label)[0]: prompts
            for label, prompts in (labels or {}).items()
            if self._known.issuperset(prompts)
        }

    def find(self, text: str) -> tuple[str, ...]:
        """Return the known name a text spells, or a label's several; empty if there is none.

        An exact name wins over another spelling of one, that over a label, that over a plural.
        """
        stripped = text.strip()
        if stripped in self._known:
            return (stripped,)
        keys = readings(text)
        if not keys:
            return ()
        if keys[0] in self._literal:
            return (self._literal[keys[0]],)
        if keys[0] in self._labels:
            return self._labels[keys[0]]
        for table in (self._literal, self._derived):
            for key in keys:
                if key in table:
                    return (table[key],)
        return ()

    def several(self, text: str) -> tuple[str, ...]:
        """Return the known names that a text spells one after the other, if it is two or more, as written."""
        words, found = text.split(), []
        while words:
            ends = range(len(words), 0, -1)
            end = next((end for end in ends if self.find(" ".join(words[:end]))), None)
            if end is None:
                return ()
            found.append(" ".join(words[:end]))
            words = words[end:]
        return tuple(found) if len(found) > 1 else ()

    def nearest(self, text: str, count: int = 3) -> list[str]:
        """Return up to `count` known names for another: those in it, then those spelled much like it."""
        inside = self._inside(text)
        matcher = difflib.SequenceMatcher(autojunk=False)
        likeness: dict[str, float] = {}
        for key in readings(text) or (text,):
            matcher.set_seq2(key)
            for name in self._known:
                matcher.set_seq1((readings(name) or (name,))[0])
                likeness[name] = max(likeness.get(name, 0.0), matcher.ratio())
        least = _LEAST_LIKENESS if len(text) > 3 else _LEAST_LIKENESS_OF_SHORT
        near = [name for name in likeness if likeness[name] >= least]
        near.sort(key=lambda name: (-likeness[name], name))
        return list(dict.fromkeys((*inside, *near)))[:count]

    def _inside(self, text: str) -> list[str]:
        """Return the known names that words of a text spell, longer ones first: car in `the red car`."""
        words = text.split()
        spans = [
            " ".join(words[start : start + length])
            for length in range(len(words) - 1, 0, -1)
            for start in range(len(words) - length + 1)
        ]
        return [name for span in spans for name in self.find(span)]
