"""Class names to embeddings: open_clip's text tower, prompt ensembles, ready-made vectors."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

from ovsdino import text as text_module
from ovsdino.text import (
    TextModel,
    embedding_sets,
    encode_names,
    load_text_model,
    read_embedding_sets,
    text_model_name,
)
from ovsdino.text_tower import TextTower
from ovsdino_runtime.embeddings import unit
from ovsdino_runtime.errors import CheckpointError, VocabularyError
from ovsdino_runtime.vocabulary import related_sets, vocabularies, vocabulary

WEIGHTS = Path(__file__).parents[2].parent / "shared" / "weights"
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
CONTEXT = 77


def small(kind: type = CLIP, quick_gelu: bool = True, **text: Any) -> Any:
    """Return a small open_clip model with weights large enough for every part to matter."""
    torch.manual_seed(0)
    clip = kind(embed_dim=16, vision_cfg=VISION, text_cfg={**TEXT, **text}, quick_gelu=quick_gelu)
    for parameter in clip.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return clip.eval()


def random_ids(lengths: range) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    middles = [torch.randint(0, 49406, (1, length - 2), generator=random) for length in lengths]
    return [torch.cat([torch.tensor([[49406]]), ids, torch.tensor([[49407]])], dim=1) for ids in middles]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture(scope="module")
def model() -> TextModel:
    return TextModel.of(small())


def _no_model(model: str, pretrained: str) -> TextModel:
    raise AssertionError("the text encoder was loaded")


# --- the tower ---


@pytest.mark.parametrize(
    "build",
    [
        small,
        lambda: small(quick_gelu=False),
        lambda: small(CustomTextCLIP),
        lambda: small(CustomTextCLIP, pool_type="eos", eos_id=49407, proj_bias=True, ls_init_value=0.1),
    ],
)
@torch.inference_mode()
def test_the_tower_gives_at_every_length_what_open_clip_gives_for_the_padded_prompt(
    build: Callable[[], Any],
) -> None:
    clip = build()
    tower = TextTower(clip)
    ids = random_ids(range(2, CONTEXT + 1))
    padded = torch.cat([torch.nn.functional.pad(item, (0, CONTEXT - item.shape[1])) for item in ids])
    expected = clip.encode_text(padded, normalize=True)
    found = torch.cat([tower(item) for item in ids])
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    assert expected.std(dim=0).max() > 0.05  # prompts differ, so equality says something


@torch.inference_mode()
def test_cutting_the_padding_of_a_batch_changes_nothing() -> None:
    tower = TextTower(small())
    padded = open_clip.tokenize(["a photo of a cat.", "car", "!!! wow !!!"])
    for length in (12, 20, CONTEXT):
        torch.testing.assert_close(tower(padded[:, :length]), tower(padded), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: small(CustomTextCLIP, no_causal_mask=True), "no causal mask"),
        (lambda: small(CustomTextCLIP, pool_type="last"), "pools by 'last'"),
        (lambda: small(CustomTextCLIP, embed_cls=True), "class token"),
        (lambda: small(CustomTextCLIP, scale_fc=True), "blocks of another kind"),
        (lambda: torch.nn.Linear(1, 1), "no open_clip text transformer"),
    ],
)
def test_a_text_side_of_another_kind_is_no_tower(build: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        TextTower(build())


# --- prompt ensembles ---


@torch.inference_mode()
def _by_hand(clip: Any, name: str) -> np.ndarray[Any, Any]:
    prompts = open_clip.tokenize([template(name) for template in OPENAI_IMAGENET_TEMPLATES])
    mean = torch.nn.functional.normalize(clip.encode_text(prompts), dim=1).mean(dim=0)
    return np.asarray((mean / mean.norm()).numpy())


def test_a_name_is_the_normalised_mean_of_its_normalised_prompts(model: TextModel) -> None:
    names = ["car", "wine glass", "!! odd !!", "car"]
    found = encode_names(names, text_model=model)
    assert found.shape == (4, 16)
    assert found.dtype == np.float32
    for row, name in zip(found, names, strict=True):
        np.testing.assert_allclose(row, _by_hand(model.clip, name), atol=3e-6)
    assert encode_names([], text_model=model).shape[0] == 0


def test_a_model_that_cannot_be_trimmed_is_encoded_all_the_same() -> None:
    clip = small(CustomTextCLIP, no_causal_mask=True)
    found = encode_names(["car"], text_model=TextModel.of(clip))
    np.testing.assert_allclose(found[0], _by_hand(clip, "car"), atol=3e-6)


def test_names_are_kept_on_disk_by_model_weights_and_templates(
    model: TextModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_names(["car", "cat"], cache_folder=tmp_path, text_model=model)
    monkeypatch.setattr(text_module, "load_text_model", _no_model)
    np.testing.assert_array_equal(encode_names(["cat", "car"], cache_folder=tmp_path), first[::-1])
    other: list[dict[str, Any]] = [
        {"model": "ViT-L-14"},
        {"pretrained": "laion2b_s34b_b88k"},
        {"templates": ("{}",)},
        {"cache_folder": tmp_path / "other"},
    ]
    for changed in other:
        with pytest.raises(AssertionError, match="was loaded"):
            encode_names(["car"], **{"cache_folder": tmp_path, **changed})
    with pytest.raises(AssertionError, match="was loaded"):
        encode_names(["car", "dog"], cache_folder=tmp_path)


def test_a_model_of_ones_own_leaves_the_users_cache_alone(model: TextModel, tmp_path: Path) -> None:
    encode_names(["car"], text_model=model)
    assert not (tmp_path / "xdg").exists()


def test_a_model_that_gives_no_finite_embedding_is_refused() -> None:
    clip = small()
    with torch.no_grad():
        clip.text_projection.fill_(torch.nan)
    with pytest.raises(CheckpointError, match=r"open_clip ViT-B-16 openai: .*finite"):
        encode_names(["car"], text_model=TextModel.of(clip))


# --- loading ---


@pytest.fixture
def tiny_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a small architecture that open_clip knows during the test."""
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-test", config)
    return "tiny-test"


def test_a_weights_file_loads_into_its_architecture(tiny_architecture: str, tmp_path: Path) -> None:
    clip = small(quick_gelu=False)
    torch.save(clip.state_dict(), tmp_path / "tiny.pt")
    loaded = load_text_model(tiny_architecture, str(tmp_path / "tiny.pt"))
    ids = loaded.tokenize(["a photo of a cat."])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.clip.encode_text(ids), clip.encode_text(ids))  # type: ignore[operator]


def test_openais_weights_get_the_gelu_they_were_trained_with(
    tiny_architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = small(quick_gelu=True)
    torch.save(clip.state_dict(), tmp_path / "tiny.pt")
    tag = {"openai": {"file": str(tmp_path / "tiny.pt"), "quick_gelu": True}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, tiny_architecture, tag)
    loaded = load_text_model(tiny_architecture, "openai")
    ids = loaded.tokenize(["a photo of a cat."])
    with torch.inference_mode():
        torch.testing.assert_close(loaded.clip.encode_text(ids), clip.encode_text(ids))  # type: ignore[operator]


def test_the_papers_text_encoder_is_one_that_open_clip_offers_with_quick_gelu() -> None:
    assert text_model_name() == "open_clip ViT-B-16 openai"
    assert open_clip.get_pretrained_cfg("ViT-B-16", "openai")["quick_gelu"] is True


@pytest.mark.parametrize(
    ("model_name", "pretrained"),
    [("ViT-B-16", "openai"), ("ViT-B-16", "no-such-tag"), ("no-such-model", "openai")],
)
def test_what_cannot_be_loaded_is_refused_in_one_line_with_the_way_out(
    model_name: str, pretrained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _offline)
    with pytest.raises(CheckpointError, match=r"cannot load open_clip .*--text-embeddings") as caught:
        load_text_model(model_name, pretrained)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def _offline(*_: object, **__: object) -> None:
    raise OSError("no network in tests")


# --- ready-made vectors ---


def _ready(folder: Path, **sets: list[str]) -> tuple[Path, Path]:
    random = np.random.default_rng(3)
    vectors = {
        key: unit(random.normal(size=(len(names), 8)).astype(np.float32)) for key, names in sets.items()
    }
    np.savez(folder / "text.npz", **vectors)  # type: ignore[arg-type]
    (folder / "names.json").write_text(json.dumps(sets), encoding="utf-8")
    return folder / "text.npz", folder / "names.json"


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


CITY = [query.prompts[0] for query in vocabulary("cityscapes").queries]


def test_ready_made_sets_get_canonical_names_and_keep_their_order(tmp_path: Path) -> None:
    files = _ready(tmp_path, cityscapes19=CITY, mine=["zebra", "car"])
    sets = read_embedding_sets(*files)
    assert set(sets) == {"cityscapes", "mine"}
    assert sets["mine"].names == ("zebra", "car")
    with np.load(files[0]) as data:
        np.testing.assert_allclose(sets["mine"].embeddings, data["mine"], atol=1e-6)


def test_ready_made_vectors_serve_vocabularies_with_their_own_set_or_from_all(tmp_path: Path) -> None:
    objects = [query.prompts[0] for query in vocabulary("voc20").queries]
    files = _ready(tmp_path, cityscapes19=CITY, voc20=objects, more=["tree"])
    ready = read_embedding_sets(*files)
    assert set(embedding_sets(*files, [])) == {"cityscapes", "voc20", "more"}
    found = embedding_sets(*files, ["Cityscapes", "voc21", "camvid"], ["zebra", "car"][1:])
    assert list(found) == ["cityscapes", "voc21", "camvid", "extra"]
    assert found["voc21"].names == ready["voc20"].names
    np.testing.assert_array_equal(found["voc21"].embeddings, ready["voc20"].embeddings)
    assert found["camvid"].names == tuple(query.prompts[0] for query in vocabulary("camvid").queries)
    mean = ready["cityscapes"].embeddings[CITY.index("car")] + ready["voc20"].embeddings[objects.index("car")]
    at = found["camvid"].names.index("car")
    np.testing.assert_allclose(found["camvid"].embeddings[at], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(found["extra"].embeddings[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert set(embedding_sets(*files, [], ["car"])) == {"cityscapes", "voc20", "more", "extra"}


def test_a_name_that_ready_made_vectors_lack_is_refused(tmp_path: Path) -> None:
    files = _ready(tmp_path, cityscapes19=CITY)
    with pytest.raises(VocabularyError, match=r"has no 'tree' \(1 of 11 names of camvid miss\)"):
        embedding_sets(*files, ["camvid"])
    with pytest.raises(VocabularyError, match="no vocabulary is called 'lvis'"):
        embedding_sets(*files, ["lvis"])
    with pytest.raises(VocabularyError, match="go together"):
        embedding_sets(files[0], None, ["cityscapes"])


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (lambda npz, names: npz.unlink(), "cannot read the text embeddings"),
        (lambda npz, names: npz.write_bytes(b""), "cannot read the text embeddings"),
        (lambda npz, names: npz.write_bytes(npz.read_bytes()[:-40]), "cannot read the text embeddings"),
        (lambda npz, names: npz.write_bytes(_npy(np.eye(2))), "cannot read the text embeddings"),
        (lambda npz, names: np.savez(npz, a=np.array([{}], dtype=object)), "cannot read the text embeddings"),
        (lambda npz, names: np.savez(npz, a=np.eye(2)[:1]), "1 vectors for 'a'.* 2 names"),
        (lambda npz, names: np.savez(npz, a=np.eye(2) * 2), "not of unit norm"),
        (lambda npz, names: np.savez(npz, a=np.eye(2) * np.nan), "not of unit norm"),
        (lambda npz, names: np.savez(npz, a=np.ones(2)), "one D"),
        (lambda npz, names: np.savez(npz, b=np.eye(2)), "only one of them has 'a'"),
        (lambda npz, names: names.unlink(), "cannot read the text names"),
        (lambda npz, names: names.write_text("[1]"), "cannot read the text names"),
        (lambda npz, names: names.write_text('{"a": [1, 2]}'), "cannot read the text names"),
        (lambda npz, names: names.write_text('{"a": 3}'), "cannot read the text names"),
        (lambda npz, names: (np.savez(npz), names.write_text("{}")), "holds no embeddings"),
    ],
)
def test_broken_ready_made_files_are_refused(
    tmp_path: Path, break_it: Callable[[Path, Path], Any], complaint: str
) -> None:
    npz, names = tmp_path / "a.npz", tmp_path / "a.json"
    np.savez(npz, a=np.eye(2, dtype=np.float32))
    names.write_text('{"a": ["car", "cat"]}')
    break_it(npz, names)
    with pytest.raises(CheckpointError, match=complaint):
        read_embedding_sets(npz, names)


def test_without_ready_made_vectors_open_clip_is_asked_once_a_name(model: TextModel) -> None:
    found = embedding_sets(None, None, ["camvid", "cityscapes"], ["zebra"], text_model=model)
    assert list(found) == ["camvid", "cityscapes", "extra"]
    assert found["cityscapes"].names == tuple(CITY)
    for key, name in (("camvid", "tree"), ("cityscapes", "rider"), ("extra", "zebra")):
        row = found[key].names.index(name)
        np.testing.assert_allclose(found[key].embeddings[row], _by_hand(model.clip, name), atol=3e-6)
    with pytest.raises(VocabularyError, match="nothing to embed"):
        embedding_sets(None, None, [], text_model=model)


@pytest.mark.real
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="needs the ready-made vectors in ../shared")
def test_the_real_vectors_serve_every_vocabulary() -> None:
    files = (WEIGHTS / "clip_vitb16_class_text.npz", WEIGHTS / "clip_vitb16_class_text_names.json")
    ready = read_embedding_sets(*files)
    assert {key: len(item.names) for key, item in ready.items()} == {
        "voc20": 20, "context59": 59, "ade20k": 150, "cityscapes": 19, "coco_stuff": 171,
    }  # fmt: skip
    found = embedding_sets(*files, list(vocabularies()))
    for key, item in found.items():
        assert item.embeddings.shape == (len(vocabulary(key).queries), 512)
        own = next((ready[name] for name in related_sets(key) if name in ready), None)
        if own is not None:
            rows = [own.names.index(name) for name in item.names]
            np.testing.assert_array_equal(item.embeddings, own.embeddings[rows])
