"""CLIP's byte-pair tokenizer, from a JSON file of merges (tokenizer.json)."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.errors import BundleError

_FORMAT = "clip-bpe"
_END_OF_WORD = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's, for the regex package


class Tokenizer:
    """Turns texts into token ids.

    The ids are: 256 bytes, the same 256 at the end of a word, one id a merge, then the two marks.

    Args:
        merges: pairs of symbols that become one, the most frequent first.
        context_length: ids a text may have, both marks included.
        start: the mark before a text.
        end: the mark after a text; it has the largest id.
    """

    def __init__(
        self,
        merges: Sequence[tuple[str, str]],
        *,
        context_length: int = 77,
        start: str = "<start_of_text>",
        end: str = "<end_of_text>",
    ) -> None:
        import regex  # noqa: PLC0415  (only an open vocabulary needs it)

        if context_length < 2:
            raise ValueError(f"context_length is {context_length}, but both marks alone need 2")
        self.merges = tuple(merges)
        self.context_length = context_length
        self.start, self.end = start, end
        alphabet = list(_byte_symbols().values())
        symbols = [*alphabet, *(symbol + _END_OF_WORD for symbol in alphabet), *map("".join, self.merges)]
        self._ids = {symbol: number for number, symbol in enumerate([*symbols, start, end])}
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._words = regex.compile(f"{regex.escape(start)}|{regex.escape(end)}|{_WORDS}", regex.IGNORECASE)
        self._word_ids = lru_cache(maxsize=1 << 14)(self._split_word)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a tokenizer.json.

        Raises:
            BundleError: the file is no such tokenizer.
        """
        try:
            data: Any = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != _FORMAT or data["version"] != 1:
                raise ValueError(f"its format is {data['format']!r}, version {data['version']!r}")
            merges = [(first, second) for first, second in (merge.split(" ") for merge in data["merges"])]
            return cls(
                merges, context_length=int(data["context_length"]), start=data["start"], end=data["end"]
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(
                f"{path} is no tokenizer this version reads ({error}); export the bundle again"
            ) from error

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        data = {
            "format": _FORMAT,
            "version": 1,
            "context_length": self.context_length,
            "start": self.start,
            "end": self.end,
            "merges": [" ".join(merge) for merge in self.merges],
        }
        path.write_text(json.dumps(data, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """Return a text's ids without the marks, however many there are."""
        ids: list[int] = []
        for word in self._words.findall(_cleaned(text)):
            ids += self._word_ids(word)
        return ids

    def batch(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of texts with their marks, int64 [len(texts), longest], padded with 0.

        A text longer than the context is cut, and ends with the end mark all the same.
        """
        start, end = self._ids[self.start], self._ids[self.end]
        rows = [[start, *self.encode(text)[: self.context_length - 2], end] for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows), default=2)), dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        return ids

    def _split_word(self, word: str) -> tuple[int, ...]:
        symbols = [_byte_symbols()[byte] for byte in word.encode("utf-8")]
        if (mark := "".join(symbols)) in (self.start, self.end):
            return (self._ids[mark],)
        symbols[-1] += _END_OF_WORD
        while len(symbols) > 1:
            pairs = [pair for pair in pairwise(symbols) if pair in self._ranks]
            if not pairs:
                break
            symbols = _merged(symbols, min(pairs, key=self._ranks.__getitem__))
        return tuple(self._ids[symbol] for symbol in symbols)


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    position = 0
    while position < len(symbols):
        if tuple(symbols[position : position + 2]) == pair:
            merged.append(pair[0] + pair[1])
            position += 2
        else:
            merged.append(symbols[position])
            position += 1
    return merged


def _cleaned(text: str) -> str:
    """Return a text as CLIP reads it: repaired Unicode, no HTML entities, single spaces, lower case."""
    import ftfy  # noqa: PLC0415

    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(unescaped.split()).lower()


@lru_cache(maxsize=1)
def _byte_symbols() -> dict[int, str]:
    """Return a visible character for every byte, in the order of their ids.

    Printable Latin-1 stands for itself; the others take the characters from 256 on.
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    symbols = {byte: chr(byte) for byte in printable}
    rest = [byte for byte in range(256) if byte not in symbols]
    return symbols | {byte: chr(256 + place) for place, byte in enumerate(rest)}
