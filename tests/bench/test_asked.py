"""What a report of parity says was asked, and whose labels a page shows for it without the reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench import panels
from ovsdino_bench.asked import asked, asked_again
from ovsdino_bench.page import page_of
from ovsdino_bench.recorded import Recorded, RecordedImage, record
from ovsdino_runtime.backends.recording import RecordingBackend
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.question import Question
from ovsdino_runtime.render import overlay_image
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import vocabulary
from tests.standins.half_bundle import write_half_bundle

CLASSES = ("car", "bicyclist=bus|truck")  # the second by other names than its own, which the bundle lacks
POLICIES = ("none", "threshold:0.9", "sky|tree")
FORM = "onnx-fp32-cpu"


@pytest.fixture
def segmenter(tiny_bundle: Path) -> Segmenter:
    bundle = Bundle.open(tiny_bundle)
    return Segmenter(bundle, open_backend(bundle, "cpu"))


@pytest.fixture
def picture(tmp_path: Path, tiny_colours: Mapping[str, tuple[int, int, int]]) -> Path:
    """Squares of a patch each in the colours of the classes and of what is none of them."""
    names = ["car", "bus", "truck", "sky", "tree", "grass"]
    colours = np.array([tiny_colours[name] for name in names], dtype=np.uint8)
    squares = np.random.default_rng(0).permutation(np.arange(24) % len(names)).reshape(4, 6)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(colours[squares.repeat(7, 0).repeat(7, 1)]).save(tmp_path / "pictures" / "a.png")
    return tmp_path / "pictures" / "a.png"


@pytest.fixture
def measured(
    segmenter: Segmenter, picture: Path, tmp_path: Path, bench: Callable
) -> Callable[[Question], tuple[Path, Path]]:
    """Measures parity on the picture for a question, and returns the report and the reference."""

    def call(question: Question) -> tuple[Path, Path]:
        seen = RecordingBackend(segmenter.backend)
        Segmenter(segmenter.bundle, seen).encode(picture)
        windows, features = seen.kept[0]
        noise = np.random.default_rng(1).normal(scale=0.3, size=features.shape).astype(np.float32)
        size = np.array(Image.open(picture)).shape[:2]
        item = RecordedImage(
            file=picture.name, size_hw=size, windows=windows, features=features + noise, truth=None
        )
        reference, out = tmp_path / "reference.npz", tmp_path / "parity.json"
        record(reference, segmenter.bundle.manifest, question, {}, [item])
        bench(
            *("parity", "--bundle", segmenter.bundle.path, "--reference", reference, "--form", FORM),
            *("--out", out),
        )
        return out, reference

    return call


@pytest.mark.parametrize("policy", POLICIES)
def test_a_page_without_the_reference_shows_the_labels_that_were_measured(
    policy: str, segmenter: Segmenter, picture: Path, measured: Callable
) -> None:
    question = segmenter.ask(CLASSES, policy)
    report, _ = measured(question)
    said = json.loads(report.read_text())["question"]
    assert list(said["prompts"]) == list(question.names)
    assert said["prompts"]["bicyclist"] == ["bus", "truck"]
    assert said["background_class"] == (None if policy == "none" else "background")
    pixels = np.array(Image.open(picture))
    found = segmenter.segment(pixels, question)
    assert len(np.unique(found.labels)) == len(question.names)
    expected = overlay_image(pixels, found.labels, found.names, background_index=found.background_index)
    page = page_of([report], picture.parent, segmenter.bundle.path)
    assert page.count("<img") == 2
    assert panels.picture(expected, "labels") in page


@pytest.mark.parametrize("policy", POLICIES)
def test_a_question_asked_again_is_the_same(policy: str, segmenter: Segmenter, tmp_path: Path) -> None:
    question = segmenter.ask(CLASSES, policy)
    written = json.loads(json.dumps({"question": asked(question, None)}))
    again = asked_again(tmp_path / "p.json", written, segmenter.text)
    for name in ("names", "prompts", "background_index", "threshold"):
        assert getattr(again, name) == getattr(question, name)
    np.testing.assert_array_equal(again.groups, question.groups)
    np.testing.assert_array_equal(again.embeddings, question.embeddings)


def test_a_benchmarks_question_has_the_benchmarks_own_vectors(world_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(world_bundle)
    segmenter = Segmenter(bundle, open_backend(bundle, "cpu"))
    question = segmenter.ask(vocabulary("voc21"))
    assert question.background_index == 20
    asked_by: list[str | None] = []
    embed = segmenter.text.embed
    segmenter.text.embed = lambda prompts, name=None: asked_by.append(name) or embed(prompts, name)  # type: ignore[method-assign]
    again = asked_again(tmp_path / "p.json", {"question": asked(question, "voc21")}, segmenter.text)
    assert asked_by == ["voc21"]
    assert (again.names, again.prompts) == (question.names, question.prompts)


def test_a_report_of_an_earlier_version_needs_the_reference(
    segmenter: Segmenter, picture: Path, measured: Callable, bench: Callable, tmp_path: Path
) -> None:
    report, reference = measured(segmenter.ask(CLASSES, "threshold:0.9"))
    earlier = json.loads(report.read_text())
    del earlier["question"]
    report.write_text(json.dumps(earlier))
    given = ("report", report, "--images", picture.parent, "--bundle", segmenter.bundle.path)
    ran = bench(*given, "--out", tmp_path / "p.html")
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    assert "did not keep what was asked; name the file it was measured against with --reference" in ran.error
    ran = bench(*given, "--reference", reference, "--out", tmp_path / "p.html")
    assert ran.code == 0, ran.err
    assert page_of([report], picture.parent).count("<img") == 1, "without a bundle nothing is asked"


def test_a_damaged_question_is_one_clear_error(segmenter: Segmenter, tmp_path: Path) -> None:
    whole = asked(segmenter.ask(CLASSES, "threshold:0.9"), None)
    for changes in (
        {"prompts": None},
        {"prompts": {}},
        {"prompts": {"car": None}},
        {"prompts": {"car": [3]}},
        {"prompts": {"car": ["car"], "road": [], "background": []}},
        {"prompts": {"background": [], "car": ["car"]}},
        {"background_class": "sky"},
        {"background_class": None},
        {"threshold_cosine": "much"},
        {"threshold_cosine": None},
    ):
        with pytest.raises(DataError, match=r"p\.json is damaged: its question"):
            asked_again(tmp_path / "p.json", {"question": {**whole, **changes}}, segmenter.text)
    for said in (3, [], {}):
        with pytest.raises(DataError, match=r"p\.json is damaged: its question"):
            asked_again(tmp_path / "p.json", {"question": said}, segmenter.text)


def test_labels_of_another_bundle_or_engine_are_not_shown(
    segmenter: Segmenter, picture: Path, measured: Callable, tmp_path: Path
) -> None:
    report, reference = measured(segmenter.ask(CLASSES, "none"))
    half = write_half_bundle(segmenter.bundle.path, tmp_path / "half")
    whole = json.loads(report.read_text())
    report.write_text(json.dumps({**whole, "files": {"image.onnx": "0" * 64}}))
    with pytest.raises(DataError, match=r"was measured with another image\.onnx than .*half holds"):
        page_of([report], picture.parent, half)
    report.write_text(json.dumps({**whole, "engines": {FORM: "1" * 64}}))
    page = page_of([report], picture.parent, segmenter.bundle.path, reference)
    assert "the engine here is another than the one that was measured, whose SHA-256 is 1111" in page
    assert "<img" not in page
    assert list(Recorded.open(reference).question.names) == whole["classes"]
