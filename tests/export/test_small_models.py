"""Small models: a convolutional stem, shortened text vectors, weights stored in half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from ovsdino.model import OVSDINO
from ovsdino.publish import publish
from ovsdino.text_map import distinguishing_map, mapped
from ovsdino_export.baking import export_baked
from ovsdino_export.class_vectors import TextSource, embedding_table
from ovsdino_export.pipeline import export_onnx
from ovsdino_runtime.bundle import IMAGE_GRAPH, TEXT_MAP, Bundle
from ovsdino_runtime.errors import BundleError, ExportError
from ovsdino_runtime.segmenter import Segmenter

DIM, SHORT = 16, 5
Write = Callable[[Path, OVSDINO], Path]


@pytest.fixture(scope="module")
def nano(
    build_model: Callable[..., OVSDINO],
    write_checkpoint: Write,
    text_source: TextSource,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A checkpoint of the stem ViT whose BatchNorms have seen pictures."""
    model = build_model(
        backbone="ovsdino_nano_patch16", alignment=False, whole_backbone=True, backbone_trainable_blocks=0,
        embedding_dim=SHORT, text_dim=DIM, norm_groups=32,
    )  # fmt: skip
    vectors = np.load(text_source.embeddings)["street"]
    model.text_map.copy_(torch.from_numpy(distinguishing_map(vectors, SHORT)))
    model.train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(5):
            model(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=generator))
    return write_checkpoint(tmp_path_factory.mktemp("nano") / "checkpoint", model.eval())


@pytest.fixture(scope="module")
def bundles(nano: Path, text_source: TextSource, tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    folder = tmp_path_factory.mktemp("nano-bundles")
    return [
        export_onnx(nano, folder / str(half), text=text_source, half_weights=half) for half in (False, True)
    ]


def test_a_stem_exports_without_a_batch_norm(bundles: list[Bundle]) -> None:
    kinds = {node.op_type for node in onnx.load(bundles[0].file(IMAGE_GRAPH)).graph.node}
    assert "BatchNormalization" not in kinds
    assert bundles[0].manifest.parity["fp32"]["cosine_min"] > 1 - 1e-6


def test_half_weights_halve_the_file_and_keep_the_graph_s_agreement(bundles: list[Bundle]) -> None:
    whole, half = (bundle.file(IMAGE_GRAPH).stat().st_size for bundle in bundles)
    assert half < 0.53 * whole
    assert bundles[1].manifest.parity["fp32"]["cosine_min"] > 0.9999
    graph = onnx.load(bundles[1].file(IMAGE_GRAPH)).graph
    wide = [item for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT]
    assert sum(np.prod(item.dims) for item in wide) < 0.02 * whole / 4
    # Whatever follows a Cast computes as before: no other node has a half input.
    halves = {item.name for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT16}
    assert {node.op_type for node in graph.node if halves & set(node.input)} == {"Cast"}


def test_half_weights_of_a_published_checkpoint_change_nothing(
    nano: Path, text_source: TextSource, tmp_path: Path
) -> None:
    publish(nano, tmp_path / "published", name="small", license="none")
    bundle = export_onnx(tmp_path / "published", tmp_path / "bundle", text=text_source, half_weights=True)
    assert bundle.manifest.parity["fp32"]["cosine_min"] > 1 - 1e-6
    graph = onnx.load(bundle.file(IMAGE_GRAPH)).graph
    halves = sum(
        np.prod(item.dims) for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT16
    )
    wide = sum(np.prod(item.dims) for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT)
    assert halves > 5 * wide


def test_the_vocabulary_is_shortened_and_the_map_lies_beside_it(
    nano: Path, bundles: list[Bundle], text_source: TextSource
) -> None:
    bundle = bundles[0]
    assert bundle.manifest.embedding_dim == SHORT
    matrix = bundle.text_map()
    assert matrix is not None
    vectors = np.load(text_source.embeddings)["street"]
    table = bundle.embeddings()
    expected = mapped(matrix, vectors[[list(table.sets["street"].names).index(name) for name in table.names]])
    np.testing.assert_allclose(table.embeddings, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(table.sets["street"].embeddings, axis=1), 1, atol=1e-5)


def test_a_shortened_model_answers(bundles: list[Bundle], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    results = [
        Segmenter.open(bundle.path, "cpu").segment(image, ["car", "road"], background="none")
        for bundle in bundles
    ]
    assert results[0].labels.shape == (64, 80)
    assert (results[0].labels == results[1].labels).mean() > 0.99


def test_a_shortened_vocabulary_is_baked_shortened(
    nano: Path, text_source: TextSource, tmp_path: Path
) -> None:
    baked = export_baked(nano, tmp_path / "baked.onnx", ["car", "road"], text=text_source)
    assert baked.parity["score_difference_max"] < 1e-5
    assert baked.parity["label_agreement"] == 1


def test_text_vectors_of_another_size_are_refused(nano: Path, tmp_path: Path) -> None:
    import json

    from ovsdino.checkpoint import load_checkpoint

    np.savez(tmp_path / "text.npz", street=np.eye(6, 12, dtype=np.float32))
    (tmp_path / "names.json").write_text(json.dumps({"street": list("abcdef")}))
    source = TextSource(embeddings=tmp_path / "text.npz", names=tmp_path / "names.json")
    model, info = load_checkpoint(nano)
    assert model.text_map is not None
    with pytest.raises(ExportError, match="have 12 numbers, but the checkpoint was trained on 16"):
        embedding_table(source, info, model.text_map.numpy())


@pytest.mark.parametrize("damage", ["broken", "other size", "not finite"])
def test_a_map_that_does_not_fit_is_an_error(bundles: list[Bundle], tmp_path: Path, damage: str) -> None:
    import shutil

    folder = tmp_path / "bundle"
    shutil.copytree(bundles[0].path, folder)
    bundle = Bundle(path=folder, manifest=bundles[0].manifest)
    path = folder / TEXT_MAP
    if damage == "broken":
        path.write_bytes(b"x" * path.stat().st_size)
    else:
        matrix = np.zeros((SHORT + (damage == "other size"), DIM), dtype=np.float32)
        matrix[0, 0] = np.inf if damage == "not finite" else 1
        np.savez(path, map=matrix)
    with pytest.raises(BundleError, match="export the bundle again"):
        bundle.text_map()
