"""CLIP's text tower as ONNX against open_clip."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP

from ovsdino.text import TextModel, encode_names
from ovsdino_export import text as text_module
from ovsdino_export.text import export_text_encoder, tokenizer_of
from ovsdino_runtime.bundle import TEXT_GRAPH, TOKENIZER, Bundle
from ovsdino_runtime.bundle_writing import new_bundle
from ovsdino_runtime.errors import CheckpointError, ExportError, ParityError
from ovsdino_runtime.text import TextEmbeddings
from ovsdino_runtime.tokenizer import Tokenizer
from ovsdino_runtime.vocabulary import IMAGENET_TEMPLATES

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
CONTEXT = 77


def small(kind: type = CLIP, quick_gelu: bool = True, dim: int = 16, **text: Any) -> Any:
    torch.manual_seed(0)
    clip = kind(embed_dim=dim, vision_cfg=VISION, text_cfg={**TEXT, **text}, quick_gelu=quick_gelu)
    for parameter in clip.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return clip.eval()


def export(folder: Path, clip: Any, **options: Any) -> dict[str, float]:
    return export_text_encoder(folder, model="ViT-B-16", pretrained="openai", clip=clip, **options)


def session(folder: Path) -> Any:
    return onnxruntime.InferenceSession(folder / TEXT_GRAPH, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def clip() -> Any:
    return small()


@pytest.fixture(scope="module")
def exported(clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    figures = export(folder, clip)
    assert figures["cosine_min"] > 0.99999
    return folder


@torch.inference_mode()
def test_the_graph_gives_at_every_length_what_open_clip_gives_for_the_padded_prompt(
    clip: Any, exported: Path
) -> None:
    run = session(exported)
    random = np.random.default_rng(5)
    for length in range(3, CONTEXT + 1):
        ids = random.integers(0, 49406, (2, length))
        ids[:, 0], ids[0, -1], ids[1, length // 2 + 1 :] = 49406, 49407, 0
        ids[1, length // 2 + 1] = 49407  # a batch of a longer and a shorter prompt
        padded = np.pad(ids, ((0, 0), (0, CONTEXT - length)))
        expected = clip.encode_text(torch.from_numpy(padded), normalize=True).numpy()
        (found,) = run.run(None, {"input_ids": ids})
        np.testing.assert_allclose(found, expected, atol=3e-6)


def test_cutting_the_padding_of_a_batch_changes_nothing(exported: Path) -> None:
    run = session(exported)
    ids = open_clip.tokenize(["a photo of a cat.", "car", "!!! wow !!!"]).numpy()
    longest = int(ids.argmax(axis=1).max()) + 1
    (whole,) = run.run(None, {"input_ids": ids})
    (cut,) = run.run(None, {"input_ids": ids[:, :longest]})
    assert longest < 12
    np.testing.assert_allclose(cut, whole, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)


def test_the_graph_is_as_promised_in_types_names_versions_and_operators(exported: Path) -> None:
    model = onnx.load(exported / TEXT_GRAPH)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 10
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 20)]
    (ids,), (embeddings,) = model.graph.input, model.graph.output
    assert (ids.name, ids.type.tensor_type.elem_type) == ("input_ids", onnx.TensorProto.INT64)
    assert (embeddings.name, embeddings.type.tensor_type.elem_type) == ("embeddings", onnx.TensorProto.FLOAT)
    assert [d.dim_param for d in ids.type.tensor_type.shape.dim] == ["batch", "tokens"]
    assert [d.dim_param or d.dim_value for d in embeddings.type.tensor_type.shape.dim] == ["batch", 16]
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["LayerNormalization"] == 2 * TEXT["layers"] + 1
    assert not {"If", "Loop", "Scan"} & set(operators)
    assert {item.key: item.value for item in model.metadata_props}["model"] == "open_clip ViT-B-16 openai"


def test_the_tokenizer_in_the_folder_is_open_clips(exported: Path) -> None:
    tokenizer = Tokenizer.load(exported / TOKENIZER)
    texts = ["a photo of a Traffic_Sign.", "it's 42 &amp; naïve 😀", "word " * 200]
    np.testing.assert_array_equal(tokenizer.batch(texts), open_clip.tokenize(texts).numpy())
    assert sorted(path.name for path in exported.iterdir()) == [TEXT_GRAPH, TOKENIZER]


@torch.inference_mode()
def test_a_tower_of_clip_vit_b_16s_width_with_its_own_gelu_exports(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = {"width": 512, "heads": 8, "layers": 2}
    clip = CLIP(embed_dim=512, vision_cfg=VISION, text_cfg={**TEXT, **wide}, quick_gelu=False).eval()
    assert export(tmp_path, clip)["cosine_p1"] > 0.99999
    operators = Counter(node.op_type for node in onnx.load(tmp_path / TEXT_GRAPH).graph.node)
    assert operators["Gelu"] == 2
    ids = open_clip.tokenize(["a photo of a cat."])
    (found,) = session(tmp_path).run(None, {"input_ids": ids.numpy()[:, :8]})
    np.testing.assert_allclose(found, clip.encode_text(ids, normalize=True).numpy(), atol=1e-5)


@torch.inference_mode()
def test_another_shape_of_text_side_with_weights_beside_the_graph_exports(tmp_path: Path) -> None:
    clip = small(CustomTextCLIP, pool_type="eos", eos_id=49407, proj_bias=True, ls_init_value=0.1)
    export(tmp_path, clip, external_data_bytes=1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == [TEXT_GRAPH, f"{TEXT_GRAPH}.data", TOKENIZER]
    ids = open_clip.tokenize(["a photo of a cat.", "car"])
    (found,) = session(tmp_path).run(None, {"input_ids": ids.numpy()[:, :9]})
    np.testing.assert_allclose(found, clip.encode_text(ids, normalize=True).numpy(), atol=3e-6)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: small(CustomTextCLIP, no_causal_mask=True), "no causal mask"),
        (lambda: small(CustomTextCLIP, pool_type="last"), "pools by 'last'"),
        (lambda: small(context_length=32), "77 tokens, its text side for 32"),
    ],
)
def test_a_text_side_that_cannot_be_exported_is_refused(
    build: Callable[[], Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=f"{reason}.*leave out --text-encoder"):
        export(tmp_path, build())
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    with pytest.raises(ExportError, match="is not OpenAI's byte-pair tokenizer"):
        tokenizer_of(str.split)
    marked = open_clip.SimpleTokenizer(additional_special_tokens=["<mark>"])
    with pytest.raises(ExportError, match="is not OpenAI's byte-pair tokenizer"):
        tokenizer_of(marked)


def test_a_graph_that_disagrees_with_open_clip_is_not_written(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(text_module.TextTower):
        """The tower with its positions one off."""

        def __init__(self, source: torch.nn.Module) -> None:
            super().__init__(source)
            self.positional_embedding = torch.nn.Parameter(self.positional_embedding.roll(1, dims=0))

    (tmp_path / "other.txt").write_text("was here")
    monkeypatch.setattr(text_module, "TextTower", Off)
    with pytest.raises(ParityError, match=r"text\.onnx does not compute what PyTorch computes"):
        export(tmp_path, clip)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_a_tokenizer_that_disagrees_with_open_clip_is_not_written(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(reference: Any) -> Tokenizer:
        merges = list(reference.bpe_ranks)
        return Tokenizer([*merges[1000:], *merges[:1000]])

    monkeypatch.setattr(text_module, "tokenizer_of", other)
    with pytest.raises(ParityError, match=r"tokenizer\.json gives other ids"):
        export(tmp_path, clip)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_had_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot load open_clip no-such-model openai"):
        export_text_encoder(tmp_path, model="no-such-model", pretrained="openai")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_with_the_exported_encoder_embeds_any_word_as_open_clip_does(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    closed = Bundle.open(tiny_bundle)
    clip = small(dim=closed.manifest.embedding_dim)
    with new_bundle(
        tmp_path / "bundle", dataclasses.replace(closed.manifest, templates=IMAGENET_TEMPLATES)
    ) as staged:
        for name in closed.manifest.files:
            (staged / name).write_bytes(closed.file(name).read_bytes())
        export(staged, clip)
    text = TextEmbeddings(Bundle.open(tmp_path / "bundle"))
    names = ["zebra crossing", "naïve 😀!", "x" * 300]
    expected = encode_names(names, text_model=TextModel.of(clip))
    for _ in range(2):  # encoded, then from the disk
        np.testing.assert_allclose(text.embed([*names, "car"])[:3], expected, atol=3e-6)
    np.testing.assert_array_equal(text.embed(["car"]), TextEmbeddings(closed).embed(["car"]))
