"""PyTorch's ways compute as they are called, and what PyTorch raises meanwhile is one line with a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ovsdino.torch_backend import TorchBackend
from ovsdino_bench import alternatives
from ovsdino_bench.alternatives import BatchedTorchBackend, open_alternative
from ovsdino_bench.measured import CheckpointSource
from ovsdino_bench.ways import ALTERNATIVES
from ovsdino_runtime.errors import BackendUnavailable, CheckpointError, InferenceError

WINDOWS = np.zeros((3, 28, 28, 3), np.uint8)
SOURCE = CheckpointSource(path=Path("a checkpoint"))


class Raising(nn.Module):
    """A model that raises, as PyTorch does, when it computes or when it is moved."""

    def __init__(self, error: Exception, *, moved: bool = False) -> None:
        super().__init__()
        self.config, self.decoder = SimpleNamespace(encoder=True), None
        self._error, self._moved = error, moved

    def to(self, *args: object, **kwargs: object) -> Raising:
        if self._moved:
            raise self._error
        return self

    def forward(self, windows: Tensor, structure: Tensor | None = None) -> object:
        raise self._error


OUT_OF_MEMORY = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation for Memory Management"
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OUT_OF_MEMORY, "CUDA out of memory. Tried to allocate 2.00 GiB."),
        (RuntimeError("\nbackend='inductor' raised:\nInvalidCxxCompiler: no g++\nmore"),
         "backend='inductor' raised: InvalidCxxCompiler: no g++"),
        (MemoryError(), "MemoryError"),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_a_line(error: Exception, reason: str) -> None:
    for backend, remedy in (
        (TorchBackend(Raising(error)), "free memory, or compute on another device"),  # type: ignore[arg-type]
        (BatchedTorchBackend(Raising(error), "cpu"), "free memory, ask for smaller --batches, or "),  # type: ignore[arg-type]
        (BatchedTorchBackend(Raising(error), "cpu", torch.bfloat16), "free memory, ask for smaller"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InferenceError) as told:
            backend.features(WINDOWS)
        assert str(told.value).startswith(f"{backend.name} failed on 3 windows: {reason}; {remedy}")
        assert "\n" not in str(told.value)


def test_a_device_without_room_for_the_model_is_told_in_a_line() -> None:
    for opening in (TorchBackend, BatchedTorchBackend):
        with pytest.raises(InferenceError, match=r"^torch-cpu failed to take the model: CUDA out of memory"):
            opening(Raising(OUT_OF_MEMORY, moved=True), "cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [FileNotFoundError("no such file: 'g++'"), AssertionError(), OSError("x")])
def test_whatever_compiling_raises_is_told_with_what_it_needs(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: model)
    backend = BatchedTorchBackend(Raising(error), "cpu", compiled=True)  # type: ignore[arg-type]
    with pytest.raises(
        InferenceError, match=r"^torch-cpu-compiled failed on 3 windows: .*; install a compiler"
    ):
        backend.features(WINDOWS)


def test_mistakes_of_the_program_and_errors_that_are_told_already_stay_as_they_are() -> None:
    for error in (TypeError("a mistake"), CheckpointError("no encoder")):
        backends = TorchBackend(Raising(error)), BatchedTorchBackend(Raising(error), "cpu")  # type: ignore[arg-type]
        for backend in backends:
            with pytest.raises(type(error), match=str(error)):
                backend.features(WINDOWS)


class Noting(nn.Module):
    """A model of one product, which notes how many windows came at once and in what it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.config, self.decoder = SimpleNamespace(encoder=True), None
        torch.manual_seed(0)
        self.product = nn.Linear(3, 5)
        self.seen: list[tuple[int, torch.dtype]] = []

    def forward(self, windows: Tensor, structure: Tensor | None = None) -> SimpleNamespace:
        features = self.product(windows.float() / 255).permute(0, 3, 1, 2)
        self.seen.append((len(windows), features.dtype))
        return SimpleNamespace(embeddings=features)


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch) -> Noting:
    """The model of every checkpoint, where there is no GPU."""
    model = Noting()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(alternatives, "load_checkpoint", lambda *_: (model, None))
    return model


@pytest.mark.parametrize(
    ("name", "called", "seen"),
    [
        ("pytorch-eager", "torch-cpu", [(3, torch.float32)]),
        ("pytorch-bf16", "torch-cpu-bfloat16", [(3, torch.bfloat16)]),
        ("torch-compile", "torch-cpu-compiled", [(3, torch.float32)]),
        ("mmseg-style", "torch-cpu", [(1, torch.float32)] * 3),
    ],
)
def test_a_way_computes_in_what_it_is_called_by(
    name: str,
    called: str,
    seen: list[tuple[int, torch.dtype]],
    noting: Noting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    through_compile: list[int] = []

    def compiled(model: Callable[..., Any]) -> Callable[..., Any]:
        def run(windows: Tensor) -> Any:
            through_compile.append(len(windows))
            return model(windows)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    windows = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    backend = open_alternative(name, SOURCE, None)
    found = backend.features(windows)
    assert (backend.name, found.dtype) == (called, np.dtype(np.float32))
    assert noting.seen == seen
    assert through_compile == ([3] if name == "torch-compile" else [])
    weight, bias = (parameter.detach().numpy() for parameter in noting.product.parameters())
    wanted = (windows / 255 @ weight.T + bias).transpose(0, 3, 1, 2)
    rounding = np.abs(found - wanted).max()
    assert 1e-4 < rounding < 2e-2 if name == "pytorch-bf16" else rounding < 1e-6


def test_fp16_needs_a_gpu_and_on_one_every_way_takes_it(
    noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        BackendUnavailable, match=r"pytorch-fp16 was asked for.*sees no GPU; use pytorch-bf16"
    ):
        open_alternative("pytorch-fp16", SOURCE, None)
    asked: dict[str, tuple[Any, ...]] = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ALTERNATIVES:
        for kind in ("TorchBackend", "BatchedTorchBackend"):

            def take(model: nn.Module, *told: Any, kind: str = kind, compiled: bool = False) -> None:
                asked[name] = (kind, model is noting, *told, compiled)  # noqa: B023 - called at once

            monkeypatch.setattr(alternatives, kind, take)
        open_alternative(name, SOURCE, None)
    assert asked == {
        "pytorch-eager": ("BatchedTorchBackend", True, "cuda", None, False),
        "pytorch-bf16": ("BatchedTorchBackend", True, "cuda", torch.bfloat16, False),
        "pytorch-fp16": ("BatchedTorchBackend", True, "cuda", torch.float16, False),
        "torch-compile": ("BatchedTorchBackend", True, "cuda", None, True),
        "mmseg-style": ("TorchBackend", True, "cuda", False),
    }
