"""Making label maps: right, resumable, never half written; what is missing is said with where it belongs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from ovsdino_bench.datasets import adapter_of
from ovsdino_bench.datasets.prepare import prepare
from ovsdino_bench.datasets.run_lengths import mask_of_run_lengths
from ovsdino_runtime.errors import DataError

if TYPE_CHECKING:
    from tests.bench.conftest import Ran, Tree

MADE = {
    "coco_stuff": "stuffthingmaps/val2017/*_labelTrainIds.png",
    "coco_object": "stuffthingmaps/val2017/*_instanceTrainIds.png",
    "cityscapes": "gtFine/val/*/*_gtFine_labelTrainIds.png",
    "context60": "VOCdevkit/VOC2010/SegmentationClassContext/*.png",
}


def made(tree: Tree) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(tree.folder.glob(MADE[tree.name]))}


@settings(deadline=None)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_are_read_as_pycocotools_writes_them(mask: np.ndarray) -> None:
    from pycocotools import mask as coco_mask

    coded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    segmentation = {"size": list(coded["size"]), "counts": coded["counts"].decode()}
    np.testing.assert_array_equal(mask_of_run_lengths(segmentation), mask)


def test_long_run_lengths_and_numbers_are_read_too() -> None:
    from pycocotools import mask as coco_mask

    mask = np.zeros((900, 1100), dtype=np.uint8)
    mask[5:890, 300:301], mask[:, 700:] = 1, 1
    coded = coco_mask.encode(np.asfortranarray(mask))
    text = {"size": [900, 1100], "counts": coded["counts"].decode()}
    np.testing.assert_array_equal(mask_of_run_lengths(text), mask == 1)
    np.testing.assert_array_equal(
        mask_of_run_lengths({"size": [2, 3], "counts": [1, 2, 3]}),
        [[False, True, False], [True, False, False]],
    )


@settings(deadline=None)
@given(st.text(max_size=12))
def test_damaged_run_lengths_are_a_value_error(counts: str) -> None:
    try:
        mask = mask_of_run_lengths({"size": [3, 4], "counts": counts})
    except ValueError:
        return
    assert mask.shape == (3, 4)


@pytest.mark.parametrize(
    "segmentation",
    [
        {},
        {"size": [2, 2]},
        {"size": 4, "counts": "04"},
        {"size": [2, 2], "counts": None},
        {"size": [2, 2], "counts": [5]},
    ],
)
def test_what_is_no_run_lengths_is_a_value_error(segmentation: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        mask_of_run_lengths(segmentation)


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_second_run_finds_everything_there(
    name: str, unpack: Callable[[str], Tree], bench: Callable[..., Ran], three_published: None
) -> None:
    tree = unpack(name)
    first = bench("prepare", name, tree.folder)
    assert "3 images with labels; 3 label maps made, 0 were there already" in first.out
    written = made(tree)
    assert len(written) == 3
    assert "0 label maps made, 3 were there already" in bench("prepare", name, tree.folder).out
    assert made(tree) == written


@pytest.mark.parametrize("name", sorted(MADE))
def test_an_interrupted_run_goes_on_and_leaves_no_half_file(
    name: str, unpack: Callable[[str], Tree], three_published: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = unpack(name)
    adapter = adapter_of(name)
    save = Image.Image.save
    saved: list[Path] = []

    def stop_in_the_second(picture: Image.Image, path: Path, **options: Any) -> None:
        saved.append(path)
        if len(saved) == 2:
            path.write_bytes(b"half a fi")
            raise KeyboardInterrupt
        save(picture, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            prepare(adapter, tree.folder)
    assert len(made(tree)) == 1
    done = prepare(adapter, tree.folder)
    assert (done.written, done.kept, done.images) == (2, 1, 3)
    assert not list(tree.folder.rglob(".*"))


def test_a_later_annotation_of_context_covers_an_earlier_one(prepared: Callable[[str], Tree]) -> None:
    """The tree's JSON draws the first class under all others, so equal maps show that the order holds."""
    tree = prepared("context60")
    for stem, raw in tree.values.items():
        written = np.array(Image.open(next(tree.folder.rglob(f"SegmentationClassContext/{stem}.png"))))
        numbers = [0, *sorted(number for number in tree.labels if number)]
        np.testing.assert_array_equal(np.array(numbers)[written], raw)
    listing = tree.folder / "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt"
    assert listing.read_text().split() == list(tree.values)


def test_a_list_of_context_that_is_there_stays(
    unpack: Callable[[str], Tree], bench: Callable[..., Ran], three_published: None
) -> None:
    tree = unpack("context59")
    listing = tree.folder / "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("c_3\nb_1\na_2\n")
    assert bench("prepare", "context59", tree.folder).code == 0
    assert listing.read_text() == "c_3\nb_1\na_2\n"


@pytest.mark.parametrize("name", ["voc21", "ade20k", "camvid"])
def test_where_nothing_is_to_be_made_the_set_is_checked(
    name: str, unpack: Callable[[str], Tree], bench: Callable[..., Ran], three_published: None
) -> None:
    tree = unpack(name)
    assert "3 images with labels; 0 label maps made" in bench("prepare", name, tree.folder).out
    next(path for path in tree.folder.rglob("a_2.png")).unlink()
    done = bench("prepare", name, tree.folder)
    assert done.code == 1
    assert "is not complete: missing " in done.error
    assert " should hold " in done.error


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("coco_stuff", "stuffthingmaps/val2017/a_2.png"),
        ("cityscapes", "gtFine/val/bonn/bonn_000000_000019_gtFine_labelIds.png"),
    ],
)
@pytest.mark.parametrize("damage", ["unreadable", "value", "missing"])
def test_one_bad_source_keeps_no_other_from_being_made(
    name: str,
    source: str,
    damage: str,
    unpack: Callable[[str], Tree],
    bench: Callable[..., Ran],
    three_published: None,
) -> None:
    tree = unpack(name)
    path = tree.folder / source
    if damage == "unreadable":
        path.write_bytes(path.read_bytes()[:40])
    elif damage == "value":
        Image.new("L", (28, 28), 200).save(path)
    else:
        path.unlink()
    done = bench("prepare", name, tree.folder)
    assert done.code == 1
    assert len(made(tree)) == 2
    if damage == "missing":
        assert "missing label maps: 1" in done.error
        assert "label maps are made from" in done.error
    else:
        assert "1 of 3 label maps" in done.error
        assert path.name in done.error


@pytest.mark.parametrize("name", sorted(MADE))
def test_missing_sources_are_named_with_their_place(
    name: str, unpack: Callable[[str], Tree], bench: Callable[..., Ran], three_published: None
) -> None:
    tree = unpack(name)
    for pattern in ("stuffthingmaps/val2017/*.png", "gtFine/val/*/*.png", "VOCdevkit/VOC2010/*.json"):
        for path in tree.folder.glob(pattern):
            path.unlink()
    done = bench("prepare", name, tree.folder)
    assert done.code == 1
    expected = {
        "coco_stuff": "should hold stuffthingmaps/val2017/*.png (stuffthingmaps_trainval2017.zip)",
        "coco_object": "should hold stuffthingmaps/val2017/*.png (stuffthingmaps_trainval2017.zip)",
        "cityscapes": "should hold gtFine/val/CITY/*_gtFine_labelIds.png (gtFine_trainvaltest.zip)",
        "context60": "trainval_merged.json is missing; download",
    }
    assert expected[name] in done.error
    assert done.err.count("error: ") == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("no json", "is not PASCAL in Detail's JSON"),
        ("another json", "is not PASCAL in Detail's JSON"),
        ("no validation image", "has no image of the phase 'val'"),
        ("category", "has the category 3, which is none of the 59 counted"),
        ("run lengths", "run lengths that do not fill"),
        ("size", "has a mask of (1, 1) for an image of"),
    ],
)
def test_a_damaged_json_of_context_is_refused(
    damage: str, said: str, unpack: Callable[[str], Tree], bench: Callable[..., Ran], three_published: None
) -> None:
    tree = unpack("context60")
    path = next(tree.folder.rglob("trainval_merged.json"))
    data = json.loads(path.read_text())
    last = data["annos_segmentation"][-1]
    if damage == "no validation image":
        data["images"] = data["images"][:1]
    elif damage == "category":
        last["category_id"] = 3
    elif damage == "run lengths":
        last["segmentation"]["counts"] = "00"
    elif damage == "size":
        last["segmentation"] = {"size": [1, 1], "counts": "01"}
    path.write_text({"no json": "{", "another json": "[1]"}.get(damage, json.dumps(data)))
    done = bench("prepare", "context60", tree.folder)
    assert done.code == 1
    assert said in done.error


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"cityscapes: .* holds photos, but has no leftImg8bit or gtFine"):
        prepare(adapter_of("cityscapes"), tmp_path)
