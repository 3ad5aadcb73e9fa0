"""THE STORY of an export: checkpoint -> graph -> proof that it computes the same -> bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from ovsdino.checkpoint import CheckpointInfo, load_checkpoint
from ovsdino.model import OVSDINO
from ovsdino.text import MODEL, PRETRAINED
from ovsdino_export.baked import INPUT_NAME, example_input
from ovsdino_export.class_vectors import TextSource, embedding_table, text_map_of
from ovsdino_export.graph import ImageGraph
from ovsdino_export.large_graph import EXTERNAL_DATA_BYTES
from ovsdino_export.operators import check_file
from ovsdino_export.reference import reference_features
from ovsdino_export.steps import Progress, silent
from ovsdino_export.storage import store_half
from ovsdino_export.trace import save, trace
from ovsdino_export.verify import golden_windows, save_golden, verify_features
from ovsdino_runtime import __version__
from ovsdino_runtime.backends.ort import import_onnxruntime
from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, TEXT_MAP, VOCABULARY, Bundle
from ovsdino_runtime.bundle_writing import new_bundle
from ovsdino_runtime.errors import ExportError
from ovsdino_runtime.manifest import BackboneInfo, Manifest, TensorSpec

NO_LICENSE = "not stated"
_WINDOWS_PER_STRIDE = 2  # sec. 5.1: 448 px windows at stride 224
_LONG_PER_SHORT = 2048 / 448  # docs/protocol.md, step 1
_OUTPUT = "features"


def export_onnx(
    checkpoint: Path,
    out: Path,
    *,
    backbone_weights: str | None = None,
    text: TextSource | None = None,
    text_encoder: bool = False,
    name: str | None = None,
    license: str | None = None,
    half_weights: bool = False,
    external_data_bytes: int = EXTERNAL_DATA_BYTES,
    progress: Progress = silent,
) -> Bundle:
    """Write a bundle and return it, opened.

    Args:
        checkpoint: a folder that `ovsdino-train fit` wrote.
        out: the bundle; an earlier bundle there is replaced once everything is proven.
        backbone_weights: where the backbone's weights are, see `load_checkpoint`.
        text: where text embeddings come from.
        text_encoder: whether the text encoder goes into the bundle too.
        name: what the model is called; by default the checkpoint's or the backbone's name.
        license: terms of the weights; by default the checkpoint's.
        half_weights: whether the graph's weights are stored in FP16, see `store_half`.
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
    model, info = load_trained(checkpoint, backbone_weights)
    text_model = source.check(info, text_encoder=text_encoder)
    progress("text embeddings")
    text_map = text_map_of(model)
    table = embedding_table(source, info, text_map)
    graph = ImageGraph(model)
    parity: dict[str, dict[str, float]] = {}  # filled in before the manifest is written
    templates = source.templates(text_encoder=text_encoder)
    manifest = manifest_of(model, info, text_model, templates, parity, name=name, license=license)
    with new_bundle(out, manifest) as staged:
        progress("features in PyTorch")
        windows = golden_windows(graph.window_px)
        reference = reference_features(model, windows)
        progress("tracing the image graph")
        traced = trace(
            graph,
            example_input(graph.window_px, "uint8-nhwc"),
            input_name=INPUT_NAME,
            output_name=_OUTPUT,
            metadata={"name": manifest.name, "license": manifest.license},
        )
        if half_weights:
            store_half(traced)
        save(traced, staged / IMAGE_GRAPH, external_data_bytes)
        check_file(staged / IMAGE_GRAPH)
        progress("features in ONNX Runtime")
        measured = verify_features(staged / IMAGE_GRAPH, windows, reference, table.embeddings)
        parity["fp32"] = measured.as_dict()
        if text_encoder:
            from ovsdino_export.text import export_text_encoder  # noqa: PLC0415 - open_clip loads slowly

            progress("text encoder")
            parity["text"] = export_text_encoder(
                staged, model=source.model or MODEL, pretrained=source.pretrained or PRETRAINED
            )
        table.save(staged / VOCABULARY)
        if text_map is not None:
            np.savez_compressed(staged / TEXT_MAP, map=text_map)
        save_golden(staged / GOLDEN, windows, reference, compact=half_weights)
        progress("writing the bundle")
    return Bundle.open(out)


def load_trained(checkpoint: Path, backbone_weights: str | None) -> tuple[OVSDINO, CheckpointInfo]:
    """Return a checkpoint's model, whose parameters ask for no gradients, and what it says.

    Raises:
        CheckpointError: see `load_checkpoint`.
        ExportError: its score scale is not positive.
    """
    model, info = load_checkpoint(checkpoint, backbone_weights)
    model.requires_grad_(False)
    scale = float(model.score_scale)
    if not (np.isfinite(scale) and scale > 0):
        raise ExportError(
            f"the checkpoint's score scale is {scale:g}, but must be positive: a higher cosine must mean "
            "more of a class; export another checkpoint"
        )
    return model, info


def manifest_of(
    model: OVSDINO,
    info: CheckpointInfo,
    text_model: str,
    templates: tuple[str, ...],
    parity: dict[str, dict[str, float]],
    *,
    name: str | None,
    license: str | None,
) -> Manifest:
    """Return what a bundle of a model says about itself; its files are listed when it is written.

    Args:
        model: the model.
        info: its checkpoint.
        text_model: the text encoder's name.
        templates: the prompts behind its class vectors; none where they are not known.
        parity: agreement with PyTorch by form.
        name: what the model is called; by default the checkpoint's or the backbone's name.
        license: terms of the weights; by default the checkpoint's.
    """
    backbone = info.backbone or BackboneInfo(name=info.model.backbone, source="not stated", fingerprint="")
    window, dim = info.model.window_px, info.model.embedding_dim
    versions = {
        "torch": torch.__version__,
        "timm": timm.__version__,
        "onnxruntime": import_onnxruntime().__version__,
    }
    provenance: dict[str, Any] = {**info.training, "exported_with": versions}
    return Manifest(
        name=name or info.name or f"OVS-DINO {info.model.backbone}",
        created_by=f"ovsdino-export {__version__}",
        backbone=backbone,
        window_px=window,
        stride_px=max(1, window // _WINDOWS_PER_STRIDE),
        short_side_px=window,
        long_side_px=round(window * _LONG_PER_SHORT),
        grid_hw=model.grid_hw,
        embedding_dim=dim,
        score_scale=float(model.score_scale),
        score_bias=float(model.score_bias),
        image_input=TensorSpec(name=INPUT_NAME, dtype="uint8", shape=("batch", window, window, 3)),
        image_output=TensorSpec(name=_OUTPUT, dtype="float32", shape=("batch", dim, *model.grid_hw)),
        text_model=text_model,
        templates=templates,
        license=license or info.license or NO_LICENSE,
        provenance=provenance,
        parity=parity,
    )
