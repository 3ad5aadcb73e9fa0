"""The timing of merging: both ways give the same labels, and the report says what was measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ovsdino_bench import cli, reference
from ovsdino_bench.documents import read_document
from ovsdino_bench.merging import usual_labels
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.vocabulary import vocabulary
from ovsdino_runtime.windows import WindowGrid


def test_the_usual_way_equals_the_reference_but_for_rounding() -> None:
    grid = WindowGrid.plan((50, 90), (60, 108), window_px=56, stride_px=28, grid_hw=(4, 4))
    maps = np.random.default_rng(0).normal(size=(grid.count, 9, 4, 4)).astype(np.float32)
    expected = reference.merged_scores(maps, grid).argmax(axis=0)
    assert (usual_labels(torch.from_numpy(maps), grid) == expected).mean() > 0.9999


def test_the_report_names_machine_sizes_and_ratios(
    tmp_path: Path,
    write_tiny_bundle: Callable[[Path, Mapping[str, tuple[int, int, int]]], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompts = [prompt for query in vocabulary("camvid").queries for prompt in query.prompts]
    bundle = write_tiny_bundle(
        tmp_path / "bundle", {name: (i * 20, i * 9, 255 - i * 20) for i, name in enumerate(prompts)}
    )
    Image.effect_noise((64, 48), 60).convert("RGB").save(tmp_path / "a.png")
    words = f"ovsdino-bench merging {tmp_path}/a.png --bundle {bundle} --size 70x40 --vocabulary camvid"
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code in (0, None)
    text = capsys.readouterr().out
    report = json.loads(text)
    assert (report["kind"], report["schema"]) == ("merging", 1)
    (tmp_path / "merging.json").write_text(text)
    assert read_document(tmp_path / "merging.json", ("merging",)) == ("merging", [report])
    (row,) = report["timings"]
    assert row["size_hw"] == [40, 70]
    assert row["planes"] == 11
    assert row["different_px"] <= 2
    ratios = row["usual_to_exact"]
    assert 0 < ratios["min"] <= ratios["median"] <= ratios["max"]
    assert report["machine"]["cores"] >= 1
    monkeypatch.setattr(sys, "argv", [*words.split(), "--size", "70by40"])
    with pytest.raises(SystemExit) as refused:
        cli.main()
    assert refused.value.code == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"schema": 2},
            "is a report of merging of schema 2, this version reads 1; measure again, or upgrade",
        ),
        ({"schema": None}, "is a report of merging of schema None, this version reads 1"),
        ({"timings": [{"planes": 3}]}, "is damaged: it lacks 'size_hw' in timings"),
        ({"kind": "weather"}, "is no report of merging; write one with the command of that name"),
        ({"kind": "parity"}, "is no report of merging, but of parity"),
    ],
)
def test_a_file_of_another_schema_is_refused(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "merging.json"
    path.write_text(json.dumps({"kind": "merging", "schema": 1, "timings": [], **changes}))
    with pytest.raises(DataError) as raised:
        read_document(path, ("merging",))
    assert said in str(raised.value)


def test_tables_pages_and_comparisons_are_of_other_kinds(bench: Callable) -> None:
    path = Path(__file__).parents[2] / "bench" / "results" / "merging.json"
    for words in (("table", path), ("compare", path, path), ("report", path, "--out", "page.html")):
        done = bench(*words)
        assert done.code == 1
        assert "merging.json is no report of accuracy, latency, parity, but of merging" in done.error
