"""What the JSON of a report must look like where it is read, and the first place where it does not.

A shape is a function of a value and of where it stands; it raises ValueError in words for a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = Callable[[Any, str], None]


def anything(value: Any, where: str) -> None:
    """Accept whatever stands there."""


def number(value: Any, where: str) -> None:
    """Accept a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _no(value, where, "a number")


def positive(value: Any, where: str) -> None:
    """Accept a number above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise _no(value, where, "a number above zero")


def text(value: Any, where: str) -> None:
    """Accept a text."""
    if not isinstance(value, str):
        raise _no(value, where, "a text")


def number_or_numbers(value: Any, where: str) -> None:
    """Accept a number or a list of them."""
    (listed(number) if isinstance(value, list) else number)(value, where)


def optional(shape: Shape) -> Shape:
    """Accept null too."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            shape(value, where)

    return check


def listed(shape: Shape, *, least: int = 0, most: int | None = None) -> Shape:
    """Accept a list of some length whose items have a shape."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _no(value, where, "a list")
        if len(value) < least or (most is not None and len(value) > most):
            raise ValueError(
                f"{where} has {len(value)} items in place of {least}{'' if most else ' or more'}"
            )
        for place, item in enumerate(value):
            shape(item, f"{where}[{place}]")

    return check


def named(shape: Shape) -> Shape:
    """Accept a table of any names whose values have a shape."""

    def check(value: Any, where: str) -> None:
        for name, item in _table(value, where).items():
            shape(item, f"{where}.{name}")

    return check


def record(needed: Mapping[str, Shape], rest: Mapping[str, Shape] | None = None) -> Shape:
    """Accept a table with some names, and with others that need not be there; what else it holds is free."""

    def check(value: Any, where: str) -> None:
        table = _table(value, where)
        for name in needed:
            if name not in table:
                raise ValueError(f"it lacks {name!r}" + (f" in {where}" if where else ""))
        for name, shape in {**needed, **(rest or {})}.items():
            if name in table:
                shape(table[name], f"{where}.{name}" if where else name)

    return check


def fields(names: Sequence[str], shape: Shape) -> dict[str, Shape]:
    """Return the same shape for several names."""
    return dict.fromkeys(names, shape)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _no(value, where or "it", "a table")
    return value


def _no(value: Any, where: str, wanted: str) -> ValueError:
    shown = repr(value)
    return ValueError(f"{where} is {shown if len(shown) <= 40 else shown[:40] + '…'} in place of {wanted}")
