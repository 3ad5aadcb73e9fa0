"""What generated scenes are labelled with: one fixed list of classes for streets and rooms."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Thing(IntEnum):
    """A class; its value is its index in label maps, its name in lower case is what people call it."""

    SKY = 0
    BUILDING = 1
    ROAD = 2
    SIDEWALK = 3
    GRASS = 4
    TREE = 5
    BUSH = 6
    MOUNTAIN = 7
    WALL = 8
    FENCE = 9
    POLE = 10
    TRAFFIC_LIGHT = 11
    TRAFFIC_SIGN = 12
    BENCH = 13
    CAR = 14
    BUS = 15
    TRUCK = 16
    PERSON = 17
    RIDER = 18
    BICYCLE = 19
    FLOOR = 20
    CEILING = 21
    DOOR = 22
    WINDOW = 23
    CURTAIN = 24
    TABLE = 25
    CHAIR = 26
    SOFA = 27
    BED = 28
    PILLOW = 29
    CABINET = 30
    SHELF = 31
    LAMP = 32
    RUG = 33
    PAINTING = 34
    PLANT = 35
    TV = 36
    CLOCK = 37

    @property
    def label(self) -> str:
        """The class's name in the project's vocabularies."""
        return self.name.lower().replace("_", " ")


SCENE_CLASSES: tuple[str, ...] = tuple(thing.label for thing in Thing)
STREET_CLASSES: tuple[str, ...] = tuple(thing.label for thing in Thing if thing <= Thing.BICYCLE)
INDOOR_CLASSES: tuple[str, ...] = tuple(
    thing.label for thing in Thing if thing >= Thing.FLOOR or thing in (Thing.WALL, Thing.PERSON)
)
