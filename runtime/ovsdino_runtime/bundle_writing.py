"""Writing bundles: new ones appear in a single step, and one that is revised opens at every moment."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
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
from ovsdino_runtime.files import atomic_file, atomic_folder, flush, open_up, sha256_of
from ovsdino_runtime.manifest import FileEntry, Manifest

_GRAPHS = (IMAGE_GRAPH, IMAGE_GRAPH_FP16, IMAGE_GRAPH_INT8, TEXT_GRAPH)
_STAGED = ".new."  # how folders begin in which parts of a revision lie
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
        _write_manifest(staged, dataclasses.replace(manifest, files=_entries(staged)))


@contextmanager
def revised_bundle(
    bundle: Bundle,
    *,
    without: Collection[str] = (),
    precisions: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Path]:
    """Yield an empty folder; what is in it when the block ends joins the bundle's files or replaces some.

    The bundle's folder stays where it is, with everything else in it, and the bundle opens at every moment:
    first its manifest lets go of the files that change, then they take their places, then it lists them. The
    manifest is read again for that, so that what was added to the bundle meanwhile stays. If the block
    raises, nothing changes.

    Args:
        bundle: the bundle.
        without: files that go.
        precisions: what the manifest is to say of these precisions.

    Raises:
        BundleError: the bundle has been damaged or removed meanwhile.
        OutputError: it has another image graph by now, or its folder cannot be written to.
    """
    folder = bundle.path.absolute()
    try:
        staged = Path(tempfile.mkdtemp(dir=folder, prefix=_STAGED))
    except OSError as error:
        raise OutputError(
            f"cannot write into {bundle.path}: {error.strerror}; make it writable, or work on a copy"
        ) from error
    try:
        yield staged
        open_up(staged)
        added = _entries(staged)
        now = Bundle.open(folder).manifest
        if now.files[IMAGE_GRAPH] != bundle.manifest.files[IMAGE_GRAPH]:
            raise OutputError(f"{bundle.path} was replaced by another bundle meanwhile; do it again")
        changing = {*without, *added}
        kept = {name: entry for name, entry in now.files.items() if name not in changing}
        if len(kept) < len(now.files):
            _write_manifest(folder, dataclasses.replace(now, files=kept))
        for name in sorted(changing):
            if name in added:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
        said = {**now.precisions, **(precisions or {})}
        _write_manifest(folder, dataclasses.replace(now, files={**kept, **added}, precisions=said))
    except OSError as error:
        raise OutputError(f"cannot write into {bundle.path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def require_revisable(bundle: Bundle, what: str) -> None:
    """Let nothing be derived, which takes minutes, for a bundle that could not keep it.

    Args:
        bundle: the bundle.
        what: the file that is to be derived.

    Raises:
        OutputError: the bundle's folder cannot be written to.
    """
    if not os.access(bundle.path, os.W_OK | os.X_OK):
        raise OutputError(
            f"{what} is to be derived for {bundle.path}, which cannot be written to; make it writable, or "
            "work on a copy where you may write"
        )


def _entries(folder: Path) -> dict[str, FileEntry]:
    """Return size and hash of every file in a folder, by its path there."""
    return {
        item.relative_to(folder).as_posix(): FileEntry(sha256=sha256_of(item), bytes=item.stat().st_size)
        for item in sorted(folder.rglob("*"))
        if item.is_file()
    }


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    with atomic_file(folder / MANIFEST) as staged:
        staged.write_text(manifest.to_json(), encoding="utf-8")
        flush(staged)


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
    others = sorted(item.name for item in target.iterdir() if not _is_part(item.name, ours))
    if others:
        raise OutputError(
            f"{target} holds {others[0]}, which is no part of the bundle there and would be lost; move it, "
            "or choose another folder"
        )


def _is_part(name: str, parts: Collection[str]) -> bool:
    return name.removesuffix(".data") in parts or name.startswith(_STAGED)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
