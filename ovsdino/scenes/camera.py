"""Where things of the world appear in the picture: a pinhole camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
NEAR_M = 0.25
_GUARD_PX = 8000.0  # or the picture's side: OpenCV's polygons have fixed-point coordinates of limited range


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in a world of x to the right, y up and z ahead, in metres.

    Its pixels are the canvas's samples.

    Attributes:
        position: where it is, float64 [3].
        axes: its right, down and forward directions, float64 [3, 3], one a row.
        focal_px: focal length.
        centre_px: where the optical axis meets the picture, x and y.
        size_hw: the picture's height and width.
    """

    position: Points
    axes: Points
    focal_px: float
    centre_px: tuple[float, float]
    size_hw: tuple[int, int]

    def project(self, points: ArrayLike) -> tuple[Points, Points]:
        """Return pixels [N, 2] (x, y; a pixel's centre is whole) and depths [N] of points [N, 3]."""
        seen = (np.asarray(points, dtype=np.float64) - self.position) @ self.axes.T
        return self._pixels(seen), seen[:, 2]

    def outline(self, points: ArrayLike) -> Points | None:
        """Return a polygon's corners in the picture, float64 [M, 2]; None where none is ahead or near it.

        Args:
            points: corners in the world, [N, 3], in order.
        """
        seen = (np.asarray(points, dtype=np.float64) - self.position) @ self.axes.T
        ahead = seen[:, 2] - NEAR_M
        if ahead.min() < 0:
            seen = _clip(seen, ahead)
            if len(seen) < 3:
                return None
        corners = self._pixels(seen)
        guard = max(_GUARD_PX, *self.size_hw)
        if corners.max() > guard or corners.min() < -guard:
            for axis in (0, 1):
                for sign in (1.0, -1.0):
                    corners = _clip(corners, guard - sign * corners[:, axis])
                    if len(corners) < 3:
                        return None
        return corners

    def plane(self, origin: Points, along: Points, across: Points) -> Points:
        """Return the homography float64 [3, 3] from (s, t, 1) to pixels of `origin + s along + t across`."""
        seen = self.axes @ np.stack([along, across, origin - self.position], axis=1)
        intrinsic = np.array(
            [
                [self.focal_px, 0, self.centre_px[0] - 0.5],
                [0, self.focal_px, self.centre_px[1] - 0.5],
                [0, 0, 1],
            ]
        )
        return np.asarray(intrinsic @ seen)

    def distance(self, point: ArrayLike) -> float:
        """Return how far away a point [3] is."""
        return math.dist(np.asarray(point, dtype=np.float64).tolist(), self.position.tolist())

    def scale(self, depth: float) -> float:
        """Return the pixels that a metre takes at a depth."""
        return self.focal_px / max(depth, NEAR_M)

    def horizon_px(self) -> float:
        """Return the row where the horizon crosses the direction the camera looks in."""
        ahead = self.axes[2] * (1.0, 0.0, 1.0)
        return self.centre_px[1] + self.focal_px * float(self.axes[1] @ ahead / (self.axes[2] @ ahead))

    def _pixels(self, seen: Points) -> Points:
        scale = self.focal_px / np.maximum(seen[:, 2:], 1e-6)
        return np.asarray(seen[:, :2] * scale + (self.centre_px[0] - 0.5, self.centre_px[1] - 0.5))


def looking(
    position: tuple[float, float, float],
    *,
    yaw: float,
    pitch: float,
    roll: float,
    focal: float,
    size_hw: tuple[int, int],
) -> Camera:
    """Return a camera.

    Args:
        position: x, y, z in metres.
        yaw: turn to the right, radians.
        pitch: tilt downwards, radians.
        roll: clockwise turn of the picture, radians.
        focal: focal length over the picture's geometric mean side.
        size_hw: the picture's height and width.
    """
    forward = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    down = np.cross(right, forward)
    turned_right = np.cos(roll) * right - np.sin(roll) * down
    turned_down = np.sin(roll) * right + np.cos(roll) * down
    height, width = size_hw
    return Camera(
        np.array(position, dtype=np.float64),
        np.stack([turned_right, turned_down, forward]),
        focal * float(np.sqrt(height * width)),
        (width / 2, height / 2),
        size_hw,
    )


def _clip(points: Points, inside: Points) -> Points:
    """Return the part of a polygon where `inside` (one value a corner, linear between) is positive."""
    kept: list[Points] = []
    for index in range(len(points)):
        here, following = inside[index], inside[(index + 1) % len(points)]
        if here >= 0:
            kept.append(points[index])
        if (here >= 0) != (following >= 0):
            share = here / (here - following)
            kept.append(points[index] + share * (points[(index + 1) % len(points)] - points[index]))
    return np.array(kept)
