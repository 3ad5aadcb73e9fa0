"""People who walk or stand, in all sorts of clothes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.figure import Figure, footprint
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.stage import Stage

_SKIN = [(236, 196, 168), (222, 172, 136), (188, 130, 96), (132, 88, 62), (88, 58, 44)]
_HAIR = [(34, 26, 22), (70, 46, 30), (120, 84, 48), (186, 150, 92), (150, 148, 146), (90, 40, 24)]
_CLOTHES = [
    (30, 34, 52),
    (44, 44, 48),
    (86, 92, 102),
    (160, 40, 44),
    (46, 80, 140),
    (196, 190, 178),
    (66, 92, 62),
    (120, 84, 60),
    (210, 150, 50),
    (230, 228, 224),
    (104, 56, 96),
    (60, 128, 140),
    (206, 96, 112),
]


@dataclass(frozen=True)
class Looks:
    """What a person looks like.

    Attributes:
        height: in metres.
        girth: breadth, 1 on average.
        skin: RGB.
        hair: RGB.
        top: RGB of jacket or shirt.
        legs: RGB of trousers or skirt.
        shoes: RGB.
        skirt: whether it is a skirt or a coat.
        long_hair: whether hair falls to the shoulders.
        hat: whether there is one.
        bag: "hand", "back", "shoulder" or "".
        side: -1 or 1: seen from that side; 0: from front or back.
        phase: of the steps, radians.
    """

    height: float
    girth: float
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    skirt: bool
    long_hair: bool
    hat: bool
    bag: str
    side: int
    phase: float


def random_looks(rng: Rng) -> Looks:
    """Return a child or an adult in everyday clothes."""

    def pick(colours: list[tuple[int, int, int]]) -> Colour:
        return np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.8, 1.15)

    child = chance(rng, 0.12)
    return Looks(
        between(rng, 1.05, 1.4) if child else between(rng, 1.56, 1.9),
        between(rng, 0.88, 1.22),
        pick(_SKIN),
        pick(_HAIR),
        pick(_CLOTHES),
        pick(_CLOTHES[:9]),
        rng.uniform(20, 90, 3),
        chance(rng, 0.22),
        chance(rng, 0.4),
        chance(rng, 0.15),
        str(rng.choice(["", "", "hand", "back", "shoulder"])),
        int(rng.choice([-1, 0, 0, 1])),
        between(rng, 0, 2 * np.pi),
    )


def add_person(stage: Stage, foot: tuple[float, float, float], rng: Rng, *, walking: bool = True) -> None:
    """Have a person painted, with a shadow."""
    looks = random_looks(rng)
    stage.cast(footprint(foot, 0.22), looks.height, 0.9)
    stage.later(
        stage.order(foot) - 0.2,
        lambda: draw_person(Figure(stage, foot, looks.height, Thing.PERSON), looks, walking=walking),
    )


def draw_person(figure: Figure, looks: Looks, *, walking: bool) -> None:
    """Draw an upright person from the feet up; lengths are shares of the height."""
    swing = np.sin(looks.phase) * (0.14 if walking else 0.03)
    seen_from_side = looks.side != 0
    spread = 0.0 if seen_from_side else 0.045 * looks.girth
    hip, knee = 0.5, 0.27
    thick = looks.girth * 0.038
    for which in (-1, 1):
        step = swing * which if seen_from_side else 0.02 * which
        lift = 0.03 * max(0.0, float(np.cos(looks.phase) * which)) if walking else 0.0
        leg = [
            (spread * which, hip),
            (spread * which + step * 0.6 + 0.02 * looks.side, knee + lift),
            (spread * which + step - 0.03 * looks.side * (lift > 0.01), 0.04 + lift),
        ]
        shade = 0.82 if which < 0 else 1.0
        figure.limb(
            leg, [thick * 1.35, thick, thick * 0.75], (looks.skin if looks.skirt else looks.legs) * shade
        )
        toe = 0.075 * looks.side if looks.side else 0.02 * which
        x, y = leg[-1]
        figure.shape(
            [
                (x - 0.03, y - 0.04),
                (x - 0.025, y + 0.012),
                (x + 0.025, y + 0.012),
                (x + max(0.03, toe), y - 0.04),
                (min(x - 0.03, x + toe), y - 0.04),
            ],
            looks.shoes,
        )
    shoulder = (0.075 if seen_from_side else 0.115) * looks.girth
    waist = shoulder * 0.82
    if looks.bag == "back":
        offset = -0.1 * looks.side
        figure.ellipse((offset, 0.68), (0.085 * looks.girth, 0.13), looks.shoes * 1.4 + 20)
    arms = [(-1, 0.82), (1, 1.0)]
    _arm(figure, looks, arms[0], shoulder, swing)
    if looks.skirt:
        figure.shape([(-waist, 0.56), (waist, 0.56), (waist * 1.45, 0.3), (-waist * 1.45, 0.3)], looks.legs)
    torso = np.array(
        [
            (-waist, 0.48),
            (-waist * 0.96, 0.6),
            (-shoulder, 0.79),
            (-shoulder * 0.4, 0.83),
            (shoulder * 0.4, 0.83),
            (shoulder, 0.79),
            (waist * 0.96, 0.6),
            (waist, 0.48),
        ]
    )
    figure.shape(torso, looks.top)
    dark = torso.copy()
    dark[:4, 0] = np.linspace(0.2, -0.1, 4) * waist
    figure.shape(dark if looks.phase > 3 else dark * (-1, 1), looks.top * 0.82)
    if not seen_from_side and looks.phase > 2:
        figure.shape([(-0.02, 0.83), (0.02, 0.83), (0.004, 0.72), (-0.004, 0.72)], looks.skin * 0.9)
    _arm(figure, looks, arms[1], shoulder, -swing)
    figure.limb([(0, 0.82), (0.01 * looks.side, 0.87)], [0.03, 0.03], looks.skin * 0.85)
    _head(figure, looks)


def _arm(figure: Figure, looks: Looks, which: tuple[int, float], shoulder: float, swing: float) -> None:
    side, shade = which
    x = 0.0 if looks.side else side * shoulder
    hand = (x + (swing * 1.2 if looks.side else side * 0.03), 0.47)
    elbow = (x + (swing * 0.4 - 0.02 * looks.side if looks.side else side * 0.035), 0.62)
    figure.limb([(x, 0.785), elbow, hand], [0.032 * looks.girth, 0.027, 0.02], looks.top * shade)
    figure.ellipse(hand, (0.022, 0.028), looks.skin * shade)
    if looks.bag == "hand" and side > 0:
        x, y = hand
        figure.shape(
            [(x - 0.07, y - 0.16), (x + 0.07, y - 0.16), (x + 0.06, y - 0.04), (x - 0.06, y - 0.04)],
            looks.shoes * 1.6 + 30,
        )
    elif looks.bag == "shoulder" and side > 0:
        x += 0.02
        figure.shape(
            [(x - 0.05, 0.46), (x + 0.06, 0.46), (x + 0.06, 0.58), (x - 0.05, 0.58)], looks.shoes * 1.3 + 25
        )


def _head(figure: Figure, looks: Looks) -> None:
    centre = (0.012 * looks.side, 0.925)
    if looks.long_hair:
        figure.ellipse((centre[0] - 0.012 * looks.side, 0.9), (0.062, 0.085), looks.hair)
    figure.ellipse((centre[0], 0.938), (0.054, 0.06), looks.hair)
    away = looks.side == 0 and looks.phase <= 2
    if not away:
        figure.ellipse((centre[0] + 0.012 * looks.side, 0.917), (0.043, 0.055), looks.skin)
        figure.shape(
            [
                (centre[0] - 0.045, 0.945),
                (centre[0] + 0.045, 0.945),
                (centre[0] + 0.03, 0.99),
                (centre[0] - 0.03, 0.99),
            ],
            looks.hair,
        )
    if looks.hat:
        figure.shape(
            [
                (centre[0] - 0.06, 0.955),
                (centre[0] + 0.06 + 0.03 * looks.side, 0.955),
                (centre[0] + 0.045, 1.005),
                (centre[0] - 0.045, 1.005),
            ],
            looks.top * 0.7,
        )
