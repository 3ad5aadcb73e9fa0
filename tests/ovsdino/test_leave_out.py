"""Names left out of a training are never seen: not as classes, not as the absence of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ovsdino.checkpoint import read_info
from ovsdino.data.labels import Labels
from ovsdino.data.leave_out import leave_out, read_labels
from ovsdino.data.specs import read_source
from ovsdino.trainer import fit
from ovsdino_runtime.errors import CheckpointError, DataError, VocabularyError

if TYPE_CHECKING:
    from conftest import World

KNOWN = ("car", "bus", "road", "tree", "sky", "dog")
BOX = "0.1 0.1 0.5 0.1 0.5 0.5"


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """Four photographs of objects: a car, a bus, both, none."""
    folder = tmp_path / "objects"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for stem, classes in (("a", (0,)), ("b", (1,)), ("c", (0, 1)), ("d", ())):
        Image.new("RGB", (40, 30)).save(folder / "images" / f"{stem}.png")
        (folder / "labels" / f"{stem}.txt").write_text("".join(f"{index} {BOX}\n" for index in classes))
    return folder


def test_images_whose_objects_show_a_left_out_name_are_left_out(objects: Path) -> None:
    source = read_source(f"yolo:{objects}:cars,bus")
    (without,) = leave_out([source], ["buses"], KNOWN, open_vocabulary=False)
    assert [sample.image.stem for sample in without.samples] == ["a", "d"]
    assert without.names == ("cars", "-")
    assert any("2 images show names that are left out" in note for note in without.notes)


def test_in_label_maps_the_pixels_become_unlabelled_and_every_image_stays(world: World) -> None:
    source = read_source(f"folder:{world.data}:car,asphalt=road,tree,sky")
    (without,) = leave_out([source], ["road"], KNOWN, open_vocabulary=False)
    assert without.names == ("car", "-", "tree", "sky")
    assert without.samples == source.samples


def test_data_that_has_none_of_the_names_is_untouched(objects: Path, world: World) -> None:
    sources = [read_source(f"yolo:{objects}:car,bus"), read_source(f"folder:{world.data}:car,road,tree,sky")]
    left = leave_out(sources, ["bus"], KNOWN, open_vocabulary=False)
    assert left[1] is sources[1]


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        (["dog"], DataError, "'dog' should be left out, but no data set has it"),
        (["zeppelin"], VocabularyError, "zeppelin"),
        (["car", "bus", "tree"], DataError, "'tree'"),
    ],
)
def test_a_name_that_cannot_be_left_out_is_refused(
    objects: Path, names: list[str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        leave_out([read_source(f"yolo:{objects}:car,bus")], names, KNOWN, open_vocabulary=False)


def test_a_data_set_that_would_be_empty_is_refused(objects: Path) -> None:
    for stem in ("a", "d"):
        (objects / "images" / f"{stem}.png").unlink()
    with pytest.raises(DataError, match=r"every image .* leave out fewer"):
        leave_out([read_source(f"yolo:{objects}:car,bus")], ["bus"], KNOWN, open_vocabulary=False)


def test_labels_are_read_in_the_photographs_upright_size(tmp_path: Path, objects: Path) -> None:
    picture = Image.new("RGB", (40, 30))
    exif = picture.getexif()
    exif[0x0112] = 6
    (objects / "images" / "a.png").unlink()
    picture.save(objects / "images" / "a.jpg", exif=exif)
    (sample, *_) = read_source(f"yolo:{objects}:car,bus").samples
    labels: Labels = read_labels(sample)
    assert labels.size_hw == (40, 30)
    assert labels.index_map().shape == (40, 30)


def test_a_training_never_hears_of_the_names_and_goes_on_only_without_them(world: World) -> None:
    config = world.config("run", epochs=1, leave_out="tree,sky")
    result = fit(config)
    info = read_info(result.last)
    assert info.trained_names == ("car", "road")
    assert info.training["settings"]["leave_out"] == "tree,sky"
    with pytest.raises(CheckpointError, match="leave_out"):
        fit(world.config("run", epochs=1, leave_out="tree", resume=True))


def test_unlabelled_pixels_of_a_left_out_name_cost_nothing(world: World) -> None:
    """Repainting the labels of left-out names as unlabelled changes not a single loss."""

    def losses(out: str, **changes: object) -> list[float]:
        config = world.config(out, epochs=1, **changes)
        fit(config)
        lines = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if line["kind"] == "step"]

    left_out = losses("a", leave_out="tree,sky")
    for path in (world.data / "labels").iterdir():
        labels = np.array(Image.open(path))
        labels[labels >= 2] = 255
        Image.fromarray(labels).save(path)
    assert losses("b", data=(f"folder:{world.data}:car,road",)) == left_out
