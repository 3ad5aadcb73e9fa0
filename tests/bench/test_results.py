"""The figures written in the documents are those of the result files."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

from ovsdino_bench.bootstrap import miou_interval
from ovsdino_bench.counts import ImageCounts, gain
from ovsdino_bench.documents import read_document
from ovsdino_bench.report import read_reports
from ovsdino_bench.tables import markdown
from ovsdino_runtime.metrics import mean_iou

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"


def table_rows(path: Path, columns: int) -> list[list[str]]:
    lines = [line.strip().strip("|").split("|") for line in path.read_text(encoding="utf-8").splitlines()]
    return [[cell.strip(" *") for cell in line] for line in lines if len(line) == columns]


def test_the_merging_table_is_the_merging_file() -> None:
    _, (report,) = read_document(RESULTS / "merging.json", ("merging",))  # of before there was a schema
    timings = report["timings"]
    rows = [row for row in table_rows(RESULTS / "README.md", 6) if re.match(r"\d+x\d+$", row[0])]
    assert len(rows) == len(timings)
    for row, timing in zip(rows, timings, strict=True):
        height, width = timing["size_hw"]
        medians = [statistics.median(timing[name]) for name in ("exact_ms", "usual_ms")]
        assert row[0] == f"{width}x{height}"
        assert int(row[1]) == timing["planes"]
        assert [row[2], row[3]] == [f"{value:.0f} ms" for value in medians]
        assert abs(float(row[4]) - timing["usual_to_exact"]["median"]) <= 0.5
        assert int(row[5]) == timing["different_px"]


@pytest.mark.parametrize(
    "model", ["published", "a", "b", "c", "d", "d-bce", "d-plain", "d-slow", "e", "f", "open-a", "open-b"]
)
def test_counts_give_the_figures_of_the_report_beside_them(model: str) -> None:
    counts = ImageCounts.load(RESULTS / "ovsdino-s" / f"{model}.npz").counts
    figures = json.loads((RESULTS / "ovsdino-s" / f"{model}.json").read_text())["backends"][-1]
    assert mean_iou(counts.total()) == pytest.approx(figures["miou"], abs=1e-12)
    interval = miou_interval(counts.sums(), block=figures["block"])
    assert interval == pytest.approx(tuple(figures["miou_interval_95"]), abs=1e-12)


def test_the_camvid_table_is_the_camvid_file() -> None:
    report = json.loads((RESULTS / "camvid-val.json").read_text())
    in_torch, in_onnx = report["backends"]
    rows = {row[0]: row[1:] for row in table_rows(ROOT / "docs" / "camvid.md", 4)}
    for name in in_onnx["iou"]:
        shown = [float(value) for value in rows[name]]
        expected = [
            100 * in_onnx["iou"][name],
            100 * in_torch["iou"][name],
            100 * in_onnx["boundary_f"][name],
        ]
        assert shown == [round(value, 2) for value in expected]
    means = [100 * in_onnx["miou"], 100 * in_torch["miou"], 100 * in_onnx["boundary_f_mean"]]
    assert [float(value) for value in rows["mean"]] == [round(value, 2) for value in means]
    low, high = (100 * value for value in in_onnx["miou_interval_95"])
    assert f"{low:.2f} to {high:.2f}" in (ROOT / "docs" / "camvid.md").read_text(encoding="utf-8")


def test_the_page_of_ablations_shows_the_result_files_and_their_paired_differences() -> None:
    page = (ROOT / "docs" / "ovsdino-s.md").read_text(encoding="utf-8")
    results = RESULTS / "ovsdino-s"
    rows = re.findall(r"^\| \(([\w-]+)\) \|", page, flags=re.MULTILINE)
    columns = [(f"({row})", read_reports(results / f"{row}.json")[-1]) for row in rows]
    assert markdown(columns) in page
    steps = re.findall(r"^\| \(([\w-]+)\) → \(([\w-]+)\): [^|]*\| ([^|]*) \|", page, flags=re.MULTILINE)
    assert len(steps) >= 3
    for before, after, shown in steps:
        counts = [ImageCounts.load(results / f"{row}.npz") for row in (before, after)]
        found = gain(counts[0], counts[1], 10)
        low, high = found.interval_95
        points = 100 * (found.miou[1] - found.miou[0])
        assert shown == f"{points:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def test_the_table_of_names_left_out_is_the_result_files() -> None:
    results = RESULTS / "ovsdino-s"
    rows = [row for row in table_rows(ROOT / "docs" / "ovsdino-s.md", 6) if row[1] in ("camvid", "yolo")]
    assert len(rows) == 7
    for name, data, *shown in rows:
        for model, iou, taken in (("a", *shown[:2]), ("b", *shown[2:])):
            file = f"open-{model}.json" if data == "camvid" else f"open-{model}-{data}.json"
            found = json.loads((results / file).read_text())["backends"][-1]
            assert f"{100 * found['iou'][name]:.1f}" == iou
            confused = [item for item in list(found["taken_for"][name].items())[:2] if item[1] >= 0.01]
            assert ", ".join(f"{other} {100 * share:.0f} %" for other, share in confused) == taken


def test_the_other_names_on_photographs_with_names_left_out_are_the_result_files() -> None:
    rows = [
        row for row in table_rows(ROOT / "docs" / "ovsdino-s.md", 3) if row[0] in ("yolo, 23", "coco, 11")
    ]
    assert len(rows) == 2
    for photographs, *shown in rows:
        data, _, images = photographs.partition(", ")
        for model, text in zip("ab", shown, strict=True):
            report = json.loads((RESULTS / "ovsdino-s" / f"open-{model}-{data}.json").read_text())
            found = report["backends"][-1]
            low, high = found["miou_interval_95"]
            assert report["images"] == int(images)
            assert text == f"{100 * found['miou']:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def test_the_parity_tables_are_the_parity_files_and_every_gate_is_met() -> None:
    forms = [
        form
        for model in ("ovsdino-s", "ovsdino-nano")
        for form in json.loads((RESULTS / model / "parity.json").read_text())["forms"]
    ]
    rows = [row for row in table_rows(RESULTS / "README.md", 7) if row[0].startswith("onnx-")]
    assert len(rows) == len(forms) == 6
    for row, form in zip(rows, forms, strict=True):
        low, high = form["delta_interval_95_points"]
        assert row == [
            form["form"],
            f"{form['cosine_mean']:.7f}",
            f"{form['cosine_p1']:.6f}",
            f"{form['relative_frobenius']:.1e}",
            f"{form['label_agreement']:.6f}",
            f"{100 * form['miou']['form']:.2f}",
            f"{form['delta_miou_points']:+.3f} ({low:+.3f} to {high:+.3f})",
        ]
        assert form["missed"] == []
