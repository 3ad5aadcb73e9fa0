"""Buses and trucks, as boxes with windows, doors and wheels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.placement import (
    AMBER,
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


def park_large(stage: Stage, place: Place, rng: Rng, thing: Thing) -> None:
    """Have a bus or a truck painted."""
    bus = thing is Thing.BUS
    long, wide = (between(rng, 9, 12), 2.5) if bus else (between(rng, 6, 9), 2.4)
    high = between(rng, 2.9, 3.2) if not bus or chance(rng, 0.75) else 4.2
    ground_shadow(stage, place, long / 2, wide / 2, high)
    paints = [*PAINTS, (200, 30, 30), (30, 90, 60), (40, 70, 150)]
    paint = np.array(paints[int(rng.integers(len(paints)))], dtype=np.float64)
    second = np.array(paints[int(rng.integers(len(paints)))], dtype=np.float64)
    draw = _bus if bus else _truck
    stage.later(
        stage.order((place.x, 1, place.z)),
        lambda: draw(stage, place, (long, high, wide), (paint, second), rng),
    )


def _block(
    stage: Stage,
    place: Place,
    span: tuple[float, float],
    low: float,
    high: float,
    wide: float,
    base: Colour,
    thing: Thing,
) -> list[tuple[str, NDArray[np.float64]]]:
    """Paint a box and return its visible upright faces: their name and corners (local, from lower left)."""
    eye = local_eye(stage, place)
    half = wide / 2
    faces: list[tuple[str, bool, list[tuple[float, float, float]]]] = [
        (
            "top",
            eye[1] > high,
            [(span[0], high, half), (span[1], high, half), (span[1], high, -half), (span[0], high, -half)],
        ),
        (
            "rear",
            eye[0] < span[0],
            [(span[0], low, -half), (span[0], low, half), (span[0], high, half), (span[0], high, -half)],
        ),
        (
            "front",
            eye[0] > span[1],
            [(span[1], low, half), (span[1], low, -half), (span[1], high, -half), (span[1], high, half)],
        ),
        (
            "side",
            eye[2] > half,
            [(span[0], low, half), (span[1], low, half), (span[1], high, half), (span[0], high, half)],
        ),
        (
            "side",
            eye[2] < -half,
            [(span[1], low, -half), (span[0], low, -half), (span[0], high, -half), (span[1], high, -half)],
        ),
    ]
    seen = []
    for name, visible, corners in faces:
        if visible:
            paint_face(stage, place, corners, base, thing)
            if name != "top":
                seen.append((name, np.array(corners)))
    return seen


def _panel(
    stage: Stage,
    place: Place,
    corners: Points,
    part: tuple[float, float, float, float],
    base: Colour,
    thing: Thing,
) -> None:
    """Paint a part (left, right, bottom, top, in shares) of an upright face."""
    left, right, bottom, top = part
    origin, along, up = corners[0], corners[1] - corners[0], corners[3] - corners[0]
    points = [
        origin + along * s + up * t for s, t in ((left, bottom), (right, bottom), (right, top), (left, top))
    ]
    stage.face(place.world(np.array(points)), base, thing)


def _bus(
    stage: Stage, place: Place, size: tuple[float, float, float], paints: tuple[Colour, Colour], rng: Rng
) -> None:
    long, high, wide = size
    decks = 2 if high > 4 else 1
    dark = glass_colour(stage)
    for axle in (-long * 0.28, long * 0.3):
        for side in (-1, 1):
            _large_wheel(stage, place, axle, side * (wide / 2 - 0.25), Thing.BUS)
    for name, face in _block(stage, place, (-long / 2, long / 2), 0.32, high, wide, paints[0], Thing.BUS):
        _panel(stage, place, face, (0, 1, 0, 0.12), paints[0] * 0.45, Thing.BUS)
        _panel(stage, place, face, (0, 1, 0.14, 0.26), paints[1], Thing.BUS)
        for deck in range(decks):
            low = (0.4 + 0.1 * deck) if decks == 1 else 0.26 + 0.36 * deck
            top = 0.84 if decks == 1 else low + 0.24
            count = 7 if name == "side" else 1
            for pane in range(count):
                _panel(
                    stage,
                    place,
                    face,
                    (0.02 + 0.96 * pane / count, 0.96 * (pane + 1) / count, low, top),
                    dark if not stage.light.lamps else np.array([230.0, 210, 150]),
                    Thing.BUS,
                )
                _panel(
                    stage,
                    place,
                    face,
                    (0.02 + 0.96 * pane / count, 0.96 * (pane + 1) / count, (low + top) / 2, top),
                    dark * 1.5 + 10 if not stage.light.lamps else np.array([250.0, 230, 180]),
                    Thing.BUS,
                )
        if name == "side":
            _panel(stage, place, face, (0.8, 0.92, 0.04, 0.86 if decks == 1 else 0.45), dark * 0.8, Thing.BUS)
            _panel(
                stage, place, face, (0.855, 0.865, 0.04, 0.86 if decks == 1 else 0.45), paints[0], Thing.BUS
            )
            half = float(face[0, 2])
            for axle in (-long * 0.28, long * 0.3):
                _large_wheel(stage, place, axle, half * 1.004, Thing.BUS)
        else:
            _panel(stage, place, face, (0.12, 0.88, 0.87, 0.97), DARK, Thing.BUS)
            if name == "front":
                _panel(stage, place, face, (0.3, 0.7, 0.89, 0.95), AMBER, Thing.BUS)
            for left in (0.05, 0.81):
                _panel(
                    stage,
                    place,
                    face,
                    (left, left + 0.14, 0.14, 0.22),
                    WHITE if name == "front" else RED,
                    Thing.BUS,
                )
            _panel(stage, place, face, (0.4, 0.6, 0.05, 0.1), WHITE, Thing.BUS)


def _truck(
    stage: Stage, place: Place, size: tuple[float, float, float], paints: tuple[Colour, Colour], rng: Rng
) -> None:
    long, high, wide = size
    front = long / 2
    cab = between(rng, 1.7, 2.1)
    eye = local_eye(stage, place)
    for axle in (-long * 0.3, -long * 0.14, front - 0.9):
        for side in (-1, 1):
            _large_wheel(stage, place, axle, side * (wide / 2 - 0.2), Thing.TRUCK)

    def cargo() -> None:
        for name, face in _block(
            stage, place, (-front, front - cab - 0.15), 0.85, high, wide, paints[1], Thing.TRUCK
        ):
            for rib in np.arange(0.1, 0.95, 0.12 if name == "side" else 0.48):
                _panel(stage, place, face, (rib, rib + 0.012, 0, 1), paints[1] * 0.8, Thing.TRUCK)
            _panel(stage, place, face, (0, 1, 0, 0.05), DARK * 2, Thing.TRUCK)
            if name == "side":
                _panel(stage, place, face, (0.25, 0.75, 0.45, 0.75), paints[0], Thing.TRUCK)
            if name == "rear":
                for bar in (0.2, 0.47, 0.51, 0.78):
                    _panel(stage, place, face, (bar, bar + 0.015, 0.08, 0.96), paints[1] * 0.6, Thing.TRUCK)
                _panel(stage, place, face, (0, 1, -0.2, -0.06), DARK * 2, Thing.TRUCK)
                _panel(stage, place, face, (0.38, 0.62, -0.18, -0.1), WHITE, Thing.TRUCK)
                for left in (0.04, 0.82):
                    _panel(stage, place, face, (left, left + 0.14, 0.02, 0.07), RED, Thing.TRUCK)
        for side in (-1, 1):
            if eye[2] * side > wide / 2:
                for axle in (-long * 0.3, -long * 0.14):
                    _large_wheel(stage, place, axle, side * wide / 2, Thing.TRUCK)

    def cabin() -> None:
        for name, face in _block(
            stage, place, (front - cab, front), 0.4, high * 0.86, wide * 0.95, paints[0], Thing.TRUCK
        ):
            _panel(stage, place, face, (0, 1, 0, 0.18), DARK * 2.2, Thing.TRUCK)
            if name == "front":
                _panel(stage, place, face, (0.06, 0.94, 0.5, 0.86), glass_colour(stage), Thing.TRUCK)
                _panel(stage, place, face, (0.2, 0.8, 0.24, 0.42), DARK, Thing.TRUCK)
                for left in (0.04, 0.8):
                    _panel(stage, place, face, (left, left + 0.16, 0.1, 0.2), WHITE, Thing.TRUCK)
            elif name == "side":
                _panel(stage, place, face, (0.3, 0.9, 0.5, 0.85), glass_colour(stage), Thing.TRUCK)
                _large_wheel(stage, place, front - 0.9, float(face[0, 2]) * 1.01, Thing.TRUCK)

    for part in (cabin, cargo) if eye[0] < 0 else (cargo, cabin):
        part()


def _large_wheel(stage: Stage, place: Place, x: float, z: float, thing: Thing) -> None:
    inner = z - np.sign(z) * 0.32
    tread = [(x - 0.34, 0.02, z), (x - 0.34, 0.02, inner), (x - 0.4, 0.85, inner), (x - 0.4, 0.85, z)]
    stage.face(place.world(np.array(tread)), RUBBER, thing)
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for size, base in ((0.48, RUBBER), (0.26, np.array([130.0, 130, 134])), (0.1, np.array([60.0, 60, 62]))):
        ring = np.stack([x + size * np.cos(angle), 0.48 + size * np.sin(angle), np.full(14, z)], axis=1)
        stage.face(place.world(ring), base, thing)
