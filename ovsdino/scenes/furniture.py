"""Sofas, beds, tables and chairs."""

from __future__ import annotations

import numpy as np

from ovsdino.scenes.materials import Material, material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.solids import Solid, Spot, add_solids, random_wood
from ovsdino.scenes.stage import Stage

_CLOTHS = [
    (120, 116, 110),
    (70, 84, 110),
    (150, 60, 54),
    (186, 170, 140),
    (84, 104, 84),
    (60, 58, 60),
    (206, 200, 190),
    (176, 130, 60),
    (96, 70, 100),
]


def _cloth(rng: Rng) -> Material:
    kind = "fabric" if chance(rng, 0.8) else str(rng.choice(["stripes", "carpet"]))
    colour = np.array(_CLOTHS[int(rng.integers(len(_CLOTHS)))]) * between(rng, 0.85, 1.15)
    return material(kind, rng, colour, 0.3 if kind == "fabric" else 0.22)


def add_sofa(stage: Stage, spot: Spot, rng: Rng) -> float:
    """Have a sofa with pillows painted; returns its width."""
    wide, deep, seat = between(rng, 1.5, 2.3), between(rng, 0.8, 0.95), between(rng, 0.38, 0.45)
    back, arm = seat + between(rng, 0.34, 0.5), between(rng, 0.14, 0.24)
    cloth = _cloth(rng)
    half = wide / 2
    solids = [
        Solid((-half, half, 0.06, seat - 0.12, 0, deep), cloth, Thing.SOFA),
        Solid((-half, half, seat - 0.1, back, 0, 0.24), cloth, Thing.SOFA),
        Solid((-half, -half + arm, 0.07, seat + 0.2, 0, deep), cloth, Thing.SOFA),
        Solid((half - arm, half, 0.07, seat + 0.2, 0, deep), cloth, Thing.SOFA),
    ]
    seats = 2 if wide < 1.9 else 3
    room = wide - 2 * arm
    for index in range(seats):
        left = -half + arm + room * index / seats
        solids.append(
            Solid(
                (left + 0.01, left + room / seats - 0.01, seat - 0.11, seat + 0.03, 0.2, deep - 0.02),
                cloth,
                Thing.SOFA,
            )
        )
    for side in (-1, 1):
        if chance(rng, 0.6):
            middle = side * (half - arm - 0.24)
            solids.append(
                Solid(
                    (middle - 0.2, middle + 0.2, seat + 0.03, seat + 0.4, 0.25, 0.4),
                    _cloth(rng),
                    Thing.PILLOW,
                )
            )
    add_solids(stage, spot, solids)
    return wide


def add_bed(stage: Stage, spot: Spot, rng: Rng) -> float:
    """Have a bed painted, its head at the wall; returns its width."""
    wide, long, top = between(rng, 0.95, 1.8), between(rng, 1.95, 2.1), between(rng, 0.42, 0.58)
    half = wide / 2
    wood, sheet = random_wood(rng), material("fabric", rng, np.array([232.0, 230, 226]), 0.12)
    blanket = _cloth(rng)
    solids = [
        Solid((-half - 0.03, half + 0.03, 0, 0.28, 0, long), wood, Thing.BED),
        Solid((-half - 0.03, half + 0.03, 0.01, between(rng, 0.8, 1.2), 0, 0.07), wood, Thing.BED),
        Solid((-half, half, 0.28, top - 0.03, 0.07, long - 0.03), sheet, Thing.BED),
        Solid((-half - 0.02, half + 0.02, 0.29, top + 0.03, 0.62, long - 0.01), blanket, Thing.BED),
    ]
    linen = material(
        "fabric", rng, np.array([244.0, 242, 238]) if chance(rng, 0.6) else rng.uniform(90, 230, 3), 0.15
    )
    middles = (-wide * 0.25, wide * 0.25) if wide > 1.3 else (0.0,)
    for middle in middles:
        solids.append(
            Solid((middle - 0.3, middle + 0.3, top - 0.02, top + 0.12, 0.12, 0.5), linen, Thing.PILLOW)
        )
    add_solids(stage, spot, solids)
    return wide


def add_table(stage: Stage, spot: Spot, rng: Rng, *, low: bool = False) -> tuple[float, float]:
    """Have a table painted; returns its width and depth. A low one stands before a sofa."""
    wide = between(rng, 0.7, 1.2) if low else between(rng, 0.9, 1.8)
    deep = between(rng, 0.45, 0.65) if low else between(rng, 0.7, 0.95)
    top = between(rng, 0.38, 0.46) if low else between(rng, 0.71, 0.77)
    wood, leg = random_wood(rng), between(rng, 0.04, 0.08)
    half = wide / 2
    solids = [Solid((-half, half, top - 0.045, top, 0, deep), wood, Thing.TABLE)]
    for s in (-half + 0.04, half - 0.04 - leg):
        for o in (0.04, deep - 0.04 - leg):
            solids.append(Solid((s, s + leg, 0, top - 0.045, o, o + leg), wood, Thing.TABLE))
    if chance(rng, 0.4):
        solids.append(
            Solid((-half + 0.05, half - 0.05, top - 0.14, top - 0.046, 0.05, deep - 0.05), wood, Thing.TABLE)
        )
    add_solids(stage, spot, solids)
    return wide, deep


def add_chair(stage: Stage, spot: Spot, rng: Rng) -> None:
    """Have a chair painted; its back is at the spot."""
    wide, deep, seat, back = 0.44, 0.44, between(rng, 0.43, 0.48), between(rng, 0.82, 1.0)
    wood = random_wood(rng)
    covered = _cloth(rng) if chance(rng, 0.5) else wood
    half, leg = wide / 2, 0.04
    solids = [Solid((-half, half, seat - 0.05, seat, 0, deep), covered, Thing.CHAIR)]
    for s in (-half, half - leg):
        for o in (0.0, deep - leg):
            solids.append(Solid((s, s + leg, 0, seat - 0.05, o, o + leg), wood, Thing.CHAIR))
        solids.append(Solid((s, s + leg, seat, back, 0, leg), wood, Thing.CHAIR))
    if chance(rng, 0.5):
        solids.append(Solid((-half + leg, half - leg, seat + 0.08, back, 0.005, 0.03), covered, Thing.CHAIR))
    else:
        for level in (0.3, 0.6, 0.86):
            y = seat + (back - seat) * level
            solids.append(Solid((-half, half, y, y + 0.07, 0.005, 0.03), wood, Thing.CHAIR))
    add_solids(stage, spot, solids)
