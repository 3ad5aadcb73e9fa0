"""What the four command lines have in common: versions, and one line on what is missing."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ovsdino_runtime import __version__

BLOCKED = ("torch", "torchvision", "timm", "open_clip", "onnx", "transformers", "safetensors")


@pytest.mark.parametrize(
    ("module", "line", "wanted"),
    [
        ("ovsdino.cli", "fit --data folder:here:a --out {out}", "ovsdino[train]"),
        ("ovsdino.cli", "distill here --data folder:here:a --out {out}", "ovsdino[train]"),
        ("ovsdino_export.cli", "onnx here --out {out}", "ovsdino[export,cpu]"),
        (
            "ovsdino_bench.cli",
            "accuracy --bundle {bundle} --data {data} --classes car --checkpoint x",
            "ovsdino[bench]",
        ),
        ("ovsdino_bench.cli", "merging a.png --bundle {bundle}", "ovsdino[bench]"),
    ],
    ids=["train", "distill", "export", "accuracy of a checkpoint", "merging"],
)
def test_a_command_without_its_extra_names_it(
    tmp_path: Path, tiny_bundle: Path, module: str, line: str, wanted: str
) -> None:
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").touch()
    out = tmp_path / "out"
    words = shlex.split(line.format(out=out, bundle=tiny_bundle, data=tmp_path / "data"))
    program = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None
sys.argv = ["command", *{words!r}]
from {module} import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert wanted in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("ovsdino-run", "ovsdino_runtime.cli"),
        ("ovsdino-train", "ovsdino.cli"),
        ("ovsdino-export", "ovsdino_export.cli"),
        ("ovsdino-bench", "ovsdino_bench.cli"),
    ],
)
def test_every_program_says_its_name_and_version(
    program: str, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--version"])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"{program} {__version__}\n"
