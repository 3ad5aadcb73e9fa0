"""`ovsdino-run` from the arguments to the files, against pictures whose labels are known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ovsdino_runtime import __version__
from ovsdino_runtime.errors import one_line
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import vocabularies, vocabulary

Run = Callable[..., Any]  # returns the `Ran` of conftest.py
Paint = Callable[..., Path]
HEAVY = ("numpy", "PIL", "cv2", "onnxruntime", "tqdm", "torch")


def labels_of(path: Path) -> NDArray[np.integer[Any]]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def run(ovsdino_run: Run, tiny_bundle: Path, tmp_path: Path) -> Run:
    """Runs with the tiny bundle and tmp_path/out."""
    return lambda *arguments: ovsdino_run(*arguments, "--bundle", tiny_bundle, "--out", tmp_path / "out")


def test_areas_in_the_colours_of_classes_get_their_labels(run: Run, paint: Paint, tmp_path: Path) -> None:
    ran = run(paint(tmp_path / "a.png", ("road", "car", "sky")), "--classes", "car,road")
    assert (ran.code, ran.err) == (0, "")
    labels = labels_of(tmp_path / "out" / "a.png.labels.png")
    assert labels.shape == (56, 84)
    # away from the boundaries, where neighbouring patches mix
    np.testing.assert_array_equal(labels[:, [7, 42, 77]], np.broadcast_to([1, 0, 2], (56, 3)))


def test_the_table_names_classes_and_shares_largest_first(run: Run, paint: Paint, tmp_path: Path) -> None:
    picture = paint(tmp_path / "a.png", ("road", "road", "car"))
    lines = run(picture, "--classes", "car,road,dog", "--background", "none").out.splitlines()
    assert lines[0].startswith(f"{picture}  84 x 56  ")
    assert lines[0].endswith(" ms  onnxruntime-cpu")
    labels = labels_of(tmp_path / "out" / "a.png.labels.png")
    shares = {1: ("road", (labels == 1).mean()), 0: ("car", (labels == 0).mean())}
    assert [line.split() for line in lines[1:3]] == [
        [str(number), name, f"{100 * share:.1f}", "%"] for number, (name, share) in shares.items()
    ]
    assert [line.split("/")[-1] for line in lines[3:]] == ["a.png.labels.png", "a.png.overlay.png"]


def test_the_document_says_what_the_files_say(
    run: Run, paint: Paint, tmp_path: Path, tiny_bundle: Path
) -> None:
    pictures = [paint(tmp_path / "a.png"), paint(tmp_path / "b.png", ("car", "tree"))]
    ran = run(*pictures, "--classes", "cars,road", "--json", "--device", "cpu")
    document = json.loads(ran.out)
    assert document["bundle"] == {
        "name": "tiny-colours", "path": str(tiny_bundle), "license": "none: made by the tests",
    }  # fmt: skip
    assert document["device"] == "onnxruntime-cpu"
    assert document["classes"] == ["car", "road", "background"]
    assert document["background_index"] == 2
    assert document["failures"] == 0
    assert len(document["notes"]) == 1
    assert [image["file"] for image in document["images"]] == [str(picture) for picture in pictures]
    for image in document["images"]:
        labels = labels_of(Path(image["outputs"]["labels"]))
        assert labels.shape == (image["height"], image["width"])
        areas = np.bincount(labels.ravel(), minlength=3).tolist()
        assert [entry["area_px"] for entry in image["classes"]] == areas
        assert [entry["area_share"] for entry in image["classes"]] == [area / labels.size for area in areas]
        assert [entry["name"] for entry in image["classes"]] == document["classes"]
        assert Path(image["outputs"]["overlay"]).is_file()
        assert image["timings_ms"]["backbone"] > 0
        assert image["timings_ms"]["total"] >= image["timings_ms"]["decode"] > 0


def test_a_name_understood_differently_is_noted_once_for_all_pictures(
    run: Run, paint: Paint, tmp_path: Path
) -> None:
    ran = run(paint(tmp_path / "a.png"), paint(tmp_path / "b.png"), "--classes", "cars,dog")
    notes = [line for line in ran.errors if line.startswith("note: ")]
    assert len(notes) == len(ran.errors) == 2
    assert "cars" in notes[0]
    assert "car" in notes[0].split("cars", 1)[1]
    assert notes[1] == "note: not among the training classes: dog"


def test_a_class_with_synonyms_takes_the_pixels_of_all_of_them(
    run: Run, paint: Paint, tmp_path: Path
) -> None:
    run(paint(tmp_path / "a.png", ("car", "bus", "road")), "--classes", "vehicle=car|bus,road", "--json")
    labels = labels_of(tmp_path / "out" / "a.png.labels.png")
    assert (labels[:, :28] == 0).all()
    np.testing.assert_array_equal(labels[0, [7, 42, 77]], [0, 0, 1])


@pytest.mark.parametrize(
    ("policy", "names", "expected"),
    [
        ("auto", ["car", "road", "background"], [0, 1, 2]),
        ("none", ["car", "road"], None),
        ("list", ["car", "road", "background"], [0, 1, 2]),
        ("sky", ["car", "road", "background"], [0, 1, 2]),
        ("threshold:0.95", ["car", "road", "background"], [0, 1, 2]),
    ],
)
def test_each_background_policy_decides_what_the_sky_becomes(
    policy: str, names: list[str], expected: list[int] | None, run: Run, paint: Paint, tmp_path: Path
) -> None:
    picture = paint(tmp_path / "a.png", ("car", "road", "sky"))
    ran = run(picture, "--classes", "car,road", "--background", policy, "--json")
    assert json.loads(ran.out)["classes"] == names
    found = labels_of(tmp_path / "out" / "a.png.labels.png")[28, [7, 42, 77]]
    if expected is None:
        assert found[2] in (0, 1)
    else:
        np.testing.assert_array_equal(found, expected)


def test_a_classes_file_does_what_the_same_list_does(run: Run, paint: Paint, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("# street\nroad\n\ncar  # red\n")
    picture = paint(tmp_path / "a.png")
    run(picture, "--classes", "road,car")
    expected = labels_of(tmp_path / "out" / "a.png.labels.png")
    assert run(picture, "--classes-file", tmp_path / "classes.txt").code == 0
    np.testing.assert_array_equal(labels_of(tmp_path / "out" / "a.png.labels.png"), expected)


def colours_for(names: list[str]) -> dict[str, tuple[int, int, int]]:
    """Different colours, far apart."""
    levels = (10, 70, 130, 190, 250)
    grid = [(r, g, b) for r in levels for g in levels for b in levels]
    return {name: grid[i * len(grid) // len(names)] for i, name in enumerate(names)}


def test_a_whole_vocabulary_is_asked_for_by_its_name(
    ovsdino_run: Run,
    write_tiny_bundle: Callable[[Path, Mapping[str, tuple[int, int, int]]], Path],
    tmp_path: Path,
) -> None:
    queries = vocabulary("camvid").queries
    colours = colours_for([prompt for query in queries for prompt in query.prompts])
    bundle = write_tiny_bundle(tmp_path / "bundle", colours)
    Image.new("RGB", (40, 40), colours[queries[3].prompts[0]]).save(tmp_path / "a.png")
    ran = ovsdino_run(
        tmp_path / "a.png", "--vocabulary", "CamVid", "--bundle", bundle, "--out", tmp_path / "out", "--json"
    )
    document = json.loads(ran.out)
    assert document["classes"] == [query.label for query in queries]  # and no background
    assert document["background_index"] is None
    assert (labels_of(tmp_path / "out" / "a.png.labels.png") == 3).all()


def test_beyond_256_classes_label_files_have_16_bits(
    ovsdino_run: Run,
    write_tiny_bundle: Callable[[Path, Mapping[str, tuple[int, int, int]]], Path],
    tmp_path: Path,
) -> None:
    levels = range(0, 256, 36)  # 8 x 8 x 8
    grid = [(r, g, b) for r in levels for g in levels for b in levels][:300]
    names = [f"kind {i}" for i in range(300)]
    bundle = write_tiny_bundle(tmp_path / "bundle", dict(zip(names, grid, strict=True)))
    (tmp_path / "classes.txt").write_text("\n".join(names))
    Image.new("RGB", (40, 40), grid[290]).save(tmp_path / "a.png")
    ran = ovsdino_run(
        tmp_path / "a.png",
        "--classes-file",
        tmp_path / "classes.txt",
        "--background",
        "none",
        "--bundle",
        bundle,
        "--out",
        tmp_path / "out",
    )
    assert ran.code == 0
    labels = labels_of(tmp_path / "out" / "a.png.labels.png")
    assert labels.dtype == np.uint16
    assert (labels == 290).all()


def test_scores_have_the_labels_as_their_argmax(run: Run, paint: Paint, tmp_path: Path) -> None:
    run(paint(tmp_path / "a.png", ("car", "road", "sky")), "--classes", "car,road", "--scores")
    with np.load(tmp_path / "out" / "a.png.scores.npz", allow_pickle=False) as data:
        scores, names = data["scores"], data["names"].tolist()
    assert names == ["car", "road", "background"]
    assert scores.shape == (3, 56, 84)
    assert np.abs(scores).max() <= 1.0001
    labels = labels_of(tmp_path / "out" / "a.png.labels.png")
    margin = np.diff(np.sort(scores, axis=0)[-2:], axis=0)[0]
    np.testing.assert_array_equal(scores.argmax(axis=0)[margin > 1e-5], labels[margin > 1e-5])


def test_scores_of_an_earlier_run_do_not_stay_beside_labels_they_do_not_belong_to(
    run: Run, paint: Paint, tmp_path: Path
) -> None:
    picture, other = paint(tmp_path / "a.png"), paint(tmp_path / "b.png")
    run(picture, other, "--classes", "car,road", "--scores")
    assert run(picture, "--classes", "road,sky,car").code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npz")) == ["b.png.scores.npz"]


def test_a_picture_that_fails_keeps_all_that_an_earlier_run_made_of_it(
    run: Run, paint: Paint, tmp_path: Path
) -> None:
    picture = paint(tmp_path / "a.png")
    run(picture, "--classes", "car,road", "--scores")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    picture.write_bytes(b"")
    assert run(picture, "--classes", "car").code == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_transparent_pixels_are_noted_once_a_picture(
    run: Run, tiny_colours: Mapping[str, tuple[int, int, int]], tmp_path: Path
) -> None:
    pixels = np.full((56, 56, 4), 255, dtype=np.uint8)
    pixels[..., :3] = tiny_colours["car"]
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    pixels[:, :14, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    ran = run(tmp_path / "clear.png", tmp_path / "opaque.png", "--classes", "car,road", "--json")
    assert ran.errors == [
        f"note: {tmp_path / 'clear.png'}: 25.0 % of it is transparent and taken as lying on white"
    ]
    clear, opaque = json.loads(ran.out)["images"]
    assert (len(clear["notes"]), opaque["notes"]) == (1, [])


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_interrupted_says_how_much_is_done(
    as_json: bool, run: Run, paint: Paint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segmenter.segment

    def interrupted(self: Segmenter, image: Any, *arguments: Any, **options: Any) -> Any:
        if (image == 255).all():
            raise KeyboardInterrupt
        return segment(self, image, *arguments, **options)

    monkeypatch.setattr(Segmenter, "segment", interrupted)
    pictures = [paint(tmp_path / "a.png"), tmp_path / "b.png", paint(tmp_path / "c.png")]
    Image.new("RGB", (56, 56), "white").save(pictures[1])
    ran = run(*pictures, "--classes", "car,road", *(["--json"] if as_json else []))
    assert (ran.code, ran.errors) == (130, ["interrupted, 1 of 3 done"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a.png.labels.png",
        "a.png.overlay.png",
    ]
    if as_json:
        document = json.loads(ran.out)
        assert document["error"] == "interrupted, 1 of 3 done"
        assert [image["file"] for image in document["images"]] == [str(pictures[0])]


def test_the_names_that_are_known_are_listed_with_what_was_trained(
    ovsdino_run: Run, tiny_bundle: Path, tiny_colours: Mapping[str, tuple[int, int, int]]
) -> None:
    lines = ovsdino_run("--list-classes", "--bundle", tiny_bundle).out.splitlines()
    assert {line.rpartition("  ")[0].strip(): line.split()[-1] for line in lines} == {
        name: "untrained" if name in ("cat", "dog") else "trained" for name in tiny_colours
    }
    document = json.loads(ovsdino_run("--list-classes", "--bundle", tiny_bundle, "--json").out)
    assert [item["name"] for item in document["classes"]] == sorted(tiny_colours)
    assert {item["name"] for item in document["classes"] if not item["trained"]} == {"cat", "dog"}
    assert document["open_vocabulary"] is False


def test_folders_patterns_and_equal_names_each_get_outputs_of_their_own(
    run: Run, paint: Paint, tmp_path: Path
) -> None:
    paint(tmp_path / "in" / "a" / "x.png", ("car",))
    paint(tmp_path / "in" / "b" / "x.png", ("road",))
    paint(tmp_path / "in" / "b" / "x.bmp", ("sky",))
    folder, pattern = tmp_path / "in" / "a", tmp_path / "in" / "b" / "*"
    assert run(folder, pattern, folder / "x.png", "--classes", "car,road,sky").code == 0
    out = tmp_path / "out"
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.labels.png")) == [
        "a/x.png.labels.png",
        "b/x.bmp.labels.png",
        "b/x.png.labels.png",
    ]
    for name, label in (("a/x.png", 0), ("b/x.png", 1), ("b/x.bmp", 2)):
        assert (labels_of(out / f"{name}.labels.png") == label).all()


def test_running_again_replaces_the_outputs_and_does_not_take_them_for_pictures(
    ovsdino_run: Run, paint: Paint, tiny_bundle: Path, tmp_path: Path
) -> None:
    paint(tmp_path / "in" / "a.png")
    for _ in range(2):
        ran = ovsdino_run(
            tmp_path / "in", "--classes", "car", "--bundle", tiny_bundle, "--out", tmp_path / "in"
        )
        assert ran.code == 0
        assert len(list((tmp_path / "in").iterdir())) == 3


def test_the_overlay_begins_with_the_picture_and_ends_with_a_legend(
    run: Run, paint: Paint, tmp_path: Path
) -> None:
    run(paint(tmp_path / "a.png", ("car", "road"), width_px=100), "--classes", "car,road")
    with Image.open(tmp_path / "out" / "a.png.overlay.png") as overlay:
        assert overlay.width == 200
        assert overlay.height > 56


def test_a_picture_lying_on_its_side_is_segmented_upright(
    run: Run, tiny_colours: Mapping[str, tuple[int, int, int]], tmp_path: Path
) -> None:
    stored = np.zeros((60, 120, 3), dtype=np.uint8)
    stored[:, :60], stored[:, 60:] = tiny_colours["sky"], tiny_colours["road"]
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored left is the top
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    run(tmp_path / "a.png", "--classes", "sky,road", "--background", "none")
    labels = labels_of(tmp_path / "out" / "a.png.labels.png")
    assert labels.shape == (120, 60)
    assert (labels[:50] == 0).all()
    assert (labels[70:] == 1).all()


def test_terminal_codes_of_names_from_elsewhere_are_not_printed() -> None:
    assert one_line("a\x1b[2Jb\nc\u00e9 \u9053") == "a?[2Jb c\u00e9 \u9053"


def test_a_file_name_with_a_line_break_still_makes_one_line(run: Run, tmp_path: Path) -> None:
    ran = run(tmp_path / "two\nlines.jpg", "--classes", "car")
    assert ran.code == 1
    assert len(ran.errors) == 1


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['ovsdino-run', '--help']\n"
        "from ovsdino_runtime.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--classes" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_help_names_every_vocabulary(ovsdino_run: Run) -> None:
    *names, last = vocabularies()
    assert f"{', '.join(names)} or {last}" in " ".join(ovsdino_run("--help").out.split())


def test_the_version_is_the_package_s(ovsdino_run: Run) -> None:
    assert ovsdino_run("--version").out == f"ovsdino-run {__version__}\n"


def test_a_list_that_cannot_be_made_is_an_error_for_programs_too(ovsdino_run: Run, tmp_path: Path) -> None:
    for wanted in ("--list-devices", "--list-classes"):
        ran = ovsdino_run(wanted, "--json", "--bundle", tmp_path / "none")
        assert ran.code == 1
        assert json.loads(ran.out)["error"] == ran.errors[-1].removeprefix("error: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file here that is always full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_output_that_takes_nothing_is_one_line(
    tiny_bundle: Path, paint: Paint, tmp_path: Path, more: tuple[str, ...]
) -> None:
    picture = paint(tmp_path / "a.png")
    words = [picture, "--classes", "car,road", "--bundle", tiny_bundle, "--out", tmp_path / "out", *more]
    command = [sys.executable, "-c", "from ovsdino_runtime.cli import main; main()", *map(str, words)]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 1
    (line,) = (line for line in ran.stderr.splitlines() if not line.startswith("note: "))
    assert line == "error: cannot print the result: No space left on device"
    assert (tmp_path / "out" / "a.png.labels.png").is_file()
