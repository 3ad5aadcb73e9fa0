"""`ovsdino-bench reference`: record what PyTorch computes, for machines without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ovsdino_bench import options as o
from ovsdino_runtime.extras import needing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ovsdino_bench.folder import LabelledImage
    from ovsdino_bench.recorded import RecordedImage
    from ovsdino_runtime.bundle import Bundle
    from ovsdino_runtime.segmenter import Segmenter


def reference(
    checkpoint: Annotated[Path, typer.Option(help="The checkpoint it was exported from.")],
    out: Annotated[Path, typer.Option(help="The file to write (.npz); it holds pieces of the photographs.")],
    bundle: o.Bundle = None,
    images: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this at run time on Python 3.10
        typer.Option(help="Pictures, folders or patterns in quotes, without ground truth; repeat it."),
    ] = None,
    dataset: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A benchmark and its folder, NAME=DIR, as in `accuracy`; one."),
    ] = None,
    data: o.Data = None,
    classes: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Names of --data's labels in order, or the classes to ask --images for."),
    ] = None,
    every: o.Every = 1,
    limit: o.Limit = 0,
    backbone_weights: o.BackboneWeights = None,
) -> None:
    """Record PyTorch's FP32 features of some images, for `parity --reference` on any machine."""
    from ovsdino_bench.data_options import benchmarks_of
    from ovsdino_bench.machine import machine, typed_command
    from ovsdino_bench.measured import weights_sha256
    from ovsdino_bench.recorded import record
    from ovsdino_bench.selection import Selection
    from ovsdino_runtime.errors import DataError
    from ovsdino_runtime.files import prepare_target
    from ovsdino_runtime.inputs import pictures_of, without_repetitions
    from ovsdino_runtime.queries import parse_classes
    from ovsdino_runtime.segmenter import Segmenter
    from ovsdino_runtime.vocabulary import Vocabulary

    if bool(images) == bool(dataset or data):
        raise typer.BadParameter("name either pictures with --images, or --dataset or --data")
    prepare_target(out)
    described = machine()
    opened = o.opened(bundle)
    with needing("bench", "running a checkpoint"):
        from ovsdino.torch_backend import TorchBackend
        from ovsdino_bench.same_model import load_same_model
    model = load_same_model(opened, checkpoint, backbone_weights)
    backend = TorchBackend(model)
    segmenter = Segmenter(opened, backend)
    selection = Selection(every=every, limit=limit)
    vocabulary: str | None = None
    found: Sequence[LabelledImage | Path]
    if images:
        if classes is None:
            raise typer.BadParameter("name the classes to ask the pictures for with --classes")
        pictures = without_repetitions([path for argument in images for path in pictures_of(argument)])
        found = selection.thinned(pictures)
        question = segmenter.ask(parse_classes(classes))
    else:
        benchmarks = benchmarks_of(dataset or [], data, classes, None, partial=False)
        if len(benchmarks) > 1:
            raise typer.BadParameter("a reference is of one data set; record another file for another")
        found = selection.of(benchmarks[0])
        question = benchmarks[0].question(segmenter)
        asked = benchmarks[0].classes
        vocabulary = asked.name if isinstance(asked, Vocabulary) else None
    failed: list[dict[str, str]] = []
    about = {
        "backend": backend.name,
        "checkpoint_sha256": weights_sha256(checkpoint),
        "vocabulary": vocabulary,
        "machine": described,
        "command": typed_command(),
        "selection": selection.as_dict(),
        "failed": failed,
    }
    count = record(out, opened.manifest, question, about, _recorded(segmenter, opened, found, failed))
    typer.echo(f"{out}: {count} images, {out.stat().st_size / 1e6:.1f} MB, by {backend.name}")
    if failed:
        raise DataError(
            f"{len(failed)} of {len(found)} images could not be recorded, the others are; the first: "
            f"{failed[0]['error']}"
        )


def _recorded(
    segmenter: Segmenter,
    bundle: Bundle,
    images: Sequence[LabelledImage | Path],
    failed: list[dict[str, str]],
) -> Iterator[RecordedImage]:
    """Yield what PyTorch makes of each image; one that cannot be read is added to those that failed.

    Raises:
        DataError: none can be read.
    """
    from tqdm import tqdm

    from ovsdino_bench.recorded import RecordedImage
    from ovsdino_runtime.backends.recording import RecordingBackend
    from ovsdino_runtime.errors import DataError, ImageError
    from ovsdino_runtime.segmenter import Segmenter

    for item in tqdm(images, "reference", unit="image"):
        seen = RecordingBackend(segmenter.backend)
        path = item if isinstance(item, Path) else item.image
        try:
            truth = None if isinstance(item, Path) else item.truth()
            grid = Segmenter(bundle, seen).encode(path).grid
            size = (grid.rows.output_px, grid.columns.output_px)
            if truth is not None and truth.shape != size:
                raise DataError(f"{path} is {size}, but its labels are {truth.shape}; correct one of them")
        except (DataError, ImageError) as error:
            failed.append({"image": path.name, "error": str(error)})
            continue
        windows, features = seen.kept[0]
        yield RecordedImage(file=path.name, size_hw=size, windows=windows, features=features, truth=truth)
    if len(failed) == len(images):
        raise DataError(
            f"none of {len(images)} images could be recorded, the first because: {failed[0]['error']}"
        )
