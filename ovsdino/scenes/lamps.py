"""Rugs, and lamps that stand or hang."""

from __future__ import annotations

import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.materials import material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between
from ovsdino.scenes.solids import Spot, contact
from ovsdino.scenes.stage import Stage, rise


def add_rug(stage: Stage, corners: Points, rng: Rng) -> None:
    """Paint a rug on the floor now; corners are [4, 3], in order."""
    kind = str(rng.choice(["carpet", "carpet", "stripes", "fabric"]))
    colours = [(150, 56, 50), (60, 76, 112), (176, 160, 130), (104, 120, 96), (130, 96, 72), (196, 190, 180)]
    rug = material(
        kind, rng, np.array(colours[int(rng.integers(len(colours)))]) * between(rng, 0.8, 1.15), 0.45
    )
    stage.face(corners, rug.ramp[50], Thing.RUG)
    middle = corners.mean(axis=0)
    inner = middle + (corners - middle) * 0.92
    stage.surface(inner[0], inner[1] - inner[0], inner[3] - inner[0], rug, Thing.RUG)


def add_lamp(
    stage: Stage, foot: tuple[float, float, float], height: float, rng: Rng, *, hangs: bool = False
) -> None:
    """Have a lamp painted: on a stand of some height, or, hanging, on a cord of that length from its foot."""
    shade = np.array(
        [(240, 224, 190), (226, 200, 150), (200, 90, 60), (230, 230, 226), (120, 140, 150)][
            int(rng.integers(5))
        ],
        dtype=np.float64,
    )
    metal = np.full(3, between(rng, 30, 170))
    wide, tall = between(rng, 0.13, 0.24), between(rng, 0.18, 0.32)
    lit = stage.light.lamps

    def paint() -> None:
        right = stage.camera.axes[0] * (1, 0, 1)
        right = right / np.linalg.norm(right)
        start = np.array(foot)
        end = start + rise(-height if hangs else height)
        half = right * 0.016
        stage.face([start - half, end - half, end + half, start + half], metal, Thing.LAMP)
        if not hangs:
            stage.face(
                [
                    start - right * 0.13,
                    start - right * 0.1 + rise(0.04),
                    start + right * 0.1 + rise(0.04),
                    start + right * 0.13,
                ],
                metal,
                Thing.LAMP,
            )
        low, high = end - (0, tall, 0), end
        corners = np.array(
            [low - right * wide, high - right * wide * 0.6, high + right * wide * 0.6, low + right * wide]
        )
        if lit:
            outline = stage.camera.outline(corners)
            stage.canvas.polygon(outline, np.minimum(shade * 1.1 + 40, 255), Thing.LAMP)
            stage.glow((low + high) / 2, 1.1, (120.0, 96.0, 54.0))
        else:
            stage.face(corners, shade, Thing.LAMP)
            stage.face([low, high, corners[2], corners[3]], shade * 0.88, Thing.LAMP)

    stage.later(stage.camera.distance(foot) - 0.05, paint)
    if not hangs and foot[1] < 0.1:
        contact(stage, Spot(foot[0], foot[2] + 0.1, 0.0), (-0.12, 0.12, 0.0, 0.2))
