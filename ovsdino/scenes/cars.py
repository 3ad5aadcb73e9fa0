"""Cars of several kinds, as small solid models that can be seen from any side."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.placement import (
    DARK,
    PAINTS,
    RED,
    RUBBER,
    WHITE,
    Place,
    glass_colour,
    ground_shadow,
    local_eye,
    paint_face,
)
from ovsdino.scenes.stage import Stage


@dataclass(frozen=True)
class Body:
    """A car's outline from the side, x from its middle to the front.

    Attributes:
        lower: the body below the windows, [(x, y)], from the rear's foot over the top to the front's foot.
        cabin: rear foot, rear top, front top, front foot of the windows' part.
        width: of the body.
        doors: windows along a side.
    """

    lower: tuple[tuple[float, float], ...]
    cabin: tuple[tuple[float, float], ...]
    width: float
    doors: int


def random_body(rng: Rng) -> Body:
    """Return a saloon, hatchback, estate, off-roader or minivan."""
    kind = str(rng.choice(["saloon", "hatchback", "estate", "offroad", "minivan"]))
    long = {"saloon": 4.5, "hatchback": 3.9, "estate": 4.6, "offroad": 4.6, "minivan": 4.7}[kind]
    long *= between(rng, 0.94, 1.06)
    half, floor = long / 2, 0.24 + 0.08 * (kind == "offroad")
    belt = {"saloon": 0.92, "hatchback": 0.92, "estate": 0.94, "offroad": 1.08, "minivan": 1.02}[kind]
    roof = {"saloon": 1.42, "hatchback": 1.45, "estate": 1.47, "offroad": 1.78, "minivan": 1.82}[kind]
    roof += between(rng, -0.05, 0.07)
    hood = belt - between(rng, 0.08, 0.18)
    screen = half - between(rng, 1.15, 1.4) + (0.35 if kind == "minivan" else 0)
    tail = -half + (between(rng, 0.7, 0.95) if kind == "saloon" else 0.08)
    rake = 0.55 if kind == "saloon" else between(rng, 0.2, 0.42)
    lower = (
        (-half, floor),
        (-half - 0.04, 0.55),
        (-half, belt - 0.05),
        (tail, belt),
        (screen, belt - 0.02),
        (half - 0.18, hood),
        (half, hood - 0.2),
        (half + 0.03, 0.45),
        (half - 0.03, floor),
    )
    slope = between(rng, 0.7, 0.95) if kind != "offroad" else 0.5
    cabin = ((tail, belt), (tail + rake, roof - 0.04), (screen - slope, roof), (screen, belt - 0.02))
    return Body(lower, cabin, between(rng, 1.66, 1.86), 2 if kind in ("saloon", "hatchback") else 3)


def park_car(stage: Stage, place: Place, rng: Rng) -> None:
    """Have a car painted."""
    body = random_body(rng)
    paint = np.array(PAINTS[int(rng.integers(len(PAINTS)))]) * between(rng, 0.85, 1.12)
    half_long, half_wide = body.lower[-2][0], body.width / 2
    ground_shadow(stage, place, half_long, half_wide, 1.4)
    stage.later(stage.order((place.x, 0.7, place.z)), lambda: _car(stage, place, body, paint, rng))


def _car(stage: Stage, place: Place, body: Body, paint: Colour, rng: Rng) -> None:
    half, top_half = body.width / 2, body.width / 2 - 0.2
    if not stage.sees_upright((place.x, 0, place.z), 2.6, 2.0):
        return
    lower = np.array(body.lower)
    cabin = np.array(body.cabin)
    eye = local_eye(stage, place)
    visible_side = 1.0 if eye[2] > 0 else -1.0
    axles = (lower[0, 0] + 0.78, lower[-1, 0] - 0.85)
    near = stage.samples((place.x, 0.5, place.z)) > 20
    for axle in axles if near else ():  # the wheels of the far side are seen below the body
        _wheel(stage, place, axle, -visible_side * (half - 0.1), 0.31, hub=False)
    paint_face(
        stage,
        place,
        [(p[0], 0.26, s * half) for p, s in ((lower[0], 1), (lower[-1], 1), (lower[-1], -1), (lower[0], -1))],
        DARK,
        Thing.CAR,
    )
    _strips(stage, place, lower, half, half - 0.06, paint, Thing.CAR)
    _ends(stage, place, body, paint, eye[0] > 0, rng)
    _side(stage, place, lower, visible_side * half, paint, Thing.CAR)
    if abs(eye[2]) > half:
        _doors(stage, place, body, visible_side * (half + 0.005), paint)
        for axle in axles:
            _wheel(stage, place, axle, visible_side * (half + 0.01), 0.31, hub=True)
    _cabin(stage, place, cabin, (half - 0.07, top_half), paint, visible_side, body.doors)


def _strips(
    stage: Stage, place: Place, outline: Points, half: float, top_half: float, paint: Colour, thing: Thing
) -> None:
    """Paint what lies between both side outlines: rear, lid, hood, front; only faces towards the camera."""
    eye = local_eye(stage, place)[:2]
    for first, second in pairwise(outline):
        edge = second - first
        outward = np.array([-edge[1], edge[0]])
        if outward @ (eye - first) <= 0:
            continue
        ends = [half if point[1] < 0.8 else top_half for point in (first, second)]
        corners = [
            (first[0], first[1], ends[0]),
            (second[0], second[1], ends[1]),
            (second[0], second[1], -ends[1]),
            (first[0], first[1], -ends[0]),
        ]
        paint_face(stage, place, corners, paint, thing)


def _side(stage: Stage, place: Place, outline: Points, z: float, paint: Colour, thing: Thing) -> None:
    paint_face(stage, place, [(x, y, z) for x, y in outline], paint, thing)
    low = [(x, min(y, 0.42), z * 1.002) for x, y in outline]
    paint_face(stage, place, low, paint * 0.66, thing)  # the sill mirrors the road
    if stage.samples((place.x, 0.5, place.z)) < 20:
        return
    crease = [
        (outline[2, 0] + 0.05, 0.74, z * 1.002),
        (outline[-3, 0] - 0.05, 0.68, z * 1.002),
        (outline[-3, 0] - 0.05, 0.71, z * 1.002),
        (outline[2, 0] + 0.05, 0.78, z * 1.002),
    ]
    paint_face(stage, place, crease, np.minimum(paint * 1.25 + 14, 255), thing)


def _doors(stage: Stage, place: Place, body: Body, z: float, paint: Colour) -> None:
    if stage.samples((place.x, 0.5, place.z)) < 35:
        return
    rear, front = body.cabin[0][0], body.cabin[-1][0]
    for share in (0.32, 0.66, 0.98):
        x = rear + (front - rear) * share - 0.1
        paint_face(
            stage,
            place,
            [(x, 0.34, z), (x + 0.022, 0.34, z), (x + 0.022, 0.9, z), (x, 0.9, z)],
            paint * 0.4,
            Thing.CAR,
        )
        paint_face(
            stage,
            place,
            [(x - 0.26, 0.78, z), (x - 0.08, 0.78, z), (x - 0.08, 0.82, z), (x - 0.26, 0.82, z)],
            paint * 0.5,
            Thing.CAR,
        )


def _ends(stage: Stage, place: Place, body: Body, paint: Colour, front: bool, rng: Rng) -> None:
    """Paint lights, bumper, plate and grille of the end that is seen."""
    lower, half = body.lower, body.width / 2
    x = lower[-2][0] + 0.01 if front else lower[1][0] - 0.01
    top = lower[-3][1] if front else lower[2][1]
    light = WHITE if front else RED
    inner, outer = half * 0.58, half * 0.96
    for side in (-1, 1):
        box = [
            (x, top - 0.2, side * inner),
            (x, top - 0.2, side * outer),
            (x, top - 0.02, side * outer),
            (x, top - 0.02, side * inner),
        ]
        paint_face(stage, place, box, light, Thing.CAR)
        if stage.light.lamps:
            lamp = place.world(np.array([(x, top - 0.1, side * (inner + outer) / 2)]))[0]
            stage.glow(lamp, 0.5 if front else 0.22, light)
    if front:
        paint_face(
            stage,
            place,
            [(x, top - 0.2, -inner), (x, top - 0.2, inner), (x, top - 0.07, inner), (x, top - 0.07, -inner)],
            DARK * 1.6,
            Thing.CAR,
        )
    bumper = paint * 0.7 if chance(rng, 0.6) else DARK * 2
    paint_face(
        stage,
        place,
        [(x, 0.27, -half), (x, 0.27, half), (x, 0.46, half), (x, 0.46, -half)],
        bumper,
        Thing.CAR,
    )
    plate = np.array([235.0, 235, 225]) if chance(rng, 0.7) else np.array([220.0, 190, 60])
    if stage.samples((place.x, 0.5, place.z)) < 20:
        return
    low = 0.34 if front else 0.55
    paint_face(
        stage,
        place,
        [(x, low, -0.26), (x, low, 0.26), (x, low + 0.12, 0.26), (x, low + 0.12, -0.26)],
        plate,
        Thing.CAR,
    )


def _cabin(
    stage: Stage,
    place: Place,
    cabin: Points,
    halves: tuple[float, float],
    paint: Colour,
    side: float,
    doors: int,
) -> None:
    low, top = halves
    widths = [low, top, top, low]
    eye = local_eye(stage, place)
    dark = glass_colour(stage)
    for index, glazed in ((0, True), (1, False), (2, True)):
        first, second = cabin[index], cabin[index + 1]
        edge = second - first
        if np.array([-edge[1], edge[0]]) @ (eye[:2] - first) <= 0:
            continue
        quad = np.array(
            [
                (*first, widths[index]),
                (*second, widths[index + 1]),
                (*second, -widths[index + 1]),
                (*first, -widths[index]),
            ]
        )
        stage.face(place.world(quad), paint, Thing.CAR)
        if glazed:
            stage.face(place.world(_inset(quad, 0.86, 0.84)), dark, Thing.CAR)
            if stage.samples((place.x, 0.5, place.z)) < 20:
                continue
            mirrored = _inset(quad, 0.86, 0.84)[[1, 2]]
            middle = _inset(quad, 0.86, 0.1)[[3, 0]]
            stage.face(place.world(np.concatenate([mirrored, middle])), dark * 1.6 + 12, Thing.CAR)
    if abs(eye[2]) < top:
        return
    quad = np.array(
        [(*cabin[0], side * low), (*cabin[1], side * top), (*cabin[2], side * top), (*cabin[3], side * low)]
    )
    stage.face(place.world(quad), paint, Thing.CAR)
    glass = _inset(quad, 0.88, 0.78) + np.array([0, 0, side * 0.004])
    for door in range(doors):
        shares = [door / doors + (0.03 if door else 0), (door + 1) / doors - 0.03]
        lower = [glass[0] + (glass[3] - glass[0]) * share for share in shares]
        upper = [glass[1] + (glass[2] - glass[1]) * share for share in shares]
        stage.face(place.world(np.array([lower[0], upper[0], upper[1], lower[1]])), dark, Thing.CAR)
        if stage.samples((place.x, 0.5, place.z)) < 20:
            continue
        half = [(a + b) / 2 for a, b in zip(lower, upper, strict=True)]
        stage.face(place.world(np.array([half[0], upper[0], upper[1], half[1]])), dark * 1.35 + 8, Thing.CAR)


def _inset(quad: Points, along: float, up: float) -> Points:
    """Return a quadrilateral shrunk towards its middle."""
    low, high = (quad[0] + quad[3]) / 2, (quad[1] + quad[2]) / 2
    middle = (low + high) / 2
    result = []
    for corner, base in zip(quad, (low, high, high, low), strict=True):
        moved = base + (corner - base) * along
        result.append(moved + (middle - base) * (1 - up))
    return np.array(result)


def _wheel(stage: Stage, place: Place, x: float, z: float, radius: float, *, hub: bool) -> None:
    count = 14
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(count)], axis=1)

    inner = z - np.sign(z) * 0.2
    for end in (-0.8, 0.8) if stage.samples((place.x, 0.5, place.z)) > 20 else ():
        near = x + end * radius
        tread = [(near, 0.03, z), (near, 0.03, inner), (near, 1.5 * radius, inner), (near, 1.5 * radius, z)]
        stage.face(place.world(np.array(tread)), RUBBER * 0.9, Thing.CAR)

    def disc(size: float, base: Colour, lift: float) -> None:
        points = ring * size + (x, radius, z + np.sign(z) * lift)
        stage.face(place.world(points), base, Thing.CAR)

    if hub:
        disc(radius * 1.16, DARK * 0.6, 0.0)
    disc(radius, RUBBER, 0.01)
    if hub and stage.samples((place.x, 0.5, place.z)) > 25:
        disc(radius * 0.66, np.array([168.0, 170, 174]), 0.02)
        disc(radius * 0.46, np.array([96.0, 98, 102]), 0.025)
        disc(radius * 0.18, np.array([190.0, 190, 190]), 0.03)
