"""Folders for what is written, read once and gone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovsdino_runtime.errors import OutputError


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Yield an empty folder that is gone when the block ends.

    Args:
        purpose: what it is for, as in "there is no room in FOLDER for …".

    Raises:
        OutputError: it cannot be written; every OSError of the block counts as that.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="ovsdino-export.") as folder:
            yield Path(folder)
    except OSError as error:
        raise no_room(purpose, error) from error


def no_room(purpose: str, error: OSError) -> OutputError:
    """Return what to raise where a folder for what is gone again cannot be written; see `scratch_folder`."""
    where, reason = tempfile.gettempdir(), error.strerror or error
    return OutputError(f"there is no room in {where} for {purpose}: {reason}; set TMPDIR to another folder")
