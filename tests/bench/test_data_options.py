"""What is typed for data and names: a text as long as one likes, a file, or a folder that cannot be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ovsdino_bench.data_options import benchmarks_of
from ovsdino_runtime.errors import DataError, VocabularyError
from ovsdino_runtime.vocabulary import Vocabulary
from tests.bench.painted import NAMES

if TYPE_CHECKING:
    from tests.bench.conftest import Ran, Tree

WORDS = tuple(f"a kind of sky {number}" for number in range(300))  # far more bytes than a file's name has


def test_prompts_longer_than_a_files_name_are_names(prepared: Callable[[str], Tree]) -> None:
    option = f"ade20k={prepared('ade20k').folder}"
    text = f"sky={'|'.join(WORDS)}"
    (found,) = benchmarks_of([option], None, None, text, partial=False)
    assert isinstance(found.classes, Vocabulary)
    (sky,) = [query for query in found.classes.queries if query.label == "sky"]
    assert sky.prompts == WORDS


def test_classes_longer_than_a_files_name_are_names(painted: Path) -> None:
    text = f"car={'|'.join(WORDS)}"
    (found,) = benchmarks_of([], str(painted), text, None, partial=False)
    assert found.classes == (text,)
    assert found.labels == ("car",)


def test_names_in_a_file_and_typed_are_the_same(painted: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("car\nroad=road|street\n-\n")
    (listed,) = benchmarks_of([], str(painted), str(names), None, partial=False)
    (typed,) = benchmarks_of([], str(painted), "car,road=road|street,-", None, partial=False)
    assert listed.classes == typed.classes == ("car", "road=road|street")
    with pytest.raises(DataError, match=r"there is no file of class names at .*no\.txt"):
        benchmarks_of([], str(painted), str(tmp_path / "no.txt"), None, partial=False)
    names.write_text("# nothing\n")
    with pytest.raises(VocabularyError, match="names no class"):
        benchmarks_of([], str(painted), str(names), None, partial=False)


def test_a_class_called_background_is_refused_with_what_to_write_in_its_place(painted: Path) -> None:
    for names in ("background,car", "Background,car"):
        with pytest.raises(DataError, match=r"write - for its value, .* as in rest=sky\|wall"):
            benchmarks_of([], str(painted), names, None, partial=False)


def test_two_pictures_with_one_label_are_refused(painted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(painted, tmp_path / "twice"))
    first = min((folder / "images").iterdir())
    first.with_suffix(".bmp").write_bytes(b"another")
    with pytest.raises(DataError, match=f"{first.stem}.bmp and {first.name} share one label"):
        benchmarks_of([], str(folder), "car,road", None, partial=False)


def test_where_a_file_cannot_be_written_it_is_said_before_anything_is_measured(
    painted: Path, world_bundle: Path, bench: Callable[..., Ran], tmp_path: Path
) -> None:
    names = ",".join(NAMES)
    common = ("accuracy", "--bundle", world_bundle, "--data", painted, "--classes", names, "--limit", 1)
    assert f"cannot write {tmp_path}: it is a folder" in bench(*common, "--counts", tmp_path).error
    assert bench(*common, "--counts", tmp_path / "new" / "c.npz").code == 0
    assert (tmp_path / "new" / "c.npz").is_file()


def test_counts_under_other_label_values_are_not_gone_on_with(
    painted: Path, world_bundle: Path, bench: Callable[..., Ran], tmp_path: Path
) -> None:
    common = ("accuracy", "--bundle", world_bundle, "--data", painted, "--limit", 1, "--out", tmp_path)
    assert bench(*common, "--classes", "car,road,sky,tree,-").code == 0
    other = bench(*common, "--classes", "car,-,road,sky,tree")
    assert other.code == 1
    assert "dataset.values" in other.error


@pytest.mark.parametrize(
    "options", [("--data", "d" * 300, "--classes", "car"), ("--dataset", f"voc21={'d' * 300}")]
)
def test_a_folder_whose_name_is_too_long_is_one_line(
    options: tuple[str, ...], world_bundle: Path, bench: Callable[..., Ran]
) -> None:
    done = bench("accuracy", "--bundle", world_bundle, *options)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "d" * 300 in done.error


def test_counts_whose_name_is_too_long_are_one_line(bench: Callable[..., Ran]) -> None:
    done = bench("merge", "c" * 300)
    assert done.code == 1
    assert "cannot read the counts ccc" in done.error


def test_a_folder_that_may_not_be_read_is_one_line(painted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_dir", refuse)
        with pytest.raises(DataError, match=r"cannot read .*images: Permission denied; check the path"):
            benchmarks_of([], str(painted), "car,road", None, partial=False)
