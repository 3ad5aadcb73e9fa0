"""Devices are held to; the runtime needs no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ovsdino_runtime.backends import ort, selection
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import IMAGE_GRAPH, Bundle
from ovsdino_runtime.errors import BackendUnavailable, BundleError, InferenceError
from ovsdino_runtime.segmenter import Segmenter

FORBIDDEN = ("torch", "torchvision", "onnx", "timm", "open_clip", "transformers", "safetensors")


def test_the_cpu_backend_computes_what_the_graph_says(
    tiny_bundle: Path, tiny_features: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
) -> None:
    windows = np.random.default_rng(1).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    backend = open_backend(Bundle.open(tiny_bundle), "cpu")
    assert backend.name == "onnxruntime-cpu"
    np.testing.assert_allclose(backend.features(windows), tiny_features(windows), atol=1e-5)


def test_cuda_without_a_gpu_is_an_error_and_auto_takes_the_cpu(
    tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    bundle = Bundle.open(tiny_bundle)
    with pytest.raises(BackendUnavailable, match="cuda"):
        open_backend(bundle, "cuda")
    assert open_backend(bundle, "auto").name == "onnxruntime-cpu"
    assert capfd.readouterr().err == ""


def test_auto_says_that_the_gpu_stays_idle_only_where_there_is_one(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    bundle = Bundle.open(tiny_bundle)
    assert selection.choose_backend(bundle, "auto")[1] is None
    monkeypatch.setattr(selection, "_GPU_FILES", (str(tmp_path),))
    backend, note = selection.choose_backend(bundle, "auto")
    assert backend.name == "onnxruntime-cpu"
    assert note is not None
    assert "CPU" in note
    assert selection.choose_backend(bundle, "cpu")[1] is None


def test_windows_of_another_size_than_the_manifest_says_are_refused_on_opening(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    wrong = Bundle(bundle.path, replace(bundle.manifest, window_px=56))
    with pytest.raises(BundleError, match="windows of 56 px"):
        open_backend(wrong, "cpu")


def test_a_session_that_fell_back_to_the_cpu_is_an_error(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    session = onnxruntime.InferenceSession

    told: list[object] = []

    def fallen_back(path: str, options: object, providers: list[object]) -> object:
        told.extend(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fallen_back)
    with pytest.raises(BackendUnavailable, match="fell back"):
        open_backend(Bundle.open(tiny_bundle), "cuda")
    assert told == [("CUDAExecutionProvider", {"use_tf32": "0"})]


def test_fp32_on_cuda_is_not_computed_in_tf32(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    real, told = onnxruntime.InferenceSession, {}

    class OnCuda:
        """A session on the CPU that says what one on CUDA says."""

        def __init__(self, path: str, options: object, providers: list[tuple[str, dict[str, str]]]) -> None:
            told.update(dict(providers))
            self._session = real(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def __getattr__(self, name: str) -> object:
            return getattr(self._session, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", OnCuda)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert open_backend(Bundle.open(tiny_bundle), "cuda").name == "onnxruntime-cuda"
    assert told == {"CUDAExecutionProvider": {"use_tf32": "0"}}


def test_a_runtime_built_without_cuda_says_which_extra_brings_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendUnavailable, match=r"ovsdino\[gpu\]"):
        open_backend(Bundle.open(tiny_bundle), "cuda")


def test_without_any_onnx_runtime_the_message_says_which_extra_to_install(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for device in ("auto", "cpu", "cuda"):
        with pytest.raises(BackendUnavailable, match=r"ovsdino\[cpu\]"):
            open_backend(Bundle.open(tiny_bundle), device)  # type: ignore[arg-type]


def test_a_file_that_is_no_graph_is_a_bundle_error(tmp_path: Path) -> None:
    broken = tmp_path / IMAGE_GRAPH
    broken.write_bytes(b"not an onnx file")
    with pytest.raises(BundleError, match="cannot load"):
        ort.open_ort(broken, "cpu", 28)


def test_windows_that_the_graph_cannot_take_are_one_error_not_a_traceback(tiny_bundle: Path) -> None:
    backend = open_backend(Bundle.open(tiny_bundle), "cpu")
    with pytest.raises(InferenceError, match="onnxruntime-cpu failed on 2 windows") as caught:
        backend.features(np.zeros((2, 30, 28, 3), dtype=np.uint8))
    assert "\n" not in str(caught.value)


def test_features_of_another_shape_than_the_manifest_says_are_refused(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    wrong = Bundle(bundle.path, replace(bundle.manifest, grid_hw=(2, 2)))
    with pytest.raises(BundleError, match=r"promises features of \(1, 4, 2, 2\)"):
        Segmenter(wrong, open_backend(bundle, "cpu")).encode(np.zeros((28, 28, 3), np.uint8))


def test_all_of_the_runtime_imports_where_torch_and_onnx_cannot_be() -> None:
    program = f"""
import importlib, pkgutil, sys
for name in {FORBIDDEN!r}:
    sys.modules[name] = None
import ovsdino_runtime
names = [item.name for item in pkgutil.walk_packages(ovsdino_runtime.__path__, "ovsdino_runtime.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 10
