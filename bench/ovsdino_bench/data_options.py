"""What `--dataset`, `--data` and their companions name."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from ovsdino_bench.benchmark import Benchmark, open_benchmark, own_data
from ovsdino_bench.folder import open_folder
from ovsdino_bench.prompts import with_prompts
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.extras import needing
from ovsdino_runtime.queries import parse_classes, parse_value_names, read_classes_file, read_value_names


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what the system refuses, as too long a name or somebody else's folder, into one line.

    Raises:
        DataError: it refuses something.
    """
    try:
        yield
    except OSError as error:
        where = f" {error.filename}" if error.filename else " the data"
        raise DataError(f"cannot read{where}: {error.strerror or error}; check the path") from error


@_reading()
def benchmarks_of(
    datasets: Sequence[str],
    data: str | None,
    classes: str | None,
    prompts: str | None,
    *,
    partial: bool,
) -> list[Benchmark]:
    """Return what is to be measured.

    Args:
        datasets: NAME=DIR each.
        data: a folder, `coco:…` or `yolo:…`.
        classes: names of the folder's labels.
        prompts: `label=prompt|prompt` with commas between, or a file of them.
        partial: whether incomplete benchmarks and folders are measured.

    Raises:
        typer.BadParameter: the options do not go together.
        DataError: the data are not as they should be.
        VocabularyError: names make no sense.
    """
    if not datasets and data is None:
        raise typer.BadParameter("name what to measure on: --dataset NAME=DIR, or --data DIR --classes NAMES")
    found = [_benchmark(text, partial=partial) for text in datasets]
    names = [item.name for item in found]
    for name in names:
        if names.count(name) > 1:
            raise typer.BadParameter(f"--dataset names {name} twice")
    if prompts is not None:
        if not found:
            raise typer.BadParameter("--prompts goes with --dataset; in --classes write label=prompt|prompt")
        found = with_prompts(found, _requests(prompts))
    if data is not None:
        found.append(_own(data, classes, partial=partial))
    elif classes is not None:
        raise typer.BadParameter("--classes goes with --data; a --dataset has its own classes, see --prompts")
    return found


def _benchmark(text: str, *, partial: bool) -> Benchmark:
    name, equals, folder = text.partition("=")
    if not (equals and name and folder):
        raise typer.BadParameter(f"{text!r} is no NAME=DIR, as in voc21=VOCdevkit", param_hint="--dataset")
    return open_benchmark(name, Path(folder), partial=partial)


def _own(data: str, classes: str | None, *, partial: bool) -> Benchmark:
    if data.startswith(("coco:", "yolo:")):
        if classes is not None:
            raise typer.BadParameter("--classes goes with a folder; give names after the data's last colon")
        with needing("bench", "masks of objects"):
            from ovsdino_bench.objects import labelled_objects  # noqa: PLC0415 - needs pycocotools
        if partial:
            raise typer.BadParameter("--partial goes with folders and benchmarks, not with coco: and yolo:")
        objects, names, notes = labelled_objects(data)
        return own_data(data, objects, names, notes=notes)
    if classes is None:
        raise typer.BadParameter("a folder's labels are numbers; name them with --classes")
    looks_like_a_file = "," not in classes and (classes.endswith(".txt") or "/" in classes)
    if looks_like_a_file and not _is_file(classes):
        raise DataError(f"there is no file of class names at {classes}")
    given = read_value_names(Path(classes)) if _is_file(classes) else parse_value_names(classes)
    images, left_out = open_folder(Path(data), given, partial=partial)
    return own_data(data, images, given, left_out)


def _requests(text: str) -> tuple[str, ...]:
    """Return the requests in a text, or in the file that it names."""
    return read_classes_file(Path(text)) if _is_file(text) else parse_classes(text)


def _is_file(text: str) -> bool:
    """Return whether a text names a file; one that is too long for a name does not."""
    try:
        return Path(text).is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise
