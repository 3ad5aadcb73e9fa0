"""Writing bundles: new ones, and revisions of one, each in a single step.

What is written lies in a folder of its own until it is whole; then that folder takes the bundle's place.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ovsdino_runtime.bundle import (
    ENGINES,
    GOLDEN,
    IMAGE_GRAPH,
    IMAGE_GRAPH_FP16,
    IMAGE_GRAPH_INT8,
    MANIFEST,
    TEXT_GRAPH,
    TEXT_MAP,
    TOKENIZER,
    VOCABULARY,
    Bundle,
)
from ovsdino_runtime.errors import BundleError, OutputError
from ovsdino_runtime.files import atomic_folder, sha256_of
from ovsdino_runtime.manifest import FileEntry, Manifest

_GRAPHS = (IMAGE_GRAPH, IMAGE_GRAPH_FP16, IMAGE_GRAPH_INT8, TEXT_GRAPH)
_PARTS = frozenset({MANIFEST, ENGINES, VOCABULARY, TOKENIZER, GOLDEN, TEXT_MAP, *_GRAPHS})


@contextmanager
def new_bundle(target: Path, manifest: Manifest) -> Iterator[Path]:
    """Yield an empty folder; what is in it when the block ends becomes the bundle `target`.

    Files are hashed into the manifest, which is written last; then the folder takes its place in one
    step. If the block raises, nothing is left behind and an earlier bundle stays as it was. Otherwise that
    one is gone, engines that were built from it included.

    Args:
        target: the bundle's folder.
        manifest: all of the manifest but its list of files.

    Raises:
        OutputError: `target` exists and is no bundle, or holds more than one; or it cannot be written.
    """
    _require_nothing_else(target)
    with atomic_folder(target) as staged:
        yield staged
        _seal(staged, manifest)


@contextmanager
def revised_bundle(
    bundle: Bundle,
    *,
    without: Collection[str] = (),
    precisions: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Path]:
    """Yield a folder with the bundle's files, to add to; then it takes the bundle's place.

    As with `new_bundle` all of it happens or nothing. What else lies in the bundle's folder stays there: the
    engines that a device built, and whatever people keep beside it. The bundle is read again at the start, so
    that what was added to it meanwhile stays too.

    Args:
        bundle: the bundle.
        without: files to leave out; one that is to be written anew must be among them.
        precisions: what the manifest is to say of these precisions.

    Raises:
        BundleError: the bundle has been damaged or removed meanwhile.
        OutputError: it has another image graph by now, or the folder above it cannot be written to.
    """
    folder = bundle.path.absolute()
    now = Bundle.open(folder)
    if now.manifest.files[IMAGE_GRAPH] != bundle.manifest.files[IMAGE_GRAPH]:
        raise OutputError(f"{bundle.path} was replaced by another bundle meanwhile; do it again")
    said = {**now.manifest.precisions, **(precisions or {})}
    manifest = dataclasses.replace(now.manifest, files={}, precisions=said)
    kept = set(now.manifest.files) - set(without)

    def keep_the_rest(staged: Path) -> None:
        ours = {folder / name for name in (MANIFEST, *now.manifest.files, *without)}
        shutil.copytree(
            folder,
            staged,
            symlinks=True,
            dirs_exist_ok=True,
            copy_function=_link_missing,
            ignore=lambda place, names: [name for name in names if Path(place, name) in ours],
        )

    with atomic_folder(folder, last=keep_the_rest) as staged:
        for name in sorted(kept):
            _link(folder / name, staged / name)
        yield staged
        _seal(staged, manifest)


def require_revisable(bundle: Bundle, what: str) -> None:
    """Let nothing be derived, which takes minutes, for a bundle that could not keep it.

    Args:
        bundle: the bundle.
        what: the file that is to be derived.

    Raises:
        OutputError: the bundle's folder, or the one that it lies in, cannot be written to.
    """
    folder = bundle.path.absolute()
    if folder.is_mount():
        raise OutputError(
            f"{what} is to be derived for {bundle.path}, but a mounted folder cannot be replaced; mount the "
            "folder that it lies in, or work on a copy"
        )
    for place in (folder.parent,) if folder.is_symlink() else (folder.parent, folder):
        if not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(
                f"{what} is to be derived for {bundle.path}, but {place} cannot be written to; "
                "make it writable, or work on a copy where you may write"
            )


def _seal(staged: Path, manifest: Manifest) -> None:
    """Write the manifest of what is in a folder."""
    files = {
        item.relative_to(staged).as_posix(): FileEntry(sha256=sha256_of(item), bytes=item.stat().st_size)
        for item in sorted(staged.rglob("*"))
        if item.is_file()
    }
    complete = dataclasses.replace(manifest, files=files)
    (staged / MANIFEST).write_text(complete.to_json(), encoding="utf-8")


def _require_nothing_else(target: Path) -> None:
    """Let no folder be replaced that holds anything but a bundle.

    Raises:
        OutputError: it does, or is no bundle at all.
    """
    if not target.exists() or _is_empty_folder(target):
        return
    source = target / MANIFEST
    if not source.is_file():
        raise OutputError(f"{target} exists and is no bundle; choose another folder or remove it")
    ours = set(_PARTS)
    with suppress(BundleError, OSError, UnicodeDecodeError):  # a damaged bundle may be exported again
        listed = Manifest.from_json(source.read_text(encoding="utf-8"), str(source)).files
        ours |= {PurePosixPath(name).parts[0] for name in listed}
    others = sorted(item.name for item in target.iterdir() if item.name.removesuffix(".data") not in ours)
    if others:
        raise OutputError(
            f"{target} holds {others[0]}, which is no part of the bundle there and would be lost; move it, "
            "or choose another folder"
        )


def _link(source: Path | str, target: Path | str) -> None:
    """Have a file in a second place without copying it, where the file system can."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _link_missing(source: str, target: str) -> None:
    if not os.path.lexists(target):  # what has just been written is newer
        _link(source, target)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
