"""Facades: walls of brick, plaster or glass with their windows, doors, shops and balconies."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ovsdino.scenes.canvas import Colour, Image
from ovsdino.scenes.materials import Material, material
from ovsdino.scenes.noise import Rng, between, chance

_WALLS = [
    ("brick", (150, 82, 62)),
    ("brick", (124, 74, 58)),
    ("brick", (178, 140, 100)),
    ("plaster", (222, 208, 176)),
    ("plaster", (206, 196, 186)),
    ("plaster", (196, 156, 118)),
    ("plaster", (178, 186, 190)),
    ("plaster", (212, 172, 148)),
    ("stone", (176, 166, 146)),
    ("stone", (140, 134, 126)),
    ("plaster", (150, 160, 140)),
    ("boards", (206, 204, 196)),
    ("boards", (126, 140, 150)),
    ("plaster", (236, 232, 222)),
]


@dataclass(frozen=True)
class FacadeStyle:
    """What the facades of one building share.

    Attributes:
        wall: its material.
        storey_m: height of a storey.
        bay_m: distance between windows.
        window: a window's width and height, as shares of bay and storey.
        frame: RGB of frames and sills.
        glass: whether the whole facade is glass.
        shop: whether the ground floor is a shop.
        balconies: whether there are some.
        panes: panes across and down.
        lit: share of windows with light in them.
    """

    wall: Material
    storey_m: float
    bay_m: float
    window: tuple[float, float]
    frame: Colour
    glass: bool
    shop: bool
    balconies: bool
    panes: tuple[int, int]
    lit: float


def random_style(rng: Rng, *, lamps: bool, tall: bool) -> FacadeStyle:
    """Return a building's style."""
    kind, colour = _WALLS[int(rng.integers(len(_WALLS)))]
    tinted = np.array(colour) * rng.uniform(0.86, 1.12) * rng.uniform(0.95, 1.05, 3)
    frame = np.full(3, between(rng, 205, 245)) if chance(rng, 0.7) else rng.uniform(30, 110, 3)
    return FacadeStyle(
        material(kind, rng, tinted, between(rng, 0.3, 0.5)),
        between(rng, 2.7, 3.8),
        between(rng, 2.0, 3.8),
        (between(rng, 0.34, 0.66), between(rng, 0.42, 0.66)),
        frame,
        tall and chance(rng, 0.4),
        chance(rng, 0.35),
        chance(rng, 0.2),
        (int(rng.integers(1, 4)), int(rng.integers(1, 3))),
        between(rng, 0.25, 0.6) if lamps else 0.0,
    )


def facade(
    style: FacadeStyle, width_m: float, height_m: float, rng: Rng, *, detail: float, door: bool = True
) -> Image:
    """Return a facade, uint8 [h, w, 3] RGB.

    Args:
        style: its building's.
        width_m: how wide it is.
        height_m: how high it is.
        rng: for what differs from window to window.
        detail: texels a metre.
        door: whether the ground floor has a door or a shop.
    """
    width, height = max(8, int(width_m * detail)), max(8, int(height_m * detail))
    picture = _wall(style, width, height, detail, rng)
    bays, storeys = max(1, round(width_m / style.bay_m)), max(1, round(height_m / style.storey_m))
    if style.glass:
        _curtain_wall(picture, style, bays * 2, storeys, rng)
        return picture
    bay, storey = width / bays, height / storeys
    cornice = tuple(float(c) for c in style.wall.ramp[185])
    wide, high = max(3, int(style.window[0] * bay)), max(4, int(style.window[1] * storey))
    windows = _windows(style, wide, high, rng.uniform(26, 60, 3) + np.array([0, 6, 14]), rng)
    for row in range(storeys):
        floor_y = (row + 1) * storey
        if row and chance(rng, 0.3):
            cv2.rectangle(picture, (0, int(row * storey) - 1), (width, int(row * storey) + 1), cornice, -1)
        ground = row == storeys - 1
        if ground and door and style.shop and storeys > 1:
            _shop(picture, width, int(row * storey), height, rng)
            continue
        entrance = int(rng.integers(bays)) if ground and door else -1
        for column in range(bays):
            middle = (column + 0.5) * bay
            if column == entrance:
                _door(picture, middle, floor_y, bay, storey, rng)
                continue
            lit = chance(rng, style.lit)
            pane = windows[int(rng.integers(2)) if lit else int(rng.integers(2, len(windows)))]
            top, left = int(floor_y - storey * 0.5 - high * 0.5), int(middle - wide * 0.5)
            picture[top : top + high, left : left + wide] = pane
            if style.balconies and not ground and column % 2 == 0:
                _balcony(picture, middle, floor_y, bay, storey, style.frame)
    cv2.rectangle(picture, (0, 0), (width, 4), cornice, -1)  # the eaves
    cv2.rectangle(picture, (0, 5), (width, 6), tuple(float(c) for c in style.wall.ramp[40]), -1)
    return picture


def _wall(style: FacadeStyle, width: int, height: int, detail: float, rng: Rng) -> Image:
    """Return the bare wall, uint8 [height, width, 3]."""
    tile = style.wall.tile
    level = tile.levels[tile.level(1 / detail)]
    shift = [int(step) for step in rng.integers(256, size=2)]
    copies = (height // level.shape[0] + 1, width // level.shape[1] + 1)
    grey = np.ascontiguousarray(np.tile(np.roll(level, shift, axis=(0, 1)), copies)[:height, :width])
    ramp = np.clip(style.wall.ramp, 0, 255).astype(np.uint8)[:, None, :]
    return np.asarray(cv2.applyColorMap(grey, ramp), dtype=np.uint8)


def _windows(style: FacadeStyle, wide: int, high: int, base: Colour, rng: Rng) -> list[Image]:
    """Return some different windows of one size, uint8 [high, wide, 3]; a facade repeats them."""
    return [_window(style, wide, high, base, rng, lit=index < 2) for index in range(6)]


def _window(style: FacadeStyle, wide: int, high: int, base: Colour, rng: Rng, *, lit: bool) -> Image:
    picture = np.empty((high, wide, 3), dtype=np.uint8)
    frame = _rgb(style.frame)
    picture[:] = frame
    right, lower = wide - 2, high - 3
    glass = np.array([250, 214, 140]) * between(rng, 0.8, 1.0) if lit else base * between(rng, 0.6, 1.5)
    cv2.rectangle(picture, (1, 1), (right, lower), _rgb(glass), -1)
    if not lit and chance(rng, 0.6):  # the sky is mirrored in the upper part
        cv2.rectangle(picture, (1, 1), (right, max(2, high // 3)), _rgb(glass * 1.7 + 16), -1)
    if chance(rng, 0.4):  # a curtain
        cloth = _rgb(rng.uniform(0.6, 1.0) * np.array([216, 210, 198]) * (1.0 if lit else 0.75))
        cv2.rectangle(picture, (1, 1), (max(2, wide // 4), lower), cloth, -1)
        cv2.rectangle(picture, (wide - max(2, wide // 4), 1), (right, lower), cloth, -1)
    for column in range(1, style.panes[0]):
        x = wide * column // style.panes[0]
        cv2.line(picture, (x, 0), (x, lower), frame, 1)
    for row in range(1, style.panes[1]):
        y = high * row // style.panes[1]
        cv2.line(picture, (0, y), (right, y), frame, 1)
    cv2.rectangle(picture, (0, high - 2), (wide, high), _rgb(style.frame * 0.8), -1)  # the sill
    return picture


def _door(picture: Image, middle: float, floor_y: float, bay: float, storey: float, rng: Rng) -> None:
    wide, high = min(bay * 0.42, storey * 0.34), storey * 0.74
    left, right, upper = int(middle - wide / 2), int(middle + wide / 2), int(floor_y - high)
    colour = rng.uniform(20, 150, 3)
    cv2.rectangle(picture, (left - 2, upper - 2), (right + 2, int(floor_y)), _rgb(colour * 0.4 + 110), -1)
    cv2.rectangle(picture, (left, upper), (right, int(floor_y)), _rgb(colour), -1)
    cv2.rectangle(
        picture, (left + 3, upper + 3), (right - 3, int(floor_y - high * 0.55)), _rgb(colour * 0.6), -1
    )


def _shop(picture: Image, width: int, top: int, bottom: int, rng: Rng) -> None:
    board = rng.uniform(30, 220, 3)
    high = bottom - top
    cv2.rectangle(picture, (0, top), (width, bottom), _rgb(board * 0.5 + 20), -1)
    x = 3
    while x < width - 8:
        step = int(between(rng, 20, 60))
        inside = rng.uniform(30, 130, 3)
        cv2.rectangle(
            picture, (x, top + int(high * 0.34)), (x + step, bottom - int(high * 0.1)), _rgb(inside), -1
        )
        for _ in range(5):  # goods
            gx, gy = x + int(rng.integers(max(1, step))), bottom - int(high * between(rng, 0.12, 0.45))
            size = int(rng.integers(2, 8))
            cv2.rectangle(
                picture, (gx, gy), (min(gx + size, x + step), gy + size), _rgb(rng.uniform(60, 240, 3)), -1
            )
        x += step + 4
    cv2.rectangle(picture, (0, top + 3), (width, top + int(high * 0.28)), _rgb(board), -1)
    letters = _rgb(np.where(board.mean() > 120, 20.0, 240.0) * np.ones(3))
    x = int(between(rng, 5, 30))
    stop = min(width - 8, x + int(between(rng, 40, 140)))
    while x < stop:
        letter = int(rng.integers(3, 7))
        y = top + int(high * 0.09)
        cv2.rectangle(
            picture, (x, y), (x + letter, y + int(high * 0.12)), letters, 1 if chance(rng, 0.5) else -1
        )
        x += letter + 3


def _balcony(picture: Image, middle: float, floor_y: float, bay: float, storey: float, frame: Colour) -> None:
    left, right = int(middle - bay * 0.45), int(middle + bay * 0.45)
    top, foot = int(floor_y - storey * 0.42), int(floor_y - storey * 0.06)
    for x in range(left, right, 3):
        cv2.line(picture, (x, top), (x, foot), _rgb(frame * 0.5), 1)
    cv2.rectangle(picture, (left, foot), (right, foot + 3), _rgb(frame * 0.7), -1)
    cv2.line(picture, (left, top), (right, top), _rgb(frame * 0.5), 2)


def _curtain_wall(picture: Image, style: FacadeStyle, columns: int, storeys: int, rng: Rng) -> None:
    height, width = picture.shape[:2]
    tint = between(rng, 0.8, 1.3) * rng.uniform(0.92, 1.08, 3) * (84, 100, 114)
    for row in range(storeys):
        y = [int(height * part / storeys) for part in (row, row + 1)]
        for column in range(columns):
            x = [int(width * part / columns) for part in (column, column + 1)]
            lit = chance(rng, style.lit)
            pane = (
                np.array([240, 220, 170]) * 0.9
                if lit
                else tint * between(rng, 0.7, 1.35) * (1.3 - 0.5 * row / storeys)
            )
            cv2.rectangle(picture, (x[0] + 1, y[0] + 5), (x[1] - 1, y[1] - 1), _rgb(pane), -1)


def _rgb(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = (float(min(255.0, max(0.0, channel))) for channel in colour)
    return red, green, blue
