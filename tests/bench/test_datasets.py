"""Benchmarks in the layouts in which they are downloaded: what label values become, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench.benchmark import open_benchmark
from ovsdino_bench.datasets import ADAPTERS, adapter_of
from ovsdino_runtime.errors import DataError

if TYPE_CHECKING:
    from tests.bench.conftest import Ran, Tree

NAMES = tuple(ADAPTERS)


@pytest.mark.parametrize("name", NAMES)
def test_every_label_value_becomes_the_place_of_its_class(name: str, prepared: Callable[[str], Tree]) -> None:
    tree = prepared(name)
    opened = open_benchmark(name, tree.folder)
    assert len(opened.images) == 3
    labels = opened.labels
    for item in opened.images:
        stem = item.image.stem.removesuffix("_leftImg8bit")
        truth, raw = item.truth(), tree.values[stem]
        assert truth.shape == raw.shape
        assert np.array(Image.open(item.image)).shape[:2] == raw.shape
        for value in np.unique(raw):
            (place,) = np.unique(truth[raw == value])
            meant = tree.labels[int(value)]
            assert (None if place == 255 else labels[place]) == meant, value


@pytest.mark.parametrize(
    ("name", "raw", "label"),
    [
        ("coco_stuff", 0, "person"),
        ("coco_stuff", 89, "toothbrush"),
        ("coco_stuff", 12, "stop sign"),
        ("coco_stuff", 91, "banner"),
        ("coco_stuff", 156, "sky-other"),
        ("coco_stuff", 181, "wood"),
        ("coco_object", 71, "tv"),
        ("coco_object", 181, "background"),
        ("coco_object", 255, "background"),
        ("cityscapes", 7, "road"),
        ("cityscapes", 26, "car"),
        ("cityscapes", 33, "bicycle"),
        ("cityscapes", 29, None),
    ],
)
def test_raw_values_of_note(name: str, raw: int, label: str | None) -> None:
    """Read off the data sets' own lists, so that the tests' table of meanings is held to something too."""
    from ovsdino_bench.datasets.cityscapes import TRAIN_IDS_OF_IDS
    from ovsdino_bench.datasets.coco import OBJECT_OF_RAW, STUFF_OF_RAW
    from ovsdino_runtime.vocabulary import vocabulary

    classes = [query.label for query in vocabulary(name).queries]
    table = {"coco_stuff": STUFF_OF_RAW, "coco_object": OBJECT_OF_RAW, "cityscapes": TRAIN_IDS_OF_IDS}[name]
    written = np.array([[int(table.places[raw])]], dtype=np.uint8)
    place = int(ADAPTERS[name].table.apply(written, Path("x.png"))[0, 0])
    names: list[str | None] = [*classes, "background"] if name == "coco_object" else [*classes]
    assert (None if place == 255 else names[place]) == label


def test_the_numbers_of_images_are_those_that_figures_are_published_over() -> None:
    assert {name: item.published[0] for name, item in ADAPTERS.items()} == {
        "voc21": 1449,
        "voc20": 1449,
        "context60": 5104,
        "context59": 5104,
        "coco_object": 5000,
        "coco_stuff": 5000,
        "cityscapes": 500,
        "ade20k": 2000,
        "camvid": 101,
    }


@pytest.mark.parametrize(
    ("name", "deeper"),
    [("voc21", "VOCdevkit"), ("voc21", "VOCdevkit/VOC2012"), ("ade20k", "ADEChallengeData2016")],
)
def test_the_folder_may_be_named_at_any_depth(
    name: str, deeper: str, unpack: Callable[[str], Tree], three_published: None
) -> None:
    tree = unpack(name)
    assert len(open_benchmark(name, tree.folder / deeper).images) == 3


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("coco_stuff", {"val2017": "images/val2017", "stuffthingmaps/val2017": "annotations/val2017"}),
        ("camvid", {"CamVid/val": "CamVid/val/images", "CamVid/valannot": "CamVid/val/labels"}),
    ],
)
def test_the_other_layout_in_use_is_read_too(
    name: str,
    moves: dict[str, str],
    unpack: Callable[[str], Tree],
    bench: Callable[..., Ran],
    three_published: None,
) -> None:
    tree = unpack(name)
    for number, (source, target) in enumerate(moves.items()):
        aside = tree.folder / f"aside{number}"
        (tree.folder / source).rename(aside)
        (tree.folder / target).parent.mkdir(parents=True, exist_ok=True)
        aside.rename(tree.folder / target)
    assert bench("prepare", name, tree.folder).code == 0
    assert len(open_benchmark(name, tree.folder).images) == 3


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_and_another_layout_say_what_belongs_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; it should hold"):
        open_benchmark(name, tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is empty, but has no .* it should hold"):
        open_benchmark(name, tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="holds photos, but has no") as found:
        open_benchmark(name, tmp_path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_half_downloaded_set_is_refused_and_measured_in_part_if_asked(
    name: str, prepared: Callable[[str], Tree]
) -> None:
    tree = prepared(name)
    first = open_benchmark(name, tree.folder).images[0]
    first.image.unlink()
    with pytest.raises(DataError, match=r"missing pictures: 1, the first is .*; --partial measures"):
        open_benchmark(name, tree.folder)
    partly = open_benchmark(name, tree.folder, partial=True)
    assert (len(partly.images), partly.left_out) == (2, 1)


@pytest.mark.parametrize("name", ["coco_stuff", "coco_object", "cityscapes", "context60"])
def test_labels_that_were_not_made_yet_name_the_command_that_makes_them(
    name: str, unpack: Callable[[str], Tree], three_published: None
) -> None:
    tree = unpack(name)
    if name == "context60":
        (tree.folder / "VOCdevkit/VOC2010/ImageSets/SegmentationContext").mkdir(parents=True)
        (tree.folder / "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt").write_text(
            "b_1\na_2\nc_3\n"
        )
    with pytest.raises(DataError, match=rf"missing label maps: 3, .*`ovsdino-bench prepare {name} "):
        open_benchmark(name, tree.folder)


def test_a_list_of_another_length_than_published_is_refused(unpack: Callable[[str], Tree]) -> None:
    tree = unpack("voc21")
    with pytest.raises(DataError, match="3 pictures with labels are there, but it has 1449"):
        open_benchmark("voc21", tree.folder)
    assert open_benchmark("voc21", tree.folder, partial=True).left_out == 0


def test_a_missing_or_empty_list_of_images_is_refused(unpack: Callable[[str], Tree]) -> None:
    tree = unpack("voc20")
    listing = tree.folder / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    listing.write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt is empty"):
        open_benchmark("voc20", tree.folder)
    shutil.rmtree(listing.parent)
    with pytest.raises(DataError, match=r"cannot read the list of images .*val\.txt"):
        open_benchmark("voc20", tree.folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("voc21", 21),
        ("ade20k", 151),
        ("cityscapes", 19),
        ("coco_stuff", 171),
        ("context59", 60),
    ],
)
def test_a_label_value_outside_the_classes_names_the_file(
    name: str, value: int, prepared: Callable[[str], Tree]
) -> None:
    tree = prepared(name)
    item = open_benchmark(name, tree.folder).images[0]
    labels = item.labels  # type: ignore[attr-defined]
    Image.new("L", (4, 4), value).save(labels)
    with pytest.raises(
        DataError, match=rf"{labels.name} holds the value {value}, but values are 0 to {value - 1}"
    ):
        item.truth()


def test_a_benchmark_goes_by_any_spelling_and_an_unknown_one_is_refused() -> None:
    assert adapter_of("COCO-Stuff") is ADAPTERS["coco_stuff"]
    assert adapter_of("ADE20K") is ADAPTERS["ade20k"]
    with pytest.raises(DataError, match="no benchmark is called 'kitti'; there are voc21, "):
        adapter_of("kitti")


def test_a_table_never_maps_a_value_it_does_not_know() -> None:
    for item in ADAPTERS.values():
        unknown = ~item.table.known
        assert (item.table.places[unknown] == 255).all()
