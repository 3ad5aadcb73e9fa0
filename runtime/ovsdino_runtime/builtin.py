"""The built-in model: a small bundle inside the package, so that the first run needs no download."""

from __future__ import annotations

import shutil
from pathlib import Path

from ovsdino_runtime.bundle import MANIFEST, Bundle
from ovsdino_runtime.errors import BundleError, OutputError
from ovsdino_runtime.files import atomic_folder, sha256_of, user_cache

BUILT_IN = Path(__file__).parent / "data" / "ovsdino-nano"


def open_bundle(path: Path | str | None) -> Bundle:
    """Open the bundle in a folder, or the built-in one where none is named; see `built_in_bundle`."""
    return built_in_bundle() if path is None else Bundle.open(path)


def built_in_bundle() -> Bundle:
    """Return the bundle that serves where none is named.

    It is the one inside the package, or its copy among the user's caches, where FP16 graphs of it lie that
    this machine derived.

    Raises:
        BundleError: the package was installed without it, or its files are damaged.
    """
    copy = _copy()
    return Bundle.open(copy if copy is not None and copy.is_dir() else _installed())


def writable_built_in() -> Bundle:
    """Return the copy of the built-in bundle among the user's caches; it is made when first needed.

    What a device derives goes there: an installed package must stay as it was installed.

    Raises:
        BundleError: see `built_in_bundle`.
        OutputError: the user has no cache folder, or it cannot be written.
    """
    installed, copy = _installed(), _copy()
    if copy is None:
        raise OutputError(
            "there is no cache folder for what is derived from the built-in model; set XDG_CACHE_HOME, or "
            f"copy {BUILT_IN} and name the copy"
        )
    if not copy.is_dir():
        Bundle.open(installed)  # damaged files must not be copied
        with atomic_folder(copy) as staged:
            shutil.copytree(installed, staged, dirs_exist_ok=True)
    return Bundle.open(copy)


def is_built_in(bundle: Bundle) -> bool:
    """Return whether a bundle is the one that serves where none is named, or its copy."""
    return bundle.path in (BUILT_IN, _copy())


def terms(bundle: Bundle) -> str:
    """Return what is to be known where no bundle was named: which model serves, its terms, where more are."""
    manifest = bundle.manifest
    return (
        f"no bundle was named, so the small built-in {manifest.name} serves "
        f"(its weights: {manifest.license}); "
        "a larger model: `ovsdino-export onnx CHECKPOINT --out DIR`, then --bundle DIR"
    )


def _installed() -> Path:
    if not (BUILT_IN / MANIFEST).is_file():
        raise BundleError(
            f"no bundle was named, and this installation lacks the built-in one at {BUILT_IN}; install the "
            "package again, or name a bundle"
        )
    return BUILT_IN


def _copy() -> Path | None:
    """Return where the copy of this very bundle lies or would lie; None without a cache, or without it."""
    manifest, cache = BUILT_IN / MANIFEST, user_cache()
    if cache is None or not manifest.is_file():
        return None
    return cache / "built-in" / sha256_of(manifest)[:16]
