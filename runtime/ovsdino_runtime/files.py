"""Files: writing them whole or not at all, what their damage raises, and where the cache is."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ovsdino_runtime.errors import OutputError

_LZMA_DAMAGE: tuple[type[Exception], ...] = ()
try:
    from lzma import LZMAError
except ImportError:  # a Python built without it; zipfile then raises RuntimeError
    pass
else:
    _LZMA_DAMAGE = (LZMAError,)
# What NumPy and zipfile raise on damaged files: flipped bits may name another compression, a password
# (RuntimeError), a shape beyond memory, or break the text of an array's header.
NPZ_DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    *_LZMA_DAMAGE,
)
_CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def user_cache() -> Path | None:
    """Return the user's cache folder for this program, which need not exist; None without a home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if Path(named).is_absolute():
        return Path(named) / "ovsdino"
    try:
        return Path.home() / ".cache" / "ovsdino"
    except RuntimeError:
        return None


def ensure_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        OutputError: it cannot be created, or something else bears its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the folder {folder}: {error.strerror}; choose another") from error


def prepare_target(target: Path | None) -> None:
    """Make the folder of a file that is to be written at the end of long work, if one is.

    Raises:
        OutputError: it cannot be made or written to, or the file's name is a folder's.
    """
    if target is None:
        return
    ensure_folder(target.parent)
    if target.is_dir():
        raise OutputError(f"cannot write {target}: it is a folder; name a file in it")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write {target}: {target.parent} cannot be written to; choose another folder"
        )


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path to write to; when the block ends well, it becomes `target` in one step.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
        os.close(handle)
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror}; choose a folder that can be written to"
        ) from error
    staged = Path(name)
    try:
        yield staged
        _let_read(staged)
        staged.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        staged.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder to fill; when the block ends well, it takes the place of `target`.

    An existing `target` is moved aside first and put back if the last step fails.

    Raises:
        OutputError: the parent or what goes into the folder cannot be written.
    """
    target = target.absolute()
    ensure_folder(target.parent)
    try:
        staged = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror}; choose a folder that can be written to"
        ) from error
    try:
        yield staged
        open_up(staged)
        _swap(staged, target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _swap(staged: Path, target: Path) -> None:
    """Put a folder in another's place; where an error or Ctrl-C interrupts that, one of both is there."""
    if not target.exists():
        staged.replace(target)
        return
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
    old = aside / "old"
    try:
        target.replace(old)
        staged.replace(target)
    except OSError as error:
        raise OutputError(f"cannot replace {target}: {error.strerror}") from error
    finally:
        if os.path.lexists(old) and not os.path.lexists(target):
            old.replace(target)
        shutil.rmtree(aside, ignore_errors=True)


def open_up(folder: Path) -> None:
    """Make a staged folder ready: readable by whom the umask allows, and safe on the disk.

    Some writers keep what they write to themselves; and a machine that loses power soon after a new name was
    given would find empty files under it.
    """
    for item in (*folder.rglob("*"), folder):
        _let_read(item)
        flush(item)


def flush(path: Path) -> None:
    """Have a file's content, or a folder's names, written to the disk, where the file system can be told."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _let_read(path: Path) -> None:
    """Let others read what was staged as far as the umask allows, where the file system knows of that."""
    with suppress(OSError):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())


def _umask() -> int:
    """Return the process's umask without changing it: files of other threads would come out open to all."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _UMASK
    _, found, rest = status.partition("\nUmask:")
    return int(rest.split(maxsplit=1)[0], 8) if found else _UMASK


# Where the system does not tell: as it was when the program began, before it had threads.
_UMASK = os.umask(0)
os.umask(_UMASK)
