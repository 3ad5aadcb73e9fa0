"""Cabinets with doors or drawers, and shelves full of books."""

from __future__ import annotations

import cv2
import numpy as np

from ovsdino.scenes.canvas import Image
from ovsdino.scenes.materials import Material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance
from ovsdino.scenes.solids import Solid, Spot, add_solids, random_wood
from ovsdino.scenes.stage import Stage


def add_cabinet(
    stage: Stage, spot: Spot, rng: Rng, *, high: bool | None = None
) -> tuple[float, float, float]:
    """Have a cabinet painted, with doors or drawers; returns its width, height and depth."""
    is_high = chance(rng, 0.35) if high is None else high
    wide, deep = between(rng, 0.7, 1.7), between(rng, 0.38, 0.55)
    tall = between(rng, 1.7, 2.1) if is_high else between(rng, 0.5, 0.95)
    wood = random_wood(rng)
    rows, columns = (
        (int(rng.integers(1, 3)), max(1, round(wide / 0.5)))
        if is_high or chance(rng, 0.4)
        else (int(rng.integers(2, 5)), int(rng.integers(1, 3)))
    )
    add_solids(
        stage,
        spot,
        [
            Solid(
                (-wide / 2, wide / 2, 0, tall, 0, deep), wood, Thing.CABINET, _front(wood, rows, columns, rng)
            )
        ],
    )
    return wide, tall, deep


def _front(wood: Material, rows: int, columns: int, rng: Rng) -> Image:
    """Return a cabinet's front, uint8 [96, 128, 3]: doors or drawers with knobs."""
    grey = np.ascontiguousarray(wood.tile.levels[0][:96, :128])
    picture = np.asarray(
        cv2.applyColorMap(grey, np.clip(wood.ramp, 0, 255).astype(np.uint8)[:, None, :]), dtype=np.uint8
    )
    dark = tuple(float(c) for c in wood.ramp[20] * 0.5)
    light = tuple(float(c) for c in np.clip(wood.ramp[220], 0, 255))
    knob = tuple(float(c) for c in rng.uniform(40, 220, 1) * np.ones(3))
    for row in range(rows):
        for column in range(columns):
            x, y = (
                [128 * part // columns for part in (column, column + 1)],
                [96 * part // rows for part in (row, row + 1)],
            )
            cv2.rectangle(picture, (x[0] + 1, y[0] + 1), (x[1] - 2, y[1] - 2), dark, 1)
            cv2.rectangle(picture, (x[0] + 3, y[0] + 3), (x[1] - 4, y[1] - 4), light, 1)
            middle = (
                (x[0] + x[1]) // 2 if rows > 1 else (x[1] - 8 if column % 2 == 0 else x[0] + 8),
                (y[0] + y[1]) // 2,
            )
            cv2.rectangle(picture, (middle[0] - 2, middle[1] - 2), (middle[0] + 2, middle[1] + 2), knob, -1)
    return picture


def add_shelf(stage: Stage, spot: Spot, rng: Rng) -> float:
    """Have a shelf full of books painted; returns its width."""
    wide, deep, tall = between(rng, 0.7, 1.6), between(rng, 0.28, 0.36), between(rng, 1.2, 2.15)
    wood = random_wood(rng)
    add_solids(
        stage,
        spot,
        [Solid((-wide / 2, wide / 2, 0, tall, 0, deep), wood, Thing.SHELF, _books(wood, wide, tall, rng))],
    )
    return wide


def _books(wood: Material, wide: float, tall: float, rng: Rng) -> Image:
    """Return an open shelf's front, uint8 [h, w, 3]."""
    width, height = int(wide * 110), int(tall * 110)
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[:] = np.clip(wood.ramp[128] * 0.35, 0, 255).astype(np.uint8)
    boards = max(2, round(tall / 0.34))
    frame = tuple(float(c) for c in np.clip(wood.ramp[140], 0, 255))
    for board in range(boards):
        top, bottom = height * board // boards, height * (board + 1) // boards
        x = 5
        while x < width - 8:
            if chance(rng, 0.12):
                x += int(between(rng, 8, 40))
                continue
            thick, high = int(rng.integers(3, 9)), int((bottom - top - 7) * between(rng, 0.55, 0.92))
            colour = rng.uniform(30, 210) * rng.uniform(0.5, 1.1, 3)
            cv2.rectangle(
                picture,
                (x, bottom - 4 - high),
                (min(x + thick - 1, width - 6), bottom - 4),
                tuple(float(c) for c in colour),
                -1,
            )
            if thick > 5:
                cv2.line(
                    picture,
                    (x + 1, bottom - 4 - high // 2),
                    (x + thick - 3, bottom - 4 - high // 2),
                    tuple(float(c) for c in colour * 0.4 + 140),
                    1,
                )
            x += thick
        cv2.rectangle(picture, (0, bottom - 4), (width, bottom), frame, -1)
    cv2.rectangle(picture, (0, 0), (width - 1, height - 1), frame, 5)
    return picture
