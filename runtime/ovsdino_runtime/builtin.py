"""The built-in model: a small bundle inside the package, so that the first run needs no download."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from ovsdino_runtime.bundle import MANIFEST, Bundle
from ovsdino_runtime.errors import BundleError, OutputError
from ovsdino_runtime.files import sha256_of, user_cache

BUILT_IN = Path(__file__).parent / "data" / "ovsdino-nano"


def open_bundle(path: Path | str | None, *, to_write: bool = False) -> Bundle:
    """Open the bundle in a folder, or the built-in one where none is named.

    The built-in one is inside the package, which must stay as it was installed. What is derived from it (FP16
    and INT8 graphs, engines) goes into a copy among the user's caches; once that is there, it serves.

    Args:
        path: the bundle's folder, or None.
        to_write: whether something is to be added to it: then the copy is made if it is not there.

    Raises:
        BundleError: the folder is no bundle; or the package lacks the built-in one; or the copy is damaged.
        OutputError: the copy cannot be made.
    """
    if path is not None:
        return Bundle.open(path)
    if not (BUILT_IN / MANIFEST).is_file():
        raise BundleError(
            f"no bundle was named, and this installation lacks the built-in one at {BUILT_IN}; install the "
            "package again, or name a bundle"
        )
    copy = _copy()
    if to_write and copy is None:
        raise OutputError(f"there is no cache folder for what is derived from the built-in model; {_REMEDY}")
    if copy is not None and (to_write or _is_there(copy)):
        if to_write and not _is_there(copy):
            _make(copy)
        try:
            return Bundle.open(copy)
        except BundleError as error:
            raise BundleError(
                f"the copy of the built-in model at {copy} is damaged ({error}); remove that folder"
            ) from error
    return Bundle.open(BUILT_IN)


def is_built_in(bundle: Bundle) -> bool:
    """Return whether a bundle is the one that serves where none is named."""
    copy = _copy()
    return bundle.path == (copy if copy is not None and _is_there(copy) else BUILT_IN)


def derived_folder(bundle: Bundle) -> Path:
    """Return the folder that what is derived from a bundle goes into: its own, or that of the copy."""
    copy = _copy() if bundle.path == BUILT_IN else None
    return bundle.path if copy is None else copy


def command_on(bundle: Bundle, command: str) -> str:
    """Return a command with the bundle's folder behind it, quoted; without where it is the default."""
    return command if is_built_in(bundle) else f"{command} {shlex.quote(str(bundle.path))}"


def terms(bundle: Bundle) -> str:
    """Return what is to be known where no bundle was named: which model serves, its terms, where more are.

    Of the terms what stands before a colon; the manifest has the rest, and `ovsdino-run --json` prints it.
    """
    manifest = bundle.manifest
    in_short = manifest.license.partition(":")[0]
    return (
        f"built-in {manifest.name} (weights: {in_short}); "
        "larger models: `ovsdino-export onnx`, then --bundle DIR"
    )


_REMEDY = f"set XDG_CACHE_HOME to a folder that can be written, or copy {BUILT_IN} and name the copy"


def _copy() -> Path | None:
    """Return where the copy of this very bundle lies or would lie; None without a cache, or without it."""
    manifest, cache = BUILT_IN / MANIFEST, user_cache()
    if cache is None or not manifest.is_file():
        return None
    return cache / "built-in" / sha256_of(manifest)[:16]


def _is_there(copy: Path) -> bool:
    try:
        return copy.is_dir()
    except OSError:  # somebody else's folder: what cannot be read is no copy of this user's
        return False


def _make(copy: Path) -> None:
    """Make the copy, unless another process has just made it: what it derived must not be lost."""
    Bundle.open(BUILT_IN)  # damaged files must not be copied
    staged: Path | None = None
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=copy.parent, prefix=f".{copy.name}."))
        shutil.copytree(BUILT_IN, staged / copy.name)
        (staged / copy.name).rename(copy)  # fails where it exists, as its folder is never empty
    except OSError as error:
        if not _is_there(copy):
            raise OutputError(
                f"cannot copy the built-in model to {copy}: {error.strerror or error}; {_REMEDY}"
            ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
