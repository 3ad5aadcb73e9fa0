"""mIoU of a bundle on a folder of labelled pictures, through the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench import cli
from ovsdino_bench.folder import labelled_folder
from ovsdino_bench.measured import CheckpointSource, open_measured
from ovsdino_runtime.errors import BackendUnavailable, DataError
from tests.standins.half_bundle import write_half_bundle

if TYPE_CHECKING:
    from tests.bench.conftest import Ran

NAMES = "car,road,tree,-"


def dataset(folder: Path, colours: Mapping[str, tuple[int, int, int]]) -> Path:
    """Two pictures: the first right in full, the second with its road labelled as tree."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, labelled_right in enumerate(("road", "tree")):
        image = np.empty((28, 56, 3), dtype=np.uint8)
        image[:, :28], image[:, 28:] = colours["car"], colours["road"]
        labels = np.zeros((28, 56), dtype=np.uint8)
        labels[:, 28:] = NAMES.split(",").index(labelled_right)
        labels[:, 24:32] = 255  # the border's blend is not counted
        labels[0] = 3  # "unlabelled"
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["ovsdino-bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_miou_is_what_counting_by_hand_gives(
    tmp_path: Path,
    tiny_bundle: Path,
    tiny_colours: Mapping[str, tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = dataset(tmp_path / "data", tiny_colours)
    common = ("accuracy", "--bundle", tiny_bundle, "--data", data, "--classes", NAMES, "--device", "cpu")
    assert run(monkeypatch, *common, "--json") in (0, None)
    (row,) = json.loads(capsys.readouterr().out)["backends"]
    assert row["backend"] == "onnxruntime-cpu"
    assert row["iou"] == {"car": 1.0, "road": 0.5, "tree": 0.0}
    assert row["miou"] == pytest.approx(0.5)
    low, high = row["miou_interval_95"]
    assert low < 0.5 < high
    assert row["boundary_f"]["tree"] == 0.0
    assert run(monkeypatch, *common, "--limit", 1) in (0, None)
    shown = capsys.readouterr().out
    assert "100.00" in shown
    assert "over 1 images" in shown


def test_frames_of_one_block_are_one_sample_of_the_interval(
    tmp_path: Path,
    tiny_bundle: Path,
    tiny_colours: Mapping[str, tuple[int, int, int]],
    bench: Callable[..., Ran],
) -> None:
    data = dataset(tmp_path / "data", tiny_colours)
    common = ("accuracy", "--bundle", tiny_bundle, "--data", data, "--classes", NAMES, "--out", tmp_path)
    # A block of both frames is always drawn whole, and its interval is a point.
    for words, block, interval in (((), 1, [1 / 3, 1.0]), (("--block", 2), 2, [0.5, 0.5])):
        ran = bench(*common, *words)
        (row,) = json.loads((tmp_path / "data.json").read_text())["backends"]
        assert (row["block"], row["miou"]) == (block, pytest.approx(0.5))
        assert row["miou_interval_95"] == pytest.approx(interval)
        low, high = (f"{100 * end:.2f}" for end in interval)
        assert f"{low} to {high}" in ran.out
        assert f"intervals over runs of {block}" in ran.out


def test_images_and_labels_of_different_sizes_are_an_error(
    tmp_path: Path,
    tiny_bundle: Path,
    tiny_colours: Mapping[str, tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = dataset(tmp_path / "data", tiny_colours)
    Image.new("L", (9, 9)).save(data / "labels" / "1.png")
    code = run(monkeypatch, "accuracy", "--bundle", tiny_bundle, "--data", data, "--classes", NAMES)
    assert code == 1
    assert "1.png is (28, 56), but its labels are (9, 9)" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("damage", ["no labels folder", "no pictures", "a label missing"])
def test_a_folder_of_another_layout_is_an_error(
    tmp_path: Path, tiny_colours: Mapping[str, tuple[int, int, int]], damage: str
) -> None:
    data = dataset(tmp_path / "data", tiny_colours)
    if damage == "no labels folder":
        (data / "labels").rename(data / "masks")
    elif damage == "no pictures":
        for path in (data / "images").iterdir():
            path.unlink()
    else:
        (data / "labels" / "0.png").unlink()
    with pytest.raises(DataError):
        labelled_folder(data, NAMES.split(","))


def test_a_folder_that_is_half_there_is_refused_unless_what_is_there_was_asked_for(
    tmp_path: Path,
    tiny_bundle: Path,
    tiny_colours: Mapping[str, tuple[int, int, int]],
    bench: Callable,
) -> None:
    data = dataset(tmp_path / "data", tiny_colours)
    common = ("accuracy", "--bundle", tiny_bundle, "--data", data, "--classes", NAMES, "--json")
    (data / "images" / "0.png").unlink()
    (data / "labels" / "._1.png").write_bytes(b"left by an archiver")
    ran = bench(*common)
    assert ran.code == 1
    assert "is not complete: missing pictures: 1, the first is images/0.png; --partial measures" in ran.error
    report = json.loads(bench(*common, "--partial").out)
    assert report["dataset"] == {
        "images": 1, "published": None, "left_out": 1, "values": ["car", "road", "tree", "-"],
    }  # fmt: skip
    assert report["backends"][0]["iou"]["road"] == 0, "of the second picture alone"
    (data / "labels" / "1.png").unlink()
    ran = bench(*common, "--partial")
    assert ran.code == 1
    label, picture = "missing label maps: 1, the first is labels/1.png", "the first is images/0.png"
    assert ran.error.endswith(f"{label}; missing pictures: 1, {picture}")


@pytest.mark.parametrize("damage", ["value", "colour", "broken"])
def test_labels_that_are_no_index_map_of_the_classes_are_an_error(
    tmp_path: Path, tiny_colours: Mapping[str, tuple[int, int, int]], damage: str
) -> None:
    data = dataset(tmp_path / "data", tiny_colours)
    path = data / "labels" / "0.png"
    if damage == "value":
        Image.new("L", (56, 28), 7).save(path)
    elif damage == "colour":
        Image.new("RGB", (56, 28)).save(path)
    else:
        path.write_bytes(b"no png")
    with pytest.raises(DataError, match=r"0\.png"):
        labelled_folder(data, NAMES.split(","))[0].truth()


def test_precision_is_held_to_and_fp16_on_a_cpu_is_emulated_and_called_so(
    tmp_path: Path,
    tiny_bundle: Path,
    tiny_colours: Mapping[str, tuple[int, int, int]],
    bench: Callable,
) -> None:
    data = dataset(tmp_path / "data", tiny_colours)
    common = ("accuracy", "--data", data, "--classes", NAMES, "--json", "--device")
    # its FP16 graph takes colours for darker ones, so that what ran is seen in the figures
    both = write_half_bundle(tiny_bundle, tmp_path / "both", half=60.0)
    found = {}
    for name in ("fp32", "auto", "fp16"):
        ran = bench(*common, "cpu", "--bundle", both, "--precision", name)
        assert ran.code == 0, ran.err
        (found[name],) = json.loads(ran.out)["backends"]
        assert ("note: FP16 is emulated, which is slow" in ran.err) == (name == "fp16")
    assert [found[name]["backend"] for name in ("fp32", "auto", "fp16")] == [
        "onnxruntime-cpu", "onnxruntime-cpu", "fp16-emulated",
    ]  # fmt: skip
    assert found["fp32"]["iou"] == found["auto"]["iou"] != found["fp16"]["iou"]
    for bundle, device, code, said in (
        (tiny_bundle, "cpu", 1, "the bundle ships no image.fp16.onnx; derive it with `ovsdino-export fp16"),
        (tiny_bundle, "auto", 1, "precision 'fp16' was asked for, but ONNX Runtime computes FP16 graphs on"),
        (both, "tensorrt", 1, "device 'tensorrt' was asked for, but"),
    ):
        ran = bench(*common, device, "--bundle", bundle, "--precision", "fp16")
        assert ran.code == code
        assert said in ran.error
    assert bench(*common, "cpu", "--bundle", both, "--precision", "int3").code == 2
    ran = bench(*common, "cpu", "--bundle", both, "--precision", "int8")
    assert "ships no image.int8.onnx; derive it with `ovsdino-export int8" in ran.error


def test_a_checkpoint_alone_is_not_called_fp16() -> None:
    for precision in ("fp16", "int8"):
        with pytest.raises(
            BackendUnavailable, match=rf"'{precision}' was asked for.*PyTorch, in FP32; name its --bundle"
        ):
            open_measured(None, CheckpointSource(path=Path("anywhere")), "cpu", precision)  # type: ignore[arg-type]
