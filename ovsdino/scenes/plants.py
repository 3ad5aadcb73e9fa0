"""Trees of several kinds, bushes and potted plants, with crowns one can see through."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour, Image
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance, noise_window
from ovsdino.scenes.stage import Stage, rise, tinted

_GREENS = [(74, 98, 40), (58, 84, 40), (96, 112, 48), (48, 72, 44), (84, 92, 40)]
_AUTUMN = [(178, 110, 36), (160, 74, 32), (190, 150, 50), (140, 96, 44)]


@dataclass(frozen=True)
class Season:
    """What the time of year makes of trees.

    Attributes:
        leaves: RGB of the leaves that are usual.
        bare: share of trees without leaves.
    """

    leaves: list[tuple[int, int, int]]
    bare: float


def random_season(rng: Rng) -> Season:
    """Return summer mostly, at times autumn or winter."""
    kind = rng.choice(["summer", "autumn", "winter"], p=[0.68, 0.2, 0.12])
    if kind == "summer":
        return Season(_GREENS, 0.03)
    return (
        Season(_GREENS[:2] + _AUTUMN, 0.15) if kind == "autumn" else Season([(70, 70, 44), (52, 66, 40)], 0.8)
    )


def add_tree(
    stage: Stage, place: tuple[float, float, float], season: Season, rng: Rng, size: float = 1.0
) -> None:
    """Have a tree painted, with a shadow."""
    height = between(rng, 4.5, 11) * size
    bare = chance(rng, season.bare)
    conifer = not bare and chance(rng, 0.15)
    wide = height * (between(rng, 0.3, 0.42) if conifer else between(rng, 0.5, 0.85))
    foot = 0.12 if conifer else between(rng, 0.22, 0.4)
    base = np.array(season.leaves[int(rng.integers(len(season.leaves)))]) * rng.uniform(0.8, 1.2, 3)
    own = rng.spawn(1)[0]  # so that what is not seen need not be grown
    bark = np.array([92.0, 78, 64]) * between(rng, 0.6, 1.15)
    lean = between(rng, -0.04, 0.04) * height
    trunk = height * between(rng, 0.018, 0.032)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([place[0] + wide * 0.33 * np.cos(angle), place[2] + wide * 0.33 * np.sin(angle)], axis=1)
    sun = stage.light.sun
    reach = -sun[[0, 2]] / max(float(sun[1]), 0.25) * height * 0.6
    canopy = np.stack([ring[:, 0] + reach[0], np.full(12, 0.01), ring[:, 1] + reach[1]], axis=1)
    stage.shadow(canopy, 0.35 if bare else 0.85)

    def paint() -> None:
        pixels, depths = stage.camera.project(np.array([place, (place[0], place[1] + height, place[2])]))
        if depths.min() < 1.0 or not stage.sees_upright(place, wide / 2 + abs(lean), height):
            return
        scale = stage.camera.scale(float(depths[0]))
        right = stage.camera.axes[0] * (1, 0, 1)
        start = np.array(place)
        points = [start - right * trunk * 1.3, start + right * trunk * 1.3]
        middle = start + rise(height * (foot + 0.35)) + right * lean
        points += [middle + right * trunk * 0.5, middle - right * trunk * 0.5]
        stage.face(points, bark, Thing.TREE)
        stage.face([points[0], start, middle, points[3]], bark * 0.75, Thing.TREE)
        depth = stage.camera.distance(place)
        share = stage.light.haze(depth)
        grown = own.spawn(1)[0]
        if bare:
            cover = _branches(grown)
            bark_lit = np.clip(stage.colour(bark, -stage.camera.axes[2], depth), 0, 255)
            seen = np.broadcast_to(bark_lit.astype(np.uint8), (*cover.shape, 3)).copy()
        else:
            side = _crown_side(height * scale)
            leaves, cover = _crown(base * (0.7 if conifer else 1.0), conifer, stage, grown, side)
            seen = tinted(leaves, np.full(3, 1 - share), stage.light.horizon_rgb * share)
        top, base_row = pixels[1, 1], pixels[0, 1]
        low = base_row - (base_row - top) * foot
        x = pixels[0, 0] + lean * scale
        stage.canvas.sprite(seen, cover, (top, low, x - wide * scale / 2, x + wide * scale / 2), Thing.TREE)

    stage.later(stage.order(place), paint)


def _crown_side(samples: float) -> int:
    """Return the texels a side of a crown that is about so large in the picture."""
    return 176 if samples > 250 else 112 if samples > 100 else 64 if samples > 45 else 40


def _crown(base: Colour, conifer: bool, stage: Stage, rng: Rng, side: int) -> tuple[Image, Image]:
    """Return a crown of leaves with gaps: its colours, uint8 [s, s, 3], and its mask, uint8 [s, s]."""
    light = stage.light
    depth = np.zeros((side, side), dtype=np.float32)
    bright = np.zeros((side, side), dtype=np.float32)
    clumps = int(rng.integers(14, 34))
    order = np.sort(rng.random(clumps))  # from the back of the crown to its front, which is lower
    sun_right = 1.0 if float(stage.camera.axes[0] @ light.sun) > 0 else -1.0
    for nearness in order:
        if conifer:
            y = between(rng, 0.06, 0.96)
            x = 0.5 + between(rng, -0.42, 0.42) * y
            radii = (0.05 + 0.14 * y, 0.05 + 0.04 * y)
        else:
            angle, reach = between(rng, 0, 2 * np.pi), 0.33 * np.sqrt(rng.random())
            x, y = 0.5 + reach * np.cos(angle), 0.47 + reach * 1.05 * np.sin(angle)
            radii = (between(rng, 0.09, 0.17), between(rng, 0.08, 0.15))
        centre = (int(x * side), int(y * side))
        axes = (int(radii[0] * side), int(radii[1] * side))
        cv2.ellipse(depth, centre, axes, 0, 0, 360, (1.0,), -1)
        level = 0.62 + 0.3 * float(nearness) - 0.35 * (y - 0.5) + 0.2 * sun_right * (x - 0.5)
        cv2.ellipse(bright, centre, axes, 0, 0, 360, (level * 0.78,), -1)
        lifted = (centre[0] + int(sun_right * axes[0] * 0.22), centre[1] - int(axes[1] * 0.3))
        cv2.ellipse(bright, lifted, (int(axes[0] * 0.7), int(axes[1] * 0.66)), 0, 0, 360, (level * 1.12,), -1)
    leaf = noise_window(rng, "leaf", side, side)
    soft = cv2.blur(depth, (side // 13, side // 13))
    cover = (soft + 0.16 * leaf * (1.25 - 0.4 * soft) > between(rng, 0.42, 0.56)) & (soft > 0.15)
    # Beyond the clumps' edges, where loose leaves hang, the light is that of the nearest clump.
    spread = (side // 16) | 1
    shade = cv2.blur(bright, (spread, spread)) / np.maximum(cv2.blur(depth, (spread, spread)), 0.12)
    shade = np.clip(shade * (1 + 0.16 * noise_window(rng, "leaf", side, side) + 0.05 * leaf) * 127, 0, 255)
    front = light.on(np.array([0.0, 0.55, -0.8])) + light.sun_rgb * 0.25
    ramp = np.clip(np.arange(256)[:, None] / 127 * (base * front * 1.15), 0, 255).astype(np.uint8)
    colours = np.asarray(cv2.applyColorMap(shade.astype(np.uint8), ramp[:, None, :]), dtype=np.uint8)
    return colours, np.where(cover, np.uint8(255), np.uint8(0))


def _branches(rng: Rng) -> Image:
    """Return what the twigs of a leafless crown cover, uint8 [s, s]."""
    side = 256
    cover = np.zeros((side, side), dtype=np.uint8)
    ends = [(side / 2, side * 1.0, -np.pi / 2, side * 0.26, 9.0)]
    while ends:
        x, y, angle, length, width = ends.pop()
        tip = (x + length * np.cos(angle), y + length * np.sin(angle))
        cv2.line(cover, (int(x), int(y)), (int(tip[0]), int(tip[1])), (255,), max(2, int(width)))
        if length > side * 0.045:
            for turn in (between(rng, -0.75, -0.2), between(rng, -0.15, 0.2), between(rng, 0.2, 0.75)):
                ends.append((*tip, angle + turn, length * between(rng, 0.58, 0.78), width * 0.66))
    return cover


def add_bush(stage: Stage, place: tuple[float, float, float], season: Season, rng: Rng) -> None:
    """Have a bush painted."""
    height = between(rng, 0.7, 1.7)
    wide = height * between(rng, 1.1, 2.2)
    base = np.array(season.leaves[int(rng.integers(len(season.leaves)))]) * rng.uniform(0.8, 1.15, 3)
    own = rng.spawn(1)[0]
    angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    stage.cast(
        np.stack([place[0] + wide * 0.4 * np.cos(angle), place[2] + wide * 0.4 * np.sin(angle)], axis=1),
        height * 0.7,
    )

    def paint() -> None:
        pixels, depths = stage.camera.project(np.array([place]))
        if depths[0] < 1.0 or not stage.sees_upright(place, wide / 2, height):
            return
        scale = stage.camera.scale(float(depths[0]))
        share = stage.light.haze(float(depths[0]))
        side = _crown_side(height * scale)
        colours, cover = _crown(base, False, stage, own.spawn(1)[0], side)
        cover[side * 2 // 3 :, side // 5 : -side // 5] = 255  # it reaches the ground
        seen = tinted(colours, np.full(3, 1 - share), stage.light.horizon_rgb * share)
        x, y = pixels[0]
        crop = slice(0, int(side * 0.86))
        stage.canvas.sprite(
            seen[crop],
            cover[crop],
            (y - height * scale, y, x - wide * scale / 2, x + wide * scale / 2),
            Thing.BUSH,
        )

    stage.later(stage.order(place), paint)


def potted_plant(stage: Stage, place: tuple[float, float, float], height: float, rng: Rng) -> None:
    """Paint a plant in a pot now; both are the plant."""
    x, y, z = place
    pot, radius = height * between(rng, 0.25, 0.36), height * between(rng, 0.14, 0.2)
    right = stage.camera.axes[0] * (1, 0, 1)
    right = right / np.linalg.norm(right)
    base = np.array(
        [(176, 96, 64), (220, 216, 208), (70, 74, 80), (150, 120, 90)][int(rng.integers(4))], dtype=np.float64
    )
    start = np.array([x, y, z])
    low, high = start, start + rise(pot)
    leaf = np.array(_GREENS[int(rng.integers(len(_GREENS)))]) * rng.uniform(0.8, 1.25)
    stage.face(
        [
            low - right * radius * 0.75,
            high - right * radius,
            high + right * radius,
            low + right * radius * 0.75,
        ],
        base,
        Thing.PLANT,
    )
    stage.face([low, high, high + right * radius, low + right * radius * 0.75], base * 0.8, Thing.PLANT)
    if chance(rng, 0.45):
        _foliage(stage, high, height - pot, leaf, rng)
        return
    for _ in range(int(rng.integers(12, 24))):
        angle, reach = between(rng, 0.35, np.pi - 0.35), height * between(rng, 0.3, 0.68)
        tip = high + right * np.cos(angle) * reach + np.array([0, np.sin(angle) * reach, 0])
        bend = (high + tip) / 2 + np.array([0, reach * 0.12, 0])
        across = right * np.sin(angle) - np.array([0, np.cos(angle), 0])
        wide = reach * between(rng, 0.08, 0.16)
        shade = leaf * between(rng, 0.65, 1.3)
        stage.face([high, bend + across * wide, tip, bend - across * wide], shade, Thing.PLANT)
        stage.face([high, bend, tip, bend - across * wide], shade * 0.8, Thing.PLANT)


def _foliage(stage: Stage, foot: Points, height: float, leaf: Colour, rng: Rng) -> None:
    """Paint the round crown of a potted plant."""
    scale = stage.samples(foot)
    pixels, depths = stage.camera.project(foot[None])
    if depths[0] < 0.8:
        return
    side = _crown_side(height * scale)
    colours, cover = _crown(leaf, False, stage, rng, side)
    cover[side // 2 :, side * 7 // 16 : side * 9 // 16] = 255  # its stem
    wide = height * between(rng, 0.7, 1.1) * stage.camera.scale(float(depths[0]))
    x, y = pixels[0]
    stage.canvas.sprite(colours, cover, (y - height * scale, y + 2, x - wide / 2, x + wide / 2), Thing.PLANT)
