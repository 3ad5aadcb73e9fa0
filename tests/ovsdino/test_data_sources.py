"""COCO JSON, folders and YOLO text: read as they are, refused in one line where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ovsdino.data.coco import read_coco
from ovsdino.data.folder import read_folder
from ovsdino.data.labels import UNLABELLED
from ovsdino.data.leave_out import read_labels
from ovsdino.data.polygons import rle_mask
from ovsdino.data.samples import Source, read_sample
from ovsdino.data.specs import coco_names, held_out, read_source
from ovsdino.data.yolo import read_yolo
from ovsdino_runtime.errors import DataError, VocabularyError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
CAMVID = "sky,building,pole,road,sidewalk,tree,traffic sign,fence,car,person,bicyclist=rider,-"
real = [
    pytest.mark.real,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the real images are not here"),
]
SIZE_HW = (30, 40)


def photograph(path: Path, size_hw: tuple[int, int] = SIZE_HW) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), 90, dtype=np.uint8)).save(path)
    return path


def read_all(source: Source) -> list[tuple[NDArray[np.uint8], Any]]:
    return [read_sample(sample) for sample in source.samples]


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# Folders


def test_a_folder_pairs_images_and_labels_by_stem(painted: Callable[..., Path], tmp_path: Path) -> None:
    source = read_folder(painted(tmp_path / "data", 3), ("car", "road", "tree", "sky"))
    assert [sample.image.stem for sample in source.samples] == ["00", "01", "02"]
    for sample in source.samples:
        image, labels = read_sample(sample)
        written = np.array(Image.open(tmp_path / "data" / "labels" / f"{sample.image.stem}.png"))
        assert image.shape[:2] == written.shape
        for index, mask in zip(labels.classes, labels.masks, strict=True):
            np.testing.assert_array_equal(mask, written == index)
        np.testing.assert_array_equal(labels.labelled, written != 255)


def _remove_labels(data: Path) -> None:
    for path in sorted((data / "labels").iterdir()):
        path.unlink()
    (data / "labels").rmdir()


def _colour_label(data: Path) -> None:
    Image.new("RGB", (64, 48)).save(data / "labels" / "01.png")


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda data: (data / "images").rename(data / "pictures"), "images"),
    "no labels": (_remove_labels, "labels"),
    "label missing": (lambda data: (data / "labels" / "01.png").unlink(), "01.png"),
    "image missing": (lambda data: (data / "images" / "01.png").unlink(), "01.png"),
    "unreadable image": (lambda data: (data / "images" / "01.png").write_bytes(b"\x89PNG no"), "01.png"),
    "unreadable label": (lambda data: (data / "labels" / "01.png").write_bytes(b"not a PNG"), "01.png"),
    "other size": (lambda data: Image.new("L", (64, 47)).save(data / "labels" / "01.png"), "01.png"),
    "colours": (_colour_label, "01.png"),
    "two of a stem": (lambda data: photograph(data / "images" / "01.jpg"), "01.jpg"),
}


def test_hidden_files_are_passed_over(painted: Callable[..., Path], tmp_path: Path) -> None:
    data = painted(tmp_path / "data", 2)
    (data / "images" / ".00.png.ab12cd.png").write_bytes(b"left by a writer that was killed")
    (data / "labels" / "._00.png").write_bytes(b"left by a Mac")
    assert len(read_folder(data, ("car", "road", "tree", "sky")).samples) == 2


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_faulty_folder_is_refused_in_one_line_that_names_the_file(
    fault: str, painted: Callable[..., Path], tmp_path: Path
) -> None:
    data = painted(tmp_path / "data", 2)
    spoil, named = FOLDER_FAULTS[fault]
    spoil(data)
    with pytest.raises(DataError) as error:
        read_all(read_folder(data, ("car", "road", "tree", "sky")))
    assert named in one_line(error)


def test_a_label_value_without_a_name_is_refused_by_file_and_value(
    painted: Callable[..., Path], tmp_path: Path
) -> None:
    data = painted(tmp_path / "data", 2)
    (label,) = read_folder(data, ("car", "road", "tree", "-")).samples[1:]
    assert label.labels((48, 64)).classes == (0, 1, 2, 3)
    values = np.array(Image.open(data / "labels" / "01.png"))
    values[0, 0] = 7
    Image.fromarray(values).save(data / "labels" / "01.png")
    with pytest.raises(DataError, match=r"01\.png.*the value 7") as error:
        read_all(read_folder(data, ("car", "road", "tree", "-")))
    one_line(error)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError) as error:
        read_folder(tmp_path, ("car",))
    assert "images" in one_line(error)


# YOLO


def yolo(folder: Path, text: str) -> Path:
    photograph(folder / "images" / "a.png")
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    (folder / "labels" / "a.txt").write_text(text)
    return folder


def test_yolo_polygons_are_drawn_relative_to_the_image(tmp_path: Path) -> None:
    source = read_yolo(
        yolo(tmp_path, "2 0.25 0.2 0.75 0.2 0.75 0.8 0.25 0.8\n\n0 0 0 1 0 1 1 0 1\n"), coco_names()
    )
    ((_, labels),) = read_all(source)
    masks = dict(zip(labels.classes, labels.masks, strict=True))
    expected = np.zeros(SIZE_HW, dtype=np.bool_)
    expected[6:24, 10:30] = True
    np.testing.assert_array_equal(masks[2], expected)
    assert masks[0].all()
    assert labels.labelled.all()
    assert source.names[2] == "car"


def test_a_photograph_without_yolo_text_shows_no_object(tmp_path: Path) -> None:
    photograph(yolo(tmp_path, "") / "images" / "b.png")
    for _, labels in read_all(read_yolo(tmp_path, ("car",))):
        assert labels.classes == ()
        assert labels.labelled.all()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("80 0 0 1 0 1 1", "80 class names"),
        ("-1 0 0 1 0 1 1", "class -1"),
        ("car 0 0 1 0 1 1", "not a class index"),
        ("0 0.1 0.2 zero 0.1 1 1", "not a class index"),
        ("0 0.5 0.5 0.2 0.2", "box"),
        ("0 0 0 1 0", "box"),
        ("0 0 0 1 0 1", "three points"),
        ("0", "three points"),
        ("0 0 0 1.5 0 1 1", "outside"),
        ("0 0 0 nan 0 1 1", "outside"),
    ],
)
def test_a_faulty_yolo_line_is_refused_by_file_and_number(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as error:
        read_all(read_yolo(yolo(tmp_path, f"0 0 0 1 0 1 1\n{line}\n"), coco_names()))
    assert "a.txt line 2" in one_line(error)


def test_yolo_text_without_image_is_left_out_with_a_note(tmp_path: Path) -> None:
    folder = yolo(tmp_path, "0 0 0 1 0 1 1")
    (folder / "labels" / "b.txt").write_text("0 0 0 1 0 1 1")
    photograph(folder / "images" / "c.png")
    source = read_yolo(folder, ("car",))
    assert [sample.image.name for sample in source.samples] == ["a.png", "c.png"]
    assert len(source.notes) == 2
    assert "c.png" in source.notes[0]
    assert "b.txt" in source.notes[1]


def test_a_yolo_folder_without_text_for_its_images_is_refused(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match="labels"):
        read_yolo(tmp_path, ("car",))
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match=r"no \.txt"):
        read_yolo(tmp_path, ("car",))
    (tmp_path / "labels" / "b.txt").write_text("")
    with pytest.raises(DataError, match=r"no \.txt"):
        read_yolo(tmp_path, ("car",))


# COCO


def square(left: int, top: int, side: int) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def column_runs(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths, down the columns, beginning with zeros."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != value:
            runs.append(0)
            value = not value
        runs[-1] += 1
    return runs


def coco(folder: Path, annotations: list[dict[str, Any]], **changes: Any) -> Path:
    photograph(folder / "images" / "a.png")
    document = {
        "images": [{"id": 5, "file_name": "a.png", "height": SIZE_HW[0], "width": SIZE_HW[1]}],
        "categories": [{"id": 90, "name": "tooth"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": number, "image_id": 5, "category_id": 3, "iscrowd": 0} | item
            for number, item in enumerate(annotations)
        ],
    } | changes
    (folder / "instances.json").write_text(json.dumps(document))
    return folder / "instances.json"


def only_labels(path: Path) -> Any:
    ((_, labels),) = read_all(read_coco(path, path.parent / "images"))
    return labels


def test_coco_polygons_and_run_lengths_give_the_same_mask(tmp_path: Path) -> None:
    from pycocotools import mask as coco_mask

    expected = np.zeros(SIZE_HW, dtype=np.bool_)
    expected[4:14, 6:16] = True
    runs = {"size": list(SIZE_HW), "counts": column_runs(expected)}
    packed = coco_mask.encode(np.asfortranarray(expected.astype(np.uint8)))
    compressed = {"size": list(SIZE_HW), "counts": packed["counts"].decode()}
    for segmentation in ([square(6, 4, 10)], runs, compressed):
        labels = only_labels(coco(tmp_path, [{"segmentation": segmentation}]))
        assert labels.classes == (0,)
        np.testing.assert_array_equal(labels.masks[0], expected)


def test_coco_categories_are_numbered_by_their_ids_and_unions_are_taken(tmp_path: Path) -> None:
    path = coco(
        tmp_path,
        [
            {"segmentation": [square(0, 0, 5), square(10, 10, 5)]},
            {"segmentation": [square(20, 0, 5)]},
            {"segmentation": [square(30, 20, 5)], "category_id": 90},
        ],
    )
    assert read_coco(path, tmp_path / "images").names == ("car", "tooth")
    labels = only_labels(path)
    canvas = Image.new("1", SIZE_HW[::-1])
    for left, top in ((0, 0), (10, 10), (20, 0)):
        ImageDraw.Draw(canvas).rectangle((left, top, left + 4, top + 4), fill=1)
    np.testing.assert_array_equal(labels.masks[labels.classes.index(0)], np.array(canvas))
    assert labels.masks[labels.classes.index(1)].sum() == 25


def test_what_only_a_crowd_covers_is_unlabelled(tmp_path: Path) -> None:
    crowd = np.zeros(SIZE_HW, dtype=np.bool_)
    crowd[:, :20] = True
    runs = {"size": list(SIZE_HW), "counts": column_runs(crowd)}
    labels = only_labels(
        coco(tmp_path, [{"segmentation": runs, "iscrowd": 1}, {"segmentation": [square(10, 10, 20)]}])
    )
    assert labels.classes == (0,)
    assert labels.masks[0].sum() == 400
    np.testing.assert_array_equal(labels.labelled, ~crowd | labels.masks[0])


@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_compressed_run_lengths_are_read_as_pycocotools_does(mask: NDArray[np.bool_]) -> None:
    from pycocotools import mask as coco_mask

    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    found = rle_mask({"size": list(mask.shape), "counts": packed["counts"].decode()}, mask.shape)
    np.testing.assert_array_equal(found, mask)
    listed = rle_mask({"size": list(mask.shape), "counts": column_runs(mask)}, mask.shape)
    np.testing.assert_array_equal(listed, mask)


def test_an_object_with_only_a_box_is_no_negative_in_it(tmp_path: Path) -> None:
    path = coco(
        tmp_path,
        [
            {"segmentation": [], "bbox": [10.5, 4, 9, 8.2]},
            {"segmentation": [square(0, 0, 16)], "category_id": 90},
            {"segmentation": [square(30, 10, 5)]},
        ],
    )
    (note,) = read_coco(path, tmp_path / "images").notes
    assert "1 of its annotations" in note
    labels = only_labels(path)
    assert labels.classes == (1, 0)
    expected = np.ones(SIZE_HW, dtype=np.bool_)
    expected[4:13, 10:20] = False  # where the tooth covers it, too: a pixel may belong to both
    np.testing.assert_array_equal(labels.labelled, expected)
    assert labels.masks[1].sum() == 25
    assert not read_coco(coco(tmp_path, []), tmp_path / "images").notes


@pytest.mark.parametrize(
    ("annotations", "changes", "said"),
    [
        ([{"segmentation": [[0, 0, 1, 1]]}], {}, "three points"),
        ([{"segmentation": [[0, 0, 1, 1, 2, 2, 3]]}], {}, "three points"),
        ([{"segmentation": {"size": [3, 3], "counts": [9]}}], {}, "size"),
        ([{"segmentation": {"size": [30, 40], "counts": [9]}}], {}, "cover 9 pixels"),
        ([{"segmentation": {"size": [30, 40]}}], {}, "without counts"),
        ([{"segmentation": None}], {}, "neither"),
        ([{"segmentation": [[0, 0, 1, 1, 1e9, 2]]}], {}, "far outside"),
        ([{"segmentation": [[0, 0, 1, 1, 2, -1e300]]}], {}, "far outside"),
        ([{"segmentation": [[0, 0, 1, 1, 2, 81]]}], {}, "coordinate 81, far outside"),
        ([{"segmentation": [[0, 0, 1, 1, 2, -41]]}], {}, "coordinate -41, far outside"),
        ([{"segmentation": [[0, 0, 1, 1, 2, 10**400]]}], {}, "no image has"),
        ([{"segmentation": [[0, 0, 1, 1, 2, float("nan")]]}], {}, "not finite"),
        ([{"segmentation": {"size": [30, 40], "counts": [1300, -100]}}], {}, "below 0"),
        ([{"segmentation": {"size": [30, 40], "counts": [600.0, 600]}}], {}, "600.0, which is no whole"),
        ([{"segmentation": {"size": [30, 40], "counts": [True, 1199]}}], {}, "no whole number"),
        ([{"segmentation": {"size": [30, 40], "counts": "52"}}], {}, "cover 7 pixels"),
        ([{"segmentation": {"size": [30, 40], "counts": ""}}], {}, "cover 0 pixels"),
        ([{"segmentation": {"size": [30, 40], "counts": "5@"}}], {}, "below 0"),
        ([{"segmentation": {"size": [30, 40], "counts": "5P"}}], {}, "end within a number"),
        ([{"segmentation": {"size": [30, 40], "counts": "5" + "o" * 500}}], {}, "no image needs"),
        ([{"segmentation": {"size": [30, 40], "counts": "5 é"}}], {}, "character ' '"),
        ([{"segmentation": []}], {}, "neither an outline nor a box"),
        ([{"segmentation": [], "bbox": [1, 2, 3]}], {}, "x, y, width and height"),
        ([{"segmentation": [], "bbox": [1, 2, 3, -4]}], {}, "x, y, width and height"),
        ([{"segmentation": [], "bbox": [1.5, 2, 10**400, 4]}], {}, "annotation 0 of a.png has"),
        ([{"segmentation": [], "bbox": [1, 2, 3, 1e300]}], {}, "a box with .* far outside"),
        ([{"segmentation": [], "category_id": 4}], {}, "category 4"),
        ([{"segmentation": [], "image_id": 4}], {}, "image 4"),
        ([{}], {}, "segmentation"),
        ([], {"images": []}, "no image"),
        ([], {"categories": 3}, "no COCO"),
        ([], {"images": [{"id": 1, "file_name": "b.png", "height": 1, "width": 1}]}, "b.png"),
        ([], {"images": [{"id": 1, "file_name": "a.png", "height": 1, "width": 1}]}, "40x30"),
    ],
)
def test_faulty_coco_is_refused_in_one_line(
    annotations: list[dict[str, Any]], changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = coco(tmp_path, annotations, **changes)
    with pytest.raises(DataError, match=said) as error:
        read_all(read_coco(path, tmp_path / "images"))
    assert "instances.json" in one_line(error)


def test_coco_that_is_no_json_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{")
    with pytest.raises(DataError, match="no COCO"):
        read_coco(tmp_path / "instances.json", tmp_path)
    with pytest.raises(DataError, match=r"missing\.json"):
        read_coco(tmp_path / "missing.json", tmp_path)
    with pytest.raises(DataError, match="no folder"):
        read_coco(tmp_path / "instances.json", tmp_path / "nowhere")


# Specifications


def test_specifications_name_all_three_layouts(painted: Callable[..., Path], tmp_path: Path) -> None:
    folder = painted(tmp_path / "folder", 1)
    (tmp_path / "names.txt").write_text("# by value\n\ncar\nroad  # asphalt\ntree\nsky\n\n")
    text = yolo(tmp_path / "yolo", "0 0 0 1 0 1 1\n")
    path = coco(tmp_path / "coco", [])
    named = f"coco:{path}:{path.parent / 'images'}:tooth=teeth"
    assert read_source(f"folder:{folder}:{tmp_path / 'names.txt'}").names == ("car", "road", "tree", "sky")
    assert read_source(f"folder:{folder}:car,bicyclist=rider").names == ("car", "bicyclist=rider")
    found = read_source(f"yolo:{text}")
    assert found.names[79] == "toothbrush"
    assert "the names are COCO's 80, in their order; others go behind it" in found.notes[0]
    (text / "labels" / "classes.txt").write_text("crack\nspall\n")
    assert read_source(f"yolo:{text}").names == ("crack", "spall")
    assert read_source(f"yolo:{text}:dog").names == ("dog",)
    assert read_source(named).names == ("car", "tooth=teeth")
    with pytest.raises(DataError, match="no category 'dog'"):
        read_source(f"{named[: -len('tooth=teeth')]}dog=cat")


@pytest.mark.parametrize("text", ["car,,road", "car,road, ,-", "car\n\nroad\n", "car\n# unused\nroad"])
def test_a_gap_among_names_by_value_is_refused(
    painted: Callable[..., Path], tmp_path: Path, text: str
) -> None:
    folder = painted(tmp_path / "folder", 1)
    names = text
    if "\n" in text:
        names = str(tmp_path / "names.txt")
        Path(names).write_text(text)
    with pytest.raises(VocabularyError, match=r"(name|line) \d of .* is empty, .* write - for a value"):
        read_source(f"folder:{folder}:{names}")


@pytest.mark.parametrize(
    "spec", ["", "folder", "folder:there", "yolo:", "coco:a", "voc:there", "coco:a:b:c:d"]
)
def test_what_is_no_specification_is_refused_with_the_grammar(spec: str) -> None:
    with pytest.raises(DataError, match=r"folder:DIR:NAMES") as error:
        read_source(spec)
    one_line(error)


def test_a_file_of_names_that_is_not_there_is_no_class_name(
    painted: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no file of class names"):
        read_source(f"folder:{painted(tmp_path / 'data', 1)}:{tmp_path}/names.txt")


@pytest.mark.parametrize(
    ("samples", "fraction", "blocks"), [(367, 0.1, 4), (10, 0.3, 2), (20, 0.3, 3), (2, 0.01, 4)]
)
def test_held_out_samples_are_runs_of_neighbours_spread_over_the_whole(
    samples: int, fraction: float, blocks: int
) -> None:
    kept, out = held_out(samples, fraction, blocks)
    assert sorted(kept + out) == list(range(samples))
    assert len(out) == max(1, round(samples * fraction))
    runs = np.split(np.array(out), np.flatnonzero(np.diff(out) > 1) + 1)
    assert len(runs) == min(blocks, len(out))
    assert max(map(len, runs)) - min(map(len, runs)) <= 1
    centres = [run.mean() / samples for run in runs]
    np.testing.assert_allclose(centres, (np.arange(len(runs)) + 0.5) / len(runs), atol=2 / samples + 0.1)


@given(st.integers(2, 200), st.floats(0, 1, exclude_max=True), st.integers(1, 60))
def test_no_sample_is_both_trained_on_and_held_out(samples: int, fraction: float, blocks: int) -> None:
    assume(min(samples, max(1, round(samples * fraction))) < samples)
    kept, out = held_out(samples, fraction, blocks)
    assert sorted((*kept, *out)) == list(range(samples))
    assert len(out) == (max(1, round(samples * fraction)) if fraction else 0)


def test_a_class_of_the_value_that_is_unlabelled_is_refused(
    painted: Callable[..., Path], tmp_path: Path
) -> None:
    data = painted(tmp_path / "data", 1)
    names = ["car", "road", "tree", "sky", *(f"thing {number}" for number in range(296))]
    with pytest.raises(DataError, match="the value 255 is unlabelled, but it is called 'thing 251'"):
        read_folder(data, tuple(names))
    for unlabelled in ("-", "void=-"):
        names[255] = unlabelled
        assert len(read_folder(data, tuple(names)).samples) == 1


def test_nothing_or_not_everything_can_be_held_out() -> None:
    assert held_out(5, 0.0, 4) == ((0, 1, 2, 3, 4), ())
    with pytest.raises(DataError, match="none to train on"):
        held_out(1, 0.1, 4)


# The real files


@pytest.mark.parametrize("part", ["train", "val"])
def test_camvid_is_read(part: str) -> None:
    source = read_source(f"folder:{SHARED / 'camvid' / part}:{CAMVID}")
    assert len(source.samples) == {"train": 367, "val": 101}[part]
    for sample in source.samples[::40]:
        image, labels = read_sample(sample)
        assert image.shape == (360, 480, 3)
        assert labels.masks.sum(axis=0).max() == 1
        labels = labels.renumbered([*range(11), UNLABELLED])
        np.testing.assert_array_equal(labels.masks.any(axis=0), labels.labelled)
        assert 0.8 < labels.labelled.mean() <= 1
        road = labels.masks[labels.classes.index(3)]
        assert road[180:].sum() > road[:180].sum()  # the road lies below


def test_coco128_is_read() -> None:
    source = read_source(f"yolo:{SHARED / 'coco128'}")
    assert len(source.samples) == 128
    assert len(source.notes) == 3  # two photographs without text, two texts without photograph; the names
    seen = set()
    for sample in source.samples:
        _, labels = read_sample(sample)
        seen |= {source.names[index] for index in labels.classes}
        assert labels.labelled.all()
        assert all(mask.any() for mask in labels.masks)
    assert {"person", "car", "dog"} <= seen
    assert len(seen) > 60


def test_tiny_coco_is_read_with_its_crowds() -> None:
    folder = SHARED / "tiny_coco"
    path = folder / "annotations" / "instances_train2017.json"
    source = read_source(f"coco:{path}:{folder / 'train2017'}")
    document = json.loads(path.read_text())
    sizes = {item["file_name"]: item["id"] for item in document["images"]}
    assert len(source.samples) == 50
    assert source.names == coco_names()
    unlabelled = 0
    for sample in source.samples:
        _, labels = read_sample(sample)
        own = [item for item in document["annotations"] if item["image_id"] == sizes[sample.image.name]]
        area = {item["category_id"] for item in own if not item["iscrowd"]}
        assert len(labels.classes) == len(area)
        # COCO states each mask's area; classes with one instance can be compared.
        for index, mask in zip(labels.classes, labels.masks, strict=True):
            single = [item for item in own if not item["iscrowd"] and _index(document, item) == index]
            if len(single) == 1:
                assert mask.sum() == pytest.approx(single[0]["area"], rel=0.1, abs=30)
        assert labels.labelled.all() or any(item["iscrowd"] for item in own)
        unlabelled += not labels.labelled.all()
    assert unlabelled > 0


def _index(document: dict[str, Any], annotation: dict[str, Any]) -> int:
    ids = sorted(item["id"] for item in document["categories"])
    return ids.index(annotation["category_id"])


for _test in (test_camvid_is_read, test_coco128_is_read, test_tiny_coco_is_read_with_its_crowds):
    for _mark in real:
        _mark(_test)


def test_the_classes_shown_are_those_of_the_masks(tmp_path: Path) -> None:
    for layout in ("yolo", "folder"):
        for part in ("images", "labels"):
            (tmp_path / layout / part).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / layout / "images" / "a.png")
    (tmp_path / "yolo/labels/a.txt").write_text("2 0.1 0.1 0.5 0.1 0.5 0.5\n\n0 0.1 0.1 0.9 0.1 0.5 0.9\n")
    values = np.full((30, 40), 255, dtype=np.uint8)
    values[:9], values[9:20] = 2, 0
    Image.fromarray(values).save(tmp_path / "folder/labels/a.png")
    outline = [[1.0, 1.0, 30.0, 1.0, 30.0, 20.0]]
    annotations = [
        {"id": number, "image_id": 1, "category_id": category, "segmentation": outline, "iscrowd": crowd}
        for number, (category, crowd) in enumerate([(1, 0), (3, 0), (2, 1)])
    ]
    annotations[2]["segmentation"] = {"size": [30, 40], "counts": [0, 1200]}
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 40}],
        "categories": [{"id": number, "name": name} for number, name in ((1, "a"), (2, "b"), (3, "c"))],
        "annotations": annotations,
    }
    (tmp_path / "coco.json").write_text(json.dumps(document))
    for spec in (
        f"yolo:{tmp_path}/yolo:a,b,c",
        f"folder:{tmp_path}/folder:a,b,c",
        f"coco:{tmp_path}/coco.json:{tmp_path}/yolo/images",
    ):
        (sample,) = read_source(spec).samples
        assert sample.shown() == {0, 2}
        assert set(read_labels(sample).classes) == {0, 2}
