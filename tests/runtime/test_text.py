"""Names to embeddings: own vectors, the table, the text encoder and its cache."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ovsdino_runtime import text as text_module
from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, TEXT_GRAPH, TEXT_MAP, TOKENIZER, VOCABULARY, Bundle
from ovsdino_runtime.bundle_writing import new_bundle
from ovsdino_runtime.embeddings import EmbeddingSet, EmbeddingTable, unit
from ovsdino_runtime.errors import BackendUnavailable, BundleError, VocabularyError
from ovsdino_runtime.files import user_cache
from ovsdino_runtime.text import TextEmbeddings, ensemble, prompts_of
from ovsdino_runtime.text_cache import TextCache
from ovsdino_runtime.tokenizer import Tokenizer
from tests.runtime.pickles import put_pickle

DIM = 4
TEMPLATES = ("a photo of a {}.", "{} in a video game", "{}")
RANDOM = np.random.default_rng(7)
TOKENS = RANDOM.normal(size=(514, DIM)).astype(np.float32)
CITY, OBJECTS = (unit(RANDOM.normal(size=(2, DIM)).astype(np.float32)) for _ in range(2))
SETS = {
    "voc20": EmbeddingSet(names=("car", "cat"), embeddings=OBJECTS),
    "cityscapes": EmbeddingSet(names=("car", "road"), embeddings=CITY),
}
TOKENIZE = Tokenizer([])


def _write_text_graph(path: Path, tokens: NDArray[np.float32], dim: int = DIM) -> None:
    """Write an encoder that sums what its ids stand for, unnormalised."""
    weight = numpy_helper.from_array(tokens[:, :dim], "tokens")
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["tokens", "input_ids"], ["embedded"]),
            helper.make_node("ReduceSum", ["embedded", "axis"], ["embeddings"], keepdims=0),
        ],
        "sum_of_tokens",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens_"])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", dim])],
        initializer=[weight, axis],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))


def _by_hand(name: str, templates: tuple[str, ...] = TEMPLATES) -> NDArray[np.float64]:
    """Normalise each prompt's vector, average, normalise again."""
    ids = TOKENIZE.batch([template.replace("{}", name) for template in templates])
    prompts = TOKENS[ids].astype(np.float64).sum(axis=1)
    mean = (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def _bundle(
    tiny_bundle: Path,
    folder: Path,
    *,
    encoder: bool = True,
    tokens: NDArray[np.float32] = TOKENS,
    templates: tuple[str, ...] = TEMPLATES,
    dim: int = DIM,
) -> Bundle:
    manifest = dataclasses.replace(Bundle.open(tiny_bundle).manifest, templates=templates, files={})
    with new_bundle(folder, manifest) as staged:
        for name in (IMAGE_GRAPH, GOLDEN):
            (staged / name).write_bytes((tiny_bundle / name).read_bytes())
        EmbeddingTable.from_sets(SETS, trained=["road"]).save(staged / VOCABULARY)
        if encoder:
            _write_text_graph(staged / TEXT_GRAPH, tokens, dim)
            TOKENIZE.save(staged / TOKENIZER)
    return Bundle.open(folder)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ovsdino"


@pytest.fixture
def opened(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return _bundle(tiny_bundle, tmp_path / "open")


@pytest.fixture
def closed(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return _bundle(tiny_bundle, tmp_path / "closed", encoder=False)


def _no_session(path: Path, device: str) -> None:
    raise AssertionError("the text encoder was opened")


def test_a_bundle_says_what_it_knows_was_trained_on_and_can_learn(opened: Bundle, closed: Bundle) -> None:
    for bundle, can_learn in ((opened, True), (closed, False)):
        text = TextEmbeddings(bundle)
        assert (text.known, text.trained) == ({"car", "cat", "road"}, {"road"})
        assert text.open_vocabulary is can_learn


def test_a_known_name_has_the_tables_vector_and_a_benchmark_its_own(closed: Bundle) -> None:
    text = TextEmbeddings(closed)
    own = {key: dict(zip(item.names, item.embeddings, strict=True)) for key, item in SETS.items()}
    mean = own["voc20"]["car"] + own["cityscapes"]["car"]
    np.testing.assert_allclose(text.embed(["car"])[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(text.embed(["car"], "voc20")[0], own["voc20"]["car"], atol=1e-6)
    np.testing.assert_allclose(text.embed(["car"], "Cityscapes19")[0], own["cityscapes"]["car"], atol=1e-6)
    both = text.embed(["road", "car", "road"], "voc21")
    np.testing.assert_allclose(both[1], own["voc20"]["car"], atol=1e-6)
    np.testing.assert_allclose(both[[0, 2]], [own["cityscapes"]["road"]] * 2, atol=1e-6)
    np.testing.assert_array_equal(text.embed(["car"], "ade20k"), text.embed(["car"]))


def test_no_names_give_no_rows(closed: Bundle) -> None:
    assert TextEmbeddings(closed).embed([]).shape == (0, DIM)


def test_a_name_nobody_knows_is_refused_without_a_text_encoder(closed: Bundle) -> None:
    with pytest.raises(VocabularyError, match=r"no embedding of 'zebra'.*--text-encoder"):
        TextEmbeddings(closed).embed(["car", "zebra"])


def test_any_other_name_is_encoded_in_every_template_normalised_averaged_normalised(opened: Bundle) -> None:
    text = TextEmbeddings(opened)
    names = ["zebra", "car", "a name with {} in it", "Ünïcode 😀"]
    found = text.embed(names)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1], text.embed(["car"])[0])
    for row in (0, 2, 3):
        np.testing.assert_allclose(found[row], _by_hand(names[row]), atol=2e-6)


def test_an_ensemble_weighs_prompts_alike_whatever_their_length() -> None:
    vectors = np.array([[3, 0], [0, 0.5]], dtype=np.float32)
    np.testing.assert_allclose(ensemble(vectors), np.sqrt([0.5, 0.5]), atol=1e-6)
    with pytest.raises(ValueError, match="zero or not finite"):
        ensemble(np.zeros((2, 2), dtype=np.float32))


def test_a_template_may_hold_other_braces() -> None:
    assert prompts_of("{car}", ["{0} {}", "{}{}"]) == ["{0} {car}", "{car}{car}"]


def test_a_name_encoded_once_is_read_from_the_disk_later(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    first = TextEmbeddings(opened).embed(["zebra"])
    assert len(list(cache.rglob("*.npz"))) == 1
    monkeypatch.setattr(text_module, "open_session", _no_session)
    np.testing.assert_array_equal(TextEmbeddings(opened).embed(["zebra"]), first)
    with pytest.raises(AssertionError, match="was opened"):
        TextEmbeddings(opened).embed(["giraffe"])


def test_another_encoder_or_other_templates_have_a_cache_of_their_own(
    opened: Bundle, tiny_bundle: Path, tmp_path: Path
) -> None:
    TextEmbeddings(opened).embed(["zebra"])
    other = _bundle(tiny_bundle, tmp_path / "other", tokens=-TOKENS)
    np.testing.assert_allclose(TextEmbeddings(other).embed(["zebra"])[0], -_by_hand("zebra"), atol=2e-6)
    single = _bundle(tiny_bundle, tmp_path / "single", templates=("{}",))
    np.testing.assert_allclose(
        TextEmbeddings(single).embed(["zebra"])[0], _by_hand("zebra", ("{}",)), atol=2e-6
    )


@pytest.mark.parametrize(
    "damage", ["empty", "cut", "flipped", "no zip", "an array", "other name", "other size", "not unit"]
)
def test_a_broken_cache_entry_is_computed_again_and_replaced(
    opened: Bundle, cache: Path, damage: str
) -> None:
    first = TextEmbeddings(opened).embed(["zebra"])
    (entry,) = cache.rglob("*.npz")
    whole = bytearray(entry.read_bytes())
    if damage == "flipped":
        at = whole.find(first[0].tobytes())
        assert at > 0
        whole[at] ^= 1
    elif damage == "cut":
        whole = whole[:-30]
    elif damage == "empty":
        whole = bytearray()
    elif damage == "no zip":
        whole = bytearray(b"not a zip file at all")
    elif damage == "an array":
        file = io.BytesIO()
        np.save(file, first[0])
        whole = bytearray(file.getvalue())
    else:
        name = "giraffe" if damage == "other name" else "zebra"
        vector = (
            np.eye(1, 9, dtype=np.float32)[0]
            if damage == "other size"
            else first[0] * (2 - (damage != "not unit"))
        )
        with entry.open("wb") as file:
            np.savez(file, name=np.array(name), embedding=vector)
        whole = bytearray(entry.read_bytes())
    entry.write_bytes(whole)
    np.testing.assert_array_equal(TextEmbeddings(opened).embed(["zebra"]), first)
    assert entry.read_bytes() != bytes(whole)


def test_a_cache_that_cannot_be_written_is_no_error(
    opened: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    np.testing.assert_allclose(TextEmbeddings(opened).embed(["zebra"])[0], _by_hand("zebra"), atol=2e-6)
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_users_cache_is_where_the_desktop_standard_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_cache() == tmp_path / "cache" / "ovsdino"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert user_cache() == tmp_path / "home" / ".cache" / "ovsdino"


def test_a_cache_without_a_folder_keeps_nothing() -> None:
    cache = TextCache(None, "key")
    cache.put("car", np.eye(1, 4, dtype=np.float32)[0])
    assert cache.get("car") is None


@pytest.mark.parametrize("part", ["name", "embedding", None])
def test_a_pickle_in_the_cache_counts_as_missing_and_is_not_executed(
    tmp_path: Path, part: str | None
) -> None:
    cache, marker, vector = (
        TextCache(tmp_path, "key"),
        tmp_path / "executed",
        np.eye(1, 4, dtype=np.float32)[0],
    )
    cache.put("car", vector)
    (entry,) = tmp_path.rglob("*.npz")
    put_pickle(entry, part, marker)
    assert cache.get("car") is None
    assert not marker.exists()
    cache.put("car", vector)
    np.testing.assert_array_equal(cache.get("car"), vector)


def test_a_broken_text_encoder_is_the_bundles_fault(tiny_bundle: Path, tmp_path: Path) -> None:
    silent = _bundle(tiny_bundle, tmp_path / "silent", tokens=np.zeros_like(TOKENS))
    with pytest.raises(BundleError, match="cannot encode 'zebra'"):
        TextEmbeddings(silent).embed(["zebra"])
    narrow = _bundle(tiny_bundle, tmp_path / "narrow", dim=2)
    with pytest.raises(BundleError, match=r"2 numbers a name, the bundle.s features need 4"):
        TextEmbeddings(narrow).embed(["zebra"])
    few = _bundle(tiny_bundle, tmp_path / "few", tokens=TOKENS[:100])
    with pytest.raises(BundleError, match="cannot encode 'zebra'") as caught:
        TextEmbeddings(few).embed(["zebra"])
    assert "\n" not in str(caught.value)


def test_without_onnx_runtime_known_names_work_and_others_say_what_to_install(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    text = TextEmbeddings(opened)
    assert text.embed(["car"]).shape == (1, DIM)
    with pytest.raises(BackendUnavailable, match=r"ovsdino\[cpu\]"):
        text.embed(["zebra"])


def test_a_map_shortens_what_the_text_encoder_gives_after_the_ensemble(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    wide = RANDOM.normal(size=(514, 7)).astype(np.float32)
    matrix = RANDOM.normal(size=(DIM, 7)).astype(np.float32)

    def mapped_bundle(name: str, matrix: NDArray[np.float32]) -> Bundle:
        plain = _bundle(tiny_bundle, tmp_path / "plain", tokens=wide, dim=7)
        with new_bundle(tmp_path / name, dataclasses.replace(plain.manifest, files={})) as staged:
            for file in plain.manifest.files:
                (staged / file).write_bytes((plain.path / file).read_bytes())
            np.savez(staged / TEXT_MAP, map=matrix)
        return Bundle.open(tmp_path / name)

    ids = TOKENIZE.batch([template.replace("{}", "zebra") for template in TEMPLATES])
    prompts = wide[ids].astype(np.float64).sum(axis=1)
    mean = matrix @ (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).mean(axis=0)
    found = TextEmbeddings(mapped_bundle("a", matrix)).embed(["zebra"])
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)
    # Another map of the same encoder has vectors of its own in the user's cache.
    other = TextEmbeddings(mapped_bundle("b", matrix[::-1].copy())).embed(["zebra"])
    np.testing.assert_allclose(other[0], found[0][::-1], atol=1e-5)


@pytest.mark.parametrize("part", ["names", "embeddings", "trained", None])
def test_a_pickle_in_an_embedding_table_is_refused_and_not_executed(
    tiny_bundle: Path, tmp_path: Path, part: str | None
) -> None:
    path, marker = Path(shutil.copy(tiny_bundle / VOCABULARY, tmp_path / "table.npz")), tmp_path / "executed"
    put_pickle(path, part, marker)
    with pytest.raises(BundleError, match=r"table\.npz is no embedding table"):
        EmbeddingTable.load(path)
    assert not marker.exists()


@pytest.mark.parametrize("part", ["map", None])
def test_a_pickle_in_a_map_of_text_vectors_is_refused_and_not_executed(
    tiny_bundle: Path, tmp_path: Path, part: str | None
) -> None:
    plain, marker = Bundle.open(tiny_bundle), tmp_path / "executed"
    with new_bundle(tmp_path / "bundle", dataclasses.replace(plain.manifest, files={})) as staged:
        for file in plain.manifest.files:
            (staged / file).write_bytes((plain.path / file).read_bytes())
        np.savez(staged / TEXT_MAP, map=np.eye(DIM, dtype=np.float32))
        put_pickle(staged / TEXT_MAP, part, marker)
    bundle = Bundle.open(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"text_map\.npz holds no map of text vectors"):
        bundle.text_map()
    assert not marker.exists()
