"""The table beside the paper's Table 1: its numbers, what differs, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ovsdino_bench.datasets import ADAPTERS
from ovsdino_bench.paper import COLUMNS, TABLE_1, beside_the_paper
from ovsdino_runtime.errors import DataError

if TYPE_CHECKING:
    from tests.bench.conftest import Ran


def report(benchmark: str, miou: float = 0.5, **changes: Any) -> dict[str, Any]:
    published = ADAPTERS[benchmark].published[0] if benchmark in ADAPTERS else None
    made = {
        "kind": "accuracy",
        "schema": 2,
        "data": "somewhere",
        "benchmark": benchmark,
        "dataset": {"images": published, "published": published, "left_out": 0},
        "model": {
            "name": "m",
            "backbone": "vit_base_patch14_dinov2",
            "backbone_source": "hub",
            "text_model": "open_clip ViT-B-16 openai",
            "templates": 80,
            "steps": 100,
        },
        "question": {"background": "none", "prompts": {"car": ["car"]}},
        "images": published,
        "failed": [],
        "backends": [
            {"backend": "b", "miou": miou, "miou_interval_95": [0, 1], "iou": {}, "boundary_f_mean": 0}
        ],
    }
    return {**made, **changes}


def rows(table: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_the_paper_s_averages_are_those_of_its_numbers() -> None:
    """Which holds the numbers typed here to something: a mistyped one would move its average."""
    for values in TABLE_1.values():
        assert len(values) == len(COLUMNS) + 1
        assert sum(values[:-1]) / len(COLUMNS) == pytest.approx(values[-1], abs=0.06)


def test_all_eight_have_an_average_and_fewer_have_none() -> None:
    values = [0.1 * number for number in range(1, 9)]
    reports = [report(name, value) for name, value in zip(COLUMNS, values, strict=True)]
    table = rows(beside_the_paper(reports))
    assert table["OVS-DINO (paper)"] == [
        "64.0",
        "42.0",
        "38.6",
        "83.5",
        "49.4",
        "34.2",
        "42.9",
        "20.6",
        "46.9",
    ]
    assert table["m, b"] == ["10.0", "20.0", "30.0", "40.0", "50.0", "60.0", "70.0", "80.0", "45.0"]
    assert rows(beside_the_paper(reports[1:]))["m, b"][0] == "-"
    assert rows(beside_the_paper(reports[1:]))["m, b"][-1] == "-"


def test_what_differs_is_said_and_what_does_not_is_not() -> None:
    same = beside_the_paper([report("cityscapes")])
    assert "vit_base_patch14_dinov2 from hub, 100 steps" in same
    assert "the paper's" not in same.partition("What differs from the paper's rows:")[2]
    model = {**report("voc21")["model"], "backbone": "vit_small", "templates": 7}
    other = beside_the_paper(
        [
            report(
                "voc21",
                model=model,
                images=1000,
                failed=[{"image": "a", "error": "b"}],
                question={"background": "list", "prompts": {"sofa": ["couch"], "background": ["sky"]}},
            ),
            report("camvid"),
        ]
    )
    assert "the paper's backbone is vit_base_patch14_dinov2" in other
    assert "7 templates; the paper's are open_clip ViT-B-16 openai and the 80 of ImageNet" in other
    unstated = beside_the_paper([report("voc21", model={**model, "templates": None})])
    assert "unstated templates; the paper's" in unstated
    assert "background: V21 list; the paper does not state its own" in other
    assert "prompts: 1 classes are asked for by other names" in other
    assert "V21*: over 1000 images in place of 1449, 1 could not be measured" in other
    assert "none of the eight: camvid" in other
    assert rows(other)["m, b"][0] == "50.0*"


def model_of(**changes: Any) -> dict[str, Any]:
    return {**report("voc21")["model"], **changes}


def test_models_of_one_name_stand_apart_by_their_hashes() -> None:
    first, second = (
        model_of(image_graph_sha256=digit * 64, steps=number) for digit, number in (("a", 1), ("b", 2))
    )
    table = beside_the_paper(
        [
            *(report(name, 0.5, model=first) for name in COLUMNS),
            *(report(name, 0.25, model=second) for name in list(COLUMNS)[:7]),
        ]
    )
    shown = rows(table)
    assert shown["m, b, aaaaaaaa"] == ["50.0"] * 9
    assert shown["m, b, bbbbbbbb"] == [*["25.0"] * 7, "-", "-"]
    assert "m, b" not in shown
    assert "* m, b, aaaaaaaa: weights: vit_base_patch14_dinov2 from hub, 1 steps" in table
    assert "* m, b, bbbbbbbb: weights: vit_base_patch14_dinov2 from hub, 2 steps" in table


@pytest.mark.parametrize(
    ("backend", "files", "told"),
    [
        ("onnxruntime-cpu", {"image.onnx": "c" * 64}, "cccccccc"),
        ("onnxruntime-cuda-fp16", {"image.onnx": "c" * 64, "image.fp16.onnx": "d" * 64}, "dddddddd"),
        ("onnxruntime-cpu-int8", {"image.onnx": "c" * 64, "image.int8.onnx": "e" * 64}, "eeeeeeee"),
        ("onnxruntime-cpu", {"image.onnx": "c" * 64, "image.onnx.data": "f" * 64}, "ffffffff"),
        ("onnxruntime-cpu", {}, "aaaaaaaa"),
        ("torch-cpu-sam", {"vocabulary.npz": "c" * 64}, "bbbbbbbb"),
    ],
)
def test_the_hash_is_of_what_the_last_backend_computes(
    backend: str, files: dict[str, str], told: str
) -> None:
    graph = {} if backend.startswith("torch") else {"image_graph_sha256": "a" * 64}
    figures = [{**report("voc21")["backends"][0], "backend": backend}]
    one = report("voc21", backends=figures, files=files, model=model_of(checkpoint_sha256="b" * 64, **graph))
    table = rows(beside_the_paper([one, report("voc21", backends=figures)]))
    assert {f"m, {backend}, {told}", f"m, {backend}, no hash"} < set(table)


def test_a_bundle_measured_with_and_without_its_checkpoint_is_one_model() -> None:
    graph = {"image_graph_sha256": "a" * 64}
    beside = report("voc21", model=model_of(checkpoint_sha256="b" * 64, **graph))
    alone = report("voc20", model=model_of(checkpoint_sha256=None, **graph))
    assert rows(beside_the_paper([beside, alone]))["m, b"][:4] == ["50.0", "-", "-", "50.0"]


def test_an_average_of_a_figure_over_other_images_is_marked_as_the_figure_is() -> None:
    reports = [report(name) for name in COLUMNS]
    assert rows(beside_the_paper(reports))["m, b"][-1] == "50.0"
    reports[2] = report("coco_object", images=7)
    shown = rows(beside_the_paper(reports))["m, b"]
    assert shown == [*["50.0"] * 2, "50.0*", *["50.0"] * 5, "50.0*"]


def test_other_windows_and_sizes_than_the_papers_are_said() -> None:
    papers = {"window_px": 448, "stride_px": 224, "short_side_px": 448, "long_side_px": 2048}
    same = beside_the_paper([report("voc21", model=model_of(**papers))])
    assert "geometry:" not in same
    finer = beside_the_paper(
        [
            report("voc21", model=model_of(**papers)),
            report("voc20", model=model_of(**{**papers, "stride_px": 112})),
        ]
    )
    said = "windows of 448, stride 112, short side 448, long side at most 2048; the paper's are 448, 224, 448"
    assert f"* m, b: V20: geometry: {said}, 2048" in finer
    earlier = beside_the_paper([report("voc21", model=model_of(window_px=448, stride_px=112))])
    assert "* m, b: geometry: windows of 448, stride 112; the paper's are 448, 224" in earlier
    of_another_size = beside_the_paper([report("voc21", model=model_of(**{**papers, "short_side_px": 560}))])
    assert "windows of 448, stride 224, short side 560, long side at most 2048; the" in of_another_size


def test_several_engines_in_a_row_are_said() -> None:
    one, other = ({"engines": {"b": digit * 64}} for digit in "12")
    assert "engines:" not in beside_the_paper([report("voc21", **one), report("voc20", **one)])
    mixed = beside_the_paper([report("voc21", **one), report("voc20", **other)])
    assert "* m, b: engines: 2 different ones, as the reports list" in mixed


def test_the_same_benchmark_twice_and_none_of_the_eight_are_refused() -> None:
    with pytest.raises(DataError, match="two reports are of m, b on voc20"):
        beside_the_paper([report("voc20"), report("voc20")])
    with pytest.raises(DataError, match="no report is of one of the eight"):
        beside_the_paper([report("camvid")])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (
            {"schema": 3, "kind": "accuracy", "backends": []},
            "has schema 3, this version reads up to 2; upgrade",
        ),
        ({"schema": "x"}, "has schema x"),
        ({"kind": "weather", "schema": 1}, "no report of accuracy"),
        ([1, 2], "no report of accuracy"),
        ({"kind": "accuracy", "schema": 2, "reports": [{}]}, "no report of accuracy"),
    ],
)
def test_a_results_file_of_another_schema_is_refused(
    document: object, said: str, tmp_path: Path, bench: Callable[..., Ran]
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    for options in ((), ("--paper",)):
        done = bench("table", path, *options)
        assert done.code == 1
        assert said in done.error
        assert "results.json" in done.error


def test_reports_of_an_earlier_version_are_read(bench: Callable[..., Ran]) -> None:
    results = Path(__file__).parents[2] / "bench" / "results"
    assert "| sky |" in bench("table", results / "camvid-val.json").out
    done = bench("table", "--paper", results / "camvid-val.json")
    assert done.code == 1
    assert "no report is of one of the eight benchmarks" in done.error
