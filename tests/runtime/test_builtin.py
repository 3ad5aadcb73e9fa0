"""The bundle that serves where none is named."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovsdino_runtime import builtin
from ovsdino_runtime.builtin import command_on, derived_folder, open_bundle, terms
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.engines import build_command
from ovsdino_runtime.errors import BundleError, OutputError

Run = Callable[..., Any]  # returns the `Ran` of conftest.py


@pytest.fixture
def installed(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose built-in bundle is the tiny one, and a user with a cache."""
    folder = tmp_path / "package" / "tiny"
    shutil.copytree(tiny_bundle, folder)
    monkeypatch.setattr(builtin, "BUILT_IN", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_the_run_takes_it_and_says_so(
    installed: Path, ovsdino_run: Run, paint: Callable[..., Path], tmp_path: Path
) -> None:
    ran = ovsdino_run(paint(tmp_path / "a.png"), "--classes", "cars,road", "--out", tmp_path / "out")
    assert ran.code == 0
    first, second = ran.err.splitlines()
    assert first == f"note: {terms(Bundle.open(installed))}"
    assert "built-in tiny-colours (weights: none)" in first  # of "none: made by the tests"
    assert "--bundle DIR" in first
    assert "'cars' -> car" in second
    named = ovsdino_run(
        paint(tmp_path / "a.png"), "--classes", "car", "--out", tmp_path / "out", "--bundle", installed
    )
    assert "built-in" not in named.err


def test_the_note_on_the_model_inside_the_package_is_one_line_with_its_terms_once() -> None:
    note = terms(Bundle.open(builtin.BUILT_IN))
    assert len(f"note: {note}") <= 130
    assert "\n" not in note
    assert "built-in ovsdino-nano" in note
    assert note.count("research and evaluation only") == 1
    assert "--bundle DIR" in note


def test_what_is_wrong_with_the_input_is_said_without_a_word_on_the_model(
    installed: Path, ovsdino_run: Run, paint: Callable[..., Path], tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "out")
    for words in (
        (tmp_path / "missing.png", "--classes", "cars", *out),
        (paint(tmp_path / "a.png"), "--classes", "nonsense", *out),
    ):
        ran = ovsdino_run(*words)
        assert (ran.code, len(ran.errors)) == (1, 1)
        assert ran.err.startswith("error: ")
    mixed = ovsdino_run(tmp_path / "missing.png", tmp_path / "a.png", "--classes", "car", *out)
    assert [line.partition(":")[0] for line in mixed.errors] == ["error", "note", "error"]


def test_the_document_names_it(
    installed: Path, ovsdino_run: Run, paint: Callable[..., Path], tmp_path: Path
) -> None:
    ran = ovsdino_run(paint(tmp_path / "a.png"), "--classes", "car", "--json", "--out", tmp_path / "out")
    assert json.loads(ran.out)["bundle"]["path"] == str(installed)


def test_what_is_derived_goes_into_a_copy_that_then_serves(
    installed: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    assert open_bundle(None).path == installed
    assert build_command(open_bundle(None)) == "ovsdino-export trt --fp16"
    foretold = derived_folder(open_bundle(None))
    copy = open_bundle(None, to_write=True)
    assert foretold == derived_folder(copy) == copy.path
    assert copy.path.is_relative_to(tmp_path / "cache" / "ovsdino")
    assert copy.manifest == Bundle.open(installed).manifest
    assert open_bundle(None).path == copy.path == open_bundle(None, to_write=True).path
    assert build_command(copy) == "ovsdino-export trt --fp16"
    assert open_bundle(installed).path == installed
    assert derived_folder(Bundle.open(tiny_bundle)) == tiny_bundle
    assert command_on(open_bundle(installed), "see") == f"see {installed}"


def test_a_folder_with_spaces_is_quoted_in_commands(tiny_bundle: Path, tmp_path: Path) -> None:
    named = tmp_path / "my bundle"
    shutil.copytree(tiny_bundle, named)
    assert command_on(Bundle.open(named), "ovsdino-export fp16") == f"ovsdino-export fp16 '{named}'"


def test_a_copy_of_another_version_does_not_serve(installed: Path) -> None:
    open_bundle(None, to_write=True)
    manifest = json.loads((installed / "manifest.json").read_text())
    (installed / "manifest.json").write_text(json.dumps({**manifest, "name": "newer"}))
    assert open_bundle(None).path == installed
    assert open_bundle(None, to_write=True).manifest.name == "newer"


def test_damaged_files_are_not_copied(installed: Path, tmp_path: Path) -> None:
    (installed / "image.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"image\.onnx has 0 bytes"):
        open_bundle(None, to_write=True)
    assert not list(tmp_path.glob("cache/**/*.onnx"))


def test_of_two_that_copy_at_once_the_first_one_s_copy_stays(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = shutil.copytree

    def slow(source: Path, target: Path) -> Path:
        if target.parent.name.startswith(
            "."
        ):  # ours; meanwhile the other one is done, and has built an engine
            with monkeypatch.context() as patch:
                patch.setattr(shutil, "copytree", copied)
                other = open_bundle(None, to_write=True)
            (other.path / "engines").mkdir()
        return Path(copied(source, target))

    monkeypatch.setattr(shutil, "copytree", slow)
    assert (open_bundle(None, to_write=True).path / "engines").is_dir()
    assert not list(open_bundle(None).path.parent.glob(".*"))


@pytest.mark.parametrize("emptied", [False, True])
def test_a_damaged_copy_is_to_be_removed(installed: Path, emptied: bool) -> None:
    copy = open_bundle(None, to_write=True).path
    (copy / "manifest.json").unlink()
    if emptied:
        shutil.rmtree(copy)
        copy.mkdir()
    with pytest.raises(BundleError, match=rf"copy of the built-in model at {copy} .*remove that folder"):
        open_bundle(None)


def test_an_installation_without_it_says_what_to_do(installed: Path) -> None:
    shutil.rmtree(installed)
    with pytest.raises(BundleError, match=r"lacks the built-in one .* install the package again, or name a"):
        open_bundle(None)


def test_without_a_place_for_the_copy_it_serves_but_nothing_is_derived(
    installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert open_bundle(None).path == installed
    with pytest.raises(OutputError, match=r"cannot copy the built-in model .*XDG_CACHE_HOME"):
        open_bundle(None, to_write=True)
    monkeypatch.setattr(builtin, "user_cache", lambda: None)
    assert open_bundle(None).path == installed
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        open_bundle(None, to_write=True)


def test_a_cache_of_somebody_else_is_no_place_for_the_copy(
    installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("is_dir", "mkdir"):
        original = getattr(Path, name)
        monkeypatch.setattr(Path, name, functools.partialmethod(_forbidden, original, tmp_path / "cache"))
    assert open_bundle(None).path == installed
    with pytest.raises(
        OutputError, match=r"cannot copy the built-in model .*Permission denied.*XDG_CACHE_HOME"
    ):
        open_bundle(None, to_write=True)


def _forbidden(
    self: Path, original: Callable[..., bool], closed: Path, *arguments: object, **options: object
) -> bool:
    """Do what a method of a path does, but in a folder that may not be entered."""
    if closed in self.parents:
        raise PermissionError(13, "Permission denied", str(self))
    return original(self, *arguments, **options)
