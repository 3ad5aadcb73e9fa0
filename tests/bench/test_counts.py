"""Models compared on the same images: what changed, and whether it is more than noise."""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench import cli
from ovsdino_bench.confusions import Confusions
from ovsdino_bench.counts import ImageCounts, gain
from ovsdino_bench.report import read_reports
from ovsdino_bench.tables import gain_table, markdown
from ovsdino_runtime.errors import DataError
from tests.runtime.pickles import put_pickle

if TYPE_CHECKING:
    from tests.bench.conftest import Ran

NAMES = ("car", "road", "tree")


def counts(right: float, images: int = 20, seed: int = 0) -> ImageCounts:
    """Confusions of a model that gets a share of each class right, the rest spread over the others.

    Every image has 1000 pixels of each class, whatever the model makes of them.
    """
    random = np.random.default_rng(seed)
    made = np.empty((images, 3, 3), dtype=np.int64)
    for image in range(images):
        for true in range(3):
            chances = np.full(3, (1 - right) / 2)
            chances[true] = right
            made[image, true] = random.multinomial(1000, chances)
    return ImageCounts(
        names=NAMES, images=tuple(f"{i}.png" for i in range(images)), counts=Confusions.of(made)
    )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["ovsdino-bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_counts_come_back_as_they_were_written(tmp_path: Path) -> None:
    written = counts(0.7)
    written.save(tmp_path / "c.npz")
    read = ImageCounts.load(tmp_path / "c.npz")
    assert (read.names, read.images) == (written.names, written.images)
    np.testing.assert_array_equal(read.counts.dense(), written.counts.dense())


def test_dense_counts_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    written = counts(0.7)
    dense = written.counts.dense()
    np.savez(tmp_path / "c.npz", names=np.array(NAMES), images=np.array(written.images), counts=dense)
    np.testing.assert_array_equal(ImageCounts.load(tmp_path / "c.npz").counts.dense(), dense)


def test_a_real_gain_is_told_from_noise() -> None:
    better = gain(counts(0.6), counts(0.7, seed=1), block=2)
    assert better.beyond_noise
    assert better.interval_95[0] < better.miou[1] - better.miou[0] < better.interval_95[1]
    assert all(value > 0 for value in better.iou.values())
    same = gain(counts(0.6), counts(0.6, seed=1), block=2)
    assert not same.beyond_noise


@pytest.mark.parametrize(("block", "runs"), [(20, 1), (4, 5)])
def test_too_few_samples_give_no_verdict(block: int, runs: int) -> None:
    found = gain(counts(0.6), counts(0.9, seed=1), block=block)
    assert (found.runs, found.beyond_noise) == (runs, None)
    assert f"too few for a verdict: {runs}" in gain_table(found)


def test_the_block_of_a_comparison_reaches_its_interval(tmp_path: Path, bench: Callable[..., Ran]) -> None:
    models = counts(0.6), counts(0.62, seed=1)
    paths = tmp_path / "before.npz", tmp_path / "after.npz"
    for model, path in zip(models, paths, strict=True):
        model.save(path)
    before, after = gain(*models, block=1).miou
    for block, interval in ((1, gain(*models, block=1).interval_95), (20, (after - before, after - before))):
        ran = bench("compare", *paths, "--block", block, "--json")  # all twenty frames are drawn together
        assert json.loads(ran.out)["gain_interval_95"] == pytest.approx(interval)
    assert "too few for a verdict: 1" in bench("compare", *paths, "--block", 20).out


def test_a_model_gains_exactly_nothing_over_itself() -> None:
    found = gain(counts(0.6), counts(0.6), block=3)
    assert found.interval_95 == (0, 0)
    assert found.beyond_noise is False
    assert set(found.iou.values()) == {0.0}


def test_a_class_that_never_occurs_has_no_gain() -> None:
    bare = np.zeros((4, 3, 3), dtype=np.int64)
    bare[:, 0, 0] = bare[:, 1, 1] = 5
    nothing = ImageCounts(names=NAMES, images=("a", "b", "c", "d"), counts=Confusions.of(bare))
    found = gain(nothing, nothing, block=1)
    assert found.as_dict()["iou_gain"] == {"car": 0, "road": 0, "tree": None}
    assert [line.split()[1] for line in gain_table(found).splitlines()[1:]] == ["+0.00", "+0.00", "-"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (counts(0.6, images=19), "20 and 19 of them"),
        (
            ImageCounts(names=("car", "road", "sky"), images=counts(0.6).images, counts=counts(0.6).counts),
            "sky",
        ),
    ],
)
def test_other_images_or_classes_cannot_be_compared(other: ImageCounts, said: str) -> None:
    with pytest.raises(DataError, match=said):
        gain(counts(0.6), other, block=1)


def test_the_same_names_with_other_labels_cannot_be_compared() -> None:
    other = counts(0.6)
    dense = other.counts.dense()
    dense[3, 0, 0] += 5
    moved = Confusions.of(dense)
    with pytest.raises(DataError, match="other labels"):
        gain(other, ImageCounts(names=other.names, images=other.images, counts=moved), block=1)


def test_where_no_class_occurs_the_comparison_is_null_and_not_nan(
    tmp_path: Path, bench: Callable[..., Ran]
) -> None:
    bare = Confusions.of(np.zeros((2, 3, 3), dtype=np.int64))
    ImageCounts(names=NAMES, images=("a", "b"), counts=bare).save(tmp_path / "c.npz")
    done = bench("compare", tmp_path / "c.npz", tmp_path / "c.npz", "--json")
    assert done.code == 0, done.err

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    assert json.loads(done.out, parse_constant=refuse) == {
        "miou": [None, None],
        "gain_interval_95": [None, None],
        "beyond_noise": None,
        "iou_gain": dict.fromkeys(NAMES),
    }
    assert bench("compare", tmp_path / "c.npz", tmp_path / "c.npz").code == 0


@pytest.mark.filterwarnings("ignore")  # NumPy's, on what it still can read
def test_damage_anywhere_in_a_file_of_counts_is_one_clear_error(tmp_path: Path) -> None:
    counts(0.6, images=2).save(tmp_path / "c.npz")
    whole, path = (tmp_path / "c.npz").read_bytes(), tmp_path / "damaged.npz"
    places = range(0, len(whole), 2)
    read = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):  # anything else that it raises fails the test
            ImageCounts.load(path)
            read += 1
    assert read < 0.7 * len(places), "much of it matters"


def test_an_array_whose_header_is_cut_off_is_one_clear_error(tmp_path: Path) -> None:
    header = b"{'descr': ('<i8',\n"
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("names.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(DataError, match=r"c\.npz holds no confusion counts"):
        ImageCounts.load(tmp_path / "c.npz")


@pytest.mark.parametrize("part", ["names", "images", "entries", "counts", None])
def test_a_pickle_in_a_file_of_counts_is_refused_and_not_executed(tmp_path: Path, part: str | None) -> None:
    path, marker, written = tmp_path / "c.npz", tmp_path / "executed", counts(0.6, images=2)
    written.save(path)
    if part == "counts":  # as earlier versions wrote them
        dense = written.counts.dense()
        np.savez(path, names=np.array(NAMES), images=np.array(written.images), counts=dense)
    put_pickle(path, part, marker)
    with pytest.raises(DataError, match=r"c\.npz holds no confusion counts"):
        ImageCounts.load(path)
    assert not marker.exists()


@pytest.mark.parametrize("damage", ["missing", "empty", "no zip", "other arrays", "scalars", "wrong shape"])
def test_a_file_that_holds_no_counts_is_one_line(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    counts(0.6).save(good)
    if damage == "no zip":
        bad.write_bytes(b"x")
    elif damage == "empty":
        bad.touch()
    elif damage == "scalars":
        np.savez(bad, names=np.array("a"), images=np.array("b"), counts=np.array(3))
    elif damage == "other arrays":
        np.savez(bad, a=np.zeros(3))
    elif damage == "wrong shape":
        np.savez(bad, names=np.array(NAMES), images=np.array(["a"]), counts=np.zeros((2, 3, 3), np.int64))
    assert run(monkeypatch, "compare", good, bad) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "bad.npz" in line


def test_accuracy_writes_counts_that_compare_and_a_report_that_becomes_a_table(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (28, 40, 3), dtype=np.uint8)).save(data / f"images/{number}.png")
        Image.fromarray(rng.integers(0, 3, (28, 40), dtype=np.uint8)).save(data / f"labels/{number}.png")
    path = tmp_path / "c.npz"
    common = ("accuracy", "--bundle", tiny_bundle, "--data", data, "--classes", ",".join(NAMES), "--json")
    assert run(monkeypatch, *common, "--counts", path) in (0, None)
    text = capsys.readouterr().out
    report = json.loads(text)
    assert report["data"] == "data"
    assert report["model"]["name"] == "tiny-colours"
    assert ImageCounts.load(path).images == ("0.png", "1.png", "2.png")
    assert run(monkeypatch, "compare", path, path) in (0, None)
    miou = f"{100 * report['backends'][0]['miou']:.2f}"
    assert f"mIoU {miou} -> {miou}: +0.00" in capsys.readouterr().out
    (tmp_path / "tiny.json").write_text(text)
    assert run(monkeypatch, "table", tmp_path / "tiny.json", tmp_path / "tiny.json") in (0, None)
    shown = capsys.readouterr().out
    assert "| | tiny | tiny |" in shown
    assert f"| **mIoU** | **{miou}** | **{miou}** |" in shown


def test_scalars_stand_in_the_table_where_a_model_has_them(tmp_path: Path) -> None:
    backend = {"miou": 0.5, "miou_interval_95": [0.4, 0.6], "iou": {"car": 0.5}, "boundary_f_mean": None}
    with_gate = {"backends": [backend], "model": {"scalars": {"gamma": 1.234, "alpha": [0.1, 0.25]}}}
    without = {"backends": [backend], "model": {"scalars": {"scale": 9.0}}}
    lines = markdown([("a", with_gate), ("b", without)]).splitlines()
    assert "| γ | 1.23 | - |" in lines
    assert "| α | 0.10, 0.25 | - |" in lines
    assert "| boundary F | - | - |" in lines
    other = {"backends": [{**backend, "iou": {"road": 1.0}}]}
    with pytest.raises(DataError, match="other classes"):
        markdown([("a", with_gate), ("b", other)])
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="no report of accuracy"):
        read_reports(tmp_path / "x.json")
