"""Commands whose packages are optional say which to install."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ovsdino_runtime.errors import BackendUnavailable

_REQUIREMENTS = {"onnx": '"onnx>=1.17"'}  # what pip is asked for, where that is not the name alone


@contextmanager
def explained(explain: Callable[[ModuleNotFoundError], BackendUnavailable]) -> Iterator[None]:
    """Turn the lack of a package, while importing, into an error that says what to install.

    Args:
        explain: makes that error.

    Raises:
        BackendUnavailable: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ovsdino"):
            raise  # a mistake of ours, which no installation mends
        raise explain(error) from error


@contextmanager
def needing(extras: str, what: str) -> Iterator[None]:
    """Turn the lack of a package, while importing, into one line on what to install.

    Args:
        extras: as pip takes them: `export,cpu`.
        what: what needs them: "exporting".

    Raises:
        BackendUnavailable: a package is not installed.
    """

    def explain(error: ModuleNotFoundError) -> BackendUnavailable:
        return BackendUnavailable(
            f"{what} needs {error.name}, which is not installed; {how_to_install(extras)}"
        )

    with explained(explain):
        yield


@contextmanager
def needing_packages(packages: Sequence[str], what: str) -> Iterator[None]:
    """Turn the lack of a package, while importing, into one line on what is missing, and no more.

    Args:
        packages: what is needed beyond the base install.
        what: what needs them: "deriving FP16".

    Raises:
        BackendUnavailable: a package is not installed.
    """
    with explained(lambda error: lacking(packages, what, error)):
        yield


def lacking(packages: Sequence[str], what: str, error: ModuleNotFoundError) -> BackendUnavailable:
    """Return the error that says which of some packages are missing and how to install those alone.

    Args:
        packages: what is needed.
        what: what needs them.
        error: what importing them has raised.
    """
    names = [name for name in packages if importlib.util.find_spec(name) is None] or [
        error.name or "a package"
    ]
    wanted = " ".join(_REQUIREMENTS.get(name, name) for name in names)
    return BackendUnavailable(
        f"{what} needs {' and '.join(names)}, not installed here; run pip install {wanted}"
    )


def how_to_install(extras: str) -> str:
    """Return what to do about missing extras, as the end of a sentence."""
    return f"install ovsdino[{extras}]: in the checkout, run pip install '.[{extras}]'"
