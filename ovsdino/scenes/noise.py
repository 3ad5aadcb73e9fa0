"""Random streams, and value noise: the irregularity of everything that grows, weathers or is woven."""

from __future__ import annotations

import zlib
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
_TILES = 6
_TILE_PX = 256


def stream(seed: int, part: str) -> Rng:
    """Return the random numbers of one part of a scene: what one part draws changes no other."""
    return np.random.default_rng((seed, zlib.crc32(part.encode())))


def chance(rng: Rng, probability: float) -> bool:
    """Return True as often as said."""
    return bool(rng.random() < probability)


def between(rng: Rng, low: float, high: float) -> float:
    """Return a number of [low, high)."""
    return low + (high - low) * float(rng.random())


def value_noise(
    rng: Rng, cells: tuple[int, ...], persistence: float = 0.6, side_px: int = _TILE_PX
) -> NDArray[np.float32]:
    """Return noise that tiles, float32 [side, side], of mean 0 and standard deviation 1.

    Args:
        rng: where it comes from.
        cells: lattice cells a side of each octave, coarse to fine.
        persistence: how much weaker each octave is than the one before.
        side_px: rows and columns.
    """
    total = np.zeros((side_px, side_px), dtype=np.float32)
    for octave, count in enumerate(cells):
        lattice = np.pad(rng.standard_normal((count, count)).astype(np.float32), 2, mode="wrap")
        scale = side_px / count
        margin = round(2 * scale)
        enlarged = cv2.resize(lattice, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += persistence**octave * enlarged[margin : margin + side_px, margin : margin + side_px]
    return np.asarray((total - total.mean()) / total.std(), dtype=np.float32)


def noise_tile(kind: str, rng: Rng) -> NDArray[np.float32]:
    """Return one of a few tiles of noise, float32 [256, 256], mean 0, standard deviation 1; read only.

    Args:
        kind: "cloud" (all scales), "leaf" (middle and fine), "grain" (fine), "patch" (coarse).
        rng: chooses among them.
    """
    return _tile(kind, int(rng.integers(_TILES)))


@cache
def _tile(kind: str, variant: int) -> NDArray[np.float32]:
    cells, persistence = {
        "cloud": ((2, 4, 8, 16, 32, 64), 0.6),
        "leaf": ((8, 16, 32, 64, 128), 0.9),
        "grain": ((64, 128, 256), 1.0),
        "patch": ((3, 6, 12), 0.6),
    }[kind]
    tile = value_noise(stream(variant, f"noise tile {kind}"), cells, persistence)
    tile.setflags(write=False)
    return tile


def noise_window(rng: Rng, kind: str, height: int, width: int) -> NDArray[np.float32]:
    """Return a random part of a noise tile, float32 [height, width]; repeated where it is larger."""
    tile = noise_tile(kind, rng)
    rows = (np.arange(height) + int(rng.integers(_TILE_PX))) % _TILE_PX
    columns = (np.arange(width) + int(rng.integers(_TILE_PX))) % _TILE_PX
    window: NDArray[np.float32] = tile[rows[:, None], columns[None, :]]
    return window
