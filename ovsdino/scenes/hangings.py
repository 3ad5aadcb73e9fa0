"""What is in or on a room's walls: doors, windows, curtains, pictures, clocks, screens."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike

from ovsdino.scenes.canvas import Image
from ovsdino.scenes.light import Light
from ovsdino.scenes.materials import material
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance, noise_window
from ovsdino.scenes.stage import Stage
from ovsdino.scenes.walls import Wall


def hang_door(stage: Stage, wall: Wall, s: float, rng: Rng) -> float:
    """Paint a door and return its width."""
    wide, high = between(rng, 0.78, 0.98), between(rng, 1.98, 2.12)
    colours = [(236, 232, 224), (150, 104, 64), (104, 68, 44), (190, 150, 104), (110, 130, 140)]
    base = np.array(colours[int(rng.integers(len(colours)))]) * between(rng, 0.85, 1.05)
    wall.panel(stage, (s, s + wide, 0, high), np.clip(base * 0.9 + 14, 0, 255), Thing.DOOR, 0.03)
    inner = (s + 0.07, s + wide - 0.07, 0.0, high - 0.07)
    wall.panel(stage, inner, material("wood", rng, base, 0.25), Thing.DOOR, 0.04)
    glazed = chance(rng, 0.2)
    for low, top in ((0.15, 0.85), (1.05, high - 0.22)):
        field = (s + 0.2, s + wide - 0.2, low, top)
        wall.panel(stage, field, base * 0.72, Thing.DOOR, 0.045)
        shade = np.array([170.0, 186, 190]) if glazed and low > 1 else base * 0.93
        wall.panel(
            stage, (field[0] + 0.02, field[1] - 0.015, low + 0.02, top - 0.015), shade, Thing.DOOR, 0.05
        )
    knob = s + (0.12 if chance(rng, 0.5) else wide - 0.2)
    wall.panel(stage, (knob, knob + 0.1, 0.98, 1.01), np.array([190.0, 180, 150]), Thing.DOOR, 0.07)
    return wide


def hang_window(stage: Stage, wall: Wall, s: float, room: float, rng: Rng) -> float:
    """Paint a window, perhaps with curtains, and return the width it takes of the room there is."""
    wide, low = (
        between(rng, 0.9, 2.4),
        between(rng, 0.2, 1.0) if chance(rng, 0.3) else between(rng, 0.8, 1.05),
    )
    high = min(wall.height - 0.25, low + between(rng, 1.1, 1.6))
    side = 0.35 if room > 1.7 and chance(rng, 0.65) else 0.0
    wide = min(wide, room - 2 * side)
    left, right = s + side, s + side + wide
    frame = np.array([240.0, 238, 234]) if chance(rng, 0.7) else np.array([120.0, 84, 54])
    wall.panel(stage, (left, right, low, high), frame, Thing.WINDOW, 0.03)
    view = _outside(stage.light, rng)
    columns = max(1, round(wide / between(rng, 0.5, 0.9)))
    for column in range(columns):
        edges = [left + 0.05 + (wide - 0.1) * part / columns for part in (column, column + 1)]
        pixels = [int(view.shape[1] * part / columns) for part in (column, column + 1)]
        pane = np.ascontiguousarray(view[:, pixels[0] : pixels[1]])
        wall.panel(
            stage,
            (edges[0] + 0.02, edges[1] - 0.02, low + 0.06, high - 0.06),
            pane,
            Thing.WINDOW,
            0.035,
            glows=True,
        )
    if chance(rng, 0.5):
        middle = low + (high - low) * between(rng, 0.5, 0.7)
        wall.panel(stage, (left, right, middle, middle + 0.04), frame, Thing.WINDOW, 0.04)
    wall.panel(stage, (left - 0.05, right + 0.05, low - 0.05, low), frame * 0.92, Thing.WINDOW, 0.1)
    if side:
        _curtains(stage, wall, (left, right, low, high), rng)
    return wide + 2 * side


def _outside(light: Light, rng: Rng) -> Image:
    """Return what is seen through a window, uint8 [h, w, 3]: sky above trees, roofs or a lawn."""
    height, width = 72, 96
    up = np.linspace(1, 0, height)[:, None, None]
    sky = light.zenith_rgb * up + light.horizon_rgb * (1 - up)
    view = np.broadcast_to(sky, (height, width, 3)) * (
        1 + 0.05 * noise_window(rng, "cloud", height, width)[..., None]
    )
    dark = 0.25 if light.horizon_rgb.mean() < 120 else 1.0
    for base, level in (((104, 120, 90), 0.6), ((70, 92, 48), 0.75)):
        if chance(rng, 0.75):
            top = height * (level + 0.09 * noise_window(rng, "leaf" if base[0] < 100 else "cloud", 1, width))
            mask = np.arange(height)[:, None] > top
            shade = np.array(base) * dark * (1 + 0.2 * noise_window(rng, "leaf", height, width)[..., None])
            view = np.where(mask[..., None], shade, view)
    return np.clip(view * 1.06, 0, 255).astype(np.uint8)


def _curtains(stage: Stage, wall: Wall, box: tuple[float, float, float, float], rng: Rng) -> None:
    left, right, low, high = box
    bottom = 0.05 if chance(rng, 0.6) else max(0.05, low - 0.15)
    drawn = between(rng, 0.12, 0.4) * (right - left)
    colours = [
        (214, 204, 184),
        (150, 60, 56),
        (84, 104, 136),
        (196, 164, 96),
        (110, 128, 100),
        (230, 226, 220),
        (120, 90, 120),
    ]
    base = np.array(colours[int(rng.integers(len(colours)))]) * between(rng, 0.85, 1.1)
    for edges in ((left - 0.3, left + drawn), (right - drawn, right + 0.3)):
        wide = edges[1] - edges[0]
        folds = np.sin(np.linspace(0, wide * between(rng, 40, 60), 64)) + 0.4 * np.sin(
            np.linspace(1, wide * 23, 64)
        )
        cloth = (
            base
            * (0.82 + 0.17 * folds[None, :, None])
            * (1 + 0.03 * noise_window(rng, "grain", 48, 64)[..., None])
        )
        picture = np.clip(cloth, 0, 255).astype(np.uint8)
        wall.panel(stage, (*edges, bottom, high + 0.12), picture, Thing.CURTAIN, 0.12)
    if high + 0.16 < wall.height:
        wall.panel(
            stage,
            (left - 0.35, right + 0.35, high + 0.11, high + 0.15),
            np.array([90.0, 66, 46]),
            Thing.CURTAIN,
            0.13,
        )


def hang_painting(stage: Stage, wall: Wall, s: float, low: float, rng: Rng) -> float:
    """Paint a framed picture and return its width."""
    wide, tall = between(rng, 0.4, 1.2), between(rng, 0.4, 0.9)
    tall = min(tall, wall.height - low - 0.2)
    frame = np.array(
        [(60, 44, 30), (180, 146, 80), (30, 30, 32), (226, 222, 214)][int(rng.integers(4))], dtype=np.float64
    )
    wall.panel(stage, (s, s + wide, low, low + tall), frame, Thing.PAINTING, 0.02)
    edge = between(rng, 0.03, 0.07)
    if chance(rng, 0.5):
        wall.panel(
            stage,
            (s + edge, s + wide - edge, low + edge, low + tall - edge),
            np.array([236.0, 232, 222]),
            Thing.PAINTING,
            0.025,
        )
        edge += 0.06
    wall.panel(
        stage, (s + edge, s + wide - edge, low + edge, low + tall - edge), _artwork(rng), Thing.PAINTING, 0.03
    )
    return wide


def _artwork(rng: Rng) -> Image:
    """Return a landscape or an abstract picture, uint8 [48, 64, 3]."""
    first, second = rng.uniform(60, 240, 3), rng.uniform(40, 220, 3)
    up = np.linspace(0, 1, 48)[:, None, None]
    art = np.broadcast_to(first * (1 - up) + second * up, (48, 64, 3)).astype(np.uint8).copy()
    for _ in range(int(rng.integers(2, 9))):
        colour = tuple(float(c) for c in rng.uniform(20, 245, 3))
        centre = (int(rng.integers(64)), int(rng.integers(48)))
        if chance(rng, 0.5):
            axes = (int(rng.integers(3, 26)), int(rng.integers(2, 14)))
            cv2.ellipse(art, centre, axes, between(rng, 0, 180), 0, 360, colour, -1)
        else:
            corner = (centre[0] + int(rng.integers(3, 24)), centre[1] + int(rng.integers(3, 18)))
            cv2.rectangle(art, centre, corner, colour, -1)
    shade = 1 + 0.12 * noise_window(rng, "leaf", 48, 64)[..., None]
    return np.clip(art * shade, 0, 255).astype(np.uint8)


def hang_clock(stage: Stage, wall: Wall, s: float, rng: Rng) -> float:
    """Paint a round clock and return its width."""
    radius, y = between(rng, 0.13, 0.2), wall.height * between(rng, 0.7, 0.8)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    for size, base in ((1.0, rng.uniform(20, 150, 3)), (0.86, np.array([240.0, 238, 230]))):
        ring = np.array(
            [
                wall.at(s + radius + radius * size * np.cos(a), y + radius * size * np.sin(a), 0.03)
                for a in angle
            ]
        )
        stage.face(ring, base, Thing.CLOCK)
    for length, turn, half in ((0.5, between(rng, 0, 6.28), 0.06), (0.75, between(rng, 0, 6.28), 0.04)):
        tip, side = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        ends: list[ArrayLike] = [
            -side * half,
            side * half,
            tip * length + side * half,
            tip * length - side * half,
        ]
        hand = [np.asarray(end) * radius for end in ends]
        stage.face(
            [wall.at(s + radius + e[0], y + e[1], 0.035) for e in hand], np.array([20.0, 20, 20]), Thing.CLOCK
        )
    return 2 * radius


def paint_screen(stage: Stage, wall: Wall, s: float, low: float, lift: float, rng: Rng) -> float:
    """Paint a television, dark or showing something, and return its width."""
    wide = between(rng, 0.9, 1.5)
    tall = wide * 0.58
    wall.panel(stage, (s, s + wide, low, low + tall), np.array([22.0, 22, 24]), Thing.TV, lift)
    inner = (s + 0.03, s + wide - 0.03, low + 0.04, low + tall - 0.03)
    if chance(rng, 0.4):
        wall.panel(stage, inner, _artwork(rng), Thing.TV, lift + 0.01, glows=True)
    else:
        up = np.linspace(1, 0, 24)[:, None, None] * np.linspace(0.6, 1, 32)[None, :, None]
        wall.panel(stage, inner, (up * 46 + np.array([26, 28, 32])).astype(np.uint8), Thing.TV, lift + 0.01)
    return wide
