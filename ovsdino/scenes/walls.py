"""A room's shell: walls, floor and ceiling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour, Image
from ovsdino.scenes.materials import Material, material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.stage import Stage, rise


@dataclass(frozen=True)
class Wall:
    """A wall seen from inside.

    Attributes:
        corner: its lower left corner.
        along: unit vector to its right.
        out: unit vector into the room.
        length: in metres.
        height: in metres.
    """

    corner: Points
    along: Points
    out: Points
    length: float
    height: float

    def at(self, s: float, y: float, o: float = 0.0) -> Points:
        """Return the point `s` along, `y` up and `o` into the room."""
        return np.asarray(self.corner + self.along * s + self.out * o + rise(y))

    def panel(
        self,
        stage: Stage,
        box: tuple[float, float, float, float],
        made_of: Material | Image | Colour,
        thing: Thing,
        lift: float = 0.0,
        *,
        glows: bool = False,
    ) -> None:
        """Paint a rectangle (left, right, bottom, top) that is parallel to the wall, `lift` before it."""
        left, right, low, high = box
        start = self.at(left, high, lift)
        if isinstance(made_of, np.ndarray) and made_of.ndim == 1:
            corners = [start, self.at(right, high, lift), self.at(right, low, lift), self.at(left, low, lift)]
            stage.face(corners, made_of, thing)
        else:
            surface: Material | Image = (
                made_of if isinstance(made_of, Material) else np.asarray(made_of, dtype=np.uint8)
            )
            stage.surface(start, self.along * (right - left), (0, low - high, 0), surface, thing, glows=glows)


def room_walls(width: float, depth: float, height: float) -> tuple[Wall, Wall, Wall]:
    """Return the left, back and right wall of a room that reaches from z = -1 to `depth`."""
    x, z = np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
    left = Wall(np.array([-width / 2, 0, -1.0]), z, x, depth + 1, height)
    back = Wall(np.array([-width / 2, 0, depth]), x, -z, width, height)
    right = Wall(np.array([width / 2, 0, depth]), -z, -x, depth + 1, height)
    return left, back, right


def paint_shell(stage: Stage, walls: tuple[Wall, Wall, Wall], rng: Rng) -> None:
    """Paint walls, floor and ceiling."""
    left, back, _ = walls
    width, depth, height = back.length, left.length, back.height
    paper = _wall_material(rng)
    accent = _wall_material(rng) if chance(rng, 0.3) else paper
    kind = str(rng.choice(["boards", "boards", "tiles", "checks", "fabric", "wood", "stone"]))
    floors = {
        "boards": [(168, 122, 80), (126, 84, 54), (196, 160, 116), (90, 64, 48)],
        "tiles": [(206, 200, 190), (150, 144, 138), (176, 120, 92)],
        "checks": [(168, 164, 158), (150, 110, 90)],
        "fabric": [(150, 138, 124), (96, 104, 124), (130, 84, 76)],
        "wood": [(172, 128, 84), (134, 96, 64)],
        "stone": [(170, 164, 154)],
    }[kind]
    floor = material(
        kind, rng, np.array(floors[int(rng.integers(len(floors)))]) * between(rng, 0.85, 1.12), 0.4
    )
    ceiling = material("plaster", rng, np.array([238.0, 236, 230]) * between(rng, 1.0, 1.4), 0.1)
    start = left.corner
    stage.surface(start + rise(height), (width, 0, 0), (0, 0, depth), ceiling, Thing.CEILING)
    stage.surface(start, (width, 0, 0), (0, 0, depth), floor, Thing.FLOOR)
    skirting = np.array([226.0, 222, 214]) * between(rng, 0.35, 1.0)
    for index, wall in enumerate(walls):
        wall.panel(stage, (0, wall.length, 0, height), accent if index == 1 else paper, Thing.WALL)
        wall.panel(stage, (0, wall.length, 0, 0.1), skirting, Thing.WALL, 0.01)
        if chance(rng, 0.25):
            wall.panel(stage, (0, wall.length, height - 0.08, height), skirting, Thing.WALL, 0.01)
    _corners(stage, walls, rng)


def _wall_material(rng: Rng) -> Material:
    kind = str(
        rng.choice(["plaster", "plaster", "plaster", "plaster", "stripes", "brick", "tiles", "carpet"])
    )
    colours = [
        (226, 220, 206),
        (206, 212, 214),
        (214, 200, 170),
        (176, 196, 180),
        (190, 176, 196),
        (222, 204, 196),
        (150, 170, 190),
        (200, 150, 120),
    ]
    colour = np.array(colours[int(rng.integers(len(colours)))]) * between(rng, 0.8, 1.08)
    if kind == "brick":
        colour = np.array([158.0, 92, 72])
    contrast = {
        "plaster": 0.14,
        "stripes": between(rng, 0.1, 0.3),
        "brick": 0.45,
        "tiles": 0.25,
        "carpet": 0.16,
    }[kind]
    return material(kind, rng, colour, contrast)


def _corners(stage: Stage, walls: tuple[Wall, Wall, Wall], rng: Rng) -> None:
    """Darken where surfaces meet, as less light gets there."""
    strength = between(rng, 0.25, 0.6)
    for wall in walls:
        for reach, share in ((0.5, 0.35), (0.25, 0.4), (0.1, 0.5)):
            foot = np.array(
                [
                    wall.at(0, 0.005),
                    wall.at(wall.length, 0.005),
                    wall.at(wall.length, 0.005, reach),
                    wall.at(0, 0.005, reach),
                ]
            )
            stage.shadow(foot, strength * share)
