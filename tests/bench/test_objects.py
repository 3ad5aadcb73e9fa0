"""Accuracy on masks of objects: what no mask covers does not count."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench import cli
from ovsdino_bench.objects import labelled_objects

Colours = Mapping[str, tuple[int, int, int]]
LEFT, RIGHT, INNER = "0 0 0.5 0 0.5 1 0 1", "0.5 0 1 0 1 1 0.5 1", "0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5"


@pytest.fixture
def objects(tmp_path: Path, tiny_colours: Colours) -> Path:
    """A car's left half with a dog in it, painted as a car; a bus in the right half, painted as one."""
    folder = tmp_path / "objects"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    image = np.empty((28, 56, 3), dtype=np.uint8)
    image[:, :28], image[:, 28:] = tiny_colours["car"], tiny_colours["bus"]
    for stem, lines in (("a", [f"0 {LEFT}", f"2 {INNER}"]), ("b", [f"1 {RIGHT}"]), ("c", [])):
        Image.fromarray(image).save(folder / "images" / f"{stem}.png")
        (folder / "labels" / f"{stem}.txt").write_text("\n".join(lines))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["ovsdino-bench", "accuracy", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_the_truth_is_the_smallest_mask_and_nothing_elsewhere(objects: Path) -> None:
    images, names, _ = labelled_objects(f"yolo:{objects}:car,bus,dog")
    assert names == ("car", "bus", "dog")
    truth = images[0].truth()
    assert truth.shape == (28, 56)
    assert (truth[:, 30:] == 255).all()
    assert truth[9, 20] == 2  # the dog lies on the car
    assert truth[20, 5] == 0
    assert (images[2].truth() == 255).all()


def test_a_class_without_a_count_is_unlabelled(objects: Path) -> None:
    images, _, _ = labelled_objects(f"yolo:{objects}:-,bus,dog")
    assert set(np.unique(images[0].truth())) == {1, 255}


def test_what_a_class_is_taken_for_is_told(
    objects: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"yolo:{objects}:car,bus,dog"
    common = ("--bundle", tiny_bundle, "--device", "cpu", "--json", "--data", data)
    assert run(monkeypatch, *common) in (0, None)
    report = json.loads(capsys.readouterr().out)
    (row,) = report["backends"]
    assert report["images"] == 3
    assert row["iou"]["dog"] == 0
    assert row["taken_for"]["dog"]["car"] > 0.9
    assert row["taken_for"]["bus"] == {} or max(row["taken_for"]["bus"].values()) < 0.2
    for option, value, left in (("--showing", "dog", 1), ("--every", 2, 2), ("--limit", 1, 1)):
        assert run(monkeypatch, *common, option, value) in (0, None)
        assert json.loads(capsys.readouterr().out)["images"] == left


@pytest.mark.parametrize(
    ("more", "said", "status"),
    [
        (("--showing", "cat"), "no class of the data: car, bus, dog", 1),
        (("--classes", "car"), "--classes goes with a folder", 2),
    ],
)
def test_a_question_that_does_not_fit_the_data_is_refused(
    objects: Path,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    said: str,
    status: int,
) -> None:
    data = f"yolo:{objects}:car,bus,dog"
    assert run(monkeypatch, "--bundle", tiny_bundle, "--data", data, *more) == status
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_folder_needs_names_for_its_numbers(
    objects: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--bundle", tiny_bundle, "--data", objects) == 2
    assert "name them with --classes" in capsys.readouterr().err


def test_images_that_show_none_of_the_classes_are_an_error(
    objects: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (objects / "labels" / "a.txt").write_text("")
    data = f"yolo:{objects}:car,bus,dog"
    assert run(monkeypatch, "--bundle", tiny_bundle, "--data", data, "--showing", "dog,car") == 1
    assert "none of 3 images shows dog,car" in capsys.readouterr().err
