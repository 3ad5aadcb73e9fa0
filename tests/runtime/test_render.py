"""Label maps keep their labels; overlays show what the labels say, and never cover the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ovsdino_runtime.colours import oklab, palette
from ovsdino_runtime.legend import Entry, entries_of, percent, with_legend
from ovsdino_runtime.render import OVERLAY_LONG_SIDE_PX, label_image, overlay_image, save_labels, save_overlay

NAMES = ("car", "road", "background")


def test_colours_are_the_same_every_time_and_for_every_longer_list() -> None:
    np.testing.assert_array_equal(palette(40)[:11], palette(11))


def test_all_255_class_colours_differ_and_differ_from_the_background() -> None:
    colours = palette(256, background_index=255)
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    assert colours[255].tolist() == [0, 0, 0]


def test_the_first_twenty_colours_are_told_apart_by_eye() -> None:
    places = oklab(palette(20))
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + 9 * np.eye(20)
    assert distance.min() > 0.1  # five times what is just noticeable side by side


def test_oklab_is_that_of_its_author() -> None:
    # white, red, green, blue as published with the colour space
    expected = [[1, 0, 0], [0.628, 0.225, 0.126], [0.866, -0.234, 0.179], [0.452, -0.032, -0.312]]
    colours = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    np.testing.assert_allclose(oklab(colours), expected, atol=6e-4)


@pytest.mark.parametrize("count", [0, 1, 255, 256, 1000, 65_535])
def test_there_is_a_colour_for_every_class(count: int) -> None:
    assert palette(count).shape == (count, 3)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), count=st.sampled_from([1, 2, 256, 300, 65_535]))
def test_label_files_give_the_labels_and_the_names_back(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, count: int
) -> None:
    path = tmp_path_factory.mktemp("labels") / "a.png"
    dtype = np.uint8 if count <= 256 else np.uint16
    labels = np.random.default_rng(height * width).integers(0, count, (height, width)).astype(dtype)
    labels[0, 0] = count - 1
    names = [f"class {i}" for i in range(count)]
    save_labels(path, labels, names, background_index=count - 1)
    with Image.open(path) as image:
        assert image.mode == ("P" if count <= 256 else "I;16")
        np.testing.assert_array_equal(np.asarray(image), labels)
        assert json.loads(image.text["Classes"]) == names


def test_an_indexed_label_file_shows_the_palette() -> None:
    labels = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    colours = palette(3, background_index=2)
    shown = np.asarray(label_image(labels, colours).convert("RGB"))
    np.testing.assert_array_equal(shown, colours[labels])


def test_an_overlay_blends_colours_draws_boundaries_and_leaves_the_background_grey() -> None:
    picture = np.full((90, 120, 3), (200, 100, 40), dtype=np.uint8)
    labels = np.zeros((90, 120), dtype=np.uint8)
    labels[:, 40:80] = 1
    labels[:, 80:] = 2
    shown = np.asarray(overlay_image(picture, labels, NAMES, background_index=2))
    colours = palette(3, background_index=2)
    for index, column in ((0, 20), (1, 60)):
        expected = (colours[index].astype(float) + picture[0, 0]) / 2
        assert np.abs(shown[:90, column] - expected).max() <= 1
    background = shown[:90, 100]
    assert (background == background[0, 0]).all()  # grey: all channels alike
    assert 0 < background[0, 0] < 123  # darker than the photograph, whose luma is 123
    assert (shown[:90, [39, 79]] == 255).all()
    assert not (shown[:90, [38, 40, 78, 80]] == 255).all(axis=-1).any()


@settings(max_examples=40, deadline=None)
@given(
    height=st.sampled_from([1, 2, 7, 28, 90, 500]),
    width=st.sampled_from([1, 3, 14, 120, 640]),
    count=st.integers(1, 60),
    name=st.text(max_size=60),
)
def test_the_legend_stands_beside_or_below_a_picture_of_any_size(
    height: int, width: int, count: int, name: str
) -> None:
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    labels = (np.arange(height * width) % count).astype(np.uint8).reshape(height, width)
    shown = overlay_image(picture, labels, [f"{name}{i}" for i in range(count)])
    beside, below = shown.width > width, shown.height > height
    assert beside or below
    assert shown.width <= width + 1200
    assert shown.height <= height + 1200
    plain = np.asarray(overlay_image(picture, labels, ["a"] * count))[:height, :width]
    np.testing.assert_array_equal(np.asarray(shown)[:height, :width], plain)  # whatever the legend says


@pytest.mark.parametrize("size_hw", [(1, 5000), (5000, 1), (1, 1)])
def test_extreme_pictures_have_a_legend_with_ink_in_every_class_s_colour(size_hw: tuple[int, int]) -> None:
    labels = (np.arange(size_hw[0] * size_hw[1]) * 3 // (size_hw[0] * size_hw[1])).astype(np.uint8)
    picture = np.full((*size_hw, 3), 128, dtype=np.uint8)
    shown = np.asarray(overlay_image(picture, labels.reshape(size_hw), NAMES, background_index=2))
    colours = palette(3, background_index=2)
    for index in set(labels.tolist()):
        swatch = (shown == colours[index]).all(axis=-1)
        assert swatch.sum() >= 150  # at least about 13 x 13 pixels
        rows, columns = np.nonzero(swatch)
        assert shown[rows.min() : rows.max() + 1, columns.max() + 8 : columns.max() + 60].min() < 100  # text


def test_a_large_picture_is_shown_smaller_but_its_shares_are_those_of_the_whole() -> None:
    labels = np.zeros((40, 2 * OVERLAY_LONG_SIDE_PX), dtype=np.uint8)
    labels[:, OVERLAY_LONG_SIDE_PX:] = 1
    shown = overlay_image(np.zeros((*labels.shape, 3), np.uint8), labels, ["car", "road"])
    assert shown.width == OVERLAY_LONG_SIDE_PX
    half = palette(2) / 2
    assert np.abs(np.asarray(shown)[:20, 10] - half[0]).max() <= 1
    assert np.abs(np.asarray(shown)[:20, -10] - half[1]).max() <= 1


def test_entries_are_the_classes_present_largest_first() -> None:
    found = entries_of(["a", "b", "c", "d"], [10, 0, 30, 60], palette(4))
    assert [(entry.name, entry.share) for entry in found] == [
        ("d", "60.0 %"),
        ("c", "30.0 %"),
        ("a", "10.0 %"),
    ]
    assert found[0].colour == tuple(palette(4)[3].tolist())


def test_too_many_classes_end_in_how_many_more_there_are() -> None:
    found = entries_of([f"c{i}" for i in range(100)], [100 - i for i in range(100)], palette(100), most=10)
    assert len(found) == 10
    assert found[-1].colour is None
    assert found[-1].name == "and 91 more"
    assert found[-1].share == percent(sum(range(1, 92)), sum(range(1, 101)))


def test_long_names_are_cut_in_the_middle_and_foreign_ones_written_in_ascii() -> None:
    names = ["a very long name that would push all else off the page 17", "Straßenbäume café", "道路", "a\nb"]
    found = [entry.name for entry in entries_of(names, [4, 3, 2, 1], palette(4))]
    assert found[0].startswith("a very long name")
    assert found[0].endswith("the page 17")
    assert len(found[0]) < 45
    assert found[1:] == ["Straenbaume cafe", "class 2", "a b"]


@pytest.mark.parametrize(
    ("area", "expected"), [(0, "0.0 %"), (1, "<0.1 %"), (6, "0.1 %"), (1234, "12.3 %"), (10_000, "100.0 %")]
)
def test_shares_are_rounded_to_a_tenth_but_never_to_nothing(area: int, expected: str) -> None:
    assert percent(area, 10_000) == expected


def test_no_line_of_a_legend_runs_out_of_it() -> None:
    colour = (200, 0, 0)
    entries = [Entry(colour=colour, name="W" * 38, share="100.0 %") for _ in range(40)]
    for size in ((30, 10), (2000, 100), (100, 2000)):
        canvas = np.asarray(with_legend(Image.new("RGB", size, colour), entries)).astype(int)
        legend = (
            canvas[:, size[0] :] if canvas.shape[1] > size[0] and size[1] > size[0] else canvas[size[1] :]
        )
        assert (legend[[0, -1]] == 255).all()
        assert (legend[:, [0, -1]] == 255).all()


def test_an_overlay_file_holds_the_overlay(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    labels = (np.arange(2000).reshape(40, 50) // 700).astype(np.uint8)
    save_overlay(tmp_path / "a.png", picture, labels, NAMES, background_index=2)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(
            np.asarray(image), np.asarray(overlay_image(picture, labels, NAMES, background_index=2))
        )
