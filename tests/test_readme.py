"""What the README tells people to type, typed."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_export.baked_contract import baked_metadata
from ovsdino_runtime.bundle import (
    GOLDEN,
    IMAGE_GRAPH,
    IMAGE_GRAPH_FP16,
    IMAGE_GRAPH_INT8,
    IMAGE_WEIGHTS,
    MANIFEST,
    TEXT_GRAPH,
    TEXT_MAP,
    TOKENIZER,
    VOCABULARY,
)
from ovsdino_runtime.cli import main
from ovsdino_runtime.meanings import meanings
from ovsdino_runtime.names import NameIndex
from ovsdino_runtime.render import OVERLAY_LONG_SIDE_PX
from ovsdino_runtime.vocabulary import vocabularies

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def here(
    tmp_path: Path,
    tiny_bundle: Path,
    tiny_colours: Mapping[str, tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with what the README's commands name: a bundle and photographs."""
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    image = np.empty((56, 84, 3), dtype=np.uint8)
    image[:, :28], image[:, 28:56], image[:, 56:] = (tiny_colours[name] for name in ("car", "road", "tree"))
    for name in ("street.jpg", "image.jpg", "photos/a.jpg", "more/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name, quality=95)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(program: str) -> list[str]:
    """The README's indented commands of a program, with continued lines joined."""
    text = README.replace("\\\n", " ")
    return [
        line.strip().removeprefix("$ ")
        for line in text.splitlines()
        if re.match(rf"^    (\$ )?{program} ", line) and "…" not in line and " # " not in line
    ]


def test_the_run_commands_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [line for line in commands("ovsdino-run") if "--vocabulary" not in line]
    assert len(found) >= 2
    for line in found:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        try:
            main()
        except SystemExit as stopped:
            assert stopped.code in (0, None), line  # noqa: PT017
    written = {path.name for path in here.rglob("*.overlay.png")}
    assert written == {"street.png.overlay.png", "a.jpg.overlay.png", "b.png.overlay.png"}


@pytest.mark.parametrize("page", ["README.md", "docs/program.md"])
def test_the_python_example_runs(here: Path, capsys: pytest.CaptureFixture[str], page: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    exec(compile(example, page, "exec"), {})
    assert "person" in capsys.readouterr().out


def test_the_page_for_programs_says_what_bundles_and_baked_graphs_are() -> None:
    page = (ROOT / "docs" / "program.md").read_text(encoding="utf-8")
    files = set(re.findall(r"`(\w+(?:\.\w+)?\.(?:json|onnx|npz|data))`", page))
    assert files == {
        MANIFEST, IMAGE_GRAPH, IMAGE_WEIGHTS, IMAGE_GRAPH_FP16, IMAGE_GRAPH_INT8, VOCABULARY, TEXT_MAP,
        TEXT_GRAPH, TOKENIZER, GOLDEN,
    }  # fmt: skip
    told = baked_metadata([], output="labels", input="uint8-nhwc", score_scale=1, license="")
    (named,) = re.findall(r"metadata: (.*?)\.\n", page, flags=re.S)
    assert set(re.findall(r"`(\w+)`", named)) == set(told)


def test_the_page_for_programs_names_the_fields_of_a_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "program.md").read_text(encoding="utf-8")
    rows = re.search(r"\| field \| what \|\n\|---\|---\|\n((?:\|.*\n)+)", page)
    assert rows is not None
    told = {name for row in rows[1].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    (here / "broken.png").write_text("no picture")
    words = "ovsdino-run image.jpg broken.png --classes car,road --bundle bundle --json"
    monkeypatch.setattr(sys, "argv", shlex.split(words))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    printed = json.loads(capsys.readouterr().out)
    assert told - {"error"} == set(printed)
    (images,) = (row for row in rows[1].splitlines() if row.startswith("| `images`"))
    inner = set(re.findall(r"`(\w+)`", images)) - {"images"}
    done, failed = printed["images"]
    assert inner == {*done, *failed, *done["classes"][0]}


def test_the_paper_s_page_tells_options_that_there_are_and_their_defaults() -> None:
    from ovsdino.cli import fit
    from ovsdino_bench.accuracy_command import accuracy

    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    defaults = {name: item.default for name, item in inspect.signature(fit).parameters.items()}
    known = {*defaults, *inspect.signature(accuracy).parameters}
    for option in re.findall(r"--(?:no-)?([a-z][a-z-]*)", page):
        assert option.replace("-", "_") in known, option
    ours = {"lr_scalars": 1e-2, "mask_px": 112, "negatives": 10, "val_fraction": 0.1}
    model = {"backbone": "vit_base_patch14_dinov2", "window_px": 448, "trainable_blocks": 3, "teacher": "sam"}
    steps = {"batch_size": 64, "epochs": 25, "warmup_epochs": 1, "lr": 1e-4, "lr_blocks": 1e-5}
    told = {**ours, **model, **steps, "weight_decay": 1e-4}
    assert {name: defaults[name] for name in told} == told
    for said in (
        "| 112 |",
        "at most | 10 |",
        "its own, 1e-2",
        "batch 64, 25 epochs",
        "for the backbone's blocks 1e-5",
    ):
        assert said in page


@pytest.mark.parametrize("program", ["ovsdino-train", "ovsdino-export", "ovsdino-bench"])
def test_every_option_in_the_readmes_commands_exists(program: str) -> None:
    import typer.main

    from ovsdino import cli as train
    from ovsdino_bench import cli as bench
    from ovsdino_export import cli as export

    apps = {"ovsdino-train": train.app, "ovsdino-export": export.app, "ovsdino-bench": bench.app}
    group = typer.main.get_command(apps[program])
    lines = commands(program)
    assert lines
    for line in lines:
        words = shlex.split(line.replace("[", "").replace("]", ""))
        known = {option for item in group.commands[words[1]].params for option in item.opts}  # type: ignore[attr-defined]
        asked = {word for word in words if word.startswith("--")}
        assert asked <= known, asked - known


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_what_puts_the_demo_s_commands_on_the_path_is_said_here_and_by_the_demo() -> None:
    said = re.search(r"^    make demo .*\n    (\. \S+/bin/activate)", README, flags=re.M)
    assert said
    command = ["make", "--no-print-directory", "-n", "demo"]  # as from a shell, though `make test` runs this
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    last = told.stdout.splitlines()[-1]
    assert shlex.split(last) == ["echo", f"    {said[1]}"]


def test_the_numbers_of_the_example_are_the_order_of_its_classes() -> None:
    (asked,) = set(re.findall(r"ovsdino-run examples/street\.png --classes (\S+?)`?[. \n]", README))
    order = [*asked.replace("cars", "car").split(","), "background"]
    rows = re.findall(r"^      (\d+) (\S+) +[\d.]+ %$", README, flags=re.M)
    assert {name: int(number) for number, name in rows} == {name: order.index(name) for name in order}
    assert "in the order of `--classes`, the background last" in README


def test_it_names_every_vocabulary_and_the_size_of_an_overlay() -> None:
    text = " ".join(README.split())
    *names, last = vocabularies()
    assert f"classes of a benchmark: {', '.join(names)} or {last};" in text
    assert f"at most {OVERLAY_LONG_SIDE_PX} px long" in text


def test_its_sections_come_in_the_order_in_which_they_are_needed() -> None:
    found = re.findall(r"^## (.*)$", README, flags=re.M)
    assert found[:5] == ["Install", "Run", "Train", "Export", "Prove"]


def test_the_published_model_s_card_names_only_what_is_in_its_street() -> None:
    card = (ROOT / "checkpoints" / "ovsdino-s" / "README.md").read_text(encoding="utf-8")
    (caption,) = re.findall(r"^A generated scene, .*?(?=\n\n)", card, flags=re.M | re.S)
    names = (ROOT / "examples" / "names.txt").read_text(encoding="utf-8").split("\n")
    with Image.open(ROOT / "examples" / "street.labels.png") as labels:
        present = {names[number] for number in np.unique(np.asarray(labels))}
    index, words = NameIndex(names), re.findall(r"\w+", caption)
    pairs = [" ".join(pair) for pair in itertools.pairwise(words)]
    spoken = {pair for pair in pairs if index.find(pair)}
    spoken |= {word for word in words if not any(word in pair.split() for pair in spoken)}
    found = {name for text in spoken for word in (text, *meanings().same(text)) for name in index.find(word)}
    assert {"car", "truck", "grass"} <= found
    assert found <= present, found - present
