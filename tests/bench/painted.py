"""Pictures in the classes' colours with their labels, and a reference recorded of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovsdino_bench.recorded import RecordedImage, record
from ovsdino_runtime.backends.recording import RecordingBackend
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.segmenter import Segmenter

NAMES = ("car", "road", "sky", "tree")
SIZES = ((56, 84), (40, 28), (28, 90))


@pytest.fixture(scope="session")
def painted(
    tiny_colours: Mapping[str, tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Pictures of blocks in the classes' colours, with their labels."""
    folder = tmp_path_factory.mktemp("painted")
    random = np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number, (height, width) in enumerate(SIZES):
        coarse = random.integers(0, len(NAMES), (-(-height // 8), -(-width // 8)))
        labels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width].astype(np.uint8)
        colours = np.array([tiny_colours[name] for name in NAMES], dtype=np.float64)
        pixels = colours[labels] + random.normal(scale=25, size=(height, width, 3))
        labels[:2] = 255
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def recorded(tiny_bundle: Path, painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ONNX Runtime gives for them, standing for PyTorch."""
    bundle = Bundle.open(tiny_bundle)
    question = Segmenter(bundle, open_backend(bundle, "cpu")).ask(NAMES, "none")
    items = []
    for path in sorted((painted / "images").iterdir()):
        seen = RecordingBackend(open_backend(bundle, "cpu"))
        grid = Segmenter(bundle, seen).encode(path).grid
        truth = np.array(Image.open(painted / "labels" / path.name))
        size = (grid.rows.output_px, grid.columns.output_px)
        windows, features = seen.kept[0]
        items.append(
            RecordedImage(file=path.name, size_hw=size, windows=windows, features=features, truth=truth)
        )
    path = tmp_path_factory.mktemp("recorded") / "reference.npz"
    assert record(path, bundle.manifest, question, {"backend": "a test"}, items) == len(SIZES)
    return path
