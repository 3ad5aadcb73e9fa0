"""What surfaces are made of: grey tiles that repeat, coloured by a ramp from dark to light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino.scenes.canvas import Colour, Image
from ovsdino.scenes.noise import Rng, stream, value_noise

_SIDE_PX = 256
_VARIANTS = 3
Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Tile:
    """A square piece of a surface that repeats.

    Attributes:
        levels: uint8 [s, s] grey, each half as large as the one before.
        side_m: how long its side is in the world.
    """

    levels: tuple[Image, ...]
    side_m: float

    def level(self, metres_per_sample: float) -> int:
        """Return which level has about one texel a sample."""
        texels = metres_per_sample * _SIDE_PX / self.side_m
        return int(np.clip(np.round(np.log2(max(texels, 1e-6))), 0, len(self.levels) - 1))


@dataclass(frozen=True)
class Material:
    """A tile and its colours.

    Attributes:
        tile: the grey pattern.
        ramp: float64 [256, 3] RGB, the colour of each grey.
    """

    tile: Tile
    ramp: NDArray[np.float64]

    def lit(self, light: Colour, haze: Colour, share: float) -> Image:
        """Return the ramp in a light and seen through haze, uint8 [256, 1, 3], as OpenCV takes it."""
        colours = np.clip(self.ramp * light, 0, 255) * (1 - share) + haze * share
        return colours.astype(np.uint8)[:, None, :]


def material(
    kind: str, rng: Rng, colour: tuple[float, float, float] | Colour, contrast: float = 0.5
) -> Material:
    """Return a surface of a kind (a key of `_RECIPES`).

    Args:
        kind: such as "brick".
        rng: chooses one of a few patterns.
        colour: RGB in [0, 255] of its middle grey.
        contrast: how far dark and light are from it, as a share.
    """
    middle = np.asarray(colour, dtype=np.float64)
    steps = np.linspace(-1, 1, 256)[:, None]
    shift = rng.uniform(-0.06, 0.06, 3)  # dark and light differ a little in hue, too
    return Material(tile(kind, int(rng.integers(_VARIANTS))), middle * (1 + steps * (contrast + shift)))


@lru_cache(maxsize=128)
def tile(kind: str, variant: int) -> Tile:
    """Return a variant of a kind's tile; the same in every process."""
    recipe, side_m = _RECIPES[kind]
    grey = recipe(stream(variant, f"tile {kind}"))
    level = np.clip(grey * 127.5 + 127.5, 0, 255).astype(np.uint8)
    levels = [level]
    while level.shape[0] > 4:
        half = (level.shape[1] // 2, level.shape[0] // 2)
        level = np.asarray(cv2.resize(level, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        levels.append(level)
    return Tile(tuple(levels), side_m)


def _noise(rng: Rng, *cells: int, persistence: float = 0.7) -> Grey:
    return value_noise(rng, cells, persistence, _SIDE_PX)


def _asphalt(rng: Rng) -> Grey:
    grey = 0.22 * _noise(rng, 64, 128, 256, persistence=1.0) + 0.16 * _noise(rng, 2, 4, 8, 16)
    crack = np.abs(_noise(rng, 3, 6, 12, 24)) < 0.02
    return np.asarray(np.where(crack, grey - 0.5, grey), dtype=np.float32)


def _plaster(rng: Rng) -> Grey:
    return 0.18 * _noise(rng, 2, 4, 8, 16, 32) + 0.08 * _noise(rng, 64, 128)


def _grass(rng: Rng) -> Grey:
    blades = cv2.blur(_noise(rng, 64, 128, 256, persistence=1.2), (1, 3))
    return np.asarray(0.3 * blades + 0.2 * _noise(rng, 2, 4, 8, 16), dtype=np.float32)


def _earth(rng: Rng) -> Grey:
    return 0.25 * _noise(rng, 4, 8, 16, 32, 64, 128, persistence=0.85)


def _cells(
    rng: Rng, rows: int, columns: int, *, stagger: float, gap_px: int, gap: float, spread: float
) -> Grey:
    """Return staggered stones of random greys with gaps of another between them."""
    high, wide = _SIDE_PX // rows, _SIDE_PX // columns
    y, x = np.mgrid[0:_SIDE_PX, 0:_SIDE_PX]
    row = y // high
    shifted = (x + (row % 2) * int(wide * stagger)) % _SIDE_PX
    shades = rng.standard_normal((_SIDE_PX // high + 1, _SIDE_PX // wide + 1)) * spread
    grey = shades[row, shifted // wide] + 0.1 * _noise(rng, 32, 64, 128)
    seam = (y % high < gap_px) | (shifted % wide < gap_px)
    return np.asarray(np.where(seam, gap, grey), dtype=np.float32)


def _brick(rng: Rng) -> Grey:
    light = 0.6 if rng.random() < 0.6 else -0.6
    return _cells(rng, 32, 16, stagger=0.5, gap_px=1, gap=light, spread=0.2) + 0.12 * _noise(rng, 2, 4, 8)


def _pavement(rng: Rng) -> Grey:
    side = int(rng.choice([4, 8]))
    return _cells(rng, side, side, stagger=float(rng.choice([0.0, 0.5])), gap_px=3, gap=-0.5, spread=0.12)


def _stone(rng: Rng) -> Grey:
    return _cells(rng, 8, 4, stagger=0.5, gap_px=3, gap=-0.6, spread=0.25) + 0.15 * _noise(rng, 8, 16, 32)


def _tiles(rng: Rng) -> Grey:
    gap = float(rng.choice([-0.6, 0.5]))
    return _cells(rng, 4, 4, stagger=0.0, gap_px=3, gap=gap, spread=0.08) + 0.06 * _noise(rng, 2, 4)


def _checks(rng: Rng) -> Grey:
    y, x = np.mgrid[0:_SIDE_PX, 0:_SIDE_PX] // (_SIDE_PX // 4)
    return np.asarray(((x + y) % 2) * 1.1 - 0.55 + 0.08 * _noise(rng, 4, 8, 64), dtype=np.float32)


def _wood(rng: Rng) -> Grey:
    rows = rng.standard_normal((_SIDE_PX, 1)).astype(np.float32)
    bend = np.cumsum(cv2.resize(_noise(rng, 2, 4), (_SIDE_PX, _SIDE_PX)), axis=1) * 0.05
    y = (np.arange(_SIDE_PX)[:, None] + bend.astype(np.int64)) % _SIDE_PX
    return np.asarray(0.16 * rows[y, 0] + 0.15 * _noise(rng, 2, 4, 8), dtype=np.float32)


def _boards(rng: Rng) -> Grey:
    grain = _wood(rng)
    planks = _cells(rng, 8, 2, stagger=0.5, gap_px=2, gap=-0.8, spread=0.25)
    return np.asarray(np.where(planks < -0.75, planks, planks + 0.6 * grain), dtype=np.float32)


def _fabric(rng: Rng) -> Grey:
    y, x = np.mgrid[0:_SIDE_PX, 0:_SIDE_PX]
    weave = np.sin(x * (np.pi / 2)) * np.sin(y * (np.pi / 2))
    return np.asarray(0.12 * weave + 0.14 * _noise(rng, 4, 8, 16) + 0.1 * _noise(rng, 128), dtype=np.float32)


def _stripes(rng: Rng) -> Grey:
    x = np.arange(_SIDE_PX)[None, :]
    wave = np.sign(np.sin(x * (2 * np.pi * int(rng.choice([4, 8, 16])) / _SIDE_PX)))
    return np.asarray(0.45 * wave + 0.1 * _noise(rng, 4, 64), dtype=np.float32)


def _carpet(rng: Rng) -> Grey:
    y, x = np.mgrid[0:_SIDE_PX, 0:_SIDE_PX] * (2 * np.pi / _SIDE_PX)
    count = int(rng.choice([2, 4, 6]))
    figure = np.sign(np.sin(count * x) * np.cos(count * y) + 0.5 * np.cos(2 * count * (x + y)))
    return np.asarray(0.4 * figure + 0.12 * _noise(rng, 64, 128), dtype=np.float32)


def _shingles(rng: Rng) -> Grey:
    rows = _cells(rng, 16, 16, stagger=0.5, gap_px=2, gap=-0.6, spread=0.2)
    return rows + 0.2 * _noise(rng, 2, 4, 8)


def _leaves(rng: Rng) -> Grey:
    return 0.35 * _noise(rng, 16, 32, 64, 128, persistence=0.95)


_RECIPES: dict[str, tuple[Callable[[Rng], Grey], float]] = {
    "asphalt": (_asphalt, 4.0),
    "plaster": (_plaster, 5.0),
    "grass": (_grass, 3.0),
    "earth": (_earth, 4.0),
    "brick": (_brick, 3.2),
    "pavement": (_pavement, 3.0),
    "stone": (_stone, 3.0),
    "tiles": (_tiles, 1.6),
    "checks": (_checks, 2.4),
    "wood": (_wood, 1.2),
    "boards": (_boards, 1.8),
    "fabric": (_fabric, 1.0),
    "stripes": (_stripes, 1.6),
    "carpet": (_carpet, 1.5),
    "shingles": (_shingles, 4.0),
    "leaves": (_leaves, 2.0),
}
