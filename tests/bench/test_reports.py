"""Reports as files: compared, tabled, and shown in one page that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench.comparing import compare_files, latency_changes
from ovsdino_bench.documents import read_document
from ovsdino_bench.latency import Timed
from ovsdino_bench.latency_report import latency_report, latency_table
from ovsdino_bench.page import page_of
from ovsdino_bench.short_table import filled, short_table
from ovsdino_bench.telemetry import Telemetry
from ovsdino_bench.ways import STAGES
from ovsdino_runtime.errors import DataError

ROOT = Path(__file__).parents[2]


def latency(factor: float = 1.0, seed: int = 0, load: float = 0, engines: Sequence[dict] = ()) -> dict:
    times = np.random.default_rng(seed).normal(100, 3, 40)
    first = Timed(way="A", size_hw=(4, 6), stages=dict.fromkeys(STAGES, tuple(times)))
    second = Timed(way="<B>", size_hw=(4, 6), stages=dict.fromkeys(STAGES, tuple(factor * times)))
    batches = [{"way": way, "batch": n, "windows_per_s": 5.0 * n, "p50": 9.5} for way in "AB" for n in (1, 2)]
    return latency_report(
        timed=[first, second],
        throughput=batches,
        engines=engines,
        cold={"A": [{"total_ms": 9.0, "open_ms": 2.0, "first_image_ms": 3.0, "peak_host_bytes": 10**8}]},
        telemetry=Telemetry(cores=2, load_before=load),
        facts={"runs": 40, "warmup": 1, "command": "ovsdino-bench latency"},
    )


def parity(agreement: float) -> dict:
    form = {
        "form": "onnx-fp32-cpu", "label_agreement": agreement, "cosine_mean": 1.0, "cosine_p1": 1.0,
        "delta_miou_points": None, "worst_images": [{"file": "a.png", "label_agreement": 0.5}],
    }  # fmt: skip
    return {"kind": "parity", "schema": 1, "forms": [form], "classes": ["car", "road"]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, object], Path]:
    def call(name: str, document: object) -> Path:
        (tmp_path / name).write_text(json.dumps(document))
        return tmp_path / name

    return call


def test_a_change_is_told_from_noise_and_not_told_where_a_run_is_marked(write: Callable) -> None:
    before, after = latency(), latency(1.2, seed=1)
    same, slower = latency_changes(before, after)
    assert same.beyond_noise is False
    assert slower.beyond_noise is True
    assert slower.interval_95[0] < 1.2 < slower.interval_95[1]
    files = write("a.json", before), write("b.json", after)
    assert "slower, more than noise" in compare_files(*files)[1]
    marked = write("c.json", latency(1.2, seed=1, load=9))
    _, text = compare_files(files[0], marked)
    assert "undecided, a run is marked" in text
    assert "caution: the run after is marked: busy" in text


def test_parity_is_compared_and_other_kinds_and_schemas_are_refused(write: Callable, bench: Callable) -> None:
    ours, theirs = write("a.json", parity(0.99)), write("b.json", parity(0.98))
    assert "label agreement 0.990000 -> 0.980000" in bench("compare", ours, theirs).out
    assert json.loads(bench("compare", ours, theirs, "--json").out)[0]["label_agreement"] == [0.99, 0.98]
    for other, text in (
        (latency(), "is a report of parity, .* of latency"),
        ({**parity(1), "schema": 7}, "report of parity of schema 7, this version reads 1"),
        ({**latency(), "schema": "x"}, "report of latency of schema 'x'"),
        ({"kind": "weather"}, "is no report of accuracy, latency, parity"),
        ([1], "is no report"),
        ({"kind": "latency", "schema": 1, "timed": []}, "is damaged: it lacks 'ratios'"),
    ):
        with pytest.raises(DataError, match=text):
            compare_files(ours, write("other.json", other))
    ran = bench("compare", ours, ours.with_name("none.json"))
    assert ran.code == 1
    assert "cannot read the report" in ran.error
    assert len(ran.err.splitlines()) == 1
    accuracy = ROOT / "bench" / "results" / "camvid-val.json"
    with pytest.raises(DataError, match="--counts"):
        compare_files(accuracy, accuracy)


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


def engine(way: str, batch: int, alone: float, whole: float) -> dict:
    return {"way": way, "batch": batch, "without_transfers": {"p50": alone}, "with_transfers": {"p50": whole}}


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
    reports = [path for path in (ROOT / "bench" / "results").rglob("*.json") if path.name != "merging.json"]
    assert reports
    assert all(read_document(path)[1] for path in reports)
