"""The bundle that serves where none is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovsdino_runtime import builtin
from ovsdino_runtime.builtin import built_in_bundle, open_bundle, terms, writable_built_in
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
    assert "the small built-in tiny-colours serves (its weights: none: made by the tests)" in first
    assert "--bundle DIR" in first
    assert "'cars' -> car" in second
    named = ovsdino_run(
        paint(tmp_path / "a.png"), "--classes", "car", "--out", tmp_path / "out", "--bundle", installed
    )
    assert "built-in" not in named.err


def test_the_document_names_it(
    installed: Path, ovsdino_run: Run, paint: Callable[..., Path], tmp_path: Path
) -> None:
    ran = ovsdino_run(paint(tmp_path / "a.png"), "--classes", "car", "--json", "--out", tmp_path / "out")
    assert json.loads(ran.out)["bundle"]["path"] == str(installed)


def test_what_is_derived_goes_into_a_copy_that_then_serves(installed: Path, tmp_path: Path) -> None:
    assert built_in_bundle().path == installed
    copy = writable_built_in()
    assert copy.path.is_relative_to(tmp_path / "cache" / "ovsdino")
    assert copy.manifest == Bundle.open(installed).manifest
    assert built_in_bundle().path == copy.path == writable_built_in().path
    assert open_bundle(None).path == copy.path
    assert open_bundle(installed).path == installed
    assert build_command(copy) == build_command(open_bundle(installed)) == "ovsdino-export trt --fp16"


def test_a_copy_of_another_version_does_not_serve(installed: Path) -> None:
    writable_built_in()
    manifest = json.loads((installed / "manifest.json").read_text())
    (installed / "manifest.json").write_text(json.dumps({**manifest, "name": "newer"}))
    assert built_in_bundle().path == installed
    assert writable_built_in().manifest.name == "newer"


def test_damaged_files_are_not_copied(installed: Path, tmp_path: Path) -> None:
    (installed / "image.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"image\.onnx has 0 bytes"):
        writable_built_in()
    assert not list(tmp_path.glob("cache/**/*.onnx"))


def test_an_installation_without_it_says_what_to_do(installed: Path) -> None:
    shutil.rmtree(installed)
    with pytest.raises(BundleError, match=r"lacks the built-in one .* install the package again, or name a"):
        built_in_bundle()


def test_without_a_cache_it_serves_but_nothing_is_derived(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "user_cache", lambda: None)
    assert built_in_bundle().path == installed
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        writable_built_in()
