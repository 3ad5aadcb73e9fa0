"""An upright figure that faces the camera: limbs, ellipses and polygons in one plane."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.names import Thing
from ovsdino.scenes.stage import Stage

_NEAREST_M = 0.9


class Figure:
    """Draws limbs on an upright plane at a place, which faces the camera."""

    def __init__(self, stage: Stage, foot: tuple[float, float, float], scale: float, thing: Thing) -> None:
        self._stage = stage
        self._thing = thing
        self._foot = np.array(foot)
        right = stage.camera.axes[0] * (1, 0, 1)
        self._right = right / np.linalg.norm(right)
        self._depth = stage.camera.distance(foot)
        self._fine = stage.camera.scale(self._depth) > 45  # nearer than that, limbs look round
        toward = stage.camera.axes[2] * (-1, 0, -1)
        lit = stage.light
        front = lit.on(toward / np.linalg.norm(toward)) + 0.5 * lit.on(np.array([0.0, 1.0, 0.0]))
        self._light: list[float] = (front / 1.4).tolist()
        share = lit.haze(self._depth)
        self._haze: tuple[float, list[float]] = (1 - share, (lit.horizon_rgb * share).tolist())
        ahead = float(stage.camera.project(np.array([foot]))[1][0]) > _NEAREST_M
        # All shapes lie in one plane: one homography maps them, from body heights to samples.
        self._map = (
            stage.camera.plane(self._foot, self._right * scale, np.array([0.0, scale, 0.0]))
            if ahead and stage.sees_upright(foot, 0.8, 2.0)
            else None
        )
        self._sun_side = 1.0 if float(self._right @ lit.sun) > 0 else -1.0

    def shape(self, points: ArrayLike, base: Colour) -> None:
        """Paint a polygon [N, 2] of x and y in body heights."""
        if self._map is None:
            return
        seen = np.asarray(points, dtype=np.float64) @ self._map[:, :2].T + self._map[:, 2]
        red, green, blue = (
            min(255.0, own * light) for own, light in zip(base.tolist(), self._light, strict=True)
        )
        share, haze = self._haze
        colour = (red * share + haze[0], green * share + haze[1], blue * share + haze[2])
        self._stage.canvas.polygon(seen[:, :2] / seen[:, 2:], colour, self._thing)

    def limb(self, joints: list[tuple[float, float]], widths: list[float], base: Colour) -> None:
        """Paint a limb that tapers along its joints, darker on the side away from the sun."""
        for (start, end), (first, last) in zip(pairwise(joints), pairwise(widths), strict=True):
            axis = np.subtract(end, start)
            across = np.array([-axis[1], axis[0]]) / max(float(np.hypot(*axis)), 1e-6)
            quad = np.array(
                [start + across * first, end + across * last, end - across * last, start - across * first]
            )
            self.shape(quad, base)
            if not self._fine:
                continue
            self.ellipse(end, (last, last), base)
            lit_side = across if across[0] * self._sun_side > 0 else -across
            shaded = np.array([start, end, end - lit_side * last, start - lit_side * first])
            self.shape(shaded, base * 0.8)

    def ellipse(self, centre: ArrayLike, radii: tuple[float, float], base: Colour) -> None:
        """Paint an ellipse."""
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        ring = np.stack([np.cos(angle) * radii[0], np.sin(angle) * radii[1]], axis=1)
        self.shape(ring + np.asarray(centre), base)


def footprint(foot: tuple[float, float, float], radius: float) -> Points:
    """Return a round thing's outline on the ground, [N, 2] x and z."""
    angle = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    return np.stack([foot[0] + radius * np.cos(angle), foot[2] + radius * np.sin(angle)], axis=1)
