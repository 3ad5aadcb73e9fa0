"""The shape of a street: where its road, pavements and verges lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.noise import Rng, between, chance

_STEPS = 40


@dataclass(frozen=True)
class Road:
    """Where the road lies: along z, bent to one side.

    Attributes:
        bend: curvature, 1/m; its middle is at x = bend z |z| / 2.
        half_width: from its middle to a kerb.
        lane: a lane's width.
        walks: the pavements' widths, left and right; 0 where there is none.
        verges: widths of the strip between pavement and buildings, left and right.
        crossing_z: where another road crosses, or None.
        drive_side: 1 where people drive on the right, else -1.
    """

    bend: float
    half_width: float
    lane: float
    walks: tuple[float, float]
    verges: tuple[float, float]
    crossing_z: float | None
    drive_side: int

    def at(self, z: float, offset: float) -> tuple[float, float]:
        """Return x and z of a place `offset` metres to the right of the road's middle."""
        return self.bend * z * abs(z) / 2 + offset, z

    def heading(self, z: float) -> float:
        """Return the direction of the road, radians to the right."""
        return float(np.arctan(self.bend * abs(z)))

    def edge(self, side: int) -> float:
        """Return how far the front of the buildings is from the middle; side is -1 (left) or 1."""
        index = 0 if side < 0 else 1
        return self.half_width + self.walks[index] + self.verges[index]

    def strip(self, low: float, high: float, near: float, far: float, height: float = 0.0) -> Points:
        """Return a piece of the road between two offsets as a polygon [N, 3]."""
        steps = _STEPS if self.bend else 1
        # Equal steps in 1/z are about equal steps in the picture.
        z = 1 / np.linspace(1 / (near + 8), 1 / (far + 8), steps + 1) - 8
        middle = self.bend * z * np.abs(z) / 2
        left = np.stack([middle + low, np.full_like(z, height), z], axis=1)
        right = np.stack([middle + high, np.full_like(z, height), z], axis=1)
        return np.concatenate([left, right[::-1]])


def random_road(rng: Rng) -> Road:
    """Return a road: narrow or wide, straight or bent, with or without pavements."""
    lanes = int(rng.choice([1, 2, 2, 2, 3, 4, 4]))
    lane = between(rng, 2.8, 3.6)
    parking = between(rng, 0.4, 2.2)
    walks = [between(rng, 1.5, 4.5) if chance(rng, 0.92) else 0.0 for _ in range(2)]
    verges = [between(rng, 0, 1.5) if chance(rng, 0.6) else between(rng, 2.5, 9) for _ in range(2)]
    bend = 0.0 if chance(rng, 0.5) else between(rng, -1, 1) / 110
    return Road(
        bend,
        max(lanes * lane / 2 + parking, 2.4),
        lane,
        (walks[0], walks[1]),
        (verges[0], verges[1]),
        between(rng, 14, 45) if chance(rng, 0.4) else None,
        int(rng.choice([-1, 1])),
    )
