"""What lies behind everything: sky, clouds, mountains, and the far end of the town."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino.scenes.canvas import Colour, Image
from ovsdino.scenes.materials import Material, material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance, noise_tile, noise_window
from ovsdino.scenes.stage import Stage

_DETAIL = 8  # the sky is painted at an eighth of the canvas's resolution


def paint_sky(stage: Stage, rng: Rng) -> None:
    """Fill the canvas with sky."""
    height, width = stage.canvas.size_hw
    colours = cv2.resize(_sky(stage, rng), (width, height), interpolation=cv2.INTER_LINEAR)
    everything = np.full((height, width), 255, dtype=np.uint8)
    stage.canvas.stamp(np.asarray(colours, dtype=np.uint8), everything, (0, 0), Thing.SKY)


def _sky(stage: Stage, rng: Rng) -> Image:
    """Return the sky, uint8 [H/8, W/8, 3]: a gradient from the horizon up, and a layer of clouds."""
    light, camera = stage.light, stage.camera
    height, width = (max(2, side // _DETAIL) for side in stage.canvas.size_hw)
    rows = (np.arange(height) + 0.5) * _DETAIL
    rise = np.maximum((camera.horizon_px() - rows) / camera.focal_px, 0.004)  # tangent of the elevation
    up = np.clip(rise * 1.3, 0, 1)[:, None, None] ** 0.7
    sky = light.horizon_rgb * (1 - up) + light.zenith_rgb * up
    sky = np.broadcast_to(sky, (height, width, 3)).astype(np.float32)
    tile = noise_tile("cloud", rng)
    drift, scale = rng.integers(256, size=2), between(rng, 25, 70)
    columns = ((np.arange(width) + 0.5) * _DETAIL - camera.centre_px[0]) / camera.focal_px
    # Clouds lie in a layer overhead, so they crowd towards the horizon.
    far = np.minimum(1 / (rise + 0.12), 9.0)
    x = (columns[None, :] * far[:, None] * scale + drift[0]).astype(np.int64) % 256
    y = np.broadcast_to((far * scale * 1.4 + drift[1]).astype(np.int64)[:, None] % 256, x.shape)
    density = tile[y, x] + 2.6 * (light.clouds - 0.55)
    softness = between(rng, 0.5, 1.6)
    cover = np.clip(density / softness, 0, 1)[..., None] * between(rng, 0.6, 0.95)
    thick = np.clip(density / 3, 0, 1)[..., None]
    white = np.clip(light.horizon_rgb * 0.55 + light.sun_rgb * 95 + light.ambient_rgb * 60, 0, 255)
    base = white * (0.72 if not light.lamps else 0.8)
    cloud = white * (1 - thick) + base * thick
    return np.asarray(np.clip(sky * (1 - cover) + cloud * cover, 0, 255), dtype=np.uint8)


def paint_distance(stage: Stage, rng: Rng) -> None:
    """Paint what stands at the horizon: perhaps mountains or hills, then far woods and houses."""
    if chance(rng, 0.3):
        colour = _pick(rng, [(96, 104, 112), (92, 110, 84), (116, 104, 92), (88, 96, 118)])
        for distance in (900.0, 500.0)[: int(rng.integers(1, 3))]:
            _ridge(stage, rng, distance, distance * between(rng, 0.10, 0.26), colour, Thing.MOUNTAIN)
            colour = colour * 0.85
    if chance(rng, 0.75):
        _skyline(stage, rng)
    if chance(rng, 0.8):
        green = np.array([72, 88, 52]) * between(rng, 0.6, 1.1)
        _ridge(stage, rng, 190.0, between(rng, 5, 13), green, Thing.TREE)


def _ridge(
    stage: Stage, rng: Rng, distance: float, height: float, colour: NDArray[np.float64], thing: Thing
) -> None:
    """Paint a far silhouette, all across the picture, of an uneven top."""
    outline = noise_window(rng, "cloud" if thing is Thing.MOUNTAIN else "leaf", 1, 220)[0]
    x = np.linspace(-1.6, 1.6, len(outline)) * distance
    y = height * np.clip(0.62 + 0.26 * outline, 0.05, 1.5)
    top = np.stack([x, y, np.full(len(x), distance)], axis=1)
    foot = top[[-1, 0]] * (1, 0, 1) - (0, 4, 0)
    made_of = material("leaves" if thing is Thing.TREE else "earth", rng, colour, 0.5)
    # The texture's scale is the picture's: a far surface shows coarse features only.
    grain = distance / (4 if thing is Thing.TREE else 12)
    low, high = np.array([x[0], -4.0, distance]), float(y.max()) + 4
    share = [((p[0] - x[0]) / (x[-1] - x[0]), (p[1] + 4) / high) for p in np.concatenate([top, foot])]
    stage.surface(low, (x[-1] - x[0], 0, 0), (0, high, 0), _coarser(made_of, grain / 8), thing, corners=share)


def _coarser(made_of: Material, times: float) -> Material:
    """Return a material whose pattern is so many times as large."""
    return replace(made_of, tile=replace(made_of.tile, side_m=made_of.tile.side_m * times))


def _skyline(stage: Stage, rng: Rng) -> None:
    """Paint far blocks of houses."""
    x, end = -320.0, 320.0
    while x < end:
        width = between(rng, 10, 38)
        if chance(rng, 0.8):
            distance, height = between(rng, 200, 300), between(rng, 6, 12) + 40 * between(rng, 0, 0.75) ** 3
            base = _pick(rng, [(150, 140, 128), (128, 112, 100), (160, 160, 162), (120, 104, 92)])
            block = _block(rng, base, stage.light.lamps)
            stage.surface((x, height, distance), (width, 0, 0), (0, -height - 2, 0), block, Thing.BUILDING)
        x += width * between(rng, 0.6, 1.3)


def _block(rng: Rng, base: NDArray[np.float64], lamps: bool) -> Image:
    """Return a far facade, uint8 [h, w, 3]: rows of dark or lit windows."""
    rows, columns = int(rng.integers(3, 12)), int(rng.integers(4, 12))
    grid = np.broadcast_to(base, (rows * 3, columns * 3, 3)).copy()
    panes = np.where(
        rng.random((rows, columns, 1)) < (0.35 if lamps else 0.0), (900.0, 700.0, 400.0), base * 0.5
    )
    grid[1::3, 1::3] = panes
    grid[1::3, 2::3] = panes
    grid *= rng.uniform(0.93, 1.07, (rows * 3, columns * 3, 1))
    return np.clip(grid, 0, 255).astype(np.uint8)


def _pick(rng: Rng, options: list[tuple[int, int, int]]) -> Colour:
    return np.array(options[int(rng.integers(len(options)))], dtype=np.float64)
