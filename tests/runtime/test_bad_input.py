"""Whatever a person gets wrong ends in one line, exit status 1, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ovsdino_runtime import batch
from ovsdino_runtime.bundle import IMAGE_GRAPH, MANIFEST
from ovsdino_runtime.vocabulary import vocabularies

Run = Callable[..., Any]  # returns the `Ran` of conftest.py


def missing(path: Path) -> None:
    assert not path.exists()


def empty(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def no_picture(path: Path) -> None:
    path.write_text("a\nb\n" * 99)


def bomb(path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)


def floats(path: Path) -> None:
    Image.new("F", (9, 9)).save(path, "TIFF")


BROKEN = {
    missing: "there is no such file",
    empty: "the file is empty",
    truncated: "truncated or damaged",
    no_picture: "no JPEG, PNG, WebP, TIFF or BMP",
    bomb: "50000 x 50000 = 2,500,000,000 pixels",
    floats: "floating-point",
}


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("make", "reason"), BROKEN.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_a_broken_picture_is_one_line_and_leaves_nothing(
    make: Callable[[Path], None], reason: str, ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    make(tmp_path / "broken.png")
    ran = ovsdino_run(
        tmp_path / "broken.png", "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out"
    )
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert ran.err.startswith("error: ")
    assert str(tmp_path / "broken.png") in ran.err
    assert reason in ran.err
    assert ran.out == ""
    assert files_in(tmp_path / "out") == []


@pytest.mark.parametrize(("make", "reason"), BROKEN.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_the_other_pictures_of_a_batch_are_done_and_the_failures_counted(
    make: Callable[[Path], None],
    reason: str,
    ovsdino_run: Run,
    paint: Callable[..., Path],
    tiny_bundle: Path,
    tmp_path: Path,
) -> None:
    pictures = [paint(tmp_path / "a.png"), tmp_path / "broken.png", paint(tmp_path / "c.png")]
    make(pictures[1])
    ran = ovsdino_run(*pictures, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert ran.code == 1
    assert len(ran.errors) == 2
    assert reason in ran.errors[0]
    assert ran.errors[1] == "error: 1 of 3 failed; the others are done"
    assert files_in(tmp_path / "out") == [
        "a.png.labels.png",
        "a.png.overlay.png",
        "c.png.labels.png",
        "c.png.overlay.png",
    ]


def test_programs_are_told_of_a_broken_picture_in_the_document(
    ovsdino_run: Run, paint: Callable[..., Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    empty(tmp_path / "broken.jpg")
    pictures = [tmp_path / "broken.jpg", paint(tmp_path / "a.png"), tmp_path / "nowhere"]
    ran = ovsdino_run(
        *pictures, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out", "--json"
    )
    document = json.loads(ran.out)
    assert ran.code == 1
    assert document["failures"] == 2
    assert [image["file"] for image in document["images"]] == [str(path) for path in pictures]
    assert ["error" in image for image in document["images"]] == [True, False, True]
    assert document["images"][0]["error"] in ran.err


def test_max_pixels_refuses_what_is_larger(
    ovsdino_run: Run, paint: Callable[..., Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    picture = paint(tmp_path / "a.png")  # 56 x 56
    given = (picture, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out", "--max-pixels")
    assert ovsdino_run(*given, 56 * 56).code == 0
    ran = ovsdino_run(*given, 56 * 56 - 1)
    assert ran.code == 1
    assert "56 x 56 = 3,136 pixels, more than the 3,135 allowed" in ran.err


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 5000), (5000, 1)])
def test_the_thinnest_pictures_are_segmented(
    size_hw: tuple[int, int], ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    Image.new("RGB", size_hw[::-1], (220, 20, 20)).save(tmp_path / "thin.png")
    ran = ovsdino_run(
        tmp_path / "thin.png", "--classes", "car,road", "--bundle", tiny_bundle, "--out", tmp_path / "out"
    )
    assert (ran.code, ran.err) == (0, "")
    with Image.open(tmp_path / "out" / "thin.png.labels.png") as labels:
        assert labels.size == size_hw[::-1]
    with Image.open(tmp_path / "out" / "thin.png.overlay.png") as overlay:
        assert overlay.width >= min(size_hw[1], 4096)
        assert overlay.height >= min(size_hw[0], 4096)


def refused(
    ovsdino_run: Run, tmp_path: Path, *options: object, picture: Path | None = None, json_too: bool = True
) -> str:
    """Run on a good picture; return the one line that must come of it, having seen that nothing else does."""
    if picture is None:
        picture = tmp_path / "good.png"
        Image.new("RGB", (56, 56), (220, 20, 20)).save(picture)
    out = () if "--out" in options else ("--out", tmp_path / "out")
    ran = ovsdino_run(picture, *options, *out)
    assert ran.code == 1
    assert ran.out == ""
    assert len(ran.errors) == 1
    assert ran.err.startswith("error: ")
    assert not (tmp_path / "out").exists()
    if json_too:
        again = ovsdino_run(picture, *options, *out, "--json")
        assert (again.code, again.err) == (1, ran.err)
        assert f"error: {json.loads(again.out)['error']}\n" == ran.err
    return ran.err


def test_of_an_unknown_class_the_nearest_names_are_offered(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    line = refused(ovsdino_run, tmp_path, "--classes", "car,sidewlak", "--bundle", tiny_bundle)
    assert "'sidewlak' (nearest: sidewalk)" in line
    assert "`ovsdino-run --list-classes`" in line


def test_what_is_far_from_every_name_gets_no_far_fetched_advice(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    line = refused(ovsdino_run, tmp_path, "--classes", "car,unicorn", "--bundle", tiny_bundle)
    assert "'unicorn' (nothing is near it)" in line


def test_classes_without_commas_are_told_apart(ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    words = "car traffic sign roads"
    line = refused(ovsdino_run, tmp_path, "--classes", words, "--bundle", tiny_bundle)
    assert f"'{words}' (separate classes by commas: car,traffic sign,roads)" in line


@pytest.mark.parametrize("words", [("car", "road", "sky"), ("car,", "road,", "sky")])
def test_classes_that_the_shell_has_split_are_no_pictures(
    words: tuple[str, ...], ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    line = refused(ovsdino_run, tmp_path, "--classes", *words, "--bundle", tiny_bundle)
    assert "no picture or folder is called road or sky" in line
    assert '--classes "car,road,sky"' in line


def test_a_folder_that_is_missing_is_not_taken_for_a_class(
    ovsdino_run: Run, paint: Callable[..., Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    ran = ovsdino_run(
        "photoz", paint(tmp_path / "a.png"), "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path
    )
    assert "cannot read photoz: there is no such file" in ran.errors[0]
    assert ran.errors[1] == "error: 1 of 2 failed; the others are done"


def test_a_video_is_to_be_taken_apart_first(ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    video = tmp_path / "drive.MP4"
    video.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    ran = ovsdino_run(video, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert (ran.code, len(ran.errors)) == (1, 1)
    assert "videos are not read; extract frames" in ran.err
    assert "ffmpeg -i drive.MP4 " in ran.err


@pytest.mark.parametrize("classes", ["", ",", " , "])
def test_an_empty_class_list_is_refused(
    classes: str, ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    assert "empty" in refused(ovsdino_run, tmp_path, "--classes", classes, "--bundle", tiny_bundle)


def test_a_classes_file_that_is_missing_or_names_nothing_is_refused(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "nothing.txt").write_text("# nothing\n\n")
    for name in ("missing.txt", "nothing.txt"):
        options = ("--classes-file", tmp_path / name, "--bundle", tiny_bundle)
        assert name in refused(ovsdino_run, tmp_path, *options)


@pytest.mark.parametrize("classes", ["car,car", "car,Cars", "road,traffic_sign,traffic sign"])
def test_a_class_named_twice_is_refused(
    classes: str, ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    assert "name it once" in refused(ovsdino_run, tmp_path, "--classes", classes, "--bundle", tiny_bundle)


def test_more_classes_than_16_bits_can_number_are_refused(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"thing {i}" for i in range(65_536)))
    options = ("--classes-file", tmp_path / "many.txt", "--bundle", tiny_bundle)
    line = refused(ovsdino_run, tmp_path, *options, json_too=False)
    assert "65,536" in line
    assert "65,535" in line


def test_an_unknown_vocabulary_is_refused_and_the_known_ones_listed(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    line = refused(ovsdino_run, tmp_path, "--vocabulary", "citysapes", "--bundle", tiny_bundle)
    assert f"(nearest: cityscapes); there are {', '.join(vocabularies())}" in line
    assert "nearest" not in refused(ovsdino_run, tmp_path, "--vocabulary", "xyz", "--bundle", tiny_bundle)


@pytest.mark.parametrize("policy", ["threshold:2", "threshold:warm", "nonsense name"])
def test_a_background_policy_that_makes_no_sense_is_refused(
    policy: str, ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    options = ("--classes", "car", "--background", policy, "--bundle", tiny_bundle)
    assert policy.rsplit(":", maxsplit=1)[-1].split(maxsplit=1)[0] in refused(ovsdino_run, tmp_path, *options)


def test_an_output_folder_that_cannot_be_made_is_refused(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    options = ("--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "file" / "out")
    assert str(tmp_path / "file" / "out") in refused(ovsdino_run, tmp_path, *options)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_an_output_folder_that_cannot_be_written_to_is_refused(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    options = ("--classes", "car", "--bundle", tiny_bundle, "--out", locked)
    assert str(locked) in refused(ovsdino_run, tmp_path, *options)


@pytest.mark.parametrize("writer", ["save_labels", "save_overlay"])
def test_a_disk_that_fills_up_leaves_the_outputs_of_a_picture_whole_or_absent(
    writer: str,
    ovsdino_run: Run,
    paint: Callable[..., Path],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictures = [paint(tmp_path / name) for name in ("a.png", "b.png")]
    genuine = getattr(batch, writer)
    calls: list[Path] = []

    def full(target: Path, *arguments: object, **options: object) -> None:
        calls.append(target)
        if len(calls) == 1:
            target.write_bytes(b"half a file")
            raise OSError(28, "No space left on device")
        genuine(target, *arguments, **options)

    monkeypatch.setattr(batch, writer, full)
    ran = ovsdino_run(*pictures, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "No space left" in ran.errors[0]
    assert ran.errors[1:] == ["error: 1 of 2 failed; the others are done"]
    assert files_in(tmp_path / "out") == ["b.png.labels.png", "b.png.overlay.png"]


@pytest.mark.parametrize("kind", ["labels", "overlay"])
def test_a_folder_that_bears_an_output_s_name_is_left_alone_and_nothing_is_written_beside_it(
    kind: str, ovsdino_run: Run, paint: Callable[..., Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    picture = paint(tmp_path / "a.png")
    in_the_way = tmp_path / "out" / f"a.png.{kind}.png"
    in_the_way.mkdir(parents=True)
    ran = ovsdino_run(picture, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert ran.code == 1
    assert len(ran.errors) == 1
    assert str(in_the_way) in ran.err
    assert in_the_way.is_dir()
    assert files_in(tmp_path / "out") == []


def test_where_every_picture_fails_no_others_are_said_to_be_done(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    pictures = (tmp_path / "a.png", tmp_path / "b.png")
    ran = ovsdino_run(*pictures, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert ran.code == 1
    assert ran.errors[2:] == ["error: 2 of 2 failed"]


@pytest.fixture
def copied_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_without_a_bundle_the_line_says_how_to_make_one(ovsdino_run: Run, tmp_path: Path) -> None:
    line = refused(ovsdino_run, tmp_path, "--classes", "car", "--bundle", tmp_path / "nowhere")
    assert "nowhere" in line
    assert "ovsdino-export onnx" in line


def test_a_folder_without_manifest_is_no_bundle(
    ovsdino_run: Run, copied_bundle: Path, tmp_path: Path
) -> None:
    (copied_bundle / MANIFEST).unlink()
    line = refused(ovsdino_run, tmp_path, "--classes", "car", "--bundle", copied_bundle)
    assert "has no manifest.json" in line


def test_a_changed_file_is_noticed(ovsdino_run: Run, copied_bundle: Path, tmp_path: Path) -> None:
    graph = copied_bundle / IMAGE_GRAPH
    contents = bytearray(graph.read_bytes())
    contents[len(contents) // 2] ^= 1
    graph.write_bytes(contents)
    line = refused(ovsdino_run, tmp_path, "--classes", "car", "--bundle", copied_bundle)
    assert f"{graph} has changed" in line


def rewrite_manifest(bundle: Path, **changes: object) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | changes))


def test_a_newer_schema_asks_for_an_upgrade(ovsdino_run: Run, copied_bundle: Path, tmp_path: Path) -> None:
    rewrite_manifest(copied_bundle, schema=99)
    line = refused(ovsdino_run, tmp_path, "--classes", "car", "--bundle", copied_bundle)
    assert "schema 99" in line
    assert "upgrade ovsdino" in line


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "C:\\secret", "..\\secret"])
def test_a_manifest_that_points_outside_its_folder_is_refused(
    name: str, ovsdino_run: Run, copied_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("mine")
    manifest = json.loads((copied_bundle / MANIFEST).read_text())
    rewrite_manifest(copied_bundle, files=manifest["files"] | {name: {"sha256": "0" * 64, "bytes": 4}})
    line = refused(ovsdino_run, tmp_path, "--classes", "car", "--bundle", copied_bundle)
    assert "outside the bundle" in line


def test_a_graph_that_onnx_runtime_cannot_load_is_one_line(
    ovsdino_run: Run, copied_bundle: Path, tmp_path: Path
) -> None:
    from hashlib import sha256

    graph = b"no graph at all"
    (copied_bundle / IMAGE_GRAPH).write_bytes(graph)
    manifest = json.loads((copied_bundle / MANIFEST).read_text())
    entry = {"sha256": sha256(graph).hexdigest(), "bytes": len(graph)}
    rewrite_manifest(copied_bundle, files=manifest["files"] | {IMAGE_GRAPH: entry})
    line = refused(ovsdino_run, tmp_path, "--classes", "car", "--bundle", copied_bundle)
    assert str(copied_bundle / IMAGE_GRAPH) in line


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU here")
def test_cuda_without_a_gpu_is_refused_not_replaced(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path
) -> None:
    options = ("--classes", "car", "--bundle", tiny_bundle, "--device", "cuda")
    line = refused(ovsdino_run, tmp_path, *options)
    assert "device 'cuda' was asked for" in line
    assert "--device cpu" in line


def test_cuda_with_the_cpu_build_of_onnx_runtime_names_the_extra(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    options = ("--classes", "car", "--bundle", tiny_bundle, "--device", "cuda")
    line = refused(ovsdino_run, tmp_path, *options)
    assert "only CPUExecutionProvider" in line
    assert "ovsdino[gpu]" in line


def test_without_any_onnx_runtime_the_line_names_the_extras(
    ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    line = refused(ovsdino_run, tmp_path, "--classes", "car", "--bundle", tiny_bundle)
    assert "ovsdino[cpu]" in line
    assert "ovsdino[gpu]" in line


def test_a_folder_without_pictures_and_a_pattern_without_matches_are_counted_as_failures(
    ovsdino_run: Run, paint: Callable[..., Path], tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    picture = paint(tmp_path / "a.png")
    arguments = (tmp_path / "bare", tmp_path / "*.tif", picture)
    ran = ovsdino_run(*arguments, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "bare holds no picture" in ran.errors[0]
    assert "*.tif matches no picture" in ran.errors[1]
    assert ran.errors[2] == "error: 2 of 3 failed; the others are done"
    assert files_in(tmp_path / "out") == ["a.png.labels.png", "a.png.overlay.png"]


@pytest.mark.parametrize(
    "options",
    [(), ("--classes", "car", "--vocabulary", "voc"), ("--vocabulary", "voc", "--classes-file", "a")],
)
def test_classes_must_be_given_in_exactly_one_way(options: tuple[str, ...], ovsdino_run: Run) -> None:
    ran = ovsdino_run("a.png", *options)
    assert ran.code == 2  # a usage error
    assert "exactly one of --classes, --vocabulary, --classes-file" in ran.err


def test_a_name_too_long_for_its_outputs_does_not_stop_the_others(
    tmp_path: Path, tiny_bundle: Path, ovsdino_run: Callable[..., Any], paint: Callable[..., Path]
) -> None:
    long = paint(tmp_path / ("x" * 246 + ".png"))
    good = paint(tmp_path / "good.png")
    result = ovsdino_run(long, good, "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert result.code == 1
    assert [line.startswith("error: ") for line in result.errors] == [True, True]
    assert len(list((tmp_path / "out").iterdir())) == 2
