"""THE STORY of an export: checkpoint -> graph -> proof that it computes the same -> bundle or file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from ovsdino.checkpoint import CheckpointInfo, load_checkpoint
from ovsdino.model import OVSDINO
from ovsdino_export.baked import BakedGraph, InputKind, OutputKind, baked_input, baked_metadata, example_input
from ovsdino_export.class_vectors import TextSource, baked_classes, embedding_table
from ovsdino_export.graph import ImageGraph
from ovsdino_export.operators import check_file
from ovsdino_export.reference import reference_features, reference_labels, reference_scores
from ovsdino_export.trace import EXTERNAL_DATA_BYTES, save, trace, weight_bytes
from ovsdino_export.verify import golden_windows, save_golden, verify_features, verify_labels, verify_scores
from ovsdino_runtime import __version__
from ovsdino_runtime.backends.ort import import_onnxruntime
from ovsdino_runtime.background import Background
from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, VOCABULARY, Bundle, new_bundle
from ovsdino_runtime.errors import ExportError
from ovsdino_runtime.files import atomic_file, atomic_folder
from ovsdino_runtime.manifest import BackboneInfo, Manifest, TensorSpec
from ovsdino_runtime.vocabulary import IMAGENET_TEMPLATES

BAKED_GRAPH = "model.onnx"  # as Triton calls it
NO_LICENSE = "not stated"
_WINDOWS_PER_STRIDE = 2  # sec. 5.1: 448 px windows at stride 224
_LONG_PER_SHORT = 2048 / 448  # PROTOCOL step 1
_INPUT, _OUTPUT = "image", "features"

Progress = Callable[[str], object]


def _silent(step: str) -> None:
    """Report nothing."""


def export_onnx(
    checkpoint: Path,
    out: Path,
    *,
    backbone_weights: str | None = None,
    text: TextSource | None = None,
    text_encoder: bool = False,
    name: str | None = None,
    license: str = NO_LICENSE,
    external_data_bytes: int = EXTERNAL_DATA_BYTES,
    progress: Progress = _silent,
) -> Bundle:
    """Write a bundle and return it, opened.

    Args:
        checkpoint: a folder that `ovsdino-train fit` wrote.
        out: the bundle; an earlier bundle there is replaced once everything is proven.
        backbone_weights: where the backbone's weights are, see `load_checkpoint`.
        text: where text embeddings come from.
        text_encoder: whether the text encoder goes into the bundle too.
        name: what the model is called; the backbone's name says enough by default.
        license: terms of the weights.
        external_data_bytes: weights of more than this go into a file beside the graph.
        progress: told what begins.

    Raises:
        CheckpointError: the checkpoint or the backbone's weights are missing or do not fit.
        ExportError: the model cannot be exported, or the text embeddings do not fit it.
        ParityError: the exported graph does not compute what PyTorch computes; nothing is written.
        OutputError: `out` is something else than a bundle, or cannot be written.
        VocabularyError: a vocabulary is unknown.
    """
    source = text or TextSource()
    progress("loading the checkpoint")
    model, info = _load(checkpoint, backbone_weights)
    text_model = source.check(info)
    progress("text embeddings")
    table = embedding_table(source, info)
    graph = ImageGraph(model)
    parity: dict[str, dict[str, float]] = {}  # filled in before the manifest is written
    manifest = _manifest(model, info, graph, text_model, parity, name=name, license=license)
    with new_bundle(out, manifest) as staged:
        progress("tracing the image graph")
        traced = trace(
            graph,
            example_input(graph.window_px, "uint8-nhwc"),
            input_name=_INPUT,
            output_name=_OUTPUT,
            metadata={"name": manifest.name, "license": license},
        )
        save(traced, staged / IMAGE_GRAPH, external_data_bytes)
        check_file(staged / IMAGE_GRAPH)
        progress("features in PyTorch")
        windows = golden_windows(graph.window_px)
        reference = reference_features(model, windows)
        progress("features in ONNX Runtime")
        measured = verify_features(staged / IMAGE_GRAPH, windows, reference, table.embeddings)
        parity["fp32"] = measured.as_dict()
        if text_encoder:
            from ovsdino_export.text import export_text_encoder  # noqa: PLC0415 - open_clip loads slowly

            progress("text encoder")
            parity["text"] = export_text_encoder(staged, model=source.model, pretrained=source.pretrained)
        table.save(staged / VOCABULARY)
        save_golden(staged / GOLDEN, windows, reference)
        progress("writing the bundle")
    return Bundle.open(out)


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
    license: str = NO_LICENSE,
    external_data_bytes: int = EXTERNAL_DATA_BYTES,
    progress: Progress = _silent,
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
    source = text or TextSource()
    progress("loading the checkpoint")
    model, info = _load(checkpoint, backbone_weights)
    source.check(info)
    progress("text embeddings")
    baked, notes = baked_classes(classes, background or Background(kind="none"), source, info)
    progress("tracing the graph")
    graph = BakedGraph(model, baked, output=output, input=input)
    metadata = baked_metadata(
        baked.queries, output=output, input=input, score_scale=float(model.score_scale), license=license
    )
    window_px = info.model.window_px
    traced = trace(
        graph, example_input(window_px, input), input_name=_INPUT, output_name=output, metadata=metadata
    )
    as_file = out.suffix == ".onnx"
    if as_file and weight_bytes(traced) > external_data_bytes:
        raise ExportError(
            f"the graph's weights take {weight_bytes(traced) / 1e9:.1f} GB, too much for one ONNX file; "
            f"give a folder instead of {out.name}"
        )
    with (atomic_file if as_file else atomic_folder)(out) as staged:
        path = staged if as_file else staged / BAKED_GRAPH
        save(traced, path, external_data_bytes)
        check_file(path)
        progress("PyTorch")
        windows = golden_windows(window_px)
        features = reference_features(model, windows)
        inputs = baked_input(windows, input)
        progress("ONNX Runtime")
        if output == "scores":
            parity = verify_scores(path, inputs, reference_scores(features, baked.embeddings, baked.prompts))
        else:
            labels = reference_labels(features, baked.embeddings, baked.prompts, window_px)
            parity = verify_labels(path, inputs, labels)
        progress("writing the graph")
    names = tuple(query.label for query in baked.queries)
    return Baked(path=out if as_file else out / BAKED_GRAPH, class_names=names, notes=notes, parity=parity)


def _load(checkpoint: Path, backbone_weights: str | None) -> tuple[OVSDINO, CheckpointInfo]:
    model, info = load_checkpoint(checkpoint, backbone_weights)
    model.requires_grad_(False)
    scale = float(model.score_scale)
    if not (np.isfinite(scale) and scale > 0):
        raise ExportError(
            f"the checkpoint's score scale is {scale:g}, but must be positive: a higher cosine must mean "
            "more of a class; export another checkpoint"
        )
    return model, info


def _manifest(
    model: OVSDINO,
    info: CheckpointInfo,
    graph: ImageGraph,
    text_model: str,
    parity: dict[str, dict[str, float]],
    *,
    name: str | None,
    license: str,
) -> Manifest:
    backbone = info.backbone or BackboneInfo(name=info.model.backbone, source="not stated", fingerprint="")
    window, dim = info.model.window_px, info.model.embedding_dim
    versions = {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "onnxruntime": import_onnxruntime().__version__,
    }
    provenance: dict[str, Any] = {**info.training, "exported_with": versions}
    return Manifest(
        name=name or f"OVS-DINO {info.model.backbone}",
        created_by=f"ovsdino-export {__version__}",
        backbone=backbone,
        window_px=window,
        stride_px=max(1, window // _WINDOWS_PER_STRIDE),
        short_side_px=window,
        long_side_px=round(window * _LONG_PER_SHORT),
        grid_hw=graph.grid_hw,
        embedding_dim=dim,
        score_scale=float(model.score_scale),
        score_bias=float(model.score_bias),
        image_input=TensorSpec(name=_INPUT, dtype="uint8", shape=("batch", window, window, 3)),
        image_output=TensorSpec(name=_OUTPUT, dtype="float32", shape=("batch", dim, *graph.grid_hw)),
        text_model=text_model,
        templates=IMAGENET_TEMPLATES,
        license=license,
        provenance=provenance,
        parity=parity,
    )
