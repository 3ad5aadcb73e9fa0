"""Checkpoint to bundle: what is in it, and that nothing is written unless it is proven."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import ovsdino_export.graph
import ovsdino_export.text
from ovsdino.backbone_weights import load_backbone_weights
from ovsdino.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from ovsdino.config import ModelConfig
from ovsdino.model import OVSDINO
from ovsdino_export.class_vectors import TextSource, baked_classes, embedding_table
from ovsdino_export.operators import check_file
from ovsdino_export.pipeline import export_onnx
from ovsdino_export.verify import load_golden, run_onnx
from ovsdino_runtime.background import parse_background
from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, IMAGE_WEIGHTS, VOCABULARY, Bundle
from ovsdino_runtime.errors import BundleError, ExportError, OutputError, ParityError
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.manifest import BackboneInfo
from ovsdino_runtime.metrics import GATES
from ovsdino_runtime.vocabulary import vocabularies, vocabulary
from tests.export.conftest import Asked, seeded_vector

SHARED = Path(__file__).parents[2].parent / "shared"
Write = Callable[[Path, OVSDINO], Path]


@pytest.fixture(scope="module")
def exported(tiny_checkpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, list[str]]:
    steps: list[str] = []
    bundle = export_onnx(
        tiny_checkpoint.path,
        tmp_path_factory.mktemp("bundles") / "tiny",
        text=tiny_checkpoint.text,
        license="CC0-1.0",
        progress=steps.append,
    )
    return bundle, steps


def test_the_manifest_says_what_the_checkpoint_says(exported, tiny_checkpoint) -> None:
    manifest = exported[0].manifest
    model, info = load_checkpoint(tiny_checkpoint.path)
    assert manifest.backbone == info.backbone
    assert (manifest.window_px, manifest.stride_px, manifest.short_side_px) == (64, 32, 64)
    assert manifest.long_side_px == pytest.approx(64 * 2048 / 448, abs=0.5)
    assert (manifest.grid_hw, manifest.embedding_dim) == ((32, 32), 16)
    assert manifest.image_input.shape == ("batch", 64, 64, 3)
    assert manifest.image_output.shape == ("batch", 16, 32, 32)
    assert manifest.score_scale == model.score_scale.item()
    assert manifest.score_bias == model.score_bias.item()
    assert manifest.text_model == "open_clip ViT-B-16 openai"
    assert manifest.templates == ()  # the vectors were ready-made, and do not say theirs
    assert len(TextSource().templates()) == 80
    assert len(tiny_checkpoint.text.templates(text_encoder=True)) == 80
    assert manifest.license == "CC0-1.0"
    assert manifest.provenance["command"] == "a test"
    assert set(manifest.files) == {IMAGE_GRAPH, VOCABULARY, GOLDEN}


def test_the_parity_in_the_manifest_meets_the_gates_of_fp32(exported) -> None:
    figures, gate = exported[0].manifest.parity["fp32"], GATES["fp32"]
    assert figures["cosine_mean"] >= gate.cosine_mean
    assert figures["cosine_p1"] >= gate.cosine_p1
    assert figures["label_agreement"] >= gate.label_agreement


def test_the_graph_gives_the_golden_features_which_are_the_models(exported, tiny_checkpoint) -> None:
    bundle = exported[0]
    windows, features = load_golden(bundle.file(GOLDEN))
    model, _ = load_checkpoint(tiny_checkpoint.path)
    with torch.inference_mode():
        expected = model(torch.from_numpy(windows)).embeddings.numpy()
    assert np.allclose(features, expected, atol=1e-5)
    assert np.allclose(run_onnx(bundle.file(IMAGE_GRAPH), windows), features, atol=1e-5)
    check_file(bundle.file(IMAGE_GRAPH))


def test_the_vocabulary_holds_the_given_vectors_and_marks_what_was_trained(exported, tiny_checkpoint) -> None:
    table = exported[0].embeddings()
    with np.load(tiny_checkpoint.text.embeddings) as data:
        given = data["street"]
    listed = json.loads(tiny_checkpoint.text.names.read_text())["street"]
    assert np.allclose(table.lookup(listed), given, atol=1e-6)
    trained = {name for name, flag in zip(table.names, table.trained, strict=True) if flag}
    assert trained == {"car", "road"}
    assert set(table.sets) == {"street"}


def test_slow_steps_are_announced_in_order(exported) -> None:
    steps = exported[1]
    assert steps[0] == "loading the checkpoint"
    assert steps[-1] == "writing the bundle"
    assert len(steps) == len(set(steps)) == 6


def test_external_weights_and_the_text_encoder_are_shipped_and_hashed(
    tiny_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_text_encoder(folder: Path, *, model: str, pretrained: str) -> dict[str, float]:
        (folder / "text.onnx").write_text(f"{model} {pretrained}")
        return {"cosine_min": 0.5}

    monkeypatch.setattr(ovsdino_export.text, "export_text_encoder", write_text_encoder)
    bundle = export_onnx(
        tiny_checkpoint.path,
        tmp_path / "b",
        text=tiny_checkpoint.text,
        text_encoder=True,
        name="tiny",
        external_data_bytes=1000,
    )
    assert bundle.manifest.name == "tiny"
    assert bundle.file("text.onnx").read_text() == "ViT-B-16 openai"
    assert bundle.manifest.parity["text"] == {"cosine_min": 0.5}
    weights = bundle.file(IMAGE_WEIGHTS)
    assert bundle.manifest.files[IMAGE_WEIGHTS].sha256 == sha256_of(weights)
    weights.write_bytes(bytes(weights.stat().st_size))
    with pytest.raises(BundleError, match=r"image\.onnx\.data has changed"):
        Bundle.open(tmp_path / "b")


def test_a_graph_that_computes_something_else_is_refused_and_an_earlier_bundle_stays_as_it_was(
    tiny_checkpoint, exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ovsdino_export.graph, "STD", (58.0, 57.0, 50.0))
    earlier = exported[0].path
    before = {path.name: sha256_of(path) for path in earlier.iterdir()}
    with pytest.raises(ParityError, match="cosine"):
        export_onnx(tiny_checkpoint.path, earlier, text=tiny_checkpoint.text)
    assert {path.name: sha256_of(path) for path in earlier.iterdir()} == before
    assert [path.name for path in earlier.parent.iterdir()] == [earlier.name]


@pytest.mark.parametrize("scale", [0.0, -3.0, float("nan")])
def test_a_score_scale_that_is_not_positive_is_refused(
    build_model, write_checkpoint: Write, text_source: TextSource, tmp_path: Path, scale: float
) -> None:
    model = build_model()
    torch.nn.init.constant_(model.score_scale, scale)
    checkpoint = write_checkpoint(tmp_path / "c", model)
    with pytest.raises(ExportError, match=r"score scale is .* must be positive"):
        export_onnx(checkpoint, tmp_path / "b", text=text_source)


def test_weights_that_give_nan_in_pytorch_are_refused_as_such(
    build_model, write_checkpoint: Write, text_source: TextSource, tmp_path: Path
) -> None:
    model = build_model()
    torch.nn.init.constant_(model.projector.bias, float("nan"))
    checkpoint = write_checkpoint(tmp_path / "c", model)
    with pytest.raises(ExportError, match="NaN or Inf in PyTorch already"):
        export_onnx(checkpoint, tmp_path / "b", text=text_source)
    assert not (tmp_path / "b").exists()


def test_a_model_that_needs_sam_is_refused(
    build_model, write_checkpoint: Write, text_source: TextSource, tmp_path: Path
) -> None:
    model = build_model(encoder=False, gate=False, alignment=False, backbone_trainable_blocks=0)
    checkpoint = write_checkpoint(tmp_path / "c", model)
    with pytest.raises(ExportError, match="SAM-free"):
        export_onnx(checkpoint, tmp_path / "b", text=text_source)


def test_text_vectors_of_another_size_are_refused(
    build_model, write_checkpoint: Write, text_source: TextSource, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", build_model(embedding_dim=24))
    with pytest.raises(ExportError, match="have 16 numbers, but the checkpoint was trained on 24"):
        export_onnx(checkpoint, tmp_path / "b", text=text_source)


def test_another_text_encoder_than_the_trained_one_is_refused(tiny_checkpoint, tmp_path: Path) -> None:
    other = dataclasses.replace(tiny_checkpoint.text, model="ViT-L-14")
    with pytest.raises(ExportError, match="trained for the text encoder open_clip ViT-B-16 openai"):
        export_onnx(tiny_checkpoint.path, tmp_path / "b", text=other)


def _trained_on(*names: str, dim: int = 16) -> CheckpointInfo:
    return CheckpointInfo(model=ModelConfig(embedding_dim=dim), backbone=None, trained_names=names)


def _prompts(name: str) -> tuple[str, ...]:
    return tuple(prompt for query in vocabulary(name).queries for prompt in query.prompts)


def test_a_vocabulary_and_the_trained_names_beside_it_get_the_vectors_of_the_encoder_that_was_asked_for(
    text_encoder: list[Asked],
) -> None:
    source = TextSource(vocabularies=("camvid",), model="ViT-L-14", pretrained="laion2b")
    table = embedding_table(source, _trained_on("car", "zebra crossing", "road"), None)
    camvid = _prompts("camvid")
    assert text_encoder == [Asked((*camvid, "zebra crossing"), "ViT-L-14", "laion2b")]
    assert {key: item.names for key, item in table.sets.items()} == {
        "camvid": camvid,
        "extra": ("zebra crossing",),
    }
    for item in table.sets.values():
        np.testing.assert_array_equal(item.embeddings, [seeded_vector(name) for name in item.names])
    assert set(table.names) == {*camvid, "zebra crossing"}
    np.testing.assert_allclose(table.embeddings, [seeded_vector(name) for name in table.names], atol=1e-6)
    trained = {name for name, flag in zip(table.names, table.trained, strict=True) if flag}
    assert trained == {"car", "zebra crossing", "road"}


def test_by_default_every_vocabulary_is_asked_of_the_papers_encoder(text_encoder: list[Asked]) -> None:
    table = embedding_table(TextSource(), _trained_on("car", "zebra crossing"), None)
    (asked,) = text_encoder
    assert (asked.model, asked.pretrained) == ("ViT-B-16", "openai")
    assert set(table.sets) == {*vocabularies(), "extra"}
    for name in vocabularies():
        assert set(table.sets[name].names) == set(_prompts(name))
    assert "zebra crossing" in table.names


def test_of_ready_made_vectors_a_vocabulary_is_put_together_and_trained_names_kept_that_have_one(
    tmp_path: Path, text_encoder: list[Asked]
) -> None:
    ready = (*_prompts("camvid"), "zebra crossing", "yeti")
    np.savez(tmp_path / "text.npz", mine=np.stack([seeded_vector(name) for name in ready]))
    (tmp_path / "names.json").write_text(json.dumps({"mine": ready}))
    source = TextSource(embeddings=tmp_path / "text.npz", names=tmp_path / "names.json")
    info = _trained_on("car", "zebra crossing", "unicorn")
    table = embedding_table(dataclasses.replace(source, vocabularies=("camvid",)), info, None)
    assert set(table.sets) == {"camvid", "extra"}
    assert table.sets["extra"].names == ("zebra crossing",), "nobody has a vector of a unicorn"
    assert set(table.names) == {*ready} - {"yeti"}
    np.testing.assert_allclose(table.embeddings, [seeded_vector(name) for name in table.names], atol=1e-6)
    assert set(embedding_table(source, info, None).names) == {*ready}
    assert text_encoder == []


def test_the_classes_of_a_baked_graph_are_encoded_and_shortened_in_their_order(
    text_encoder: list[Asked],
) -> None:
    source = TextSource(model="ViT-L-14", pretrained="laion2b")
    classes, background = ("cars", "beast=yeti|unicorn"), parse_background("sky|wall")
    baked, notes = baked_classes(classes, background, source, _trained_on("car"), None)
    names = ("car", "yeti", "unicorn", "sky", "wall")
    assert text_encoder == [Asked(names, "ViT-L-14", "laion2b")]
    assert [query.label for query in baked.queries] == ["car", "beast", "background"]
    vectors = np.stack([seeded_vector(name) for name in names])
    np.testing.assert_array_equal(baked.embeddings, vectors)
    assert "'cars' -> car" in notes
    matrix = np.random.default_rng(5).normal(size=(4, 16)).astype(np.float32)
    short, _ = baked_classes(classes, background, TextSource(), _trained_on("car"), matrix)
    assert (text_encoder[1].model, text_encoder[1].pretrained) == ("ViT-B-16", "openai")
    wanted = vectors @ matrix.T
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(short.embeddings, wanted, atol=1e-6)


def test_an_encoder_of_another_size_than_the_trained_one_is_refused(text_encoder: list[Asked]) -> None:
    info, said = _trained_on("car", dim=24), "have 16 numbers, but the checkpoint was trained on 24"
    with pytest.raises(ExportError, match=said):
        embedding_table(TextSource(vocabularies=("camvid",)), info, None)
    with pytest.raises(ExportError, match=said):
        baked_classes(["car"], parse_background("none"), TextSource(), info, None)


def test_a_folder_that_is_no_bundle_is_not_overwritten(tiny_checkpoint, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is no bundle"):
        export_onnx(tiny_checkpoint.path, tmp_path, text=tiny_checkpoint.text)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def _real_text() -> TextSource:
    return TextSource(
        embeddings=SHARED / "weights" / "clip_vitb16_class_text.npz",
        names=SHARED / "weights" / "clip_vitb16_class_text_names.json",
    )


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real weights in ../shared")
def test_the_real_s_backbone_exports_within_the_gates(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(backbone="vit_small_patch14_dinov2")
    source = str(SHARED / "weights" / "dav2_vits14_backbone_fp16.safetensors")
    weights = load_backbone_weights(config.backbone, source)
    model = OVSDINO(config)
    model.load_backbone(weights)
    backbone = BackboneInfo(name=weights.name, source=source, fingerprint=weights.fingerprint)
    info = CheckpointInfo(model=config, backbone=backbone, trained_names=("car",))
    save_checkpoint(tmp_path / "c", model, info)
    bundle = export_onnx(tmp_path / "c", tmp_path / "b", text=_real_text())
    assert bundle.manifest.parity["fp32"]["cosine_min"] > 0.99999
    assert len(bundle.embeddings().names) == 273
    assert bundle.file(IMAGE_GRAPH).stat().st_size < 100e6
