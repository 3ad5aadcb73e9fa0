"""One picture after the other: read, segmented, drawn, written; a broken one does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.errors import ImageError, OutputError, OvsDinoError
from ovsdino_runtime.files import atomic_file, ensure_folder
from ovsdino_runtime.inputs import LABELS, OVERLAY, SCORES, output_stems, pictures_of, without_repetitions
from ovsdino_runtime.legend import percent
from ovsdino_runtime.preprocess import LoadedPicture, load_picture
from ovsdino_runtime.question import Question
from ovsdino_runtime.render import save_labels, save_overlay
from ovsdino_runtime.segmenter import Segmentation, Segmenter


@dataclass(frozen=True, kw_only=True)
class Done:
    """A picture whose outputs are written.

    Attributes:
        file: the picture.
        size_hw: its height and width.
        outputs: what was written, by kind: `labels`, `overlay` and, if asked for, `scores`.
        area_px: pixels by class, in the order of the question's names.
        timings_ms: milliseconds by stage.
        notes: what a person should know about how the picture was read.
    """

    file: Path
    size_hw: tuple[int, int]
    outputs: dict[str, Path]
    area_px: tuple[int, ...]
    timings_ms: dict[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A picture, or an argument that should have named some, and why nothing came of it."""

    file: str
    error: str


def find_pictures(arguments: Sequence[str]) -> tuple[list[Path], list[Failed]]:
    """Return the pictures that arguments stand for, each once, and the arguments that stand for none."""
    found: list[Path] = []
    failed: list[Failed] = []
    for argument in arguments:
        try:
            found += pictures_of(argument)
        except ImageError as error:
            failed.append(Failed(file=argument, error=str(error)))
    return without_repetitions(found), failed


def segment_files(
    segmenter: Segmenter,
    question: Question,
    pictures: Sequence[Path],
    folder: Path,
    *,
    max_pixels: int,
    scores: bool = False,
) -> Iterator[Done | Failed]:
    """Yield a result for every picture, in order, as soon as it is there.

    Args:
        segmenter: the model.
        question: the classes.
        pictures: different files.
        folder: where outputs go; see `output_stems` for their names.
        max_pixels: see `load_image`.
        scores: whether to write the class scores too.
    """
    for path, stem in zip(pictures, output_stems(pictures), strict=True):
        try:
            yield _segment_file(segmenter, question, path, folder / stem, max_pixels, scores)
        except OvsDinoError as error:
            yield Failed(file=str(path), error=str(error))
        except OSError as error:  # a name too long for its outputs, for instance
            reason = error.strerror or type(error).__name__
            yield Failed(
                file=str(path), error=f"cannot write the outputs of {path}: {reason}; rename it or move --out"
            )
        except MemoryError:
            yield Failed(
                file=str(path),
                error=f"there is not enough memory for {path}; shrink it or ask for fewer classes",
            )


def _segment_file(
    segmenter: Segmenter, question: Question, path: Path, stem: Path, max_pixels: int, scores: bool
) -> Done:
    start = time.perf_counter()
    picture = load_picture(path, max_pixels=max_pixels)
    decoded = time.perf_counter()
    result = segmenter.segment(picture.pixels, question, scores=scores)
    segmented = time.perf_counter()
    outputs = _write(picture.pixels, result, stem)
    timings = {
        **result.timings_ms,
        "decode": (decoded - start) * 1000,
        "draw_and_write": (time.perf_counter() - segmented) * 1000,
        "total": (time.perf_counter() - start) * 1000,
    }
    height, width = result.labels.shape
    return Done(
        file=path,
        size_hw=(height, width),
        outputs=outputs,
        area_px=result.area_px,
        timings_ms=timings,
        notes=_notes(picture),
    )


def _notes(picture: LoadedPicture) -> tuple[str, ...]:
    if not picture.transparent_px:
        return ()
    share = percent(picture.transparent_px, picture.pixels.shape[0] * picture.pixels.shape[1])
    return (f"{share} of it is transparent and taken as lying on white",)


def _write(picture: NDArray[np.uint8], result: Segmentation, stem: Path) -> dict[str, Path]:
    """Write all outputs of one picture; none is half-written, and the label map gets its name first.

    Scores that an earlier run left go where this one writes none: they would not belong to its labels.
    """
    targets = {"labels": stem.with_name(stem.name + LABELS), "overlay": stem.with_name(stem.name + OVERLAY)}
    stale = stem.with_name(stem.name + SCORES)
    if result.scores is not None:
        targets["scores"] = stale
    for target in targets.values():
        if target.is_dir():
            raise OutputError(f"cannot write {target}: a folder bears that name; choose another --out")
    ensure_folder(stem.parent)
    with ExitStack() as stack:  # files take their names only when the whole block has ended well
        staged = {
            kind: stack.enter_context(atomic_file(target))
            for kind, target in reversed(targets.items())  # the last to be entered is the first to be left
        }
        background = result.background_index
        save_labels(staged["labels"], result.labels, result.names, background_index=background)
        save_overlay(staged["overlay"], picture, result.labels, result.names, background_index=background)
        if result.scores is not None:
            with staged["scores"].open("wb") as file:
                np.savez_compressed(file, scores=result.scores, names=np.array(result.names))
        elif stale.is_file():
            stale.unlink()
    return targets
