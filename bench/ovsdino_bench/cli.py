"""`ovsdino-bench`: prove what an artifact does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ovsdino_runtime import command_line
from ovsdino_runtime.extras import needing

if TYPE_CHECKING:
    from ovsdino_bench.folder import LabelledImage


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.callback()
def bench(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=command_line.version_of("ovsdino-bench"),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Measure the accuracy of a bundle, and of the checkpoint it was exported from."""


@app.command()
def accuracy(
    bundle: Annotated[Path, typer.Option(help="Bundle to measure.")],
    data: Annotated[
        str,
        typer.Option(
            help="Folder with images/ and labels/ (PNG indices, 255 ignored), coco:JSON:IMAGES or yolo:DIR."
        ),
    ],
    classes: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(
            help="Names of a folder in label order; label=prompt asks for another name, - is unlabelled."
        ),
    ] = None,
    showing: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Use only images that show one of these classes."),
    ] = None,
    checkpoint: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Measure this checkpoint in PyTorch too, in the same run."),
    ] = None,
    backbone_weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The checkpoint's backbone: a file, hub:OWNER/REPO, random:SEED."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to run the bundle.")] = Device.auto,
    every: Annotated[int, typer.Option(min=1, help="Use only every so many-th image.")] = 1,
    limit: Annotated[int, typer.Option(min=0, help="Use only the first of them; 0 uses all.")] = 0,
    block: Annotated[
        int, typer.Option(min=1, help="Neighbouring frames that count as one sample of the interval.")
    ] = 1,
    counts: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write every image's confusion counts here (.npz), for `compare`."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure mIoU by the sliding-window protocol, through the ONNX bundle and optionally PyTorch."""
    from ovsdino_bench.accuracy import describe, measure
    from ovsdino_bench.counts import ImageCounts
    from ovsdino_bench.tables import accuracy_table
    from ovsdino_runtime.backends import Backend
    from ovsdino_runtime.backends.selection import choose_backend
    from ovsdino_runtime.bundle import Bundle

    images, names = _pictures(data, classes)
    opened = Bundle.open(bundle)
    if showing is not None:
        images = _showing(images, names, showing)
    images = images[::every]
    backends: list[Backend] = []
    if checkpoint is not None:
        with needing("bench", "measuring a checkpoint"):
            from ovsdino.torch_backend import TorchBackend

        backends.append(TorchBackend.open(checkpoint, backbone_weights))
    backend, note = choose_backend(opened, device.value)
    if note:
        typer.echo(f"note: {note}", err=True)
    backends.append(backend)
    images = images[:limit] if limit else images
    result = measure(opened, backends, images, names)
    if counts is not None:
        last = result.accuracies[-1]
        files = tuple(item.image.name for item in images)
        ImageCounts(names=last.names, images=files, counts=last.counts).save(counts)
    if as_json:
        report = {**describe(opened.manifest, data), **result.as_dict(block)}
        typer.echo(json.dumps(report, indent=2))
    else:
        typer.echo(accuracy_table(result, block))


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="Counts that `accuracy --counts` wrote.")],
    after: Annotated[Path, typer.Argument(help="Another model's, on the same images.")],
    block: Annotated[
        int, typer.Option(min=1, help="Neighbouring frames that count as one sample of the interval.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what changed from one model to another, and whether it is more than noise."""
    from ovsdino_bench.counts import ImageCounts, gain
    from ovsdino_bench.tables import gain_table

    found = gain(ImageCounts.load(before), ImageCounts.load(after), block)
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else gain_table(found))


@app.command()
def table(
    reports: Annotated[list[Path], typer.Argument(help="Files that `accuracy --json` wrote.")],
) -> None:
    """Print reports side by side as a Markdown table, named by their files."""
    from ovsdino_bench.tables import markdown, read_report

    typer.echo(markdown([(path.stem, read_report(path)) for path in reports]))


def _pictures(data: str, classes: str | None) -> tuple[Sequence[LabelledImage], tuple[str, ...]]:
    """Return labelled pictures and the names of their classes."""
    from ovsdino_runtime.vocabulary import parse_classes

    if data.startswith(("coco:", "yolo:")):
        if classes is not None:
            raise typer.BadParameter("--classes goes with a folder; give names after the data's last colon")
        with needing("bench", "masks of objects"):
            from ovsdino_bench.objects import labelled_objects
        return labelled_objects(data)
    if classes is None:
        raise typer.BadParameter("a folder's labels are numbers; name them with --classes")
    from ovsdino_bench.folder import labelled_folder

    names = parse_classes(classes)
    return labelled_folder(Path(data), names), names


def _showing(images: Sequence[LabelledImage], names: Sequence[str], wanted: str) -> Sequence[LabelledImage]:
    """Return the pictures that show one of some classes."""
    import numpy as np

    from ovsdino_bench.folder import UNLABELLED
    from ovsdino_runtime.errors import DataError
    from ovsdino_runtime.vocabulary import parse_classes

    labels = [name.partition("=")[0] for name in names if name != UNLABELLED]
    unknown = [name for name in parse_classes(wanted) if name not in labels]
    if unknown:
        raise DataError(f"--showing names {unknown[0]!r}, which is no class of the data: {', '.join(labels)}")
    places = [labels.index(name) for name in parse_classes(wanted)]
    kept = [item for item in images if np.isin(item.truth(), places).any()]
    if not kept:
        raise DataError(f"none of {len(images)} images shows {wanted}; choose other classes")
    return kept


@app.command()
def merging(
    image: Annotated[Path, typer.Argument(help="A picture; it is resized to every size.")],
    bundle: Annotated[Path, typer.Option(help="Bundle that gives the features.")],
    size: Annotated[list[str], typer.Option(help="Width x height, any number of times.")] = [  # noqa: B006
        "480x360",
        "1920x1080",
    ],
    vocabulary: Annotated[list[str], typer.Option(help="Class lists, any number of times.")] = [  # noqa: B006
        "camvid",
        "ade20k",
    ],
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each.")] = 5,
) -> None:
    """Time window scores to labels, against the usual C x H x W logits in PyTorch; prints JSON."""
    from ovsdino_bench.machine import machine

    with needing("bench", "timing the usual way"):
        from ovsdino_bench.merging import time_merging
    from ovsdino_runtime.preprocess import load_image
    from ovsdino_runtime.segmenter import Segmenter

    sizes: list[tuple[int, int]] = []
    for text in size:
        width, cross, height = text.partition("x")
        if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
            raise typer.BadParameter(f"{text!r} is no size; write it as in 1920x1080", param_hint="--size")
        sizes.append((int(height), int(width)))
    segmenter = Segmenter.open(bundle, "cpu")
    timings = time_merging(segmenter, load_image(image), sizes, vocabulary, runs)
    report = {"machine": machine(), "timings": [item.as_dict() for item in timings]}
    typer.echo(json.dumps(report, indent=2))


def main() -> None:
    """Run the command line."""
    command_line.run(app)
