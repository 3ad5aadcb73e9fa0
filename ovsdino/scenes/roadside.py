"""What stands along a street: lamps, signs, traffic lights, benches."""

from __future__ import annotations

import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.stage import Stage, box_faces, rise

_RED, _BLUE = np.array([196.0, 26, 30]), np.array([26.0, 76, 168])
_WHITE, _YELLOW, _GREEN = np.array([238.0, 238, 236]), np.array([240.0, 200, 40]), np.array([20.0, 110, 70])
_BLACK = np.array([22.0, 22, 24])


def _post(stage: Stage, foot: tuple[float, float, float], height: float, radius: float, base: Colour) -> None:
    """Paint an upright post now, with a light and a dark half."""
    right = stage.camera.axes[0] * (1, 0, 1)
    right = right / np.linalg.norm(right)
    start = np.array(foot)
    # A post never gets thinner than about a sample, as no photographed one vanishes.
    radius = max(radius, 0.75 / stage.camera.scale(stage.camera.distance(foot)))
    low, high = start, start + rise(height)
    stage.face(
        [
            low - right * radius,
            high - right * radius * 0.8,
            high + right * radius * 0.8,
            low + right * radius,
        ],
        base,
        Thing.POLE,
    )
    dark = -1 if float(right @ stage.light.sun) > 0 else 1
    stage.face(
        [low, high, high + dark * right * radius * 0.8, low + dark * right * radius], base * 0.7, Thing.POLE
    )


def add_lamp_post(stage: Stage, foot: tuple[float, float, float], side: int, rng: Rng) -> None:
    """Have a street lamp painted that reaches over the road; all of it is a pole."""
    height, reach = between(rng, 4.5, 9), between(rng, 0.0, 2.2)
    base = np.full(3, between(rng, 50, 150)) * (0.9, 1.0, 0.95)
    stage.cast(
        np.array([(foot[0] - 0.1, foot[2] - 0.1), (foot[0] + 0.1, foot[2] - 0.1), (foot[0], foot[2] + 0.1)]),
        height,
    )

    def paint() -> None:
        _post(stage, foot, height, 0.09, base)
        top = np.array(foot) + rise(height)
        arm = np.array([-side * reach, 0.5, 0])
        stage.face([top, top + arm, top + arm + rise(0.11), top + rise(0.14)], base, Thing.POLE)
        head = top + arm
        for corners in box_faces(
            (float(head[0]), float(head[2])), (0.7, 0.16, 0.3), float(head[1]) - 0.06, 0.0
        ):
            stage.face(corners, base * 0.8, Thing.POLE, both_sides=False)
        if stage.light.lamps:
            lit = np.array([255.0, 214, 150])
            stage.glow(head, 1.6, lit)

    stage.later(stage.order(foot), paint)


def add_sign(stage: Stage, foot: tuple[float, float, float], turn: float, rng: Rng) -> None:
    """Have a traffic sign on its pole painted; it faces traffic that comes from the camera."""
    height, size = between(rng, 2.0, 3.2), between(rng, 0.3, 0.48)
    kind = str(rng.choice(["round", "triangle", "square", "board", "stop", "blue", "arrow"]))
    turned = turn + between(rng, -0.4, 0.4)
    stage.cast(
        np.array([(foot[0] - 0.3, foot[2]), (foot[0] + 0.3, foot[2]), (foot[0], foot[2] + 0.1)]), height
    )
    rim, inner, mark = {
        "round": (_RED, _WHITE, _BLACK),
        "triangle": (_RED, _WHITE, _BLACK),
        "square": (_WHITE, _BLUE, _WHITE),
        "board": (_WHITE, _BLUE if chance(rng, 0.5) else _GREEN, _WHITE),
        "stop": (_WHITE, _RED, _WHITE),
        "blue": (_WHITE, _BLUE, _WHITE),
        "arrow": (_BLACK, _YELLOW, _BLACK),
    }[kind]
    corners = {"round": 16, "triangle": 3, "square": 4, "board": 4, "stop": 8, "blue": 16, "arrow": 4}[kind]
    start = {4: np.pi / 4, 8: np.pi / 8}.get(corners, np.pi / 2)
    angle = start + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    if kind == "arrow":
        angle = angle + np.pi / 4
    stretch = (between(rng, 2.0, 3.5), 1.4) if kind == "board" else (1.25, 1.25)
    ring = np.stack([np.cos(angle) * stretch[0], np.sin(angle) * stretch[1]], axis=1) * size
    base = np.full(3, between(rng, 120, 175))

    def paint() -> None:
        _post(stage, foot, height + size * 0.6, 0.04, base)
        right = np.array([np.cos(turned), 0, -np.sin(turned)])
        centre = np.array(foot) + rise(height) - 0.06 * np.array([np.sin(turned), 0, np.cos(turned)])

        def plate(points: Points, colour: Colour) -> None:
            stage.face(
                centre + points[:, :1] * right + points[:, 1:] * (0.0, 1.0, 0.0), colour, Thing.TRAFFIC_SIGN
            )

        plate(ring, rim)
        plate(ring * (0.78 if rim is _RED else 0.88), inner)
        bars = (
            [(-0.5, 0.5, -0.14, 0.14)] if kind in ("stop", "round", "square") else [(-0.12, 0.12, -0.4, 0.4)]
        )
        if kind == "board":
            bars = [(-1.4, 0.8, 0.2, 0.4), (-1.4, 1.0, -0.3, -0.1)]
        for left, right_end, low, high in bars:
            plate(np.array([(left, low), (right_end, low), (right_end, high), (left, high)]) * size, mark)

    stage.later(stage.order(foot) - 0.1, paint)


def add_traffic_light(stage: Stage, foot: tuple[float, float, float], turn: float, rng: Rng) -> None:
    """Have a traffic light on its pole painted."""
    height, lit = between(rng, 2.3, 3.0), int(rng.integers(3))
    size = between(rng, 0.15, 0.19)
    frame = chance(rng, 0.4)

    def paint() -> None:
        _post(stage, foot, height + 0.1, 0.06, np.full(3, 80.0))
        ahead = np.array([np.sin(turn), 0, np.cos(turn)])
        right = np.array([np.cos(turn), 0, -np.sin(turn)])
        low = np.array(foot) + rise(height) - ahead * 0.2
        tall, wide = size * 6.4, size * 1.15
        if frame:
            stage.face(
                [
                    low + right * wide * 1.4 - (0, 0.1, 0),
                    low - right * wide * 1.4 - (0, 0.1, 0),
                    low - right * wide * 1.4 + rise(tall + 0.1),
                    low + right * wide * 1.4 + rise(tall + 0.1),
                ],
                _WHITE * 0.95,
                Thing.TRAFFIC_LIGHT,
            )
        for corners in box_faces((float(low[0]), float(low[2])), (wide * 2, tall, 0.25), float(low[1]), turn):
            stage.face(corners, _BLACK * 1.3, Thing.TRAFFIC_LIGHT, both_sides=False)
        angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        for index, colour in enumerate(
            (np.array([255.0, 40, 30]), np.array([255.0, 180, 30]), np.array([40.0, 255, 130]))
        ):
            centre = low - ahead * 0.13 + rise(tall - size * (1.1 + 2.1 * index))
            disc = centre + size * 0.85 * (
                np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * (0.0, 1.0, 0.0)
            )
            if index == lit:
                outline = stage.camera.outline(disc)
                stage.canvas.polygon(outline, colour, Thing.TRAFFIC_LIGHT)
            else:
                stage.face(disc, colour * 0.2, Thing.TRAFFIC_LIGHT)

    stage.later(stage.order(foot) - 0.1, paint)


def add_bench(stage: Stage, place: tuple[float, float, float], turn: float, rng: Rng) -> None:
    """Have a bench painted."""
    base = np.array([(136, 96, 60), (90, 62, 42), (70, 92, 70)][int(rng.integers(3))], dtype=np.float64)
    x, _, z = place
    ahead = np.array([np.sin(turn), np.cos(turn)])
    stage.cast(
        np.array([(x - 0.8, z - 0.3), (x + 0.8, z - 0.3), (x + 0.8, z + 0.3), (x - 0.8, z + 0.3)]), 0.6
    )

    def paint() -> None:
        right = np.array([np.cos(turn), -np.sin(turn)])
        parts = []
        for end in (-0.75, 0.75):
            centre = np.array([x, z]) + right * end
            parts.append(
                ((float(centre[0]), float(centre[1])), (0.09, 0.45, 0.5), 0.0, np.array([50.0, 50, 54]))
            )
        for slat in (-0.2, 0.0, 0.2):
            centre = np.array([x, z]) + ahead * slat
            parts.append(((float(centre[0]), float(centre[1])), (1.8, 0.06, 0.17), 0.43, base))
        for level in (0.6, 0.8):
            centre = np.array([x, z]) + ahead * 0.27
            parts.append(((float(centre[0]), float(centre[1])), (1.8, 0.14, 0.05), level, base * 0.9))
        parts.sort(key=lambda part: -stage.camera.distance((part[0][0], part[2], part[0][1])))
        for middle, size, bottom, colour in parts:
            for corners in box_faces(middle, size, bottom, turn):
                stage.face(corners, colour, Thing.BENCH, both_sides=False)

    stage.later(stage.order(place), paint)
