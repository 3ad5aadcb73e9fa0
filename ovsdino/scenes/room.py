"""A room: its walls, what stands along them, what stands in its middle, and who is in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ovsdino.scenes.cabinets import add_cabinet, add_shelf
from ovsdino.scenes.camera import Camera, looking
from ovsdino.scenes.figure import Figure
from ovsdino.scenes.furniture import add_bed, add_chair, add_sofa, add_table
from ovsdino.scenes.hangings import hang_clock, hang_door, hang_painting, hang_window, paint_screen
from ovsdino.scenes.lamps import add_lamp, add_rug
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance, stream
from ovsdino.scenes.people import draw_person, random_looks
from ovsdino.scenes.plants import potted_plant
from ovsdino.scenes.solids import Spot, contact
from ovsdino.scenes.stage import Stage
from ovsdino.scenes.walls import Wall, paint_shell, room_walls

_WISHES = {
    "living": ["sofa", "sofa", "sofa", "tv", "shelf", "window", "cabinet", "lamp"],
    "bedroom": ["bed", "bed", "bed", "bed", "cabinet", "window", "lamp", "painting"],
    "dining": ["cabinet", "cabinet", "window", "shelf", "sofa", "painting", "chair"],
    "study": ["desk", "desk", "shelf", "shelf", "window", "cabinet", "bed", "painting", "tv"],
}
_SIZES = {  # the width that must be free along the wall, and the depth that is taken up
    "sofa": (2.4, 1.0), "bed": (2.1, 2.15), "cabinet": (1.8, 0.6), "tv": (1.8, 0.6), "shelf": (1.7, 0.4),
    "desk": (1.95, 1.6), "chair": (0.7, 0.6), "plant": (0.6, 0.6), "lamp": (0.5, 0.5),
    "door": (1.0, 0.1), "window": (1.2, 0.0), "painting": (1.3, 0.0), "clock": (0.5, 0.0),
}  # fmt: skip


@dataclass
class FloorPlan:
    """Which parts of a room's floor are taken: left, right, near and far sides in x and z."""

    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def take(self, wall: Wall, s: float, wide: float, deep: float) -> bool:
        """Return whether a piece of floor at a wall is free; if so, it is taken from now on."""
        first, second = wall.at(s, 0, 0), wall.at(s + wide, 0, deep)
        x, z = sorted((float(first[0]), float(second[0]))), sorted((float(first[2]), float(second[2])))
        return self.take_box(x[0], x[1], z[0], z[1])

    def take_box(self, left: float, right: float, near: float, far: float) -> bool:
        """Return whether a rectangle is free; if so, it is taken from now on."""
        if any(left < b and right > a and near < d and far > c for a, b, c, d in self.taken):
            return False
        self.taken.append((left, right, near, far))
        return True


def _size(seed: int) -> tuple[float, float, float]:
    """Return a room's width, depth and height in metres."""
    rng = stream(seed, "room")
    return between(rng, 3.4, 6.4), between(rng, 3.8, 7.0), between(rng, 2.4, 3.0)


def room_camera(seed: int, size_hw: tuple[int, int]) -> Camera:
    """Return where a room is seen from: by somebody who stands in it."""
    width, _, height = _size(seed)
    rng = stream(seed, "room camera")
    x = between(rng, -0.32, 0.32) * width
    return looking(
        (x, min(between(rng, 1.25, 1.85), height - 0.5), -0.6),
        yaw=float(rng.normal(-x / width * 0.7, 0.16)),
        pitch=between(rng, 0.02, 0.2),
        roll=float(rng.normal(0, 0.012)),
        focal=between(rng, 0.62, 0.95),
        size_hw=size_hw,
    )


def paint_room(stage: Stage, seed: int) -> None:
    """Paint a room as a seed has it."""
    width, depth, height = _size(seed)
    walls = room_walls(width, depth, height)
    paint_shell(stage, walls, stream(seed, "shell"))
    floor = FloorPlan()
    chosen = stream(seed, "purpose")
    purpose = str(chosen.choice(["living", "living", "bedroom", "bedroom", "dining", "study"]))
    main = int(chosen.integers(len(walls)))  # here stands what the room is for
    for index in (main, *(other for other in range(len(walls)) if other != main)):
        wall, rng = walls[index], stream(seed, f"wall {index}")
        _line(stage, wall, purpose, floor, rng, first=_WISHES[purpose][0] if index == main else None)
        if index == main:
            tables = 0.2 if purpose == "bedroom" else 0.6
            _middle(stage, (width, depth), floor, tables, stream(seed, "middle"))
    rng = stream(seed, "lamp")
    if chance(rng, 0.55):
        place = (between(rng, -0.2, 0.2) * width, height, depth * between(rng, 0.35, 0.6))
        add_lamp(stage, place, between(rng, 0.3, 0.7), rng, hangs=True)
    if chance(rng, 0.3):
        x, z = between(rng, -0.3, 0.3) * width, between(rng, 0.35, 0.8) * depth
        if floor.take_box(x - 0.3, x + 0.3, z - 0.3, z + 0.3):
            _person(stage, (x, z), rng)
    stage.finish()


def _line(stage: Stage, wall: Wall, purpose: str, floor: FloorPlan, rng: Rng, *, first: str | None) -> None:
    """Furnish one wall from its left to its right end."""
    side_wall = abs(wall.along[2]) > 0.5
    # Near the camera a piece of furniture would fill the picture.
    start = 1.9 if side_wall and wall.along[2] > 0 else 0.15
    last = wall.length - (1.9 if side_wall and wall.along[2] < 0 else 0.15)
    wishes = [*_WISHES[purpose], "door", "window", "window", "plant", "bare", "clock", "painting", "lamp"]
    s = start + between(rng, 0.0, 0.4)
    done: set[str] = set()
    while s < last - 0.6:
        wish, first = first or str(rng.choice(wishes)), None
        if wish in done and wish in ("bed", "door", "sofa", "tv", "clock"):
            wish = "bare"
        done.add(wish)
        wide, deep = _SIZES.get(wish, (0.3, 0.0))
        if last - s < wide or (deep and not floor.take(wall, s, wide, deep)):
            s += 0.3
            continue
        s += _furnish(stage, wall, wish, s, last - s, rng) + between(rng, 0.05, 0.3)


def _furnish(stage: Stage, wall: Wall, wish: str, s: float, room: float, rng: Rng) -> float:
    """Place one piece at a wall and return the width that it takes."""
    turn = float(np.arctan2(wall.out[0], -wall.out[2]))

    def spot(middle: float, out: float = 0.03) -> Spot:
        place = wall.at(s + middle, 0, out)
        return Spot(float(place[0]), float(place[2]), turn)

    if wish == "sofa":
        if chance(rng, 0.6):
            hang_painting(stage, wall, s + between(rng, 0.3, 0.9), between(rng, 1.25, 1.5), rng)
        wide = 1.2 + add_sofa(stage, spot(1.2), rng) / 2
    elif wish == "bed":
        if chance(rng, 0.5):
            hang_painting(stage, wall, s + between(rng, 0.3, 0.7), 1.45, rng)
        wide = 1.0 + add_bed(stage, spot(1.0), rng) / 2
    elif wish in ("cabinet", "tv"):
        long, tall, deep = add_cabinet(stage, spot(0.9), rng, high=False if wish == "tv" else None)
        if wish == "tv":
            middle = wall.at(s + 0.9, tall + 0.3, deep / 2)
            screen = partial(_screen_on, stage, wall, s + 0.3, tall + 0.02, deep / 2, rng)
            stage.later(stage.camera.distance(middle) - 0.4, screen)
        elif tall < 1.2:
            _decorate(stage, wall, s + 0.9, tall, deep, rng)
        wide = 0.9 + long / 2
    elif wish == "shelf":
        wide = 0.85 + add_shelf(stage, spot(0.85), rng) / 2
    elif wish == "desk":
        long, deep = add_table(stage, spot(0.95), rng)
        out = spot(0.95, deep + between(rng, 0.25, 0.6))
        add_chair(stage, Spot(out.x, out.z, turn + np.pi + between(rng, -0.4, 0.4)), rng)
        wide = 0.95 + long / 2
    elif wish == "chair":
        add_chair(stage, spot(0.35, 0.1), rng)
        wide = 0.65
    else:
        wide = _small(stage, wall, wish, s, room, rng)
    return wide


def _small(stage: Stage, wall: Wall, wish: str, s: float, room: float, rng: Rng) -> float:
    """Place something that takes little of the floor, and return its width."""
    if wish in ("door", "window"):
        return hang_door(stage, wall, s, rng) if wish == "door" else hang_window(stage, wall, s, room, rng)
    if wish == "plant":
        place = wall.at(s + 0.3, 0, 0.35)
        x, z, height = float(place[0]), float(place[2]), between(rng, 0.6, 1.7)
        stage.later(stage.camera.distance(place), partial(potted_plant, stage, (x, 0.0, z), height, rng))
        contact(stage, Spot(x, z + 0.15, 0.0), (-0.15, 0.15, 0.0, 0.3))
        return 0.6
    if wish == "lamp":
        place = wall.at(s + 0.3, 0, 0.3)
        add_lamp(stage, (float(place[0]), 0.0, float(place[2])), between(rng, 1.4, 1.8), rng)
        return 0.6
    if wish == "clock":
        return hang_clock(stage, wall, s, rng)
    return hang_painting(stage, wall, s, between(rng, 1.1, 1.5), rng) if wish == "painting" else 0.3


def _decorate(stage: Stage, wall: Wall, s: float, tall: float, deep: float, rng: Rng) -> None:
    """Put a plant, a lamp, or a picture above, on a low cabinet."""
    place = wall.at(s + between(rng, -0.2, 0.2), tall, deep / 2)
    x, y, z = (float(value) for value in place)
    if chance(rng, 0.35):
        stage.later(
            stage.camera.distance(place) - 0.5,
            lambda: potted_plant(stage, (x, y, z), between(rng, 0.3, 0.5), rng),
        )
    elif chance(rng, 0.5):
        add_lamp(stage, (x, y, z), between(rng, 0.35, 0.55), rng)
    if chance(rng, 0.4):
        hang_painting(stage, wall, s - 0.3, max(1.2, tall + 0.3), rng)


def _screen_on(stage: Stage, wall: Wall, s: float, low: float, lift: float, rng: Rng) -> None:
    paint_screen(stage, wall, s, low + 0.05, lift, rng)
    wall.panel(stage, (s + 0.4, s + 0.8, low - 0.02, low + 0.05), np.array([28.0, 28, 30]), Thing.TV, lift)


def _middle(stage: Stage, size: tuple[float, float], floor: FloorPlan, tables: float, rng: Rng) -> None:
    """Put a rug, and a table with chairs around it, in the middle of a room."""
    width, depth = size
    x, z = between(rng, -0.12, 0.12) * width, depth * between(rng, 0.42, 0.58)
    if chance(rng, 0.55):
        half_x, half_z, turn = between(rng, 0.8, 1.5), between(rng, 0.6, 1.1), between(rng, -0.15, 0.15)
        flat = np.array([(-half_x, half_z), (half_x, half_z), (half_x, -half_z), (-half_x, -half_z)])
        cos, sin = np.cos(turn), np.sin(turn)
        turned = flat @ np.array([[cos, sin], [-sin, cos]]) + (x, z)
        add_rug(stage, np.insert(turned, 1, 0.005, axis=1), rng)
    if not chance(rng, tables) or not floor.take_box(x - 1.15, x + 1.15, z - 0.95, z + 0.95):
        return
    turn = between(rng, -0.3, 0.3)
    spot = Spot(x, z + 0.4, turn)
    low = chance(rng, 0.3)
    wide, deep = add_table(stage, spot, rng, low=low)
    if low:
        return
    for s, o, facing in (
        (-wide * 0.25, -0.5, 0.0),
        (wide * 0.25, -0.5, 0.0),
        (-wide / 2 - 0.5, deep / 2, -np.pi / 2),
        (wide / 2 + 0.5, deep / 2, np.pi / 2),
        (-wide * 0.25, deep + 0.5, np.pi),
        (wide * 0.25, deep + 0.5, np.pi),
    ):
        if chance(rng, 0.5):
            px, pz = spot.world(s, o)
            add_chair(stage, Spot(px, pz, turn + facing + between(rng, -0.2, 0.2)), rng)


def _person(stage: Stage, place: tuple[float, float], rng: Rng) -> None:
    foot = (place[0], 0.0, place[1])
    looks = random_looks(rng)
    contact(stage, Spot(place[0], place[1] + 0.15, 0.0), (-0.15, 0.15, 0.0, 0.3))
    stage.later(
        stage.camera.distance(foot),
        lambda: draw_person(Figure(stage, foot, looks.height, Thing.PERSON), looks, walking=False),
    )
