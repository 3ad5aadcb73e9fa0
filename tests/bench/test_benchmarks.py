"""Benchmarks measured from the command line: figures to the last pixel, and what a report records."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

from ovsdino_bench.benchmark import open_benchmark
from ovsdino_bench.counts import ImageCounts
from ovsdino_bench.datasets import ADAPTERS
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import vocabulary

if TYPE_CHECKING:
    from tests.bench.conftest import Ran, Tree


def pairs_by_hand(tree: Tree, bundle: Path) -> tuple[list[str], list[str]]:
    """True and predicted labels of all pixels that count, as `ovsdino-run` segments the pictures."""
    segmenter = Segmenter.open(bundle, "cpu")
    asked = vocabulary(tree.name)
    background = "list" if asked.has_background else "none"
    true: list[str] = []
    found: list[str] = []
    for stem, raw in tree.values.items():
        (picture,) = [path for path in tree.folder.rglob(f"{stem}*") if is_picture(path)]
        result = segmenter.segment(picture, asked, background=background)
        meant = [tree.labels[int(value)] for value in raw.ravel()]
        given = [result.names[index] for index in result.labels.ravel()]
        for one, other in zip(meant, given, strict=True):
            if one is not None:
                true.append(one)
                found.append(other)
    return true, found


def is_picture(path: Path) -> bool:
    return path.suffix == ".jpg" or "leftImg8bit" in path.parts or path.parent.name == "val"


@pytest.mark.parametrize("name", tuple(ADAPTERS))
def test_the_figures_are_scikit_learn_s_to_the_last_pixel(
    name: str,
    prepared: Callable[[str], Tree],
    world_bundle: Path,
    bench: Callable[..., Ran],
    tmp_path: Path,
) -> None:
    tree = prepared(name)
    counts = tmp_path / "counts.npz"
    done = bench(
        "accuracy",
        "--bundle",
        world_bundle,
        "--dataset",
        f"{name}={tree.folder}",
        "--json",
        "--counts",
        counts,
    )
    assert done.code == 0, done.err
    row = json.loads(done.out)["backends"][0]
    names = list(row["iou"])
    true, found = pairs_by_hand(tree, world_bundle)
    expected = confusion_matrix(true, found, labels=names)
    np.testing.assert_array_equal(ImageCounts.load(counts).counts.total(), expected)
    occurring = [label for label in names if label in {*true, *found}]
    iou = jaccard_score(true, found, labels=occurring, average=None)
    assert [row["iou"][label] for label in occurring] == pytest.approx(list(iou), abs=1e-12)
    assert all(row["iou"][label] is None for label in {*names} - {*occurring})
    assert row["miou"] == pytest.approx(float(np.mean(iou)), abs=1e-12)
    right = np.array(true) == np.array(found)
    assert 0.4 < right.mean() < 1  # pictures are painted in the colours of their labels, mostly


def test_a_report_records_what_was_asked_of_which_images(
    prepared: Callable[[str], Tree], world_bundle: Path, bench: Callable[..., Ran]
) -> None:
    tree = prepared("voc21")
    common = ("accuracy", "--bundle", world_bundle, "--dataset", f"voc21={tree.folder}", "--json")
    whole = json.loads(bench(*common).out)
    assert (whole["kind"], whole["schema"]) == ("accuracy", 2)
    assert whole["data"] == tree.folder.name
    assert whole["benchmark"] == "voc21"
    assert whole["dataset"] == {"images": 3, "published": 3, "left_out": 0}
    names = "".join(f"{stem}.jpg\n" for stem in tree.values)
    assert whole["selection"] == {
        "showing": [],
        "every": 1,
        "limit": None,
        "images": 3,
        "list_sha256": hashlib.sha256(names.encode()).hexdigest(),
    }
    question = whole["question"]
    assert question["background"] == "list"
    assert question["prompts"]["pottedplant"] == ["potted plant"]
    assert {"sky", "road", "railing"} <= {*question["prompts"]["background"]}
    assert whole["model"]["templates"] == 1
    assert "engines" not in whole
    assert whole["shards"] == 1
    assert whole["machines"][0]["cores"] >= 1
    assert whole["commands"] == [
        f"ovsdino-bench accuracy --bundle world --dataset {shlex.quote(f'voc21={tree.folder.name}')} --json"
    ]
    manifest = Bundle.open(world_bundle).manifest
    sides = (manifest.short_side_px, manifest.long_side_px)
    assert (whole["model"]["short_side_px"], whole["model"]["long_side_px"]) == sides
    assert whole["files"] == {name: entry.sha256 for name, entry in manifest.files.items()}
    assert whole["files"]["vocabulary.npz"]
    assert whole["failed"] == []
    part = json.loads(bench(*common, "--every", 2, "--limit", 1).out)
    assert part["images"] == 1
    assert (part["selection"]["every"], part["selection"]["limit"], part["selection"]["images"]) == (2, 1, 1)
    assert part["selection"]["list_sha256"] == hashlib.sha256(b"b_1.jpg\n").hexdigest()
    shown = next(label for value in np.unique(tree.values["a_2"]) if (label := tree.labels[int(value)]))
    showing = json.loads(bench(*common, "--showing", shown).out)
    expected = [
        stem for stem, raw in tree.values.items() if shown in {tree.labels[int(v)] for v in np.unique(raw)}
    ]
    assert showing["selection"]["showing"] == [shown]
    assert showing["images"] == len(expected)


@pytest.mark.parametrize(
    ("policy", "threshold", "names"),
    [("threshold:0.9", 0.9, []), ("sky|wall", None, ["sky", "wall"]), ("auto", None, None)],
)
def test_another_background_is_used_and_recorded(
    policy: str,
    threshold: float | None,
    names: list[str] | None,
    prepared: Callable[[str], Tree],
    world_bundle: Path,
    bench: Callable[..., Ran],
) -> None:
    tree = prepared("voc21")
    common = ("accuracy", "--bundle", world_bundle, "--dataset", f"voc21={tree.folder}", "--json")
    report = json.loads(bench(*common, "--background", policy).out)
    assert report["question"]["background"] == policy
    assert report["question"]["threshold_cosine"] == threshold
    if names is None:
        assert report["backends"] == json.loads(bench(*common).out)["backends"]
    else:
        assert report["question"]["prompts"]["background"] == names


def test_a_background_that_does_not_fit_is_refused(
    prepared: Callable[[str], Tree], world_bundle: Path, bench: Callable[..., Ran]
) -> None:
    trees = {name: prepared(name) for name in ("voc21", "ade20k")}
    options = {name: ("--dataset", f"{name}={tree.folder}") for name, tree in trees.items()}
    common = ("accuracy", "--bundle", world_bundle)
    nothing = bench(*common, *options["voc21"], "--background", "none")
    assert nothing.code == 1
    assert "voc21 counts its background" in nothing.error
    unused = bench(*common, *options["ade20k"], "--background", "list")
    assert unused.code == 1
    assert "no data set here has a background class" in unused.error
    both = bench(*common, *options["voc21"], *options["ade20k"], "--background", "threshold:0.5", "--json")
    policies = [report["question"]["background"] for report in json.loads(both.out)["reports"]]
    assert policies == ["threshold:0.5", "none"]
    assert bench(*common, *options["voc21"], "--background", "threshold:2").code == 1


def test_other_names_for_a_class_are_asked_and_recorded(
    prepared: Callable[[str], Tree], world_bundle: Path, bench: Callable[..., Ran], tmp_path: Path
) -> None:
    tree = prepared("ade20k")
    common = ("accuracy", "--bundle", world_bundle, "--dataset", f"ade20k={tree.folder}", "--json")
    as_it_is = json.loads(bench(*common).out)
    assert as_it_is["question"]["prompts"]["sky"] == ["sky"]
    asked = json.loads(bench(*common, "--prompts", "sky=sky|clouds,sea=sea|waterdrops").out)
    assert asked["question"]["prompts"]["sky"] == ["sky", "clouds"]
    assert asked["question"]["prompts"]["sea"] == ["sea", "waterdrops"]
    assert list(asked["backends"][0]["iou"]) == list(as_it_is["backends"][0]["iou"])
    listing = tmp_path / "prompts.txt"
    listing.write_text("sky=sky|clouds  # two words\nsea=sea|waterdrops\n")
    assert json.loads(bench(*common, "--prompts", listing).out)["question"] == asked["question"]
    for wrong, said in (("skye=sky", "'skye', which is no label"), ("sky=sky,sky=clouds", "'sky' twice")):
        done = bench(*common, "--prompts", wrong)
        assert done.code == 1
        assert said in done.error
    assert bench(*common, "--prompts", "sky=zeppelin").code == 1


def test_synonyms_that_are_known_are_asked_too_unless_they_name_another_class(
    prepared: Callable[[str], Tree], world_bundle: Path, bench: Callable[..., Ran]
) -> None:
    trees = [prepared(name) for name in ("cityscapes", "ade20k")]
    options = [word for tree in trees for word in ("--dataset", f"{tree.name}={tree.folder}")]
    done = bench("accuracy", "--bundle", world_bundle, *options, "--synonyms", "--json")
    assert done.code == 0, done.err
    streets, scenes = (report["question"]["prompts"] for report in json.loads(done.out)["reports"])
    assert streets["sidewalk"] == ["sidewalk", "pavement"]
    assert streets["motorcycle"] == ["motorcycle", "motorbike"]
    assert streets["traffic sign"] == ["traffic sign", "sign"]
    assert streets["building"] == ["building"]
    assert scenes["sofa"] == ["sofa", "couch"]
    assert scenes["earth"] == ["earth"]  # "land" is another class, "dirt" may be either of the two
    assert "bannister" not in scenes["railing"]
    asked = [prompt for prompts in scenes.values() for prompt in prompts]
    assert len(asked) == len(set(asked))


def test_several_benchmarks_are_measured_in_one_run_and_tabled(
    prepared: Callable[[str], Tree], world_bundle: Path, bench: Callable[..., Ran], tmp_path: Path
) -> None:
    trees = [prepared(name) for name in ("voc20", "cityscapes")]
    options = [word for tree in trees for word in ("--dataset", f"{tree.name}={tree.folder}")]
    out = tmp_path / "out"
    done = bench("accuracy", "--bundle", world_bundle, *options, "--out", out, "--json")
    assert done.code == 0
    reports = json.loads(done.out)["reports"]
    assert [report["benchmark"] for report in reports] == ["voc20", "cityscapes"]
    for report in reports:
        assert json.loads((out / f"{report['benchmark']}.json").read_text()) == report
    shown = bench("accuracy", "--bundle", world_bundle, *options).out
    assert f"voc20: {trees[0].folder.name}" in shown
    (tmp_path / "both.json").write_text(done.out)
    table = bench("table", "--paper", tmp_path / "both.json").out.splitlines()
    row = next(line for line in table if line.startswith("| tiny-colours, onnxruntime-cpu |"))
    cells = [cell.strip() for cell in row.split("|")][2:-1]
    assert cells[3] == f"{100 * reports[0]['backends'][0]['miou']:.1f}"
    assert cells[6] == f"{100 * reports[1]['backends'][0]['miou']:.1f}"
    assert [cells[place] for place in (0, 1, 2, 4, 5, 7, 8)] == ["-"] * 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bundle", "b"), "name what to measure on"),
        (("--bundle", "b", "--backbone-weights", "w"), "belong to a --checkpoint"),
        (("--bundle", "b", "--sam", "sam"), "belong to a --checkpoint"),
        (("--bundle", "b", "--checkpoint", "c", "--text-names", "n"), "the bundle has text vectors"),
        (("--bundle", "b", "--dataset", "voc21"), "is no NAME=DIR"),
        (("--bundle", "b", "--dataset", "=x"), "is no NAME=DIR"),
        (
            ("--bundle", "b", "--data", "d", "--classes", "a", "--prompts", "a=b"),
            "--prompts goes with --dataset",
        ),
        (("--bundle", "b", "--data", "d", "--classes", "a", "--synonyms"), "--synonyms goes with --dataset"),
        (("--bundle", "b", "--data", "d", "--shard", "3/2"), "shards are numbered 1 to 2"),
        (("--bundle", "b", "--data", "d", "--shard", "one"), "is no shard"),
        (("--bundle", "b", "--data", "d", "--shard", "1/2"), "name a folder with --out"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    options: tuple[str, ...], said: str, bench: Callable[..., Ran]
) -> None:
    done = bench("accuracy", *options)
    assert done.code == 2
    assert said in " ".join(done.err.replace("│", " ").split())


def test_a_benchmark_twice_and_names_for_it_are_usage_errors(
    prepared: Callable[[str], Tree], bench: Callable[..., Ran]
) -> None:
    option = ("--dataset", f"ade20k={prepared('ade20k').folder}")
    twice = bench("accuracy", "--bundle", "b", *option, *option)
    assert (twice.code, "names ade20k twice" in twice.err) == (2, True)
    named = bench("accuracy", "--bundle", "b", *option, "--classes", "a,b")
    assert (named.code, "--classes goes with --data" in " ".join(named.err.split())) == (2, True)


def test_one_picture_that_cannot_be_read_costs_only_itself(
    prepared: Callable[[str], Tree], world_bundle: Path, bench: Callable[..., Ran], tmp_path: Path
) -> None:
    tree = prepared("ade20k")
    whole = open_benchmark("ade20k", tree.folder)
    broken, mismatched = whole.images[1], whole.images[2]
    broken.image.write_bytes(broken.image.read_bytes()[:100])
    Image.new("L", (9, 9)).save(mismatched.labels)  # type: ignore[attr-defined]
    out = tmp_path / "out"
    common = ("accuracy", "--bundle", world_bundle, "--dataset", f"ade20k={tree.folder}", "--json")
    done = bench(*common, "--out", out)
    assert done.code == 1
    report = json.loads(done.out)
    assert report["images"] == 1
    assert [item["image"] for item in report["failed"]] == ["b_1.jpg", "c_3.jpg"]
    assert "2 of 3 images could not be measured, and the figures are over the others" in done.error
    assert "but its labels are (9, 9)" in done.err
    assert report == json.loads((out / "ade20k.json").read_text())
    alone = json.loads(bench(*common, "--limit", 1).out)
    assert report["backends"] == alone["backends"]
    table = bench("table", "--paper", out / "ade20k.json").out
    assert (
        "* tiny-colours, onnxruntime-cpu: ADE*: over 1 images in place of 3, 2 could not be measured" in table
    )


def test_a_set_measured_in_part_says_so(
    prepared: Callable[[str], Tree], world_bundle: Path, bench: Callable[..., Ran], tmp_path: Path
) -> None:
    tree = prepared("voc21")
    open_benchmark("voc21", tree.folder).images[0].image.unlink()
    common = ("accuracy", "--bundle", world_bundle, "--dataset", f"voc21={tree.folder}")
    refused = bench(*common)
    assert refused.code == 1
    assert "missing pictures: 1" in refused.error
    done = bench(*common, "--partial", "--json", "--out", tmp_path / "out")
    assert done.code == 0
    assert json.loads(done.out)["dataset"] == {"images": 2, "published": 3, "left_out": 1}
    assert (
        "V21*: over 2 images in place of 3" in bench("table", "--paper", tmp_path / "out" / "voc21.json").out
    )


def test_labels_without_any_class_have_no_figure(
    tmp_path: Path, world_bundle: Path, bench: Callable[..., Ran]
) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (28, 28)).save(tmp_path / "images" / "a.png")
    Image.new("L", (28, 28), 255).save(tmp_path / "labels" / "a.png")
    common = ("accuracy", "--bundle", world_bundle, "--data", tmp_path, "--classes", "car,road")
    row = json.loads(bench(*common, "--json").out)["backends"][0]
    assert (row["miou"], row["miou_interval_95"]) == (None, [None, None])
    assert row["iou"] == {"car": None, "road": None}
    assert bench(*common).code == 0


def test_where_no_picture_can_be_measured_nothing_is_reported(
    prepared: Callable[[str], Tree], world_bundle: Path, bench: Callable[..., Ran]
) -> None:
    tree = prepared("camvid")
    for item in open_benchmark("camvid", tree.folder).images:
        item.image.write_bytes(b"")
    done = bench("accuracy", "--bundle", world_bundle, "--dataset", f"camvid={tree.folder}", "--json")
    assert (done.code, done.out) == (1, "")
    assert "none of 3 images could be measured, the first because: cannot read" in done.error


def test_a_folder_of_one_s_own_takes_names_from_a_file(
    tmp_path: Path, world_bundle: Path, colours: Mapping[str, Any], bench: Callable[..., Ran]
) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (28, 28), colours["car"]).save(tmp_path / "images" / "a.png")
    Image.new("L", (28, 28), 1).save(tmp_path / "labels" / "a.png")
    names = tmp_path / "names.txt"
    names.write_text("road\nautos=car|truck\n-\n")
    done = bench("accuracy", "--bundle", world_bundle, "--data", tmp_path, "--classes", names, "--json")
    report = json.loads(done.out)
    assert report["backends"][0]["iou"] == {"road": None, "autos": 1.0}
    assert report["question"]["prompts"] == {"road": ["road"], "autos": ["car", "truck"]}
    assert report["benchmark"] == "data"
    missing = bench(
        "accuracy", "--bundle", world_bundle, "--data", tmp_path, "--classes", tmp_path / "no.txt"
    )
    assert missing.code == 1
    assert "there is no file of class names" in missing.error
