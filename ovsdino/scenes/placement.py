"""Where vehicles stand, and what their parts have in common: paint, glass, lights, shadows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.names import Thing
from ovsdino.scenes.stage import Stage, rise

PAINTS = [
    (188, 190, 194),
    (40, 42, 46),
    (232, 232, 230),
    (150, 26, 28),
    (34, 58, 120),
    (86, 90, 96),
    (30, 72, 58),
    (170, 150, 116),
    (112, 24, 34),
    (60, 104, 160),
    (206, 170, 40),
    (120, 128, 120),
    (72, 48, 40),
]
RED, WHITE, AMBER = np.array([170.0, 20, 16]), np.array([236.0, 236, 220]), np.array([226.0, 130, 20])
RUBBER, DARK = np.array([28.0, 28, 30]), np.array([20.0, 20, 22])


@dataclass(frozen=True)
class Place:
    """Where a thing stands on the ground: x, z and the direction it faces, radians from z to x."""

    x: float
    z: float
    turn: float

    def world(self, local: Points) -> Points:
        """Return world points [N, 3] of local ones: ahead, up, to its right."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        ahead, up, right = local[:, 0], local[:, 1], local[:, 2]
        return np.stack([self.x + ahead * sin + right * cos, up, self.z + ahead * cos - right * sin], axis=1)


def local_eye(stage: Stage, place: Place) -> Points:
    """Return the camera in a thing's own directions: ahead, up, right."""
    offset = stage.camera.position - (place.x, 0, place.z)
    cos, sin = np.cos(place.turn), np.sin(place.turn)
    return np.array([offset[0] * sin + offset[2] * cos, offset[1], offset[0] * cos - offset[2] * sin])


def paint_face(
    stage: Stage, place: Place, corners: list[tuple[float, float, float]], base: Colour, thing: Thing
) -> None:
    """Paint a flat polygon now, given in a vehicle's own directions."""
    stage.face(place.world(np.array(corners)), base, thing)


def glass_colour(stage: Stage) -> Colour:
    """Return the colour of a window, in which some sky is mirrored."""
    sky = stage.light.horizon_rgb
    return np.asarray(np.array([26.0, 30, 34]) + 0.12 * sky)


def ground_shadow(stage: Stage, place: Place, half_long: float, half_wide: float, height: float) -> None:
    """Have the shadow of a vehicle, and the dark below it, laid on the ground."""
    corners = np.array(
        [
            (-half_long, 0.0, -half_wide),
            (half_long, 0, -half_wide),
            (half_long, 0, half_wide),
            (-half_long, 0, half_wide),
        ]
    )
    world = place.world(corners)
    stage.cast(world[:, [0, 2]], height)
    stage.shadow(world + rise(0.01), 1.0)
