"""The pictures on which a form differs most, in a page: whose labels, which pixels, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ovsdino_bench.page import page_of
from ovsdino_bench.panels import marked
from ovsdino_bench.recorded import Recorded, RecordedImage, record
from ovsdino_runtime.backends.recording import RecordingBackend
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.render import overlay_image
from ovsdino_runtime.segmenter import Segmenter
from tests.standins.half_bundle import write_half_bundle

NAMES = ("car", "road", "sky", "tree")
SIZES = {"a.png": (56, 84), "b.png": (40, 28), "c.png": (40, 60)}
AGREEING = "b.png"  # as PyTorch and the form give the same for it
FORM = "onnx-fp32-cpu"


@pytest.fixture(scope="module")
def pictures(
    tmp_path_factory: pytest.TempPathFactory, tiny_colours: Mapping[str, tuple[int, int, int]]
) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        coarse = random.integers(0, len(NAMES), (-(-height // 8), -(-width // 8)))
        labels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
        colours = np.array([tiny_colours[name] for name in NAMES], dtype=np.uint8)
        Image.fromarray(colours[labels]).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def reference(tiny_bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime's features, those of all but one picture turned a little, standing for PyTorch's."""
    bundle = Bundle.open(tiny_bundle)
    question = Segmenter(bundle, open_backend(bundle, "cpu")).ask(NAMES, "none")
    random = np.random.default_rng(1)
    items = []
    for name, size in SIZES.items():
        seen = RecordingBackend(open_backend(bundle, "cpu"))
        Segmenter(bundle, seen).encode(pictures / name)
        windows, features = seen.kept[0]
        if name != AGREEING:
            features = features + random.normal(scale=0.3, size=features.shape).astype(np.float32)
        items.append(RecordedImage(file=name, size_hw=size, windows=windows, features=features, truth=None))
    path = tmp_path_factory.mktemp("reference") / "reference.npz"
    record(path, bundle.manifest, question, {"backend": "a test"}, items)
    return path


@pytest.fixture
def parity(tiny_bundle: Path, reference: Path, tmp_path: Path, bench: Callable) -> Path:
    """A report in which the form differs; that its gates are missed is no matter here."""
    out = tmp_path / "parity.json"
    bench("parity", "--bundle", tiny_bundle, "--reference", reference, "--form", FORM, "--out", out)
    return out


def pytorch_and_form(bundle: Path, reference: Path, picture: Path) -> tuple[NDArray, NDArray]:
    """The labels of both, by the whole way from the picture."""
    opened = Bundle.open(bundle)
    (kept,) = (item.features for item in Recorded.open(reference) if item.file == picture.name)

    class Replayed:
        name = "replayed"

        def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
            return kept

    ways = Segmenter(opened, Replayed()), Segmenter(opened, open_backend(opened, "cpu"))
    first, second = (way.segment(picture, NAMES, background="none").labels for way in ways)
    return first, second


class Panels(HTMLParser):
    """The pictures of a page by what they are called, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[tuple[str, NDArray[np.uint8]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            told = dict(attributes)
            data = base64.b64decode((told["src"] or "").partition("base64,")[2])
            self.pictures.append((told["alt"] or "", np.array(Image.open(io.BytesIO(data)))))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def same(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> bool:
    """Whether a JPEG shows what was put into it."""
    return found.shape == expected.shape and np.abs(found.astype(int) - expected).mean() < 6


def test_pytorchs_labels_stand_beside_the_forms_and_every_differing_pixel_is_marked(
    tiny_bundle: Path, reference: Path, pictures: Path, parity: Path, tmp_path: Path, bench: Callable
) -> None:
    out = tmp_path / "page.html"
    asked = ("--images", pictures, "--bundle", tiny_bundle, "--reference", reference)
    ran = bench("report", parity, "--out", out, *asked)
    assert ran.code == 0, ran.err
    page = Panels(out.read_text(encoding="utf-8"))
    worst = {
        item["file"]: item["label_agreement"]
        for item in json.loads(parity.read_text())["forms"][0]["worst_images"]
    }
    assert worst.pop(AGREEING) == 1
    assert len(page.pictures) == 4 * len(worst) == 8
    for place, name in enumerate(sorted(worst, key=lambda item: worst[item])):
        pixels = np.array(Image.open(pictures / name))
        pytorch, form = pytorch_and_form(tiny_bundle, reference, pictures / name)
        differs = pytorch != form
        assert 0 < differs.sum() < differs.size
        shown = page.pictures[4 * place : 4 * place + 4]
        count = f"pixels that differ: {differs.sum()} of {differs.size}"
        assert [alt.partition(";")[0] for alt, _ in shown] == ["PyTorch", FORM, "picture", count]
        assert same(shown[2][1], pixels)
        overlays = [np.array(overlay_image(pixels, labels, NAMES)) for labels in (pytorch, form)]
        assert same(shown[0][1], overlays[0])
        assert same(shown[1][1], overlays[1])
        assert not same(overlays[0], overlays[1])
        assert same(shown[3][1], marked(pixels, differs))
        assert f"{name}: {100 * worst[name]:.4f} % of labels agree with PyTorch" in page.texts


def changed(parity: Path, **changes: object) -> Path:
    """The report with other figures of its one form, or others of its own."""
    report = json.loads(parity.read_text())
    report["forms"][0] |= {name: value for name, value in changes.items() if name in report["forms"][0]}
    report |= {name: value for name, value in changes.items() if name not in report["forms"][0]}
    parity.with_name("changed.json").write_text(json.dumps(report))
    return parity.with_name("changed.json")


def test_a_form_without_a_difference_says_so_and_one_that_does_not_run_here_says_why(
    tiny_bundle: Path, reference: Path, pictures: Path, parity: Path
) -> None:
    same_everywhere = [{"file": "a.png", "label_agreement": 1.0}]
    text = page_of([changed(parity, worst_images=same_everywhere)], pictures, tiny_bundle, reference)
    assert "Every label of every picture is PyTorch" in text
    assert "<img" not in text
    for form, reason in (
        ("tensorrt-fp16", "device &#x27;tensorrt&#x27; was asked for"),
        ("<b>", "knows no form of"),
    ):
        text = page_of([changed(parity, form=form)], pictures, tiny_bundle, reference)
        assert "it does not run here" in text
        assert reason in text
        assert "<img" not in text
        assert "<b>" not in text


def test_pictures_that_are_not_there_are_named_and_a_changed_agreement_is_told(
    tiny_bundle: Path, reference: Path, pictures: Path, parity: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    shutil.copy(pictures / "a.png", folder)
    text = page_of([parity], folder, tiny_bundle, reference)
    assert "Not in some: c.png" in text
    assert text.count("<img") == 4
    worst = [{"file": "a.png", "label_agreement": 0.25}]
    text = page_of([changed(parity, worst_images=worst)], folder, tiny_bundle, reference)
    assert "here, 25.0000 % when it was measured" in text


def test_what_was_not_measured_is_refused_in_one_line(
    tiny_bundle: Path, reference: Path, pictures: Path, parity: Path, tmp_path: Path, bench: Callable
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in SIZES:
        Image.new("RGB", (30, 30)).save(elsewhere / name)
    bundle = Bundle.open(tiny_bundle)
    opened = Recorded.open(reference)
    others = tmp_path / "others.npz"
    record(others, bundle.manifest, opened.question, {}, [item for item in opened if item.file != "c.png"])
    half = write_half_bundle(tiny_bundle, tmp_path / "half")
    graphs = json.loads(parity.read_text())["files"]
    for report, images, other, text in (
        (parity, tmp_path, reference, "holds none of the 2 pictures that differ most"),
        (parity, elsewhere, reference, "is 30x30, but was 84x56 when"),
        (parity, pictures, others, "holds no pictures called c.png"),
        (parity, pictures, parity, "holds no reference"),
        (changed(parity, worst_images=[{"file": 3}]), pictures, reference, "is damaged"),
    ):
        ran = bench(
            "report", report, "--out", tmp_path / "p.html", "--images", images, "--bundle", tiny_bundle,
            "--reference", other,
        )  # fmt: skip
        assert ran.code == 1, text
        assert text in ran.error
        assert not (tmp_path / "p.html").exists()
    for files, text in (
        ({**graphs, "image.onnx": "0" * 64}, "was measured with another image.onnx"),
        ({**graphs, "image.int8.onnx": "0" * 64}, "was measured with another image.int8.onnx"),
        ([1], "is damaged: its files"),
    ):
        with pytest.raises(DataError, match=text):
            page_of([changed(parity, files=files)], pictures, half, reference)
    with pytest.raises(DataError, match=r"was recorded for 4 classes, .* measured 2 or others"):
        page_of([changed(parity, classes=["car", "road"])], pictures, tiny_bundle, reference)
    for options, text in (
        (("--reference", reference), "name --bundle and --images"),
        (("--reference", reference, "--images", pictures), "name --bundle and --images"),
        (("--reference", reference, "--bundle", tiny_bundle), "name their folder"),
    ):
        ran = bench("report", parity, "--out", tmp_path / "p.html", *options)
        assert ran.code == 2
        assert text in " ".join(ran.err.replace("│", " ").split())


def test_without_a_reference_the_lowest_agreement_of_all_forms_is_said(pictures: Path, parity: Path) -> None:
    report = json.loads(parity.read_text())
    second = {
        **report["forms"][0],
        "form": "another",
        "worst_images": [{"file": "a.png", "label_agreement": 0.125}],
    }
    for forms in ([second, report["forms"][0]], [report["forms"][0], second]):
        parity.write_text(json.dumps({**report, "forms": forms}))
        assert "a.png: 12.500 % of labels agree" in page_of([parity], pictures)


def test_images_of_some_names_are_read_alone(reference: Path) -> None:
    opened = Recorded.open(reference)
    everything = {item.file: item for item in opened}
    assert [item.file for item in opened.of(["c.png", "a.png", "x"])] == ["a.png", "c.png"]
    (found,) = opened.of(["c.png"])
    np.testing.assert_array_equal(found.features, everything["c.png"].features)
