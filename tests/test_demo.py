"""The README's first command, as a new user runs it: a fresh environment, the wheel, a picture segmented."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "street.png"
(ASKED,) = re.findall(r"--classes (\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str, str]:
    """The environment and the output of `make demo`, with what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    into = [f"DEMO={folder / 'venv'}", f"DEMO_OUT={folder / 'out'}"]
    command = ["make", "--no-print-directory", "demo", *into]  # as from a shell, though `make test` runs this
    # What was once derived from the built-in model on this machine must play no part; pip's cache may.
    pip_cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
    elsewhere = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PIP_CACHE_DIR": pip_cache}
    ran = subprocess.run(command, cwd=ROOT, env=elsewhere, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder / "venv", folder / "out", ran.stdout, ran.stderr


def test_the_demo_segments_the_example(demo: tuple[Path, Path, str, str]) -> None:
    venv, out, printed, said = demo
    assert printed.splitlines()[-1].split() == [".", f"{venv}/bin/activate"]
    assert f"-> {out / 'street.png.overlay.png'}" in printed
    assert "built-in ovsdino-nano" in said
    assert "research and evaluation" in said
    assert "'cars' -> car" in said
    names = (ROOT / "examples" / "names.txt").read_text(encoding="utf-8").split("\n")
    with (
        Image.open(out / "street.png.labels.png") as found,
        Image.open(EXAMPLE.with_suffix(".labels.png")) as true,
    ):
        labels, truth = np.asarray(found), np.asarray(true)
    ious = {}
    for number, name in enumerate(ASKED.replace("cars", "car").split(",")):
        is_there, is_said = truth == names.index(name), labels == number
        ious[name] = (is_there & is_said).sum() / (is_there | is_said).sum()
    assert set(ious) == {"car", "road", "building", "sky", "tree", "person"}
    assert ious.pop("person") > 0.1  # small, and what this model is bad at
    assert ious["road"] > 0.75, ious
    assert min(ious.values()) > 0.65, ious


def test_the_demo_installs_no_torch(demo: tuple[Path, Path, str, str]) -> None:
    venv = demo[0]
    listed = subprocess.run(
        [venv / "bin" / "python", "-m", "pip", "list", "--format=json"],
        capture_output=True,
        text=True,
        check=True,
    )
    installed = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"ovsdino", "onnxruntime"} <= installed
    assert not installed & {"torch", "timm", "onnx", "transformers", "open-clip-torch"}


def test_the_wheels_terms_are_those_of_code_and_weights(demo: tuple[Path, Path, str, str]) -> None:
    shown = subprocess.run(
        [
            demo[0] / "bin" / "python",
            "-c",
            "from importlib.metadata import distribution as d; found = d('ovsdino'); "
            "print(found.metadata['License-Expression']); print(*found.metadata.get_all('License-File'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    expression, files = shown.stdout.splitlines()
    assert expression == "Apache-2.0 AND LicenseRef-ovsdino-nano-weights"
    assert "LICENSE" in files.split()
    assert any(name.endswith("ovsdino-nano.LICENSE.md") for name in files.split())
