"""A scene while it is painted: surfaces in space, lit, seen through haze, the far ones first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ovsdino.scenes.camera import Camera, Points
from ovsdino.scenes.canvas import Canvas, Colour, Image
from ovsdino.scenes.light import Light
from ovsdino.scenes.materials import Material
from ovsdino.scenes.names import Thing

UP = np.array([0.0, 1.0, 0.0])
_ASIDE = 1.7
_CORNERS = [(a, b, c) for c in (-1, 1) for b, a in ((0, -1), (0, 1), (1, 1), (1, -1))]


@dataclass(frozen=True)
class Glow:
    """A lamp's halo: where it is in the picture (samples), how far it reaches, its colour in [0, 255].

    `lamp` is the colour of the lamp itself: where something hides it later, the halo goes, too.
    """

    x: float
    y: float
    radius: float
    colour: Colour
    lamp: tuple[int, ...]


@dataclass
class Stage:
    """A canvas, the camera it is seen by and the light that falls on it.

    Attributes:
        canvas: what is painted on.
        camera: in samples of the canvas.
        light: what shines.
        glows: halos of lamps, laid over the finished picture.
    """

    canvas: Canvas
    camera: Camera
    light: Light
    glows: list[Glow] = field(default_factory=list)
    _waiting: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _shadows: list[tuple[Points, float]] = field(default_factory=list)

    def later(self, distance: float, paint: Callable[[], None]) -> None:
        """Have something painted after all that is farther away."""
        self._waiting.append((distance, paint))

    def glow(self, place: Points, reach: float, colour: ArrayLike) -> None:
        """Have a halo laid over a lamp [3] that has just been painted, `reach` metres about it."""
        pixels, depths = self.camera.project(place[None])
        if depths[0] < 1:
            return
        x, y = (float(value) for value in pixels[0])
        lamp = self._colour_at(x, y)
        if lamp is not None:
            radius = reach * self.camera.scale(float(depths[0]))
            self.glows.append(Glow(x, y, radius, np.asarray(colour, dtype=np.float64), lamp))

    def halos(self) -> list[Glow]:
        """Return the halos of the lamps that nothing hides."""
        return [glow for glow in self.glows if self._colour_at(glow.x, glow.y) == glow.lamp]

    def _colour_at(self, x: float, y: float) -> tuple[int, ...] | None:
        height, width = self.canvas.size_hw
        column, row = round(x), round(y)
        if not (0 <= row < height and 0 <= column < width):
            return None
        return tuple(int(channel) for channel in self.canvas.image[row, column])

    def shadow(self, ground: Points, strength: float = 1.0) -> None:
        """Have a polygon, [N, 3], darkened before anything that waits is painted."""
        self._shadows.append((ground, strength))

    def cast(self, footprint: Points, height: float, strength: float = 1.0) -> None:
        """Have the shadow of an upright thing laid on the ground.

        Args:
            footprint: its corners on the ground, [N, 2] x and z.
            height: how high it is.
            strength: how dark its shadow is.
        """
        sun = self.light.sun
        reach = -sun[[0, 2]] / max(float(sun[1]), 0.25) * height
        both = np.concatenate([footprint, footprint + reach]).astype(np.float32)
        hull = cv2.convexHull(both)[:, 0, :].astype(np.float64)
        self.shadow(np.stack([hull[:, 0], np.full(len(hull), 0.01), hull[:, 1]], axis=1), strength)

    def order(self, place: ArrayLike) -> float:
        """Return the order in which what stands along a street is painted: the largest number first.

        It is the distance, but what is aside counts as farther: things are long along the street, so what
        stands at the kerb is behind a bus even where it is a little nearer than the middle of the bus.
        """
        x, y, z = (np.asarray(place, dtype=np.float64) - self.camera.position).tolist()
        return math.hypot(_ASIDE * x, y, z)

    def finish(self) -> None:
        """Paint shadows, then all that waits, from far to near."""
        self._paint_shadows()
        for _, paint in sorted(self._waiting, key=lambda item: -item[0]):
            paint()
        self._waiting.clear()

    def colour(self, base: ArrayLike, normal: Points, depth: float) -> Colour:
        """Return the colour in which a surface is seen."""
        return np.array(self.light.seen(np.asarray(base, dtype=np.float64).tolist(), normal.tolist(), depth))

    def samples(self, place: ArrayLike) -> float:
        """Return how many samples a metre takes at a place [3]."""
        return self.camera.scale(self.camera.distance(place))

    def sees(self, corners: ArrayLike) -> bool:
        """Return whether some of a flat or small thing, within corners [N, 3], may be in the picture."""
        outline = self.camera.outline(corners)
        return outline is not None and self.canvas.box(outline) is not None

    def sees_upright(self, foot: ArrayLike, radius: float, height: float) -> bool:
        """Return whether some of an upright thing, that far about its foot [3], may be in the picture."""
        x, y, z = np.asarray(foot, dtype=np.float64).tolist()
        return self.sees([(x + a * radius, y + b * height, z + c * radius) for a, b, c in _CORNERS])

    def face(self, corners: ArrayLike, base: ArrayLike, thing: Thing, *, both_sides: bool = True) -> None:
        """Paint a flat polygon in space now.

        Args:
            corners: [N, 3], the first three not in line; clockwise as seen from outside.
            base: its own colour, RGB in [0, 255].
            thing: its class.
            both_sides: whether it is seen from behind, too.
        """
        points = np.asarray(corners, dtype=np.float64)
        normal = normal_of(points)
        away = points[0] - self.camera.position
        if float(normal @ away) >= 0:
            if not both_sides:
                return
            normal = -normal
        outline = self.camera.outline(points)
        if outline is not None:
            depth = float(np.sqrt(away @ away))
            own = np.asarray(base, dtype=np.float64).tolist()
            self.canvas.polygon(outline, self.light.seen(own, normal.tolist(), depth), thing)

    def surface(
        self,
        origin: ArrayLike,
        along: ArrayLike,
        across: ArrayLike,
        made_of: Material | Image,
        thing: Thing,
        *,
        corners: Sequence[tuple[float, float]] = ((0, 0), (1, 0), (1, 1), (0, 1)),
        glows: bool = False,
    ) -> None:
        """Paint a textured parallelogram, or a polygon in its plane, now.

        Args:
            origin: a corner, [3].
            along: the edge along a texture's columns, [3].
            across: the edge along its rows, [3].
            made_of: a material, which repeats, or a picture, uint8 [h, w, 3], which fills it.
            thing: its class.
            corners: what to paint, in shares of both edges.
            glows: whether it shines by itself.
        """
        start, first, second = (np.asarray(vector, dtype=np.float64) for vector in (origin, along, across))
        points = np.array([start + s * first + t * second for s, t in corners])
        outline = self.camera.outline(points)
        box = None if outline is None else self.canvas.box(outline)
        if outline is None or box is None:
            return
        normal = normal_of(np.stack([start, start + first, start + second]))
        if normal @ (self.camera.position - start) < 0:
            normal = -normal
        centre = points.mean(axis=0)
        depth = self.camera.distance(centre)
        light = np.ones(3) if glows else self.light.on(normal)
        homography = self.camera.plane(start, first, second)
        nearest = max(float(self.camera.project(points)[1].min()), depth * 0.3)
        metres = 1.0 / self.camera.scale(nearest)
        if isinstance(made_of, Material):
            level = made_of.tile.level(metres)
            texture = made_of.tile.levels[level]
            long, high = float(np.linalg.norm(first)), float(np.linalg.norm(second))
            scale = (
                texture.shape[1] * long / made_of.tile.side_m,
                texture.shape[0] * high / made_of.tile.side_m,
            )
            ramp: Image | None = made_of.lit(light, self.light.horizon_rgb, self.light.haze(depth))
        else:
            texture = _shrunk(made_of, outline)
            scale = (float(texture.shape[1]), float(texture.shape[0]))
            share = self.light.haze(depth)
            texture = tinted(texture, light * (1 - share), self.light.horizon_rgb * share)
            ramp = None
        to_picture = homography @ np.diag([1 / scale[0], 1 / scale[1], 1.0])

        def shade(top: int, bottom: int, left: int, right: int) -> Image:
            moved = np.array([[1.0, 0, -left], [0, 1.0, -top], [0, 0, 1.0]]) @ to_picture
            size = (right - left, bottom - top)
            seen = cv2.warpPerspective(
                texture, moved, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
            )
            return np.asarray(seen if ramp is None else cv2.applyColorMap(seen, ramp), dtype=np.uint8)

        self.canvas.shaded(outline, shade, thing)

    def _paint_shadows(self) -> None:
        if not self._shadows or self.canvas.flat or self.light.shadow < 0.02:
            return
        height, width = self.canvas.size_hw
        top = int(np.clip(self.camera.horizon_px() - 2 - 0.06 * width, 0, height))
        small = np.zeros(((height - top + 1) // 2, (width + 1) // 2), dtype=np.uint8)
        for ground, strength in self._shadows:
            outline = self.camera.outline(ground)
            if outline is not None:
                corners = np.rint((outline - (0, top)) * 8).astype(np.int32)  # half size, four fraction bits
                cv2.fillPoly(small, [corners], (255 * strength,), cv2.LINE_8, 4)
        if not small.size or not small.any():
            return
        reach = max(3, width // 240) | 1
        factor = 255 - (cv2.blur(small, (reach, reach)) * np.float32(self.light.shadow))
        full = cv2.resize(factor.astype(np.uint8), (width, height - top), interpolation=cv2.INTER_LINEAR)
        lower = self.canvas.image[top:]
        cv2.multiply(lower, cv2.cvtColor(full, cv2.COLOR_GRAY2RGB), lower, 1 / 255)


def rise(height: float) -> Points:
    """Return the vector that leads so far up."""
    return np.array([0.0, height, 0.0])


def normal_of(corners: Points) -> Points:
    """Return the unit normal of a polygon [N, 3] that is clockwise as seen from its side."""
    # In plain numbers: np.cross takes ten times as long for one vector, and there are thousands.
    (ax, ay, az), (bx, by, bz) = (corners[1:3] - corners[0]).tolist()
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    length = max(math.sqrt(x * x + y * y + z * z), 1e-9)
    return np.array([x / length, y / length, z / length])


def box_faces(
    centre: tuple[float, float], size: tuple[float, float, float], bottom: float, turn: float
) -> list[NDArray[np.float64]]:
    """Return a box's faces as corners [4, 3], clockwise from outside: front, right, back, left, top, bottom.

    Args:
        centre: x and z of its middle.
        size: width (x), height, depth (z) before it is turned.
        bottom: height of its lower side.
        turn: about the vertical, radians.
    """
    half_x, half_z = size[0] / 2, size[2] / 2
    flat = np.array([[-half_x, -half_z], [half_x, -half_z], [half_x, half_z], [-half_x, half_z]])
    cos, sin = np.cos(turn), np.sin(turn)
    ring = flat @ np.array([[cos, -sin], [sin, cos]]) + centre
    low = np.insert(ring, 1, bottom, axis=1)
    high = np.insert(ring, 1, bottom + size[1], axis=1)
    sides = [np.stack([high[i], high[(i + 1) % 4], low[(i + 1) % 4], low[i]]) for i in range(4)]
    return [*sides, high[::-1].copy(), low.copy()]


def _shrunk(picture: Image, outline: Points) -> Image:
    """Return a picture averaged over whole texels until it has about as many as it covers samples."""
    extent = outline.max(axis=0) - outline.min(axis=0)
    across, down = (
        max(1, int(side / max(2.0, 1.3 * float(covered))))
        for side, covered in zip(picture.shape[1::-1], extent, strict=True)
    )
    if across == 1 and down == 1:
        return picture
    height, width = picture.shape[0] // down, picture.shape[1] // across
    whole = picture[: height * down, : width * across]  # by whole factors OpenCV averages fast
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def tinted(picture: Image, factors: Colour, added: Colour) -> Image:
    """Return a picture, uint8 [h, w, 3], times one factor a channel plus one value a channel."""
    table = np.clip(np.arange(256)[:, None] * factors + added, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, table[:, None, :]), dtype=np.uint8)
