"""`ovsdino-run`: pictures in, label maps and overlays out."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovsdino_runtime import __version__, command_line
from ovsdino_runtime.errors import OvsDinoError
from ovsdino_runtime.inputs import MAX_PIXELS

if TYPE_CHECKING:
    from ovsdino_runtime.vocabulary import Vocabulary

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Device(str, Enum):
    """Where the image graph runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


class Precision(str, Enum):
    """What the image graph computes in."""

    AUTO = "auto"
    FP16 = "fp16"
    FP32 = "fp32"


def main() -> None:
    """Run the command."""
    command_line.run(app)


@app.command()
def run(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Pictures, folders of pictures, or patterns in quotes.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="What to look for: car,road or car,vehicle=bus|truck."),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="All classes of a benchmark: cityscapes, ade20k, voc, coco, ...."),
    ] = None,
    classes_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What to look for, one class a line.")
    ] = None,
    background: Annotated[
        str,
        typer.Option(
            metavar="POLICY",
            help="What else there is: auto (common stuff, if only some names are asked for), none, list, "
            "threshold:T (a cosine), or names as in sky|wall.",
        ),
    ] = "auto",
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The model, as ovsdino-export wrote it; the small built-in one by default.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        Device,
        typer.Option(help="Where to compute; auto takes TensorRT if an engine fits, else CUDA if it works."),
    ] = Device.AUTO,
    precision: Annotated[
        Precision,
        typer.Option(help="What to compute in; auto takes FP16 on a GPU if the bundle has it."),
    ] = Precision.AUTO,
    list_devices: Annotated[
        bool,
        typer.Option("--list-devices", help="Say what can compute here and what is missing, and exit."),
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where label maps and overlays go.")] = Path(
        "ovsdino-out"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="Also write every class's cosine at every pixel (.npz, large).")
    ] = False,
    max_pixels: Annotated[
        int, typer.Option(min=1, metavar="N", help="Refuse larger pictures before decoding them.")
    ] = MAX_PIXELS,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=command_line.version_of("ovsdino-run"),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Segment pictures into the classes you name.

    For every picture two files appear in --out: PICTURE.labels.png, whose pixel values are class
    numbers, and PICTURE.overlay.png with the colours laid over the picture and a legend.
    """
    if list_devices:
        _list_devices(bundle, as_json=as_json)
        return
    if not images:
        raise typer.BadParameter("no picture was named; pass files, folders or patterns in quotes")
    choices = {"--classes": classes, "--vocabulary": vocabulary, "--classes-file": classes_file}
    given = [name for name, value in choices.items() if value is not None]
    if len(given) != 1:
        raise typer.BadParameter(
            f"got {' and '.join(given) or 'no classes'}; pass exactly one of {', '.join(choices)}, "
            "for example --classes cars,road"
        )
    try:
        complete = _segment(
            images,
            _requests(classes, vocabulary, classes_file),
            background,
            bundle,
            device,
            precision,
            out,
            as_json=as_json,
            scores=scores,
            max_pixels=max_pixels,
        )
    except OvsDinoError as error:
        if as_json:
            typer.echo(json.dumps({"version": __version__, "error": str(error), "images": []}, indent=2))
        raise
    if not complete:
        raise typer.Exit(1)


def _list_devices(bundle: Path | None, *, as_json: bool) -> None:
    import dataclasses

    from ovsdino_runtime.backends.devices import list_devices
    from ovsdino_runtime.builtin import open_bundle

    states = list_devices(open_bundle(bundle))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(state) for state in states], indent=2))
        return
    for state in states:
        typer.echo(f"{state.device:<9} {'yes' if state.available else 'no':<4} {state.explanation}")


def _requests(
    classes: str | None, vocabulary: str | None, classes_file: Path | None
) -> Sequence[str] | Vocabulary:
    from ovsdino_runtime import vocabulary as vocabularies

    if vocabulary is not None:
        return vocabularies.vocabulary(vocabulary)
    if classes_file is not None:
        return vocabularies.read_classes_file(classes_file)
    return vocabularies.parse_classes(classes or "")


def _segment(
    images: Sequence[str],
    classes: Sequence[str] | Vocabulary,
    background: str,
    bundle: Path | None,
    device: Device,
    precision: Precision,
    out: Path,
    *,
    as_json: bool,
    scores: bool,
    max_pixels: int,
) -> bool:
    """Do the work and print it; return whether every picture is done."""
    from tqdm import tqdm

    from ovsdino_runtime import builtin
    from ovsdino_runtime.batch import Done, Failed, find_pictures, segment_files
    from ovsdino_runtime.files import ensure_folder
    from ovsdino_runtime.report import document, notes, table
    from ovsdino_runtime.segmenter import Segmenter

    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged pictures, whose error says enough
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    segmenter = Segmenter.open(bundle, device.value, precision.value)
    question = segmenter.ask(classes, background)
    ensure_folder(out)
    about = [] if bundle else [builtin.terms(segmenter.bundle)]
    for note in (*about, *([segmenter.note] if segmenter.note else []), *notes(question)):
        typer.echo(f"note: {note}", err=True)
    pictures, without_pictures = find_pictures(images)
    for argument in without_pictures:
        command_line.complain(argument.error)
    results: list[Done | Failed] = [*without_pictures]
    several = len(images) > 1 or len(pictures) > 1
    with tqdm(total=len(pictures), unit="picture", file=sys.stderr, disable=None if several else True) as bar:
        for result in segment_files(segmenter, question, pictures, out, max_pixels=max_pixels, scores=scores):
            results.append(result)
            bar.update()
            if isinstance(result, Failed):
                bar.write(f"error: {command_line.one_line(result.error)}", file=sys.stderr)
            elif not as_json:
                bar.write(table(result, question.names), file=sys.stdout)
    if as_json:
        typer.echo(json.dumps(document(segmenter, question, results), indent=2))
    failures = sum(isinstance(result, Failed) for result in results)
    if failures and several:
        others = "; the others are done" if failures < len(results) else ""
        command_line.complain(f"{failures} of {len(results)} failed{others}")
    return not failures
