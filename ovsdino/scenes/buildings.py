"""Rows of buildings along a street: fronts, end walls and roofs in perspective."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from ovsdino.scenes.camera import Points
from ovsdino.scenes.facades import FacadeStyle, facade, random_style
from ovsdino.scenes.materials import Material, material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.road import Road
from ovsdino.scenes.stage import Stage, rise

_SLICE_M = 12.0  # a front along a bend is painted in pieces, so that each finds its depth
_FAR_M = 140.0


def build_row(stage: Stage, road: Road, side: int, rng: Rng) -> None:
    """Have the buildings on one side of a street painted; side is -1 (left) or 1."""
    z, hidden = -between(rng, 2, 14), 0.0
    tall = chance(rng, 0.3)
    houses = not tall and chance(rng, 0.35)
    gap_share = between(rng, 0.0, 0.5) if not houses else 0.8
    while z < _FAR_M:
        length = between(rng, 8, 14) if houses else between(rng, 8, 26)
        crossing = road.crossing_z
        if crossing is not None and z < crossing + 9 and z + length > crossing - 9:
            if z > crossing - 18:
                z, hidden = crossing + 9, 0.0
                continue
            length = min(length, crossing - 9 - z)
        height = (
            between(rng, 5, 7.5) if houses else between(rng, 6, 16) + (between(rng, 0, 26) if tall else 0)
        )
        _building(stage, road, side, (z, z + length), height, houses or chance(rng, 0.35), hidden, rng)
        gap = between(rng, 2, 9) if chance(rng, gap_share) else 0.0
        hidden = height if gap == 0 else 0.0
        z += length + gap
        if chance(rng, 0.04):
            z += between(rng, 15, 40)
            hidden = 0.0


def close_street(stage: Stage, road: Road, rng: Rng) -> None:
    """Have a building painted that stands across the end of the street."""
    z = between(rng, 45, 130)
    width, height = between(rng, 24, 60), between(rng, 7, 22)
    x = road.at(z, 0.0)[0] - width * between(rng, 0.3, 0.7)
    style = random_style(rng, lamps=stage.light.lamps, tall=height > 15)
    front = facade(style, width, height, rng.spawn(1)[0], detail=_detail(stage, z))

    def paint() -> None:
        stage.surface((x, height, z), (width, 0, 0), (0, -height, 0), front, Thing.BUILDING)
        if height < 12:
            _slope(stage, (x, height, z), (width, 0, 0), (0, 3.0, 4.0), _roof(rng))

    stage.later(stage.order((x + width / 2, 0, z)) + 5, paint)


def _roof(rng: Rng) -> Material:
    colours = [(150, 72, 52), (120, 66, 52), (84, 84, 92), (70, 64, 62), (112, 100, 92)]
    return material("shingles", rng, colours[int(rng.integers(len(colours)))], 0.45)


def _building(
    stage: Stage,
    road: Road,
    side: int,
    span: tuple[float, float],
    height: float,
    pitched: bool,
    hidden: float,
    rng: Rng,
) -> None:
    """Have one building painted: its front towards the road, the wall that faces the camera, its roof.

    Args:
        stage: where it is painted.
        road: what it stands along.
        side: -1 (left) or 1.
        span: where along the road it begins and ends.
        height: of its front.
        pitched: whether its roof is.
        hidden: how high the next building towards the camera hides its end wall.
        rng: for all else.
    """
    near, far = span
    style = random_style(rng, lamps=stage.light.lamps, tall=height > 16)
    own = rng.spawn(1)[0]
    detail = _detail(stage, max(near, 2.0))
    front = lru_cache(maxsize=1)(lambda: facade(style, far - near, height, own.spawn(1)[0], detail=detail))
    offset = side * (road.edge(side) + between(rng, 0, 0.6))
    depth = between(rng, 8, 13)
    roof = _roof(rng)
    ridge = between(rng, 1.8, 3.6) if pitched else 0.0
    pieces = 1 if road.bend == 0 else max(1, round((far - near) / _SLICE_M))
    edges = np.linspace(near, far, pieces + 1)
    for index in range(pieces):
        start, stop = float(edges[index]), float(edges[index + 1])
        if stop < 0.5:
            continue
        corners = [road.at(z, offset) for z in (start, stop)]
        foot = np.array([corners[0][0], 0.0, corners[0][1]])
        along = np.array([corners[1][0] - corners[0][0], 0.0, corners[1][1] - corners[0][1]])

        def paint(foot: Points = foot, along: Points = along, index: int = index) -> None:
            if not stage.sees(
                [foot, foot + along, foot + along + rise(height + ridge), foot + rise(height + ridge)]
            ):
                return
            whole = front()
            columns = [round(whole.shape[1] * part / pieces) for part in (index, index + 1)]
            part = np.ascontiguousarray(whole[:, columns[0] : max(columns[1], columns[0] + 1)])
            stage.surface(foot + rise(height), along, (0, -height, 0), part, Thing.BUILDING)
            if pitched:
                eaves = foot + np.array([-side * 0.4, height - 0.1, 0.0])
                _slope(stage, eaves, along, (side * (depth / 2 + 0.4), ridge, 0), roof)

        stage.later(stage.order((corners[1][0], 0, stop)), paint)
    if near > 0.3 and height + ridge > hidden:
        _end_wall(stage, road, (near, offset, side * depth), (height, ridge), style, rng)
    ends = [road.at(z, offset) for z in span]
    stage.cast(
        np.array(
            [
                ends[0],
                ends[1],
                (ends[1][0] + side * depth, ends[1][1]),
                (ends[0][0] + side * depth, ends[0][1]),
            ]
        ),
        height + ridge,
    )
    if pitched and chance(rng, 0.6):
        _chimney(stage, road, side, (between(rng, near, far), offset + side * depth / 2), height + ridge)


def _detail(stage: Stage, distance: float) -> float:
    """Return the texels a metre that a facade at a distance deserves."""
    return float(np.clip(0.7 * stage.camera.scale(distance), 6, 20))


def _slope(stage: Stage, eaves: ArrayLike, along: ArrayLike, up: ArrayLike, roof: Material) -> None:
    """Paint one side of a roof if its upper side is seen."""
    normal = np.cross(np.asarray(along, dtype=np.float64), np.asarray(up, dtype=np.float64))
    normal = normal if normal[1] > 0 else -normal
    if normal @ (stage.camera.position - np.asarray(eaves, dtype=np.float64)) > 0:  # its upper side is seen
        stage.surface(eaves, along, up, roof, Thing.BUILDING)


def _end_wall(
    stage: Stage,
    road: Road,
    place: tuple[float, float, float],
    heights: tuple[float, float],
    style: FacadeStyle,
    rng: Rng,
) -> None:
    near, offset, depth = place
    height, ridge = heights
    x, z = road.at(near, offset)
    own = rng.spawn(1)[0]

    def paint() -> None:
        if not stage.sees(
            [(x, 0, z), (x + depth, 0, z), (x + depth, height + ridge, z), (x, height + ridge, z)]
        ):
            return
        picture = facade(style, abs(depth), height, own.spawn(1)[0], door=False, detail=_detail(stage, near))
        stage.surface((x, height, z), (depth, 0, 0), (0, -height, 0), picture, Thing.BUILDING)
        if ridge:
            gable = ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0))
            stage.surface(
                (x, height, z), (depth, 0, 0), (0, ridge, 0), style.wall, Thing.BUILDING, corners=gable
            )

    stage.later(stage.order((x, 0, z)), paint)


def _chimney(stage: Stage, road: Road, side: int, place: tuple[float, float], height: float) -> None:
    x, z = road.at(place[0], place[1])
    if z < 3:
        return

    def paint() -> None:
        base = np.array([128.0, 78, 62])
        front, flank = (x - 0.25, (0.5, 0.0, 0.0)), (x - side * 0.25, (0.0, 0.0, 0.7))
        for left, edge in (front, flank):
            foot = np.array([left, height - 0.9, z])
            stage.face([foot, foot + edge, foot + edge + rise(1.9), foot + rise(1.9)], base, Thing.BUILDING)

    stage.later(stage.order((x, 0, z)) + 0.5, paint)
