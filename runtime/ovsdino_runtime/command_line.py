"""What the four command lines have in common: how they end, and how they say which version they are."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

import typer

from ovsdino_runtime import __version__
from ovsdino_runtime.errors import OvsDinoError, one_line


def run(app: typer.Typer) -> None:
    """Run a command line; what a user can cause ends in one line on stderr and exit status 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OvsDinoError as error:
        complain(str(error))
        sys.exit(1)
    except OSError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - else its end fails again
        what = f"cannot use {error.filename}" if error.filename else "cannot print the result"
        complain(f"{what}: {error.strerror or error}")
        sys.exit(1)


def complain(message: str) -> None:
    """Print an error as one line on stderr."""
    typer.echo(f"error: {one_line(message)}", err=True)


def version_of(program: str) -> Callable[[bool], None]:
    """Return what a `--version` option calls."""

    def show(asked: bool) -> None:
        if asked:
            typer.echo(f"{program} {__version__}")
            raise typer.Exit

    return show
