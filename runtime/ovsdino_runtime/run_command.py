"""The work behind `ovsdino-run`: classes and pictures in, files and what is to be said about them out."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from tqdm import tqdm

from ovsdino_runtime import builtin, command_line
from ovsdino_runtime.backends.selection import DeviceChoice, PrecisionChoice
from ovsdino_runtime.batch import Done, Failed, find_pictures, segment_files
from ovsdino_runtime.errors import VocabularyError, one_line
from ovsdino_runtime.files import ensure_folder
from ovsdino_runtime.report import document, notes, table
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import Vocabulary, resolve

_CLASSES_IN_A_HINT = 8
INTERRUPTED = 130  # the exit status of what Ctrl-C ended


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run was asked for; see the command's options."""

    background: str
    bundle: Path | None
    device: DeviceChoice
    precision: PrecisionChoice
    out: Path
    as_json: bool
    scores: bool
    max_pixels: int


def segment(images: Sequence[str], classes: Sequence[str] | Vocabulary, options: RunOptions) -> bool:
    """Do the work and print it; return whether every picture is done.

    Notes come with the first picture that is done, so that what is wrong with the arguments is said first.

    Args:
        images: files, folders and patterns.
        classes: see `Segmenter.ask`.
        options: the rest.

    Raises:
        OvsDinoError: nothing can be done at all.
        typer.Exit: the user has interrupted it.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged pictures, whose error says enough
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    pictures, without_pictures = find_pictures(images)
    for argument in without_pictures:
        command_line.complain(argument.error)
    segmenter = Segmenter.open(options.bundle, options.device, options.precision)
    question = segmenter.ask(classes, options.background)
    if not isinstance(classes, Vocabulary):
        _refuse_loose_classes(pictures, classes, segmenter)
    ensure_folder(options.out)
    about = [] if options.bundle else [builtin.terms(segmenter.bundle)]
    pending = [*about, *([segmenter.note] if segmenter.note else []), *notes(question)]
    results: list[Done | Failed] = [*without_pictures]
    several = len(images) > 1 or len(pictures) > 1
    interruption = ""
    with tqdm(total=len(pictures), unit="picture", file=sys.stderr, disable=None if several else True) as bar:
        work = segment_files(
            segmenter,
            question,
            pictures,
            options.out,
            max_pixels=options.max_pixels,
            scores=options.scores,
        )
        try:
            for result in work:
                results.append(result)
                bar.update()
                if isinstance(result, Failed):
                    bar.write(f"error: {one_line(result.error)}", file=sys.stderr)
                    continue
                pending += [f"{result.file}: {note}" for note in result.notes]
                for note in pending:
                    bar.write(f"note: {one_line(note)}", file=sys.stderr)
                pending.clear()
                if not options.as_json:
                    bar.write(table(result, question.names, segmenter.backend.name), file=sys.stdout)
        except KeyboardInterrupt:
            done = sum(isinstance(result, Done) for result in results)
            interruption = f"interrupted, {done} of {len(pictures)} done"
    if options.as_json:
        error = {"error": interruption} if interruption else {}
        typer.echo(json.dumps({**document(segmenter, question, results), **error}, indent=2))
    if interruption:
        typer.echo(interruption, err=True)
        raise typer.Exit(INTERRUPTED)
    failures = sum(isinstance(result, Failed) for result in results)
    if failures and several:
        others = "; the others are done" if failures < len(results) else ""
        command_line.complain(f"{failures} of {len(results)} failed{others}")
    return not failures


def _refuse_loose_classes(pictures: Sequence[Path], classes: Sequence[str], segmenter: Segmenter) -> None:
    """Refuse what can only be classes among the pictures: in `--classes car road`, road is no file.

    Raises:
        VocabularyError: words without suffix or folder name no file, and all of them are known classes.
    """
    words = [str(path) for path in pictures if path.name == str(path) and not path.suffix]
    loose = [word.strip(",") for word in words if not Path(word).exists()]
    try:
        resolve(loose, segmenter.text.known, open_vocabulary=False)
    except VocabularyError:  # there are none, or they are no classes
        return
    before = classes if len(classes) <= _CLASSES_IN_A_HINT else ("…",)
    raise VocabularyError(
        f"no picture or folder is called {' or '.join(loose)}; separate classes by commas, without spaces: "
        f'--classes "{",".join([*before, *loose])}"'
    )
