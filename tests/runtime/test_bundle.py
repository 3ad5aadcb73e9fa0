"""The bundle: opened whole, or refused with the reason."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovsdino_runtime.bundle import GOLDEN, IMAGE_GRAPH, MANIFEST, VOCABULARY, Bundle
from ovsdino_runtime.bundle_writing import new_bundle, require_revisable, revised_bundle
from ovsdino_runtime.embeddings import EmbeddingSet, EmbeddingTable
from ovsdino_runtime.errors import BundleError, OutputError
from ovsdino_runtime.files import atomic_file, atomic_folder, sha256_of
from ovsdino_runtime.manifest import Manifest

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_the_tiny_bundle_computes_what_its_golden_file_says(
    tiny_bundle: Path, tiny_features: Features
) -> None:
    import onnxruntime

    bundle = Bundle.open(tiny_bundle)
    with np.load(bundle.file(GOLDEN), allow_pickle=False) as golden:
        windows, features = golden["windows"], golden["features"]
    session = onnxruntime.InferenceSession(str(bundle.file(IMAGE_GRAPH)), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {bundle.manifest.image_input.name: windows})
    np.testing.assert_allclose(found, features, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(tiny_features(windows), features, atol=1e-6)


def test_an_area_of_a_class_colour_scores_one_with_that_class_and_less_with_all_others(
    tiny_bundle: Path, tiny_colours: Mapping[str, tuple[int, int, int]], tiny_features: Features
) -> None:
    table = Bundle.open(tiny_bundle).embeddings()
    for name, colour in tiny_colours.items():
        window = np.broadcast_to(np.array(colour, dtype=np.uint8), (1, 28, 28, 3))
        scores = table.embeddings @ tiny_features(window)[0, :, 0, 0]
        assert table.names[int(np.argmax(scores))] == name
        assert np.sort(scores)[-1] > 0.9999
        assert np.sort(scores)[-2] < 0.99


def test_a_manifest_is_the_same_after_being_written_and_read(tiny_bundle: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    assert Manifest.from_json(manifest.to_json(), "here") == manifest


def test_every_file_but_the_manifest_is_named_with_its_size_and_hash(tiny_bundle: Path) -> None:
    found = {path.name for path in tiny_bundle.iterdir()} - {MANIFEST}
    files = Bundle.open(tiny_bundle).manifest.files
    assert set(files) == found
    for name, entry in files.items():
        assert entry.bytes == (tiny_bundle / name).stat().st_size
        assert entry.sha256 == sha256_of(tiny_bundle / name)


def test_what_is_no_folder_or_has_no_manifest_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, found in (
        ("nothing", "found nothing"),
        ("file", "found a file"),
        (".", "has no manifest.json"),
    ):
        with pytest.raises(BundleError, match=found):
            Bundle.open(tmp_path / name)


@pytest.mark.parametrize("name", [IMAGE_GRAPH, VOCABULARY, GOLDEN])
def test_a_file_that_changed_shrank_or_vanished_is_named(copied: Path, name: str) -> None:
    contents = (copied / name).read_bytes()
    (copied / name).write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    with pytest.raises(BundleError, match=f"{name} has changed"):
        Bundle.open(copied)
    (copied / name).write_bytes(contents[:-1])
    with pytest.raises(BundleError, match=f"{name} has {len(contents) - 1} bytes"):
        Bundle.open(copied)
    (copied / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.open(copied)


def test_a_link_out_of_the_bundle_is_refused_though_its_contents_are_right(
    copied: Path, tmp_path: Path
) -> None:
    (copied / GOLDEN).rename(tmp_path / "elsewhere")
    (copied / GOLDEN).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle.open(copied)


def change(bundle: Path, **changes: object) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 2}, "schema 2.*reads up to 1"),
        ({"schema": "1"}, "no schema version"),
        ({"schema": None}, "no schema version"),
        ({"window_px": 0}, "window_px is 0"),
        ({"stride_px": "224"}, "stride_px is '224'"),
        ({"score_scale": None}, "score_scale is no finite number"),
        ({"grid_hw": [4]}, "no complete manifest"),
        ({"grid_hw": [4, 4.5]}, "two whole numbers"),
        ({"schema": 0}, "no schema version"),
        ({"name": 5}, "name is no text"),
        ({"templates": "a {}."}, "no complete manifest"),
        ({"templates": ["a photo"]}, "exactly one"),
        ({"stride_px": 29}, "leaves gaps"),
        ({"short_side_px": 200}, "longer than the long side"),
        ({"short_side_px": 10**6, "long_side_px": 10**6}, "short_side_px is 1000000"),
        ({"backbone": {}}, "no complete manifest"),
        ({"files": {}}, "ships no image.onnx"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    copied: Path, changes: dict[str, object], reason: str
) -> None:
    change(copied, **changes)
    with pytest.raises(BundleError, match=reason):
        Bundle.open(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\x00", "{}"])
def test_a_manifest_that_is_no_object_of_json_is_refused(copied: Path, text: str) -> None:
    (copied / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.open(copied)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=JSON)
def test_a_manifest_with_any_value_changed_opens_or_is_refused_in_one_line(
    copied: Path, data: st.DataObject, value: Any
) -> None:
    original = (copied / MANIFEST).read_text()
    manifest = json.loads(original)
    inner = data.draw(
        st.sampled_from([manifest, manifest["files"], manifest["files"][GOLDEN], manifest["backbone"]])
    )
    inner[data.draw(st.sampled_from(sorted(inner)) | st.text(max_size=5))] = value
    (copied / MANIFEST).write_text(json.dumps(manifest))
    refusal = None
    try:
        Bundle.open(copied)
    except BundleError as error:
        refusal = str(error)
    finally:
        (copied / MANIFEST).write_text(original)
    assert refusal is None or refusal.count("\n") == 0


@pytest.mark.parametrize("name", ["", ".", "a\0b", "a" * 5000, "\ud800", "none.bin"])
def test_a_manifest_that_names_what_cannot_be_a_file_of_the_bundle_is_refused(
    copied: Path, name: str
) -> None:
    files = json.loads((copied / MANIFEST).read_text())["files"]
    change(copied, files=files | {name: {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(BundleError):
        Bundle.open(copied)


def test_a_manifest_nested_beyond_reason_is_refused(copied: Path) -> None:
    (copied / MANIFEST).write_text("[" * 100_000)
    with pytest.raises(BundleError, match="not JSON"):
        Bundle.open(copied)


def test_a_bundle_that_fails_to_be_written_leaves_the_earlier_one(copied: Path) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    manifest = Bundle.open(copied).manifest

    def fail(staged: Path) -> None:
        (staged / IMAGE_GRAPH).write_bytes(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError), new_bundle(copied, manifest) as staged:
        fail(staged)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_a_new_bundle_replaces_an_earlier_one_whole(copied: Path) -> None:
    manifest = Bundle.open(copied).manifest
    (copied / "engines").mkdir()
    graph, table = (copied / IMAGE_GRAPH).read_bytes(), (copied / VOCABULARY).read_bytes()
    with new_bundle(copied, manifest) as staged:
        (staged / IMAGE_GRAPH).write_bytes(graph)
        (staged / VOCABULARY).write_bytes(table)
    assert sorted(path.name for path in copied.iterdir()) == sorted([IMAGE_GRAPH, MANIFEST, VOCABULARY])
    assert Bundle.open(copied).embeddings().names


def test_a_new_bundle_takes_nobodys_other_files(copied: Path) -> None:
    manifest = Bundle.open(copied).manifest
    (copied / "photos").mkdir()
    with (
        pytest.raises(OutputError, match=r"holds photos, .* would be lost; move it"),
        new_bundle(copied, manifest),
    ):
        pass
    assert (copied / "photos").is_dir()


def test_a_damaged_bundle_may_be_written_anew(copied: Path) -> None:
    manifest = Bundle.open(copied).manifest
    (copied / MANIFEST).write_text("{")
    with new_bundle(copied, manifest) as staged:
        (staged / IMAGE_GRAPH).write_bytes(b"graph")
    assert (copied / IMAGE_GRAPH).read_bytes() == b"graph"


def test_a_folder_that_is_no_bundle_is_never_replaced(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    manifest = Bundle.open(tiny_bundle).manifest
    with pytest.raises(OutputError, match="no bundle"), new_bundle(tmp_path, manifest):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "three years"


def test_an_embedding_table_is_the_same_after_being_written_and_read(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 5))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    sets = {
        "a": EmbeddingSet(names=("car", "wall-brick"), embeddings=vectors[:2]),
        "b": EmbeddingSet(names=("car",), embeddings=vectors[2:]),
    }
    table = EmbeddingTable.from_sets(sets, trained=["car"])
    table.save(tmp_path / "table.npz")
    read = EmbeddingTable.load(tmp_path / "table.npz")
    assert read.names == ("car", "wall-brick")
    mean = vectors[0] + vectors[2]
    np.testing.assert_allclose(read.embeddings[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_array_equal(read.trained, [True, False])
    for key, item in sets.items():
        assert read.sets[key].names == item.names
        np.testing.assert_array_equal(read.sets[key].embeddings, item.embeddings)


@pytest.mark.parametrize("contents", [b"", b"PK\x03\x04 broken", b"text"])
def test_a_broken_embedding_table_is_refused(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "table.npz").write_bytes(contents)
    with pytest.raises(BundleError, match="no embedding table"):
        EmbeddingTable.load(tmp_path / "table.npz")


@pytest.mark.parametrize("own", [np.eye(3, 4)[:2], np.eye(3, 5), 2 * np.eye(3, 4)])
def test_a_vocabulary_of_a_table_with_other_vectors_is_refused(tmp_path: Path, own: np.ndarray) -> None:
    vectors = np.eye(3, 4, dtype=np.float32)
    names = ("car", "road", "sky")
    table = EmbeddingTable.from_sets({"a": EmbeddingSet(names=names, embeddings=vectors)}, trained=names)
    table.sets["a"] = EmbeddingSet(names=names, embeddings=own.astype(np.float32))  # type: ignore[index]
    table.save(tmp_path / "table.npz")
    with pytest.raises(BundleError, match="unit norm"):
        EmbeddingTable.load(tmp_path / "table.npz")


def test_a_bundle_that_may_not_be_entered_is_one_line(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(BundleError, match=f"cannot read the bundle {copied}: Permission denied; check"):
        Bundle.open(copied)


@pytest.mark.parametrize("fill", [0.0, 2.0, np.nan])
def test_embeddings_that_are_not_of_unit_norm_are_refused(tmp_path: Path, fill: float) -> None:
    with (tmp_path / "table.npz").open("wb") as file:
        np.savez(
            file,
            names=np.array(["car"]),
            embeddings=np.full((1, 4), fill, dtype=np.float32),
            trained=np.array([True]),
        )
    with pytest.raises(BundleError, match="unit norm"):
        EmbeddingTable.load(tmp_path / "table.npz")


def test_what_is_written_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with atomic_folder(tmp_path / "folder") as staged:
            (staged / "private").touch(mode=0o600)
        with atomic_file(tmp_path / "file") as path:
            path.write_text("x")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("folder", "folder/private", "file")]
    assert modes == [0o755, 0o644, 0o644]


def test_many_threads_that_write_leave_the_umask_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            for name in pool.map(lambda number: _written(tmp_path / f"{number}"), range(200)):
                assert name.stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def _written(path: Path) -> Path:
    with atomic_file(path) as staged:
        staged.write_text("x")
    return path


def test_a_file_system_that_knows_no_permissions_keeps_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refused)
    with atomic_folder(tmp_path / "folder") as staged:
        (staged / "file").write_text("x")
    assert _written(tmp_path / "file").read_text() == (tmp_path / "folder" / "file").read_text() == "x"


def test_a_revised_bundle_has_the_old_files_the_new_ones_and_the_engines_of_the_device(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (folder / "engines").mkdir()
    (folder / "engines" / "a.engine").write_bytes(b"plan")
    opened = Bundle.open(folder)
    with revised_bundle(opened, precisions={"fp16": {"casts": 3}}) as staged:
        (staged / "new.bin").write_bytes(b"new")
    found = Bundle.open(folder)
    assert found.manifest.precisions == {"fp16": {"casts": 3}}
    assert set(found.manifest.files) == {*opened.manifest.files, "new.bin"}
    assert (folder / "engines" / "a.engine").read_bytes() == b"plan"
    with revised_bundle(found, without=["new.bin"]):
        pass
    assert not (folder / "new.bin").exists()
    assert set(Bundle.open(folder).manifest.files) == set(opened.manifest.files)


def test_a_revision_leaves_alone_what_people_keep_in_the_folder(tmp_path: Path, tiny_bundle: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (folder / "photos" / "raw").mkdir(parents=True)
    (folder / "photos" / "raw" / "a.jpg").write_bytes(b"jpeg")
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o700)
    (folder / "new.bin").write_bytes(b"older")
    (folder / "latest").symlink_to("photos")
    opened = Bundle.open(folder)
    with revised_bundle(opened) as staged:
        (staged / "new.bin").write_bytes(b"new")
    assert (folder / "photos" / "raw" / "a.jpg").read_bytes() == b"jpeg"
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o700
    assert (folder / "latest").readlink() == Path("photos")
    assert set(Bundle.open(folder).manifest.files) == {*opened.manifest.files, "new.bin"}


def test_two_revisions_at_once_both_stay(tmp_path: Path, tiny_bundle: Path) -> None:
    opened = Bundle.open(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    with revised_bundle(opened, precisions={"fp16": {"casts": 3}}) as outer:
        (outer / "fp16.bin").write_bytes(b"new")
        with revised_bundle(opened, precisions={"int8": {"casts": 3}}) as inner:
            (inner / "int8.bin").write_bytes(b"new")
    found = Bundle.open(opened.path).manifest
    assert set(found.precisions) == {"fp16", "int8"}
    assert set(found.files) == {*opened.manifest.files, "fp16.bin", "int8.bin"}


def test_a_revision_of_a_bundle_that_was_replaced_meanwhile_is_refused(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    opened = Bundle.open(folder)
    with revised_bundle(opened, without=(IMAGE_GRAPH,)) as staged:
        (staged / IMAGE_GRAPH).write_bytes(b"another")
    with pytest.raises(OutputError, match="replaced by another bundle meanwhile"), revised_bundle(opened):
        pass


def test_a_bundle_that_cannot_be_written_to_is_refused_before_minutes_are_spent(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    require_revisable(bundle, "image.fp16.onnx")
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(OutputError, match=r"image\.fp16\.onnx is to be derived for .* cannot be written to"):
        require_revisable(bundle, "image.fp16.onnx")


def test_a_revised_bundle_opens_at_every_moment(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, link = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")), tmp_path / "current"
    link.symlink_to("bundle")
    with revised_bundle(Bundle.open(link)) as staged:
        (staged / "extra.bin").write_bytes(b"first")
    seen: list[bool] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        done = replace(self, target)
        seen.append(Bundle.open(folder).has("extra.bin"))
        return done

    monkeypatch.setattr(Path, "replace", watched)
    with revised_bundle(Bundle.open(link)) as staged:
        (staged / "extra.bin").write_bytes(b"second")
    assert seen == [False, False, True]  # let go, placed, listed
    assert (folder / "extra.bin").read_bytes() == b"second"
    assert link.is_symlink()
    assert not list(folder.glob(".*"))


def test_an_interrupted_swap_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target == tmp_path / "folder" and (self / "new").exists():
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder") as staged:
        (staged / "new").write_text("new")
    assert [item.name for item in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "old").read_text() == "old"


def test_a_revision_that_fails_changes_nothing(tmp_path: Path, tiny_bundle: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (folder / "image.onnx").chmod(0o600)
    before = {item: (item.read_bytes(), item.stat().st_mode) for item in folder.iterdir()}

    def fail() -> None:
        with revised_bundle(Bundle.open(folder)) as staged:
            (staged / "new.bin").write_bytes(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {item: (item.read_bytes(), item.stat().st_mode) for item in folder.iterdir()} == before
    assert [item.name for item in tmp_path.iterdir()] == ["bundle"]


def test_a_manifest_without_further_precisions_reads_and_one_of_nonsense_does_not(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["precisions"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert Bundle.open(folder).manifest.precisions == {}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "precisions": {"fp16": 3}}))
    with pytest.raises(BundleError, match="precisions is no table"):
        Bundle.open(folder)
