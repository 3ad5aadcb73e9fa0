"""Which device serves a bundle, what is said about it, and what `--list-devices` explains."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ovsdino_runtime.backends import ort, selection
from ovsdino_runtime.backends.devices import list_devices
from ovsdino_runtime.backends.ort_binding import BoundSession
from ovsdino_runtime.backends.selection import choose_backend
from ovsdino_runtime.bundle import IMAGE_GRAPH_INT8, Bundle
from ovsdino_runtime.bundle_writing import revised_bundle
from ovsdino_runtime.errors import BackendUnavailable
from ovsdino_runtime.segmenter import Segmenter
from tests.standins.cuda_runtime import Error
from tests.standins.half_bundle import write_half_bundle
from tests.standins.plans import write_engine
from tests.standins.release import install

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_open_session = ort.open_session


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(write_half_bundle(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(selection, "_GPU_FILES", (str(tmp_path),))


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets ONNX Runtime's CPU provider pass for CUDA; returns the files that were opened so."""
    opened: list[str] = []
    real = ort.open_session

    def open_session(path: Path, device: str) -> object:
        if device == "cuda":
            opened.append(path.name)
        return real(path, "cpu")

    monkeypatch.setattr(ort, "open_session", open_session)
    monkeypatch.setattr(ort, "BoundSession", lambda session, device: BoundSession(session, "cpu"))
    monkeypatch.setattr(
        "onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    return opened


def _windows(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)


def test_without_tensorrt_or_cuda_python_or_a_gpu_the_line_says_what_to_install_on_x86_and_on_a_jetson(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    trt = install(monkeypatch, tmp_path, "10.3")
    trt.cuda.gpus = 0
    with pytest.raises(BackendUnavailable, match=r"'tensorrt' was asked for, but there is no NVIDIA GPU"):
        choose_backend(bundle, "tensorrt")
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable, match=r"no cuda-python here; .*ovsdino\[tensorrt\].* Jetson"):
        choose_backend(bundle, "tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailable) as caught:
        choose_backend(bundle, "tensorrt")
    message = str(caught.value)
    assert "there is no TensorRT here; on x86 install ovsdino[tensorrt]" in message
    assert "--system-site-packages" in message
    assert "\n" not in message


def test_a_tensorrt_whose_libraries_are_missing_is_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open\\nmore')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BackendUnavailable, match=r"cannot be loaded \(libnvinfer\.so\.10: cannot open\)"):
        choose_backend(bundle, "tensorrt")


def test_auto_takes_a_matching_engine_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle, tiny_features: Features
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.13")
    engine = write_engine(trt, bundle, "fp16")
    backend, note = choose_backend(bundle, "auto")
    assert backend.name == "tensorrt-fp16"
    assert note == (
        f"running on TensorRT 10.13.3.9 in FP16: {engine} was built for this bundle and NVIDIA L4"
    )
    np.testing.assert_allclose(backend.features(_windows(3)), tiny_features(_windows(3)), atol=2e-3)
    assert choose_backend(bundle, "tensorrt")[1] is None


def test_auto_passes_an_engine_over_that_does_not_match_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle, with_gpu: None, with_cuda: list[str]
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    write_engine(trt, bundle, "fp16")
    trt.cuda.gpu_name = "Tesla T4"
    backend, note = choose_backend(bundle, "auto")
    assert backend.name == "onnxruntime-cuda-fp16"
    assert note is not None
    assert note.startswith("running on CUDA: TensorRT cannot serve it: the engine")
    assert "built for NVIDIA L4 (compute 8.9), this is Tesla T4" in note
    assert "--precision fp32" in note


def test_auto_on_a_cpu_mentions_engines_that_lie_idle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU here")
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    write_engine(trt, bundle, "fp16")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    backend, note = choose_backend(bundle, "auto")
    assert backend.name == "onnxruntime-cpu"
    assert note is not None
    assert note.startswith("running on the CPU: TensorRT cannot serve it: there is no TensorRT here")


def test_auto_without_onnx_runtime_says_why_the_engine_does_not_serve_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match=r"^TensorRT has no engine .* there is no ONNX Runtime here"):
        choose_backend(bundle, "auto")
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    write_engine(trt, bundle, "fp16")
    trt.cuda.gpu_name = "Orin"
    with pytest.raises(BackendUnavailable) as caught:
        choose_backend(bundle, "auto")
    message = str(caught.value)
    assert "it was built for NVIDIA L4 (compute 8.9), this is Orin (compute 8.9)" in message
    assert f"rebuild it here with `ovsdino-export trt {bundle.path} --fp16`" in message
    assert "there is no ONNX Runtime here; install ovsdino[cpu]" in message


def test_a_gpu_that_does_not_answer_is_passed_over_and_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    write_engine(trt, bundle, "fp16")
    trt.cuda.fail["cudaGetDeviceProperties"] = Error.cudaErrorInvalidValue
    backend, note = choose_backend(bundle, "auto")
    assert backend.name == "onnxruntime-cpu"
    assert note is not None
    assert "the GPU does not say what it is: cudaGetDeviceProperties failed" in note
    assert [state.device for state in list_devices(bundle) if not state.available][-1] == "tensorrt"


def test_where_tensorrt_cannot_start_cuda_auto_goes_on_and_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle, with_gpu: None, with_cuda: list[str]
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    write_engine(trt, bundle, "fp16")
    trt.faults["no CUDA"] = TypeError
    reason = "TensorRT 10.3.0 cannot start CUDA here: CUDA initialization failure with error: 35"
    backend, note = choose_backend(bundle, "auto")
    assert backend.name == "onnxruntime-cuda-fp16"
    assert note is not None
    assert note.startswith(f"running on CUDA: TensorRT cannot serve it: {reason}")
    trt.faults["no CUDA"] = RuntimeError
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "open_session", _open_session)
    backend, note = choose_backend(bundle, "auto")
    assert backend.name == "onnxruntime-cpu"
    assert note is not None
    assert note.startswith(f"running on the CPU: TensorRT cannot serve it: {reason}")
    with pytest.raises(BackendUnavailable, match="'tensorrt' was asked for, but TensorRT 10"):
        choose_backend(bundle, "tensorrt")


def test_where_neither_engine_nor_cuda_serves_auto_keeps_both_reasons(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    write_engine(trt, bundle, "fp16")
    trt.cuda.gpu_name = "Tesla T4"
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    reasons = (
        "built for NVIDIA L4 (compute 8.9), this is Tesla T4",
        f"rebuild it here with `ovsdino-export trt {bundle.path} --fp16`",
        "CUDA cannot serve it: this ONNX Runtime has only CPUExecutionProvider",
    )
    with pytest.raises(BackendUnavailable) as caught:
        choose_backend(bundle, "auto", "fp16")
    message = str(caught.value)
    assert message.startswith("precision 'fp16' was asked for, but ONNX Runtime computes")
    assert all(reason in message for reason in reasons)
    assert "\n" not in message
    backend, note = choose_backend(bundle, "auto")
    assert backend.name == "onnxruntime-cpu"
    assert note is not None
    assert all(reason in note for reason in reasons)


def test_without_the_driver_s_library_the_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    def missing() -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1\nand more")

    trt = install(monkeypatch, tmp_path / "cache", "10.3")
    write_engine(trt, bundle, "fp16")
    monkeypatch.setattr(trt.cuda, "cudaGetDeviceCount", missing)
    said = r"no NVIDIA GPU that CUDA can use here \(Failed to dlopen libcuda\.so\.1\); check nvidia-smi"
    with pytest.raises(BackendUnavailable, match=said):
        choose_backend(bundle, "tensorrt")
    backend, note = choose_backend(bundle, "auto")
    assert backend.name.startswith("onnxruntime")
    assert "Failed to dlopen libcuda.so.1" in str(note)


def test_a_gpu_that_linux_sees_through_windows_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/dev/dxg")
    assert selection.gpu_is_here()


def test_cuda_computes_the_fp16_graph_if_there_is_one_and_fp32_if_asked(
    bundle: Bundle, tiny_bundle: Path, with_cuda: list[str], tiny_features: Features
) -> None:
    backend, note = choose_backend(bundle, "cuda")
    assert (backend.name, with_cuda[-1]) == ("onnxruntime-cuda-fp16", "image.fp16.onnx")
    assert note == "computing image.fp16.onnx; --precision fp32 takes FP32"
    np.testing.assert_allclose(backend.features(_windows(2)), tiny_features(_windows(2)), atol=2e-3)
    backend, note = choose_backend(bundle, "cuda", "fp32")
    assert (backend.name, with_cuda[-1], note) == ("onnxruntime-cuda", "image.onnx", None)
    plain = Bundle.open(tiny_bundle)
    assert choose_backend(plain, "cuda")[0].name == "onnxruntime-cuda"
    with pytest.raises(BackendUnavailable, match="ovsdino-export fp16"):
        choose_backend(plain, "cuda", "fp16")


def test_fp16_on_a_cpu_is_refused_and_a_precision_must_be_one(bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailable, match="mostly in FP32"):
        choose_backend(bundle, "cpu", "fp16")
    assert choose_backend(bundle, "cpu", "fp32")[0].name == "onnxruntime-cpu"
    with pytest.raises(ValueError, match="precision is 'bf16'"):
        choose_backend(bundle, "cpu", "bf16")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'tensorrt'"):
        choose_backend(bundle, "tpu")  # type: ignore[arg-type]


def test_int8_is_for_cpus_where_the_bundle_has_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tiny_features: Features
) -> None:
    for device in ("cuda", "tensorrt"):
        with pytest.raises(BackendUnavailable, match=f"on device '{device}', .* is for CPUs alone"):
            choose_backend(bundle, device, "int8")  # type: ignore[arg-type]
    with pytest.raises(BackendUnavailable, match=r"ships no image\.int8\.onnx; derive it with `.* --images"):
        choose_backend(bundle, "cpu", "int8")
    with revised_bundle(bundle) as staged:
        shutil.copy(bundle.path / "image.onnx", staged / IMAGE_GRAPH_INT8)
    opened = Bundle.open(bundle.path)
    monkeypatch.setattr("ovsdino_runtime.backends.selection.gpu_is_here", lambda: True)
    assert choose_backend(opened, "cpu", "int8")[1] is None
    backend, note = choose_backend(opened, "auto", "int8")
    assert (backend.name, note) == ("onnxruntime-cpu-int8", "running on the CPU, the only place for INT8")
    np.testing.assert_allclose(backend.features(_windows(3)), tiny_features(_windows(3)), atol=1e-5)
    assert choose_backend(opened, "cpu")[0].name == "onnxruntime-cpu"


def test_bound_buffers_give_what_the_session_gives_for_sizes_that_come_and_go(
    tiny_bundle: Path, tiny_features: Features
) -> None:
    bound = BoundSession(ort.open_session(tiny_bundle / "image.onnx", "cpu"), "cpu")
    kept = bound.run(_windows(2))
    before = np.array(kept)
    for count in (*range(1, 13), 2, 5, 2):
        np.testing.assert_allclose(bound.run(_windows(count)), tiny_features(_windows(count)), atol=1e-5)
    np.testing.assert_array_equal(kept, before)  # a result is the caller's own
    assert len(bound._bound) <= 8


def test_a_picture_is_segmented_through_an_engine_as_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle, paint: Callable[..., Path]
) -> None:
    picture = paint(tmp_path / "street.png", ("car", "road", "tree"), 40)
    expected = Segmenter.open(bundle.path, "cpu").segment(picture, ["car", "road", "tree"])
    write_engine(install(monkeypatch, tmp_path / "cache", "11.4"), bundle, "fp16")
    found = Segmenter.open(bundle.path, "tensorrt").segment(picture, ["car", "road", "tree"])
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_an_engine_needs_no_onnx_runtime(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle, tiny_features: Features
) -> None:
    write_engine(install(monkeypatch, tmp_path / "cache", "10.3"), bundle, "fp16")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for device in ("tensorrt", "auto"):
        segmenter = Segmenter.open(bundle.path, device)  # type: ignore[arg-type]
        assert segmenter.backend.name == "tensorrt-fp16"
        windows = _windows(2)
        np.testing.assert_allclose(segmenter.backend.features(windows), tiny_features(windows), atol=2e-3)


def test_the_list_says_for_each_device_what_it_uses_or_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundle: Bundle
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    for name in ("tensorrt", "cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    states = {state.device: state for state in list_devices()}
    assert [state.available for state in states.values()] == [True, False, False]
    assert "ovsdino[gpu]" in states["cuda"].explanation
    assert "there is no TensorRT here" in states["tensorrt"].explanation
    assert "and there is no cuda-python here" in states["tensorrt"].explanation

    trt = install(monkeypatch, tmp_path / "cache", "10.16")
    state = list_devices()[2]
    assert state.available
    assert state.explanation.startswith("TensorRT 10.16.1.11 on NVIDIA L4 (compute 8.9, driver ")
    state = list_devices(bundle)[2]
    assert not state.available
    assert f"ovsdino-export trt {bundle.path} --fp16" in state.explanation
    engine = write_engine(trt, bundle, "fp16")
    state = list_devices(bundle)[2]
    assert state.available
    assert str(engine) in state.explanation


def test_the_list_tries_cuda_only_with_a_bundle(bundle: Bundle, with_gpu: None, with_cuda: list[str]) -> None:
    assert "pass --bundle to try it" in list_devices()[1].explanation
    assert with_cuda == []
    state = list_devices(bundle)[1]
    assert state.available
    assert "onnxruntime-cuda-fp16" in state.explanation


def test_the_command_lists_devices_without_pictures_or_classes(
    monkeypatch: pytest.MonkeyPatch, ovsdino_run: Callable[..., object], tiny_bundle: Path
) -> None:
    ran = ovsdino_run("--list-devices")
    assert ran.code == 0  # type: ignore[attr-defined]
    lines = ran.out.splitlines()  # type: ignore[attr-defined]
    assert [line.split()[0] for line in lines] == ["cpu", "cuda", "tensorrt"]
    document = json.loads(ovsdino_run("--list-devices", "--bundle", tiny_bundle, "--json").out)  # type: ignore[attr-defined]
    assert [item["device"] for item in document] == ["cpu", "cuda", "tensorrt"]
    assert document[0]["available"] is True
    assert ovsdino_run("--classes", "car").code == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("driver", [True, False])
def test_on_windows_a_gpu_is_told_by_its_driver(
    driver: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("SYSTEMROOT", str(tmp_path))
    (tmp_path / "System32").mkdir()
    if driver:
        (tmp_path / "System32" / "nvcuda.dll").touch()
    assert selection.gpu_is_here() is driver
