"""Furniture as boxes: where it stands on the floor, and in which order its parts are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovsdino.scenes.canvas import Colour, Image
from ovsdino.scenes.materials import Material, material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between
from ovsdino.scenes.stage import Stage, box_faces, normal_of

_WOODS = [
    (150, 104, 64),
    (110, 72, 46),
    (190, 152, 108),
    (80, 54, 40),
    (226, 222, 214),
    (70, 70, 74),
    (170, 130, 90),
]


@dataclass(frozen=True)
class Solid:
    """A box of a piece of furniture, in its own directions.

    Attributes:
        span: (left, right, low, high, back, front) in metres; the front faces the room.
        made_of: what all its sides are made of.
        thing: its class.
        front: a picture for its front, if that differs.
    """

    span: tuple[float, float, float, float, float, float]
    made_of: Material | Colour
    thing: Thing
    front: Image | None = None


@dataclass(frozen=True)
class Spot:
    """Where a piece of furniture stands: the middle of its back on the floor, and the direction it faces.

    Attributes:
        x: of its back's middle.
        z: of its back's middle.
        turn: direction of its front, radians from -z (towards the camera) to x.
    """

    x: float
    z: float
    turn: float

    def world(self, s: float, o: float) -> tuple[float, float]:
        """Return x and z of the place `s` to the right, as its viewer sees it, and `o` to the front."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return float(self.x + s * cos + o * sin), float(self.z + s * sin - o * cos)


def add_solids(stage: Stage, spot: Spot, solids: list[Solid]) -> None:
    """Have boxes painted as one piece, with a shadow on the floor."""
    spans = np.array([solid.span for solid in solids])
    left, right, back, front = spans[:, 0].min(), spans[:, 1].max(), spans[:, 4].min(), spans[:, 5].max()
    contact(stage, spot, (float(left), float(right), float(back), float(front)))
    middle = spot.world((left + right) / 2, (back + front) / 2)

    def paint() -> None:
        def order(solid: Solid) -> tuple[float, float]:
            # Seen from above, what stands higher hides what is below.
            x, z = spot.world((solid.span[0] + solid.span[1]) / 2, (solid.span[4] + solid.span[5]) / 2)
            return solid.span[2], -stage.camera.distance((x, solid.span[2], z))

        for solid in sorted(solids, key=order):
            _paint_solid(stage, spot, solid)

    stage.later(stage.camera.distance((middle[0], 0.4, middle[1])), paint)


def contact(stage: Stage, spot: Spot, extent: tuple[float, float, float, float]) -> None:
    """Have the floor darkened under and around a thing (left, right, back, front)."""
    left, right, back, front = extent
    for margin, strength in ((0.16, 0.35), (0.04, 0.6)):
        corners = [
            (left - margin, back),
            (right + margin, back),
            (right + margin, front + margin),
            (left - margin, front + margin),
        ]
        ground = [spot.world(s, o) for s, o in corners]
        stage.shadow(np.array([(x, 0.004, z) for x, z in ground]), strength)


def _paint_solid(stage: Stage, spot: Spot, solid: Solid) -> None:
    left, right, low, high, back, front = solid.span
    centre = spot.world((left + right) / 2, (back + front) / 2)
    faces = box_faces(centre, (right - left, high - low, front - back), low, -spot.turn)
    for index, corners in enumerate(faces):
        if normal_of(corners) @ (stage.camera.position - corners[0]) <= 0:
            continue
        if index == 0 and solid.front is not None:
            stage.surface(
                corners[0], corners[1] - corners[0], corners[3] - corners[0], solid.front, solid.thing
            )
        elif isinstance(solid.made_of, Material):
            stage.surface(
                corners[0], corners[1] - corners[0], corners[3] - corners[0], solid.made_of, solid.thing
            )
        else:
            stage.face(corners, solid.made_of, solid.thing)


def random_wood(rng: Rng) -> Material:
    """Return a wood, natural or painted."""
    return material(
        "wood", rng, np.array(_WOODS[int(rng.integers(len(_WOODS)))]) * between(rng, 0.85, 1.1), 0.3
    )
