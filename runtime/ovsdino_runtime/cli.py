"""`ovsdino-run`: pictures in, label maps and overlays out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    INT8 = "int8"


def main() -> None:
    """Run the command."""
    command_line.run(app)


def _trust_engine(path: Path | None) -> None:
    """Let this machine load an engine; what `--trust-engine` calls."""
    if path is None:
        return
    from ovsdino_runtime.engine_trust import trust
    from ovsdino_runtime.engines import described, engine_file

    engine = engine_file(path)
    typer.echo(described(engine))
    typer.echo(f"this machine loads it from now on: {trust(engine.sidecar.sha256, path.name)}")
    raise typer.Exit


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
        typer.Option(
            metavar="NAME",
            help="All classes of a benchmark: voc20, voc21, context59, context60, coco_object, coco_stuff, "
            "cityscapes, ade20k or camvid.",
        ),
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
        typer.Option(
            help="What to compute in; auto takes FP16 on a GPU if the bundle has it. int8 is for CPUs, "
            "where the bundle has it."
        ),
    ] = Precision.AUTO,
    list_devices: Annotated[
        bool,
        typer.Option("--list-devices", help="Say what can compute here and what is missing, and exit."),
    ] = False,
    list_classes: Annotated[
        bool,
        typer.Option(
            "--list-classes", help="List the names the model knows, and which were trained, and exit."
        ),
    ] = False,
    trust_engine: Annotated[
        Path | None,
        typer.Option(
            "--trust-engine",
            metavar="FILE",
            callback=_trust_engine,
            is_eager=True,
            help="Say what a TensorRT engine is, let this machine load it though another has built it, and "
            "exit. An engine is a program: trust none whose builder you do not know.",
        ),
    ] = None,
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
    numbers (read it with Pillow: OpenCV gives its palette's colours), and PICTURE.overlay.png with the
    colours laid over the picture and a legend.
    """
    if list_devices or list_classes:
        from ovsdino_runtime import listings

        show = listings.list_devices if list_devices else listings.list_classes
        with _errors_as_json(as_json):
            show(bundle, as_json=as_json)
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
    with _errors_as_json(as_json, images=[]):
        asked = _requests(classes, vocabulary, classes_file)
        from ovsdino_runtime.run_command import RunOptions, segment

        options = RunOptions(
            background=background,
            bundle=bundle,
            device=device.value,
            precision=precision.value,
            out=out,
            as_json=as_json,
            scores=scores,
            max_pixels=max_pixels,
        )
        complete = segment(images, asked, options)
    if not complete:
        raise typer.Exit(1)


@contextmanager
def _errors_as_json(wanted: bool, **more: object) -> Iterator[None]:
    """Print what a user can cause as JSON too, where a program reads stdout."""
    try:
        yield
    except OvsDinoError as error:
        if wanted:
            typer.echo(json.dumps({"version": __version__, "error": str(error), **more}, indent=2))
        raise


def _requests(
    classes: str | None, vocabulary: str | None, classes_file: Path | None
) -> Sequence[str] | Vocabulary:
    from ovsdino_runtime import vocabulary as vocabularies

    if vocabulary is not None:
        return vocabularies.vocabulary(vocabulary)
    if classes_file is not None:
        return vocabularies.read_classes_file(classes_file)
    return vocabularies.parse_classes(classes or "")
