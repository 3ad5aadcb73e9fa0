"""CLIP's tokenizer against open_clip's."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsdino_runtime.errors import BundleError
from ovsdino_runtime.tokenizer import Tokenizer
from ovsdino_runtime.vocabulary import IMAGENET_TEMPLATES, vocabularies


@lru_cache(maxsize=1)
def _reference() -> Any:
    open_clip = pytest.importorskip("open_clip")
    return open_clip.tokenizer.SimpleTokenizer()


@lru_cache(maxsize=1)
def _ours() -> Tokenizer:
    return Tokenizer(list(_reference().bpe_ranks))


_PIECES = st.sampled_from(
    [
        "car",
        "Traffic_Sign",
        "naïve",
        "it's",
        "they'RE we'll I'd",
        "&amp;",
        "&amp;lt;",
        "&eacute;",
        "&#128512;",
        "😀",
        "👩‍👩‍👧",
        "日本語",
        "ﬁn",
        "Ünïcödé",
        "â€™",
        "ſtreet 'ſ",
        "İstanbul",
        "１２３",
        "2024",
        "\u00a0",
        "\t\n",
        "<end_of_text>",
        "<Start_Of_Text>",
        "<",
        "!!!???",
        "e\u0301",
        "ﷺ",
        "\u200b",
        "x" * 60,
        "\x00",
        "don't",
        "ß",
    ]
)
_CORPUS = st.one_of(
    st.text(max_size=60),
    st.lists(_PIECES, max_size=12).map("".join),
    st.lists(_PIECES, max_size=12).map(" ".join),
    st.lists(st.from_regex(r"[a-zA-Z']{1,12}", fullmatch=True), max_size=12).map(" ".join),
)


@settings(max_examples=400, deadline=None)
@given(_CORPUS)
def test_the_ids_of_any_text_are_those_of_open_clip(text: str) -> None:
    assert _ours().encode(text) == _reference().encode(text)


@settings(max_examples=60, deadline=None)
@given(st.lists(_CORPUS, min_size=1, max_size=4), st.integers(min_value=0, max_value=40))
def test_a_batch_is_open_clips_without_the_common_padding_even_where_texts_are_cut(
    texts: list[str], repeats: int
) -> None:
    texts = [*texts, "a long sentence " * repeats]
    reference = _reference()(texts).numpy()
    ours = _ours().batch(texts)
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours, reference[:, : ours.shape[1]])
    assert not reference[:, ours.shape[1] :].any()
    assert ours[:, -1].any()


def test_every_benchmark_prompt_has_open_clips_ids_and_fits_in_twenty() -> None:
    names = {prompt for item in vocabularies().values() for query in item.queries for prompt in query.prompts}
    texts = [template.replace("{}", name) for name in sorted(names) for template in IMAGENET_TEMPLATES[::9]]
    ours = _ours().batch(texts)
    np.testing.assert_array_equal(ours, _reference()(texts).numpy()[:, : ours.shape[1]])
    assert ours.shape[1] <= 20


def test_a_saved_tokenizer_reads_back_the_same(tmp_path: Path) -> None:
    merges = [("c", "a"), ("ca", "r</w>"), ("Ġ", "é")]
    saved = Tokenizer(merges, context_length=9, start="<s>", end="<e>")
    saved.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.merges, loaded.context_length, loaded.start, loaded.end) == (
        tuple(merges),
        9,
        "<s>",
        "<e>",
    )
    texts = ["car carcar é", "a b c d e f g h i j"]
    np.testing.assert_array_equal(loaded.batch(texts), saved.batch(texts))
    assert loaded.batch(texts).shape == (2, 9)
    assert loaded.batch(texts)[1, -1] == loaded.batch(texts).max()


def _file(**changes: object) -> str:
    whole = {
        "format": "clip-bpe",
        "version": 1,
        "merges": [],
        "context_length": 77,
        "start": "<s>",
        "end": "<e>",
    }
    return json.dumps(whole | changes)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        _file(format="other"),
        _file(version=2),
        _file(merges=["abc"]),
        _file(merges=[7]),
        _file(context_length=1),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json is no tokenizer") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")
