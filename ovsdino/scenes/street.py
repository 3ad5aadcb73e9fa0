"""A street: the road, what lines it, and who is on it."""

from __future__ import annotations

import numpy as np

from ovsdino.scenes.buildings import build_row, close_street
from ovsdino.scenes.camera import Camera, looking
from ovsdino.scenes.cars import park_car
from ovsdino.scenes.cycling import add_bicycle, add_rider
from ovsdino.scenes.fences import add_fence, add_wall
from ovsdino.scenes.ground import paint_ground
from ovsdino.scenes.names import Thing
from ovsdino.scenes.noise import Rng, between, chance, stream
from ovsdino.scenes.people import add_person
from ovsdino.scenes.placement import Place
from ovsdino.scenes.plants import Season, add_bush, add_tree, random_season
from ovsdino.scenes.road import Road, random_road
from ovsdino.scenes.roadside import add_bench, add_lamp_post, add_sign, add_traffic_light
from ovsdino.scenes.sky import paint_distance, paint_sky
from ovsdino.scenes.stage import Stage
from ovsdino.scenes.trucks import park_large


def street_camera(seed: int, size_hw: tuple[int, int]) -> Camera:
    """Return where a street is seen from: a car, a pavement or a first floor."""
    rng = stream(seed, "street camera")
    road = random_road(stream(seed, "road"))
    view = rng.choice(["car", "walker", "high"], p=[0.62, 0.26, 0.12])
    if view == "car":
        x, height = road.drive_side * road.lane * 0.5 * between(rng, 0.5, 1.2), between(rng, 1.15, 1.9)
        yaw, pitch = float(rng.normal(0, 0.07)), float(rng.normal(0.02, 0.03))
    elif view == "walker":
        side = int(rng.choice([-1, 1]))
        x, height = side * (road.half_width + between(rng, -1.0, 1.2)), between(rng, 1.4, 1.9)
        yaw, pitch = -side * between(rng, 0.0, 0.4), float(rng.normal(0.02, 0.04))
    else:
        x, height = between(rng, -1, 1) * road.half_width, between(rng, 2.8, 6.0)
        yaw, pitch = float(rng.normal(0, 0.15)), between(rng, 0.1, 0.28)
    return looking(
        (x, height, 0.0),
        yaw=yaw,
        pitch=pitch,
        roll=float(rng.normal(0, 0.012)),
        focal=between(rng, 0.75, 1.25),
        size_hw=size_hw,
    )


def paint_street(stage: Stage, seed: int) -> None:
    """Paint a street as a seed has it."""
    road = random_road(stream(seed, "road"))
    season = random_season(stream(seed, "season"))
    paint_sky(stage, stream(seed, "sky"))
    paint_distance(stage, stream(seed, "distance"))
    paint_ground(stage, road, stream(seed, "ground"))
    if chance(stream(seed, "end"), 0.45):
        close_street(stage, road, stream(seed, "end building"))
    for side in (-1, 1):
        rng = stream(seed, f"side {side}")
        if chance(rng, 0.86):
            build_row(stage, road, side, rng)
        else:
            _open_side(stage, road, side, season, rng)
        _edge(stage, road, side, season, stream(seed, f"edge {side}"))
        _walkers(stage, road, side, stream(seed, f"walkers {side}"))
    _traffic(stage, road, stream(seed, "traffic"))
    stage.finish()


def _along(rng: Rng, near: float, far: float) -> float:
    """Return a distance down the street: more often near than far, as that is where things are large."""
    return near * float((far / near) ** rng.random())


def _spot(road: Road, z: float, offset: float) -> tuple[float, float, float]:
    x, there = road.at(z, offset)
    return x, 0.0, there


def _open_side(stage: Stage, road: Road, side: int, season: Season, rng: Rng) -> None:
    """Have a park painted where no houses are."""
    for _ in range(int(rng.integers(6, 14))):
        offset = side * (road.edge(side) + _along(rng, 2, 40))
        add_tree(stage, _spot(road, _along(rng, 10, 120), offset), season, rng, 1.1)
    for _ in range(int(rng.integers(0, 6))):
        add_bush(
            stage, _spot(road, _along(rng, 8, 50), side * (road.edge(side) + between(rng, 1, 8))), season, rng
        )


def _edge(stage: Stage, road: Road, side: int, season: Season, rng: Rng) -> None:
    """Have lamps, signs, trees, fences and the like painted between road and buildings."""
    kerb = side * (road.half_width + 0.45)
    edge = road.edge(side)
    first, step = between(rng, 5, 20), between(rng, 14, 32)
    if chance(rng, 0.75):
        for z in np.arange(first, 120, step):
            add_lamp_post(stage, _spot(road, float(z), kerb), side, rng)
    for _ in range(int(rng.integers(1, 4))):
        z = _along(rng, 6, 50)
        add_sign(stage, _spot(road, z, kerb + side * between(rng, 0, 0.5)), road.heading(z), rng)
    if road.crossing_z is not None and chance(rng, 0.8):
        z = road.crossing_z - 7.5
        add_traffic_light(stage, _spot(road, z, kerb), road.heading(z), rng)
    elif chance(rng, 0.2):
        z = _along(rng, 8, 40)
        add_traffic_light(stage, _spot(road, z, kerb), road.heading(z), rng)
    verge = road.verges[0 if side < 0 else 1]
    if chance(rng, 0.5):
        step = between(rng, 6, 14)
        lane = side * (road.half_width + 0.9) if verge < 2.2 else side * (edge - verge * 0.5)
        for z in np.arange(between(rng, 4, 16), 110, step):
            if chance(rng, 0.8):
                add_tree(
                    stage,
                    _spot(road, float(z) + between(rng, -1, 1), lane),
                    season,
                    rng,
                    between(rng, 0.6, 1.0),
                )
    if chance(rng, 0.62):
        start = _along(rng, 2, 25)
        offset = side * (edge - 0.35) if chance(rng, 0.7) and verge > 0.5 else side * (road.half_width + 0.25)
        add = add_wall if chance(rng, 0.42) and abs(offset) > road.half_width + 1 else add_fence
        add(stage, road, offset, (start, start + between(rng, 8, 40)), rng)
    if verge > 2.2:
        for _ in range(int(rng.integers(0, 6))):
            add_bush(
                stage, _spot(road, _along(rng, 5, 50), side * (edge - between(rng, 0.3, verge))), season, rng
            )
    if chance(rng, 0.4):
        add_bench(stage, _spot(road, _along(rng, 6, 25), side * (edge - 0.9)), side * np.pi / 2, rng)


def _walkers(stage: Stage, road: Road, side: int, rng: Rng) -> None:
    """Have people painted on the pavement, some crossing, and bicycles left there."""
    index = 0 if side < 0 else 1
    low, high = road.half_width + 0.3, road.edge(side) - 0.3
    crowd = int(rng.choice([0, 1, 2, 3, 5, 9], p=[0.12, 0.2, 0.22, 0.22, 0.16, 0.08]))
    for _ in range(crowd):
        offset = between(rng, low, max(low + 0.3, min(high, low + max(road.walks[index], 1.0))))
        if chance(rng, 0.1):
            offset = between(rng, 0, road.half_width)
        z = _along(rng, 3.5, 45)
        add_person(stage, _spot(road, z, side * offset), rng, walking=chance(rng, 0.8))
        if chance(rng, 0.25):  # in company
            add_person(stage, _spot(road, z + 0.2, side * (offset + 0.55)), rng)
    for _ in range(int(rng.choice([0, 0, 0, 1, 2]))):
        add_bicycle(
            stage, _spot(road, _along(rng, 5, 25), side * between(rng, low, max(high, low + 0.2))), rng
        )


def _traffic(stage: Stage, road: Road, rng: Rng) -> None:
    """Have vehicles painted: parked at the kerbs, driving, waiting, and crossing ahead."""
    taken: list[tuple[float, float, float]] = []

    def take(z: float, offset: float, length: float) -> bool:
        clear = all(
            abs(z - other) > (length + long) / 2 + 0.7 or abs(offset - lane) > 2.0
            for other, lane, long in taken
        )
        clear = clear and (
            z - length / 2 > 2.2 or abs(road.at(z, offset)[0] - stage.camera.position[0]) > 2.2
        )
        if clear:
            taken.append((z, offset, length))
        return clear

    def put(z: float, offset: float, turned: float) -> None:
        kind = str(rng.choice(["car", "bus", "truck"], p=[0.86, 0.07, 0.07]))
        if not take(z, offset, 5.0 if kind == "car" else 11.0):
            return
        x, there = road.at(z, offset)
        place = Place(x, there, road.heading(z) + turned + between(rng, -0.03, 0.03))
        if kind == "car":
            park_car(stage, place, rng)
        else:
            park_large(stage, place, rng, Thing.BUS if kind == "bus" else Thing.TRUCK)

    for side in (-1, 1):
        if chance(rng, 0.55):  # parked along the kerb
            offset = side * (road.half_width - 1.0)
            z, dense = between(rng, 3, 16), between(rng, 0.4, 1.0)
            while z < 90:
                if chance(rng, dense):
                    put(z, offset, 0.0 if chance(rng, 0.5 + 0.45 * (side == road.drive_side)) else np.pi)
                z += between(rng, 5.4, 7.5)
    lanes = max(1, round((road.half_width - 0.3) / road.lane))
    for side in (-1, 1):
        for _ in range(int(rng.choice([0, 1, 2, 3, 5]))):
            offset = side * road.lane * (int(rng.integers(lanes)) + 0.5)
            if abs(offset) + 0.9 < road.half_width:
                put(_along(rng, 6, 110), offset, 0.0 if side == road.drive_side else np.pi)
    if road.crossing_z is not None:
        for _ in range(int(rng.choice([0, 0, 1, 2]))):
            put(
                road.crossing_z + float(rng.choice([-1.8, 1.8])),
                between(rng, -14, 14),
                float(rng.choice([-1, 1])) * np.pi / 2,
            )
    for _ in range(int(rng.choice([0, 0, 1, 1, 2]))):
        z, offset = (
            _along(rng, 5, 35),
            float(rng.choice([-1, 1])) * (road.half_width - between(rng, 0.5, 1.6)),
        )
        if take(z, offset, 2.0):
            add_rider(stage, _spot(road, z, offset), rng)
