"""What PyTorch raises while it is timed or recorded is one line, which says what to do."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ovsdino.torch_backend import TorchBackend
from ovsdino_bench.alternatives import BatchedTorchBackend
from ovsdino_runtime.errors import CheckpointError, InferenceError

WINDOWS = np.zeros((3, 28, 28, 3), np.uint8)


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
