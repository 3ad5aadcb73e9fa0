"""Fences and garden walls along a street."""

from __future__ import annotations

import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.materials import material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between
from ovsdino.scenes.road import Road
from ovsdino.scenes.stage import Stage, rise


def add_fence(stage: Stage, road: Road, offset: float, span: tuple[float, float], rng: Rng) -> None:
    """Have a fence painted along the road: boards, pickets, a railing or a crash barrier.

    The gaps of a railing belong to it, as where people label.
    """
    kind = str(rng.choice(["boards", "pickets", "railing", "barrier"]))
    height = {"boards": 1.6, "pickets": 1.0, "railing": 1.1, "barrier": 0.75}[kind] * between(rng, 0.9, 1.2)
    colours = {
        "boards": (132, 98, 66),
        "pickets": (214, 210, 200),
        "railing": (52, 58, 60),
        "barrier": (160, 164, 168),
    }
    base = np.array(colours[kind], dtype=np.float64) * rng.uniform(0.75, 1.1)
    wood = material("boards", rng, base, 0.4)
    step = 2.5
    for z in np.arange(span[0], span[1], step):
        ends = [road.at(float(edge), offset) for edge in (z, z + step)]
        foot = np.array([ends[0][0], 0.0, ends[0][1]])
        along = np.array([ends[1][0] - ends[0][0], 0.0, ends[1][1] - ends[0][1]])
        stage.cast(np.array([ends[0], ends[1]]), height, 1.0 if kind == "boards" else 0.5)

        def paint(foot: Points = foot, along: Points = along) -> None:
            if kind == "boards":
                stage.surface(foot, (0, height, 0), along, wood, Thing.FENCE)
            elif kind == "barrier":
                low = foot + rise(height * 0.5)
                stage.face(
                    [foot, foot + along * 0.04, foot + along * 0.04 + rise(height), foot + rise(height)],
                    base * 0.7,
                    Thing.FENCE,
                )
                stage.face(
                    [low, low + along, low + along + rise(height * 0.5), low + rise(height * 0.5)],
                    base,
                    Thing.FENCE,
                )
                middle = low + rise(height * 0.2)
                stage.face(
                    [
                        middle,
                        middle + along,
                        middle + along + rise(height * 0.1),
                        middle + rise(height * 0.1),
                    ],
                    base * 0.7,
                    Thing.FENCE,
                )
            else:
                _bars(stage, foot, along, height, base, kind == "pickets")

        stage.later(stage.order((ends[1][0], 0, ends[1][1])) - 0.3, paint)


def _bars(stage: Stage, foot: Points, along: Points, height: float, base: Colour, pickets: bool) -> None:
    """Paint upright bars; what is seen between them keeps its colour, but is labelled as the fence."""
    up = np.array([0.0, height, 0.0])
    outline = stage.camera.outline(np.array([foot, foot + along, foot + along + up, foot + up]))
    stage.canvas.claim(outline, Thing.FENCE)
    count, share = (14, 0.7) if pickets else (16, 0.34)
    for index in range(count):
        start = foot + along * (index / count)
        end = start + along * (share / count)
        stage.face([start, end, end + up, start + up], base * (0.92 + 0.08 * (index % 2)), Thing.FENCE)
    for level in (0.15, 0.8):
        low = foot + up * level
        stage.face([low, low + along, low + along + up * 0.08, low + up * 0.08], base * 0.8, Thing.FENCE)


def add_wall(stage: Stage, road: Road, offset: float, span: tuple[float, float], rng: Rng) -> None:
    """Have a garden wall painted along the road."""
    height = between(rng, 0.8, 2.4)
    kind, colour = [("brick", (146, 86, 66)), ("stone", (150, 144, 132)), ("plaster", (196, 188, 172))][
        int(rng.integers(3))
    ]
    made_of = material(kind, rng, np.array(colour) * rng.uniform(0.8, 1.1), 0.45)
    step = 6.0
    for z in np.arange(span[0], span[1], step):
        ends = [road.at(float(edge), offset) for edge in (z, min(z + step, span[1]))]
        foot = np.array([ends[0][0], 0.0, ends[0][1]])
        along = np.array([ends[1][0] - ends[0][0], 0.0, ends[1][1] - ends[0][1]])
        stage.cast(np.array([ends[0], ends[1]]), height)

        def paint(foot: Points = foot, along: Points = along) -> None:
            stage.surface(foot + rise(height), along, (0, -height, 0), made_of, Thing.WALL)
            cap = np.array([np.sign(offset) * 0.35, 0.0, 0.0])
            top = foot + rise(height)
            stage.face(
                [top, top + along, top + along + cap, top + cap], np.array([176.0, 170, 160]), Thing.WALL
            )
            stage.face(
                [top - (0, 0.1, 0), top - (0, 0.1, 0) + along, top + along, top],
                np.array([150.0, 146, 138]),
                Thing.WALL,
            )

        stage.later(stage.order((ends[1][0], 0, ends[1][1])) - 0.2, paint)
