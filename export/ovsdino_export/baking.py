"""Checkpoint to a graph with its vocabulary inside, written only once it is proven."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ovsdino_export.baked import (
    INPUT_NAME,
    BakedGraph,
    example_input,
)
from ovsdino_export.baked_contract import InputKind, OutputKind, baked_input, baked_metadata
from ovsdino_export.class_vectors import TextSource, baked_classes, text_map_of
from ovsdino_export.large_graph import EXTERNAL_DATA_BYTES
from ovsdino_export.operators import check_file
from ovsdino_export.pipeline import NO_LICENSE, load_trained
from ovsdino_export.reference import reference_features, reference_labels, reference_scores
from ovsdino_export.steps import Progress, silent
from ovsdino_export.trace import save, trace
from ovsdino_export.verify import golden_windows, verify_labels, verify_scores
from ovsdino_runtime.background import Background
from ovsdino_runtime.errors import ExportError, OutputError
from ovsdino_runtime.files import atomic_file, atomic_folder

BAKED_GRAPH = "model.onnx"  # as Triton calls it


@dataclass(frozen=True, kw_only=True)
class Baked:
    """A baked graph that was written.

    Attributes:
        path: the .onnx file.
        class_names: in the order of the output.
        notes: names that were understood as others.
        parity: agreement with PyTorch.
    """

    path: Path
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    parity: dict[str, float]


def export_baked(
    checkpoint: Path,
    out: Path,
    classes: Sequence[str],
    *,
    output: OutputKind = "scores",
    input: InputKind = "uint8-nhwc",
    background: Background | None = None,
    backbone_weights: str | None = None,
    text: TextSource | None = None,
    license: str | None = None,
    external_data_bytes: int = EXTERNAL_DATA_BYTES,
    progress: Progress = silent,
) -> Baked:
    """Write a graph that holds its vocabulary.

    Args:
        checkpoint: a folder that `ovsdino-train fit` wrote.
        out: a file `NAME.onnx`, or a folder that will hold `model.onnx`.
        classes: as `ovsdino-run --classes` takes them.
        output: cosines at the features' grid, or labels at the window's size.
        input: what the graph takes.
        background: how to name what is none of the classes; None leaves it out.
        backbone_weights: see `export_onnx`.
        text: see `export_onnx`.
        license: see `export_onnx`.
        external_data_bytes: weights of more than this go into a file beside the graph, which takes
            a folder.
        progress: told what begins.

    Raises:
        CheckpointError, ExportError, ParityError, OutputError, VocabularyError: as `export_onnx`.
    """
    _refuse_other_contents(out)
    source = text or TextSource()
    progress("loading the checkpoint")
    model, info = load_trained(checkpoint, backbone_weights)
    source.check(info)
    progress("text embeddings")
    baked, notes = baked_classes(
        classes, background or Background(kind="none"), source, info, text_map_of(model)
    )
    graph = BakedGraph(model, baked, output=output, input=input)
    metadata = baked_metadata(
        baked.queries,
        output=output,
        input=input,
        score_scale=float(model.score_scale),
        license=license or info.license or NO_LICENSE,
    )
    as_file = out.suffix == ".onnx"
    size_bytes = sum(value.nbytes for value in graph.state_dict().values())
    if as_file and size_bytes > external_data_bytes:
        raise ExportError(
            f"the graph's weights take {size_bytes / 1e9:.1f} GB, too much for one ONNX file; "
            f"give a folder instead of {out.name}"
        )
    window_px = info.model.window_px
    progress("features in PyTorch")
    windows = golden_windows(window_px)
    features = reference_features(model, windows)
    inputs = baked_input(windows, input)
    progress("tracing the graph")
    traced = trace(
        graph, example_input(window_px, input), input_name=INPUT_NAME, output_name=output, metadata=metadata
    )
    with (atomic_file if as_file else atomic_folder)(out) as staged:
        path = staged if as_file else staged / BAKED_GRAPH
        save(traced, path, external_data_bytes)
        progress("results in ONNX Runtime")
        with _called(out.name, path):
            check_file(path)
            if output == "scores":
                scores = reference_scores(features, baked.embeddings, baked.prompts)
                parity = verify_scores(path, inputs, scores)
            else:
                labels = reference_labels(features, baked.embeddings, baked.prompts, window_px)
                parity = verify_labels(path, inputs, labels)
        progress("writing the graph")
    names = tuple(query.label for query in baked.queries)
    return Baked(path=out if as_file else out / BAKED_GRAPH, class_names=names, notes=notes, parity=parity)


def _refuse_other_contents(out: Path) -> None:
    """Refuse a folder in whose place the graph's would not be: what is in it would go.

    Raises:
        OutputError: it holds something else than an earlier graph, or is a file.
    """
    if out.suffix == ".onnx":
        return
    try:
        found = sorted(item.name for item in out.iterdir()) if out.is_dir() else []
    except OSError as error:
        raise OutputError(f"cannot read the folder {out}: {error.strerror}; choose another") from error
    others = [name for name in found if name not in (BAKED_GRAPH, f"{BAKED_GRAPH}.data")]
    if others or out.is_file():
        what = f"holds {others[0]} and perhaps more" if others else "is a file"
        raise OutputError(
            f"{out} {what}; name a file ending in .onnx, or a folder that is new or holds {BAKED_GRAPH} alone"
        )


@contextmanager
def _called(name: str, staged: Path) -> Iterator[None]:
    """Let errors name the file by what it would have been called."""
    try:
        yield
    except ExportError as error:
        raise type(error)(str(error).replace(staged.name, name)) from error
