"""Which engines this machine may load: those it has proven itself, and those a person trusts.

Loading an engine runs native code, and its sidecar is no signature: who wrote the one could write the other.
So `ovsdino-export trt` records the SHA-256 of every engine it has proven here, in the user's cache and not
beside the engine, and no other is loaded until `ovsdino-run --trust-engine FILE` has recorded it too.
"""

from __future__ import annotations

from pathlib import Path

from ovsdino_runtime.errors import OutputError
from ovsdino_runtime.files import ensure_folder, user_cache

RECORD = "trusted-engines"  # a line an engine, as sha256sum writes them
_REMEDY = "set XDG_CACHE_HOME to a folder that can be written to"


def is_trusted(sha256: str) -> bool:
    """Return whether an engine of this content may be loaded here."""
    path = _record()
    try:
        lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # what cannot be read vouches for nothing
        return False
    return any(line.split(maxsplit=1)[:1] == [sha256] for line in lines)


def trust(sha256: str, name: str) -> Path:
    """Record an engine as one that may be loaded here, and return the file that says so.

    Args:
        sha256: of its content.
        name: what to call it in the record, for people.

    Raises:
        OutputError: there is no cache folder, or the record cannot be written.
    """
    path = require_record()
    if not is_trusted(sha256):
        label = " ".join(name.split())  # a name with a line break must not make a line of its own
        _append(path, f"{sha256}  {label}\n")
    return path


def require_record() -> Path:
    """Return the file that engines are recorded in, made if need be.

    Raises:
        OutputError: there is no cache folder, or the record cannot be written.
    """
    path = _record()
    if path is None:
        raise OutputError(f"there is no cache folder to record engines in; {_REMEDY}")
    ensure_folder(path.parent)
    _append(path, "")
    return path


def _append(path: Path, text: str) -> None:
    # In one piece at the end: another process may be recording an engine, too.
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(
            f"engines cannot be recorded in {path}: {error.strerror or error}; {_REMEDY}"
        ) from error


def _record() -> Path | None:
    cache = user_cache()
    return None if cache is None else cache / RECORD
