"""The ground of a street: road, pavements and verges, with what is painted on them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Image
from ovsdino.scenes.materials import Material, Tile, material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.road import Road
from ovsdino.scenes.stage import UP, Stage

_MARKED_M = 70.0  # lines farther away are thinner than a sample
KERB_M = 0.13


class Ground:
    """Paints flat pieces of ground.

    A sample's place on the ground is worked out once, for all materials.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        height, width = stage.canvas.size_hw
        camera = stage.camera
        self._top = int(np.clip(camera.horizon_px() - 0.12 * width, 0, height))
        inverse = np.linalg.inv(camera.plane(np.zeros(3), np.array([1.0, 0, 0]), np.array([0.0, 0, 1])))
        rows = np.arange(self._top, height, dtype=np.float32)[:, None]
        columns = np.arange(width, dtype=np.float32)[None, :]
        m = inverse.astype(np.float32)
        weight = m[2, 0] * columns + m[2, 1] * rows + m[2, 2]
        # What is behind the horizon is never painted; it must only not overflow.
        weight = 1 / np.where(np.abs(weight) < 1e-6, np.float32(1e-6), weight)
        self._x = np.clip((m[0, 0] * columns + m[0, 1] * rows + m[0, 2]) * weight, -4e3, 4e3)
        self._z = np.clip((m[1, 0] * columns + m[1, 1] * rows + m[1, 2]) * weight, -4e3, 4e3)
        middle = self._z[:, width // 2] if height > self._top else np.zeros(0, dtype=np.float32)
        depth = np.hypot(middle, stage.camera.position[1])
        depth = np.where(middle > 0, depth, 4e3)
        self._metres = depth * depth / (camera.focal_px * max(camera.position[1], 0.5))  # along the view
        share = 1 - np.exp(-depth / stage.light.haze_m)
        self._haze = share.astype(np.float32)
        self._grey: dict[int, Image] = {}

    def piece(self, outline: Points, made_of: Material, thing: Thing, lift: float = 1.0) -> None:
        """Paint a polygon of ground, [N, 3].

        Args:
            outline: its corners.
            made_of: its material.
            thing: its class.
            lift: factor of its brightness.
        """
        stage = self._stage
        grey = self._pattern(made_of.tile)
        ramp = made_of.lit(stage.light.on(UP) * lift, stage.light.horizon_rgb, 0.0)
        top_row = self._top

        def shade(top: int, bottom: int, left: int, right: int) -> Image:
            first = max(top, top_row)
            part = np.ascontiguousarray(grey[first - top_row : bottom - top_row, left:right])
            if part.size == 0:
                return np.broadcast_to(ramp[128], (bottom - top, right - left, 3)).copy()
            colours = np.asarray(cv2.applyColorMap(part, ramp), dtype=np.uint8)
            hazy = int(np.searchsorted(-self._haze[first - top_row : bottom - top_row], -0.03))
            if hazy:
                share = self._haze[first - top_row : first - top_row + hazy, None, None]
                haze = stage.light.horizon_rgb.astype(np.float32)
                colours[:hazy] = colours[:hazy] * (1 - share) + haze * share
            if first > top:
                colours = np.concatenate([np.repeat(colours[:1], first - top, axis=0), colours])
            return colours

        stage.canvas.shaded(stage.camera.outline(outline), shade, thing)

    def _pattern(self, tile: Tile) -> Image:
        """Return a tile as it lies on all the ground, uint8 [rows, W]."""
        key = id(tile)
        if key in self._grey:
            return self._grey[key]
        texels = np.maximum(self._metres * (tile.levels[0].shape[0] / tile.side_m), 1e-6)
        levels = np.clip(np.round(np.log2(texels)), 0, len(tile.levels) - 1).astype(np.intp)
        grey = np.empty(self._x.shape, dtype=np.uint8)
        starts = np.flatnonzero(np.diff(levels, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(levels)], strict=True):
            texture = tile.levels[levels[start]]
            side = texture.shape[0]
            scale = np.float32(side / tile.side_m)
            rows = (self._z[start:stop] * scale).astype(np.int32) & (side - 1)
            columns = (self._x[start:stop] * scale).astype(np.int32) & (side - 1)
            grey[start:stop] = texture.reshape(-1).take(rows * side + columns)
        self._grey[key] = grey
        return grey


def paint_ground(stage: Stage, road: Road, rng: Rng) -> None:
    """Paint all ground from the near edge to the horizon."""
    ground = Ground(stage)
    dry = between(rng, 0, 1)
    green = np.array([74, 108, 44]) * (1 - dry) + np.array([136, 126, 72]) * dry
    lawn = material("grass", rng, green * between(rng, 0.8, 1.15), 0.55)
    grey = between(rng, 84, 150) + rng.uniform(-5, 5, 3)
    asphalt = material("asphalt", rng, grey, between(rng, 0.2, 0.4))
    warm = np.array([between(rng, 130, 178)] * 3) * (1.0, between(rng, 0.93, 1.0), between(rng, 0.84, 1.0))
    paving = material(
        str(rng.choice(["pavement", "pavement", "stone", "asphalt", "plaster"])), rng, warm, 0.4
    )
    everywhere = np.array([[-900.0, 0, -9], [-900, 0, 900], [900, 0, 900], [900, 0, -9]])
    paved = [verge < 2.0 for verge in road.verges]
    ground.piece(everywhere, paving if all(paved) else lawn, Thing.SIDEWALK if all(paved) else Thing.GRASS)
    for side, walk, is_paved in zip((-1, 1), road.walks, paved, strict=True):
        if is_paved and not all(paved):
            edge = sorted((side * road.half_width, side * 40.0))
            ground.piece(road.strip(edge[0], edge[1], -6, 400), paving, Thing.SIDEWALK)
        elif walk > 0:
            edge = sorted((side * road.half_width, side * (road.half_width + walk)))
            ground.piece(road.strip(edge[0], edge[1], -6, 400, KERB_M * 0.3), paving, Thing.SIDEWALK)
    ground.piece(road.strip(-road.half_width, road.half_width, -6, 400), asphalt, Thing.ROAD)
    if road.crossing_z is not None:
        _cross_road(ground, road, asphalt)
    _kerbs(stage, road, rng)
    _markings(ground, road, asphalt, rng)
    _patches(ground, road, asphalt, rng)


def _cross_road(ground: Ground, road: Road, asphalt: Material) -> None:
    x, z = road.at(road.crossing_z or 0.0, 0.0)
    half = 4.0
    ground.piece(
        np.array(
            [[x - 200, 0, z - half], [x - 200, 0, z + half], [x + 200, 0, z + half], [x + 200, 0, z - half]]
        ),
        asphalt,
        Thing.ROAD,
    )


def _kerbs(stage: Stage, road: Road, rng: Rng) -> None:
    """Paint the kerbs' upright sides, as part of the pavement."""
    base = np.full(3, between(rng, 140, 190))
    for side, walk in zip((-1, 1), road.walks, strict=True):
        if walk <= 0:
            continue
        pieces = [(-5.0, 60.0)]
        if road.crossing_z is not None:
            pieces = [(-5.0, road.crossing_z - 4), (road.crossing_z + 4, road.crossing_z + 60)]
        for near, far in pieces:
            low, high = sorted((side * road.half_width, side * (road.half_width + 0.22)))
            outline = stage.camera.outline(road.strip(low, high, near, far, KERB_M * 0.6))
            if outline is not None:
                stage.canvas.polygon(outline, stage.colour(base, UP, 15.0), Thing.SIDEWALK)


def _markings(ground: Ground, road: Road, asphalt: Material, rng: Rng) -> None:
    """Paint lines, arrows and crossings in worn white or yellow."""
    if chance(rng, 0.1):
        return
    wear = between(rng, 0.6, 1.0)
    white = _paint(asphalt, np.array([238.0, 238, 232]), wear)
    yellow = _paint(asphalt, np.array([226.0, 184, 60]), wear)
    centre = yellow if chance(rng, 0.25) else white
    lanes = max(1, round((road.half_width - 0.3) / road.lane))
    width = between(rng, 0.1, 0.18)
    hole = None if road.crossing_z is None else (road.crossing_z - 9, road.crossing_z + 6)

    def line(offset: float, colour: Material, dash: float) -> None:
        z = -4.0 + between(rng, 0, 4)
        step = dash * 2.2 if dash else 25.0
        while z < _MARKED_M:
            end = z + (dash or step)
            if hole is None or end < hole[0] or z > hole[1]:
                ground.piece(road.strip(offset - width / 2, offset + width / 2, z, end), colour, Thing.ROAD)
            z += step

    if lanes >= 1 and road.half_width > 3:
        line(0.0, centre, 0.0 if chance(rng, 0.3) else between(rng, 2, 4))
    for lane in range(1, lanes):
        for side in (-1, 1):
            line(side * lane * road.lane, white, between(rng, 1.5, 3))
    if chance(rng, 0.45):
        for side in (-1, 1):
            line(side * (road.half_width - 0.35), yellow if chance(rng, 0.3) else white, 0.0)
    zebra = hole[0] + 2 if hole is not None else between(rng, 7, 30)
    if chance(rng, 0.75 if hole is not None else 0.25):
        step, bar = 1.0, between(rng, 0.45, 0.6)
        for offset in np.arange(-road.half_width + 0.5, road.half_width - 0.5, step):
            ground.piece(road.strip(offset, offset + bar, zebra, zebra + 3.2), white, Thing.ROAD)


def _patches(ground: Ground, road: Road, asphalt: Material, rng: Rng) -> None:
    """Paint repaired asphalt and manholes."""
    for _ in range(int(rng.integers(0, 4))):
        z, offset = between(rng, 4, 40), between(rng, -1, 1) * (road.half_width - 1.5)
        size = rng.uniform(0.6, 2.4, 2)
        ground.piece(road.strip(offset, offset + size[0], z, z + 3 * size[1]), asphalt, Thing.ROAD, 0.8)
    for _ in range(int(rng.integers(0, 3))):
        x, z = road.at(between(rng, 5, 25), between(rng, -1, 1) * (road.half_width - 1))
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        rim = np.stack([x + 0.35 * np.cos(angles), np.zeros(12), z + 0.35 * np.sin(angles)], axis=1)
        ground.piece(rim, asphalt, Thing.ROAD, 0.5)


def _paint(asphalt: Material, colour: NDArray[np.float64], wear: float) -> Material:
    """Return paint on asphalt: the same pattern, the dark pits of which show through."""
    steps = np.clip(np.linspace(-0.6, 2.2, 256), 0, 1)[:, None] * wear
    return Material(asphalt.tile, asphalt.ramp * (1 - steps) + colour * (0.75 + 0.25 * steps) * steps)
