"""Class requests as people type them, in a list, a file or one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovsdino_runtime.errors import VocabularyError

_COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True, kw_only=True)
class ClassQuery:
    """One class to look for.

    Attributes:
        label: what the output calls it.
        prompts: names the text encoder is asked for; a pixel's best score among them counts.
    """

    label: str
    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a class that could never be found.

        Raises:
            ValueError: it has no prompts.
        """
        if not self.prompts:
            raise ValueError(f"the class {self.label!r} has no prompts; name at least one")


def parse_query(text: str) -> ClassQuery:
    """Return the query in `name`, `name|name` or `label=name|name`, as it is written.

    Raises:
        VocabularyError: the label or a name is empty.
    """
    label, equals, names = text.partition("=")
    prompts = tuple(part.strip() for part in (names if equals else text).split("|"))
    label = label.strip()
    if not label or not all(prompts):
        raise VocabularyError(f"the class {text!r} has an empty name; write it as in: car or vehicle=car|bus")
    return ClassQuery(label=label, prompts=prompts)


def asked_name(text: str) -> str:
    """Return what a data set's name asks for: what follows `label=`, or else all of it."""
    return (text.partition("=")[2] or text).strip()


def parse_classes(text: str) -> tuple[str, ...]:
    """Return the requests in a comma-separated text: "cars, vehicle=car|bus" gives two.

    Raises:
        VocabularyError: there are none.
    """
    requests = tuple(part.strip() for part in text.split(",") if part.strip())
    if not requests:
        raise VocabularyError(f"the class list {text!r} is empty; name at least one class, as in: cars,road")
    return requests


def read_classes_file(path: Path) -> tuple[str, ...]:
    """Return the requests in a text file, one a line; `#` begins a comment, blank lines are skipped.

    Raises:
        VocabularyError: the file cannot be read, is not UTF-8 text, or names no class.
    """
    return _named(_lines_of(path), path)


def parse_value_names(text: str) -> tuple[str, ...]:
    """Return the names of a data set's values, the first of value 0, in a comma-separated text.

    Raises:
        VocabularyError: there are none, or one in between is empty: later names would be of other values.
    """
    _refuse_gap([part.strip() for part in text.split(",")], f"the names {text!r}", "name")
    return parse_classes(text)


def read_value_names(path: Path) -> tuple[str, ...]:
    """Return the names of a data set's values, one a line, the first of value 0.

    Raises:
        VocabularyError: as `read_classes_file`, or a line between names has none.
    """
    lines = _lines_of(path)
    first = next((number for number, line in enumerate(lines) if line), 0)
    _refuse_gap(["-"] * first + lines[first:], str(path), "line")
    return _named(lines, path)


def _refuse_gap(parts: Sequence[str], where: str, what: str) -> None:
    last = max((number for number, part in enumerate(parts) if part), default=0)
    for number, part in enumerate(parts[:last], start=1):
        if not part:
            raise VocabularyError(
                f"{what} {number} of {where} is empty, and the place of a name is its value; write - for a "
                "value that is unlabelled"
            )


def _named(lines: Sequence[str], path: Path) -> tuple[str, ...]:
    requests = tuple(filter(None, lines))
    if not requests:
        raise VocabularyError(f"the class list {path} names no class; write one a line")
    return requests


def _lines_of(path: Path) -> list[str]:
    """Return a class list's lines without comments.

    Raises:
        VocabularyError: it cannot be read, or is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise VocabularyError(
            f"cannot read the class list {path}: {error.strerror}; check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise VocabularyError(f"the class list {path} is not UTF-8 text; save it as UTF-8") from error
    return [_COMMENT.sub("", line).strip() for line in text.splitlines()]
