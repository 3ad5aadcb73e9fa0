"""The command line in this process, and pictures painted in the colours of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_runtime.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        return self.err.splitlines()


@pytest.fixture
def ovsdino_run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `ovsdino-run` with arguments; what libraries print beneath Python is captured too."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr("sys.argv", ["ovsdino-run", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Ran(code, *capfd.readouterr())

    return call


@pytest.fixture
def paint(tiny_colours: Mapping[str, tuple[int, int, int]]) -> Callable[..., Path]:
    """Writes a picture of areas side by side, 56 pixels high, in the colours of classes."""

    def write(path: Path, names: Sequence[str] = ("car", "road"), width_px: int = 28) -> Path:
        areas = [np.broadcast_to(np.array(tiny_colours[name], np.uint8), (56, width_px, 3)) for name in names]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(areas, axis=1)).save(path)
        return path

    return write
