"""Bicycles, parked or with somebody on them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.figure import Figure, footprint
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between
from ovsdino.scenes.people import Looks, random_looks
from ovsdino.scenes.stage import Stage


def add_rider(stage: Stage, place: tuple[float, float, float], rng: Rng) -> None:
    """Have somebody on a bicycle painted: the one a rider, the other a bicycle."""
    looks = random_looks(rng)
    side = int(rng.choice([-1, 1]))
    narrow = between(rng, 0.25, 1.0)  # how far from the side it is seen; small: from behind or the front
    stage.cast(footprint(place, 0.4), 1.5, 0.9)

    def paint() -> None:
        cycle = Figure(stage, place, 1.0, Thing.BICYCLE)
        _bicycle(cycle, side * narrow, looks.shoes + 60)
        _rider(Figure(stage, place, 1.0, Thing.RIDER), looks, side * narrow)

    stage.later(stage.order(place), paint)


def add_bicycle(stage: Stage, place: tuple[float, float, float], rng: Rng) -> None:
    """Have a parked bicycle painted."""
    colour, narrow = rng.uniform(20, 180, 3), float(rng.choice([-1, 1])) * between(rng, 0.5, 1.0)
    stage.cast(footprint(place, 0.45), 0.8, 0.5)
    stage.later(
        stage.order(place),
        lambda: _bicycle(Figure(stage, place, 1.0, Thing.BICYCLE), narrow, colour),
    )


def _bicycle(figure: Figure, narrow: float, colour: Colour) -> None:
    tyre, spoke = np.array([26.0, 26, 28]), np.array([120.0, 120, 124])
    rear, front = (-0.52 * narrow, 0.34), (0.52 * narrow, 0.34)
    angle = np.linspace(0, 2 * np.pi, 17)
    for x, y in (rear, front):
        ring = np.stack([x + 0.34 * max(abs(narrow), 0.15) * np.cos(angle), y + 0.34 * np.sin(angle)], axis=1)
        for start, end in pairwise(ring):
            _bar(figure, tuple(start), tuple(end), 0.022, tyre)
        for index in (0, 3, 6):
            _bar(figure, tuple(ring[index]), tuple(ring[index + 8]), 0.006, spoke)
    crank, seat, head = (-0.06 * narrow, 0.32), (-0.2 * narrow, 0.86), (0.36 * narrow, 0.82)
    for start, end in (
        (rear, crank),
        (crank, seat),
        (crank, head),
        ((-0.17 * narrow, 0.76), head),
        (rear, (-0.17 * narrow, 0.76)),
        (front, head),
        (head, (0.33 * narrow, 1.0)),
    ):
        _bar(figure, start, end, 0.02, colour)
    _bar(figure, (-0.32 * narrow, 0.9), (-0.08 * narrow, 0.9), 0.03, tyre)
    _bar(figure, (0.22 * narrow - 0.06, 1.0), (0.4 * narrow + 0.06, 1.02), 0.018, tyre)


def _bar(figure: Figure, start: tuple[float, ...], end: tuple[float, ...], half: float, base: Colour) -> None:
    axis = np.subtract(end, start)
    across = np.array([-axis[1], axis[0]]) / max(float(np.hypot(*axis)), 1e-6) * half
    figure.shape([start + across, end + across, end - across, start - across], base)


def _rider(figure: Figure, looks: Looks, narrow: float) -> None:
    hip, shoulder = (-0.2 * narrow, 0.95), (0.08 * narrow, 1.45)
    for shade, pedal in ((0.8, (-0.02 * narrow + 0.07, 0.46)), (1.0, (0.02 * narrow - 0.07, 0.2))):
        knee = (0.2 * narrow + (0.1 if shade < 1 else -0.1) * (1 - abs(narrow)), (0.95 + pedal[1]) / 2 + 0.08)
        figure.limb([hip, knee, pedal], [0.1, 0.075, 0.05], looks.legs * shade)
        figure.ellipse((pedal[0] + 0.05 * narrow, pedal[1] - 0.03), (0.1, 0.045), looks.shoes)
    hand = (0.36 * narrow, 1.05)
    wide = 0.2 - 0.06 * abs(narrow)
    figure.limb(
        [shoulder, (0.2 * narrow - 0.12 * (1 - abs(narrow)), 1.2), hand], [0.06, 0.05, 0.04], looks.top * 0.8
    )
    figure.shape(
        [
            (hip[0] - wide * 0.8, 0.9),
            (hip[0] + wide * 0.8, 0.9),
            (shoulder[0] + wide, 1.44),
            (shoulder[0] + wide * 0.4, 1.54),
            (shoulder[0] - wide * 0.4, 1.54),
            (shoulder[0] - wide, 1.44),
        ],
        looks.top,
    )
    figure.limb(
        [shoulder, (0.22 * narrow + 0.12 * (1 - abs(narrow)), 1.2), hand], [0.06, 0.05, 0.04], looks.top * 0.9
    )
    head = (shoulder[0] + 0.07 * narrow, 1.66)
    figure.ellipse(head, (0.1, 0.13), looks.skin)
    helmet = looks.shoes * 2 + 40 if looks.hat or looks.side else looks.hair
    figure.shape(
        [(head[0] - 0.12, 1.68), (head[0] + 0.12, 1.68), (head[0] + 0.09, 1.8), (head[0] - 0.08, 1.81)],
        helmet,
    )
