"""Commands whose packages are optional say which to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ovsdino_runtime.errors import BackendUnavailable


@contextmanager
def needing(extras: str, what: str) -> Iterator[None]:
    """Turn the lack of a package, while importing, into one line on what to install.

    Args:
        extras: as pip takes them: `export,cpu`.
        what: what needs them: "exporting".

    Raises:
        BackendUnavailable: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ovsdino"):
            raise  # a mistake of ours, which no installation mends
        raise BackendUnavailable(
            f"{what} needs {error.name}, which is not installed; {how_to_install(extras)}"
        ) from error


def how_to_install(extras: str) -> str:
    """Return what to do about missing extras, as the end of a sentence."""
    return f"install ovsdino[{extras}]: in the checkout, run pip install '.[{extras}]'"
