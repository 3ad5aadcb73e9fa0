"""Reports as files: compared, tabled, and shown in one page that loads nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from ovsdino_bench.documents import as_document, read_document
from ovsdino_bench.latency_report import latency_table
from ovsdino_bench.machine import typed_command
from ovsdino_bench.page import page_of
from ovsdino_bench.short_table import filled, short_table
from ovsdino_runtime.errors import DataError
from tests.bench.made_reports import engine, latency, parity

ROOT = Path(__file__).parents[2]


class Collected(HTMLParser):
    """The ids, references and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href", "src"):
                self.addresses.append(value or "")


def test_a_page_holds_everything_and_loads_nothing(
    write: Callable, tiny_bundle: Path, tmp_path: Path, bench: Callable
) -> None:
    paths = [
        write("l.json", latency(1.5, load=9)),
        write("m.json", latency(1.1)),
        write("p.json", parity(0.9)),
        ROOT / "bench" / "results" / "camvid-val.json",
    ]
    Image.new("RGB", (60, 40), (220, 20, 20)).save(tmp_path / "a.png")
    out = tmp_path / "page.html"
    assert bench("report", *paths, "--out", out, "--images", tmp_path, "--bundle", tiny_bundle).code == 0
    text = out.read_text(encoding="utf-8")
    page = Collected()
    page.feed(text)
    assert "http:" not in text
    assert "https:" not in text
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert all(item.startswith(("#", "data:image/jpeg;base64,")) for item in page.addresses)
    assert {item[1:] for item in page.addresses if item.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids)), "plots do not share ids"
    assert page.tags.count("svg") == 3 + 3 + 1
    assert page.tags.count("img") == 2
    assert "&lt;B&gt;" in text
    assert "<B>" not in text
    assert "busy: the load was 9.00" in text
    assert "data:image" not in page_of(paths), "no picture unless its folder is named"
    with pytest.raises(DataError, match="holds none of the 1 pictures"):
        page_of(paths, images=ROOT)


def test_an_engines_own_times_stand_beside_its_backbones_and_in_a_plot_of_their_own(
    write: Callable, tmp_path: Path
) -> None:
    timed = latency(engines=[engine("B", 1, 2.125, 3.25), engine("B", 2, 4.0, 5.5)])
    table = latency_table(timed).splitlines()
    first = next(place for place, line in enumerate(table) if "engine without" in line)
    assert table[first : first + 6] == [
        "| way | batch | windows/s | backbone, p50 ms | engine with transfers | engine without |",
        "|---|---|---|---|---|---|",
        "| A | 1 | 5.00 | 9.500 | - | - |",
        "| A | 2 | 10.00 | 9.500 | - | - |",
        "| B | 1 | 5.00 | 9.500 | 3.250 | 2.125 |",
        "| B | 2 | 10.00 | 9.500 | 5.500 | 4.000 |",
    ]
    assert "by the GPU's own clock" in table[-1]
    page = page_of([write("t.json", timed)])
    assert page.count("<svg") == 4
    assert "what transfers add" in page
    assert "<td>2.125</td>" in page
    plain = latency()
    assert "engine" not in latency_table(plain)
    del plain["engine_times"]  # as reports were before
    assert page_of([write("o.json", plain)]).count("<svg") == 3
    del timed["engine_times"][0]["with_transfers"]
    with pytest.raises(DataError, match="is damaged: it lacks 'with_transfers'"):
        page_of([write("d.json", timed)])


def test_a_short_table_has_the_figures_of_its_files(write: Callable) -> None:
    accuracy = ROOT / "bench" / "results" / "camvid-val.json"
    figures = json.loads(accuracy.read_text())["backends"]
    rows = short_table([accuracy, write("l.json", latency(1.5)), write("p.json", parity(0.9))]).splitlines()[
        2:
    ]
    assert len(rows) == len(figures) + 2 + 1
    for item, row in zip(figures, rows, strict=False):
        assert f"{100 * item['miou']:.2f} % mIoU" in row
    assert rows[-3].startswith("| l | A, 6x4 |")
    assert "1.50 times A" in rows[-2]
    assert "90.0000 % of labels" in rows[-1]


def test_a_report_without_any_class_has_no_figure_in_a_short_table(write: Callable) -> None:
    report = json.loads((ROOT / "bench" / "results" / "camvid-val.json").read_text())
    report["backends"][0].update(miou=None, miou_interval_95=[None, None])
    assert short_table([write("a.json", report)]).splitlines()[2].endswith("| no class occurs |")


def test_a_form_whose_features_are_not_finite_is_null_and_reads(write: Callable, bench: Callable) -> None:
    broken = parity(0.25)
    broken["forms"][0].update(cosine_mean=float("nan"), cosine_p1=float("inf"))
    text = as_document(broken)
    form = json.loads(text)["forms"][0]
    assert (form["cosine_mean"], form["cosine_p1"], form["label_agreement"]) == (None, None, 0.25)
    assert not {"NaN", "Infinity"} & {*re.findall(r"\w+", text)}
    before, after = write("p.json", parity(0.9)), write("q.json", json.loads(text))
    assert "25.0000 % of labels" in short_table([after])
    assert "cosine mean 1.000000 -> -" in bench("compare", before, after).out
    assert json.loads(bench("compare", before, after, "--json").out)[0]["cosine_p1"] == [1.0, None]


def test_the_readmes_results_are_those_of_its_files(bench: Callable, tmp_path: Path) -> None:
    assert filled(ROOT / "README.md") == (ROOT / "README.md").read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("x\n<!-- results: a.json -->\nold\n<!-- end of results -->\ny\n")
    (tmp_path / "a.json").write_text(json.dumps(parity(0.25)))
    ran = bench("readme", page, "--check")
    assert ran.code == 1
    assert "are not those of its files" in ran.error
    assert bench("readme", page).code == 0
    assert "25.0000 % of labels" in page.read_text()
    assert bench("readme", page, "--check").code == 0
    page.write_text("nothing")
    assert "has no place for results" in bench("readme", page).error


def test_every_report_in_the_results_folder_reads() -> None:
    others = ("merging.json", "optimizers.json")
    reports = [path for path in (ROOT / "bench" / "results").rglob("*.json") if path.name not in others]
    assert reports
    assert all(read_document(path)[1] for path in reports)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["parity", "--bundle", "/home/ann/b", "--out=../x/r.json"],
            "parity --bundle b --out=r.json",
        ),
        (
            ["accuracy", "--dataset", "voc21=/data/VOC devkit"],
            "accuracy --dataset 'voc21=VOC devkit'",
        ),
        (["parity", "--bundle", "runs/b"], "parity --bundle runs/b"),
    ],
)
def test_a_report_says_how_it_was_made_without_where_things_lie(
    typed: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["ovsdino-bench", *typed])
    assert typed_command() == f"ovsdino-bench {said}"
