"""How fast window scores become labels: the runtime's way against the field's usual one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ovsdino_runtime.labels import argmax_labels
from ovsdino_runtime.preprocess import resize
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import vocabulary
from ovsdino_runtime.windows import WindowGrid

Labels = NDArray[np.unsignedinteger]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Both ways on one image and class list, measured in turn.

    Attributes:
        size_hw: the image's size, in which the labels are.
        classes: the vocabulary's name.
        planes: score maps to merge.
        exact_ms: the runtime's way, milliseconds of each run.
        usual_ms: windows one at a time into C x H x W FP32 logits, in PyTorch.
        different_px: pixels whose labels differ.
    """

    size_hw: tuple[int, int]
    classes: str
    planes: int
    exact_ms: tuple[float, ...]
    usual_ms: tuple[float, ...]
    different_px: int

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON takes them; ratios are pair by pair."""
        ratios = sorted(usual / exact for usual, exact in zip(self.usual_ms, self.exact_ms, strict=True))
        return {
            "size_hw": list(self.size_hw),
            "classes": self.classes,
            "planes": self.planes,
            "exact_ms": [round(value, 2) for value in self.exact_ms],
            "usual_ms": [round(value, 2) for value in self.usual_ms],
            "usual_to_exact": {
                "min": round(ratios[0], 2),
                "median": round(statistics.median(ratios), 2),
                "max": round(ratios[-1], 2),
            },
            "different_px": self.different_px,
        }


def time_merging(
    segmenter: Segmenter,
    image: NDArray[np.uint8],
    sizes_hw: Sequence[tuple[int, int]],
    vocabularies: Sequence[str],
    runs: int,
) -> list[Timing]:
    """Measure both ways for every size and vocabulary, A B A B.

    Args:
        segmenter: gives the features and the text embeddings.
        image: uint8 [H, W, 3], resized to each size.
        sizes_hw: sizes of the image.
        vocabularies: names of class lists.
        runs: counted runs of each, after one that is not.
    """
    timings: list[Timing] = []
    for size_hw in sizes_hw:
        encoded = segmenter.encode(resize(image, size_hw))
        for name in vocabularies:
            question = segmenter.ask(vocabulary(name), "none")
            maps = np.einsum("ndhw,pd->nphw", encoded.features, question.embeddings, optimize=True)
            grid = encoded.grid

            def exact(maps: NDArray[np.float32] = maps, grid: WindowGrid = grid) -> Labels:
                return argmax_labels(grid.stack(maps), grid)

            def usual(maps: NDArray[np.float32] = maps, grid: WindowGrid = grid) -> Labels:
                return usual_labels(torch.from_numpy(maps), grid)

            ours, theirs = exact(), usual()
            pairs = [(_milliseconds(exact), _milliseconds(usual)) for _ in range(runs)]
            timings.append(
                Timing(
                    size_hw=size_hw,
                    classes=name,
                    planes=maps.shape[1],
                    exact_ms=tuple(pair[0] for pair in pairs),
                    usual_ms=tuple(pair[1] for pair in pairs),
                    different_px=int((ours != theirs).sum()),
                )
            )
    return timings


def usual_labels(maps: torch.Tensor, grid: WindowGrid) -> Labels:
    """Return labels as segmentation frameworks compute them: FP32 logits of every class at every pixel.

    Args:
        maps: logits of the windows, float32 [windows, C, h, w]; all is computed where they lie.
        grid: where the windows lie.
    """
    rows, columns = grid.rows, grid.columns
    total = torch.zeros((maps.shape[1], rows.resized_px, columns.resized_px), device=maps.device)
    count = torch.zeros((rows.resized_px, columns.resized_px), device=maps.device)
    window = rows.window_px
    corners = [(top, left) for top in rows.starts for left in columns.starts]
    for number, (top, left) in enumerate(corners):
        scores = F.interpolate(maps[number : number + 1], size=(window, window), mode="bilinear")[0]
        part = total[:, top : top + window, left : left + window]
        part += scores[:, : part.shape[1], : part.shape[2]]
        count[top : top + window, left : left + window] += 1
    merged = F.interpolate((total / count)[None], size=grid.size_hw, mode="bilinear")[0]
    return np.asarray(merged.argmax(dim=0).cpu().numpy(), dtype=np.uint32)


def _milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000
