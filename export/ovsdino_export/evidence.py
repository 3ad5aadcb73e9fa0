"""What FP16 and INT8 graphs are proven on: golden windows, and windows of a person's pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino_export.verify import load_golden
from ovsdino_runtime.backends.recording import RecordingBackend
from ovsdino_runtime.backends.selection import open_backend
from ovsdino_runtime.bundle import GOLDEN, Bundle
from ovsdino_runtime.segmenter import Segmenter

T = TypeVar("T")
MOST_PICTURES, MOST_WINDOWS = 16, 32  # looked at, chosen evenly among those given


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a derived graph is held against.

    Attributes:
        windows: uint8 [n, window, window, 3], the golden ones first.
        features: what FP32 gives for them, float32 [n, D, h, w].
        embeddings: text embeddings [C, D] for the labels of the gate.
        golden: how many are golden.
        source: where windows and features come from, for the record.
    """

    windows: NDArray[np.uint8]
    features: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    golden: int
    source: str


def evidence_of(bundle: Bundle, pictures: Sequence[Path] = ()) -> Evidence:
    """Return a bundle's golden windows, and those of some pictures, with their features in FP32.

    Raises:
        ImageError: a picture cannot be read.
        BundleError: the golden windows are broken.
    """
    windows, features = load_golden(bundle.file(GOLDEN))
    golden = len(windows)
    source = f"{golden} golden windows against PyTorch FP32"
    embeddings = bundle.embeddings().embeddings
    if pictures:
        seen = RecordingBackend(open_backend(bundle, "cpu"))
        segmenter, chosen = Segmenter(bundle, seen), evenly(pictures, MOST_PICTURES)
        for picture in tqdm(chosen, "windows in FP32", unit="picture", leave=False, delay=1):
            segmenter.encode(picture)
        pairs = [pair for call in seen.kept for pair in zip(*call, strict=True)]
        kept = evenly(pairs, MOST_WINDOWS)
        windows = np.concatenate([windows, *(window[None] for window, _ in kept)])
        features = np.concatenate([features, *(feature[None] for _, feature in kept)])
        source += f", {len(kept)} windows of {len(chosen)} pictures against the FP32 graph"
    return Evidence(windows=windows, features=features, embeddings=embeddings, golden=golden, source=source)


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many items, the first and the last among them, the others evenly between."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]
