"""Which pictures are meant by files, folders and patterns, and what their outputs are called."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ovsdino_runtime.errors import DataError, ImageError

MAX_PIXELS = 200_000_000  # of one picture: 14,142 x 14,142, 600 MB as RGB
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ts")
LABELS, OVERLAY, SCORES = ".labels.png", ".overlay.png", ".scores.npz"  # appended to a picture's name


def pictures_of(argument: str) -> list[Path]:
    """Return the pictures an argument stands for, sorted by name.

    A file stands for itself, whatever it is called, and so does a name that is not there, which will be
    refused on reading. A folder stands for the pictures in it, not for those in folders below;
    a pattern (`*`, `?`, `[…]`, `**`) for the pictures it matches. Hidden files and overlays and label
    maps that an earlier run left are passed over.

    Raises:
        ImageError: the argument is empty, a folder holds no picture, or a pattern matches none.
    """
    if not argument.strip():
        raise ImageError("a picture's name is empty; check the arguments")
    path = Path(argument)
    try:
        if path.is_dir():
            found = _pictures(path.iterdir())
            if not found:
                raise ImageError(
                    f"the folder {path} holds no picture ({' '.join(PICTURE_SUFFIXES)}); "
                    f"for those in folders below it pass '{path / '**' / '*'}'"
                )
            return found
    except OSError as error:
        raise ImageError(f"cannot read the folder {path}: {error.strerror}; check its permissions") from error
    if glob.has_magic(argument) and not path.exists():
        matches = glob.iglob(argument, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        try:
            found = _pictures(Path(match) for match in matches)
        except OSError as error:
            raise ImageError(
                f"cannot read {error.filename}, which {argument} matches: {error.strerror}; check its "
                "permissions"
            ) from error
        if not found:
            raise ImageError(
                f"the pattern {argument} matches no picture; check it and the folder it starts in"
            )
        return found
    return [path]


def pictures_by_stem(folder: Path) -> dict[str, Path]:
    """Return the pictures of a labelled folder by their names without suffix, sorted by name.

    A label has its picture's name but not its suffix, so two pictures of one stem would share it.
    What `pictures_of` passes over is passed over here.

    Raises:
        DataError: the folder is missing or cannot be read, holds no picture, or several of one stem.
    """
    try:
        found = _pictures(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}; check the path") from error
    if not found:
        raise DataError(f"{folder} holds no picture ({' '.join(PICTURE_SUFFIXES)})")
    stems: dict[str, Path] = {}
    for path in found:
        if (other := stems.setdefault(path.stem, path)) is not path:
            raise DataError(f"{other} and {path.name} share one label; rename one of them")
    return stems


def without_repetitions(pictures: Iterable[Path]) -> list[Path]:
    """Return the pictures in order, each file once, however it was named."""
    different: dict[Path, Path] = {}
    for path in pictures:
        different.setdefault(_absolute(path), path)
    return list(different.values())


def output_stems(pictures: Sequence[Path]) -> list[Path]:
    """Return a relative path for each picture, to which `LABELS` and its kin are appended; all different.

    It is the picture's file name with its suffix: the same whatever else is in the batch, and x.jpg and
    x.png stay apart. Only where two folders hold the same name do the outputs lie in folders, as the
    pictures do below the folder they share.

    Args:
        pictures: different files.
    """
    names = [Path(path.name) for path in pictures]
    if _all_differ(names):
        return names
    absolute = [_absolute(path) for path in pictures]
    try:
        shared = os.path.commonpath([path.parent for path in absolute])
        stems = [path.relative_to(shared) for path in absolute]
    except ValueError:  # several drives
        stems = [Path(path.drive.strip(":\\/") or "root", *path.parts[1:]) for path in absolute]
    return stems if _all_differ(stems) else [Path(f"{i:05d}", path.name) for i, path in enumerate(pictures)]


def _absolute(path: Path) -> Path:
    """Return where a file lies; a link to a file counts as a file of its own."""
    return path.parent.resolve() / path.name


def _pictures(paths: Iterable[Path]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in PICTURE_SUFFIXES
        and not path.name.startswith(".")
        and not path.name.endswith((LABELS, OVERLAY))
        and path.is_file()
    )


def _all_differ(stems: Sequence[Path]) -> bool:
    """Return whether the stems stay apart on file systems that take x.JPG and x.jpg for the same."""
    return len({str(stem).casefold() for stem in stems}) == len(stems)
