"""Which pictures are meant, and that no two of them share an output."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsdino_runtime.errors import ImageError
from ovsdino_runtime.inputs import output_stems, pictures_of, without_repetitions


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    pictures = ("b.JPG", "a.png", "c.tiff", "in/d.webp")
    for name in (*pictures, "notes.txt", ".hidden.jpg", "a.png.labels.png", "a.png.overlay.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_stands_for_its_pictures_but_not_for_earlier_outputs(photos: Path) -> None:
    assert names(pictures_of(str(photos))) == ["a.png", "b.JPG", "c.tiff"]


def test_a_pattern_stands_for_the_pictures_it_matches(photos: Path) -> None:
    assert names(pictures_of(f"{photos}/*")) == ["a.png", "b.JPG", "c.tiff"]
    assert names(pictures_of(f"{photos}/[ab].*")) == ["a.png", "b.JPG"]
    assert names(pictures_of(f"{photos}/**/*")) == ["a.png", "b.JPG", "c.tiff", "d.webp"]


def test_a_file_stands_for_itself_whatever_it_is_called(photos: Path) -> None:
    odd = photos / "odd [1].txt"
    odd.touch()
    assert pictures_of(str(odd)) == [odd]
    assert pictures_of("nowhere/to/be.found") == [Path("nowhere/to/be.found")]


def test_a_folder_or_pattern_without_pictures_is_said_to_be_one(photos: Path) -> None:
    (photos / "bare").mkdir()
    with pytest.raises(ImageError, match="bare holds no picture"):
        pictures_of(str(photos / "bare"))
    with pytest.raises(ImageError, match="name is empty"):
        pictures_of("")  # what an unset variable of a shell script leaves
    with pytest.raises(ImageError, match=r"\*\.bmp matches no picture"):
        pictures_of(f"{photos}/*.bmp")


def test_a_picture_named_twice_is_taken_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    given_paths = [Path("b.JPG"), photos / "a.png", Path("in/../a.png"), photos / "b.JPG"]
    assert without_repetitions(given_paths) == given_paths[:2]


def test_outputs_bear_the_whole_name_of_their_picture() -> None:
    assert output_stems([Path("in/x.jpg"), Path("in/x.png")]) == [Path("x.jpg"), Path("x.png")]


def test_the_name_of_an_output_does_not_depend_on_the_rest_of_the_batch() -> None:
    alone = output_stems([Path("a/x.jpg")])
    assert output_stems([Path("a/x.jpg"), Path("b/y.jpg"), Path("a/x.png")])[:1] == alone


def test_the_same_name_in_two_folders_keeps_its_folders_below_the_shared_one() -> None:
    pictures = [Path("p/a/x.jpg"), Path("p/b/x.jpg"), Path("p/y.jpg")]
    assert output_stems(pictures) == [Path("a/x.jpg"), Path("b/x.jpg"), Path("y.jpg")]


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "A", "b", "x.jpg", "X.JPG", ".."]), min_size=1, max_size=4), max_size=8
    )
)
def test_outputs_never_collide_nor_leave_the_output_folder(parts: list[list[str]]) -> None:
    pictures = without_repetitions([Path(*item, "x.png") for item in parts])
    stems = output_stems(pictures)
    assert len({str(stem).casefold() for stem in stems}) == len(pictures)
    for stem in stems:
        assert not stem.is_absolute()
        assert not os.path.normpath(stem).startswith("..")
