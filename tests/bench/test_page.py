"""The page of reports: whole in itself, with every figure that the reports have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench import cli
from ovsdino_bench.page import page, read_any
from ovsdino_bench.plots import bars
from ovsdino_runtime.errors import DataError, ImageError

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "ovsdino-s"
PARITY = {
    "kind": "parity",
    "images": 3,
    "machine": {"processor": "A <fast> one"},
    "forms": [
        {
            "form": "onnx-fp16-cuda",
            "precision": "fp16",
            "cosine_mean": 0.99871,
            "cosine_p1": 0.9954,
            "relative_frobenius": 0.0123,
            "label_agreement": 0.98765,
            "miou": {"pytorch": 0.5, "form": 0.4931},
            "delta_miou_points": -0.69,
            "worst_images": [
                {"file": "a.png", "label_agreement": 0.9},
                {"file": "b.png", "label_agreement": 1.0},
            ],
            "missed": ["label agreement is 0.987650, the gate is 0.995"],
        }
    ],
}


class Links(HTMLParser):
    """Collects what a page would fetch, and the tags it leaves open."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> Links:
    links = Links()
    links.feed(text)
    links.close()
    assert not links.open
    return links


def test_a_page_of_the_project_s_own_results_shows_them_and_fetches_nothing() -> None:
    names = ("b", "a", "f")
    reports = [(name, read_any(RESULTS / f"{name}.json")) for name in names]
    text = page(reports)
    assert all(link.startswith(("#", "data:")) for link in parsed(text).fetched)
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    for _, report in reports:
        figures = report["backends"][-1]
        assert f"<td>{100 * figures['miou']:.2f}</td>" in text
        for value in figures["iou"].values():
            assert f" {100 * value:.1f}</text>" in text
    for label in reports[0][1]["backends"][-1]["iou"]:
        assert f">{label}</text>" in text


def test_a_missed_gate_is_said_and_what_a_machine_is_called_is_no_markup() -> None:
    text = page([("run", PARITY)])
    parsed(text)
    assert "onnx-fp16-cuda: label agreement is 0.987650, the gate is 0.995" in text
    assert '<span class="missed">missed</span>' in text
    assert "49.31" in text
    assert "-0.690" in text
    assert "A &lt;fast&gt; one" in text
    assert "<img" not in text


def test_photographs_come_in_only_from_the_folder_that_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.full((500, 900, 3), 128, np.uint8)).save(tmp_path / "a.png")
    text = page([("run", PARITY)], tmp_path)
    (source,) = re.findall(r'<img alt="" src="([^"]+)"', text)  # b.png has every label right
    assert source.startswith("data:image/jpeg;base64,")
    assert len(source) < 40_000
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"holds no a\.png"):
        page([("run", PARITY)], tmp_path)


def test_a_class_that_never_occurs_has_no_bar() -> None:
    text = bars(["car", "road"], {"one": [12.345, None]}, "percent")
    assert " 12.3</text>" in text
    assert text.count("percent") == 1
    assert text == bars(
        ["car", "road"], {"one": [12.345, None]}, "percent"
    )  # the same page twice is the same


def test_the_command_writes_the_page_and_refuses_what_is_no_report(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "parity.json").write_text(json.dumps(PARITY))
    out = tmp_path / "page.html"
    assert call(cli.main, "report", RESULTS / "f.json", tmp_path / "parity.json", "--out", out) == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    for text, message in (("{}", "no figures in it"), ("nonsense", "is no report")):
        (tmp_path / "wrong.json").write_text(text)
        assert call(cli.main, "report", tmp_path / "wrong.json", "--out", tmp_path / "no.html") == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "no.html").exists()
    with pytest.raises(DataError, match="a report of weather"):
        page([("x", {"kind": "weather"})])
