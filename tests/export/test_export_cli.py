"""`ovsdino-export` as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ovsdino_export import cli
from ovsdino_runtime.bundle import Bundle

WITHOUT_TORCH = """
import sys
for name in ("torch", "onnx", "timm", "open_clip", "onnxruntime", "onnxscript"):
    sys.modules[name] = None
sys.argv = ["ovsdino-export", *sys.argv[1:]]
from ovsdino_export.cli import main
main()
"""


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovsdino-export", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def _text(tiny_checkpoint) -> list[object]:
    source = tiny_checkpoint.text
    return ["--text-embeddings", source.embeddings, "--text-names", source.names]


def _without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False
    )


def test_help_needs_no_torch_and_shows_the_command() -> None:
    result = _without_torch("onnx", "--help")
    assert result.returncode == 0
    assert "--text-embeddings" in result.stdout
    assert "onnx" in _without_torch("--help").stdout


def test_without_its_extra_an_export_says_which_one_to_install(tmp_path: Path) -> None:
    result = _without_torch("onnx", str(tmp_path), "--out", str(tmp_path / "b"))
    assert result.returncode == 1
    assert result.stderr.startswith("error: exporting needs torch")
    assert "ovsdino[export,cpu]" in result.stderr


def test_a_bundle_is_written_and_described_as_json(
    tiny_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    status = _run(monkeypatch, "onnx", tiny_checkpoint.path, "--out", out, *_text(tiny_checkpoint), "--json")
    printed = capsys.readouterr()
    assert status == 0
    result = json.loads(printed.out)
    assert result["names"] == 6
    assert result["parity"]["fp32"]["label_agreement"] == 1
    assert set(result["files"]) == {"image.onnx", "vocabulary.npz", "golden.npz"}
    assert Bundle.open(out).manifest.license == "not stated"
    assert "tracing the image graph" in printed.err


def test_a_baked_graph_is_written_and_described_in_words(
    tiny_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "baked.onnx"
    status = _run(
        monkeypatch,
        "onnx",
        tiny_checkpoint.path,
        "--out",
        out,
        *_text(tiny_checkpoint),
        *("--classes", "cars, road", "--output", "scores", "--input", "float-nchw"),
    )
    printed = capsys.readouterr()
    assert status == 0
    assert out.is_file()
    assert f"{out}: car, road\n" in printed.out
    assert "agreement with PyTorch: score_difference_max" in printed.out
    assert "'cars' -> car" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--output", "labels"),
        ("--input", "float-nchw"),
        ("--background", "auto"),
        ("--classes", "car", "--text-encoder"),
        ("--classes", "car", "--name", "x"),
        ("--classes", "car", "--output", "pictures"),
        ("--text-names", "names.json"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    assert _run(monkeypatch, "onnx", tmp_path, "--out", tmp_path / "b", *arguments) == 2
    assert not (tmp_path / "b").exists()


def test_what_a_user_got_wrong_is_one_line_and_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "onnx", tmp_path / "nothing", "--out", tmp_path / "b") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.removeprefix("\r").strip().startswith("error: no checkpoint at")
    assert not (tmp_path / "b").exists()


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ovsdino_runtime import __version__

    assert _run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"ovsdino-export {__version__}\n"
