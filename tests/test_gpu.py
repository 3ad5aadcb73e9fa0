"""What a machine with an NVIDIA GPU checks for itself: `pytest -m gpu`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import onnxruntime
import pytest

from ovsdino_export import cli
from ovsdino_export.verify import load_golden
from ovsdino_runtime.backends.selection import gpu_is_here, open_backend
from ovsdino_runtime.builtin import BUILT_IN
from ovsdino_runtime.bundle import GOLDEN, Bundle
from ovsdino_runtime.metrics import GATES, agreement

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu_is_here(), reason="no NVIDIA GPU"),
]
with_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime was built without CUDA",
)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A bundle that may be added to."""
    return Path(shutil.copytree(BUILT_IN, tmp_path / "bundle"))


def served(folder: Path, device: str, precision: str) -> list[str]:
    """Return how the golden features of a device miss the gates."""
    bundle = Bundle.open(folder)
    backend = open_backend(bundle, device, precision)  # type: ignore[arg-type]
    windows, features = load_golden(bundle.file(GOLDEN))
    names = bundle.embeddings().embeddings
    found = agreement(features, backend.features(windows), names, GATES[precision].reach)
    return found.failures(GATES[precision])


def export(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovsdino-export", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


@with_cuda
def test_onnxruntime_computes_the_golden_features_in_fp32(copy: Path) -> None:
    assert served(copy, "cuda", "fp32") == []


@with_cuda
def test_onnxruntime_computes_the_golden_features_in_fp16(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export(monkeypatch, "fp16", copy) == 0
    assert served(copy, "cuda", "fp16") == []


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_an_engine_that_was_built_here_computes_the_golden_features(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    if export(monkeypatch, "trt", copy, f"--{precision}"):
        said = capsys.readouterr().err.strip().splitlines()[-1]
        if "there is no TensorRT here" in said:
            pytest.skip(said)
        pytest.fail(said)
    assert served(copy, "tensorrt", precision) == []
