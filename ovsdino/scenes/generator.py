"""A picture of a street or a room, and the class of each of its pixels, from a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ovsdino.scenes.canvas import SAMPLES, Canvas, Image
from ovsdino.scenes.effects import photographed
from ovsdino.scenes.light import daylight, room_light
from ovsdino.scenes.names import SCENE_CLASSES
from ovsdino.scenes.noise import chance, stream
from ovsdino.scenes.room import paint_room, room_camera
from ovsdino.scenes.stage import Stage
from ovsdino.scenes.street import paint_street, street_camera

Kind = Literal["street", "indoor"]
_STREETS = 0.6  # their share where no kind is asked for
SMALLEST_PX, LARGEST_PX = 16, 4096


@dataclass(frozen=True)
class Scene:
    """A generated picture and what is in it.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W]; the index of each pixel's class in `names`, 255 where it has none.
        names: all classes of generated scenes, in a fixed order.
        kind: "street" or "indoor".
        seed: the number it was made from.
    """

    image: Image
    labels: Image
    names: tuple[str, ...]
    kind: Kind
    seed: int


def scene(
    seed: int,
    *,
    kind: Kind | None = None,
    size_hw: tuple[int, int] = (360, 480),
    effects: bool = True,
    flat: bool = False,
) -> Scene:
    """Return a scene; the same for the same arguments.

    A seed's scene is the same one in every size of one shape. The same arguments give the same bytes with
    the same versions of OpenCV and NumPy.

    Args:
        seed: any number from 0.
        kind: what to show; by default the seed decides.
        size_hw: height and width, 16 to 4096 each.
        effects: whether it looks as photographed: blur, noise, exposure, compression.
        flat: whether each class is painted in one colour, `flat_colour`, and nothing else is.

    Raises:
        ValueError: a negative seed, an unknown kind, or a size out of range.
    """
    require_possible(seed, kind, size_hw)
    if kind is None:
        kind = "street" if chance(stream(seed, "kind"), _STREETS) else "indoor"
    samples = (size_hw[0] * SAMPLES, size_hw[1] * SAMPLES)
    street = kind == "street"
    stage = Stage(
        Canvas(size_hw, flat=flat),
        (street_camera if street else room_camera)(seed, samples),
        (daylight if street else room_light)(stream(seed, "light")),
    )
    (paint_street if street else paint_room)(stage, seed)
    image, labels = stage.canvas.developed()
    if effects and not flat:
        image = photographed(image, stage.halos(), stream(seed, "effects"))
    return Scene(image, labels, SCENE_CLASSES, kind, seed)


def require_possible(seed: int, kind: str | None, size_hw: tuple[int, int]) -> None:
    """Check what a scene is asked for by; see `scene`.

    Raises:
        ValueError: a negative seed, an unknown kind, or a size out of range.
    """
    if seed < 0:
        raise ValueError(f"a scene's seed is 0 or more, not {seed}")
    if not all(SMALLEST_PX <= side <= LARGEST_PX for side in size_hw):
        raise ValueError(f"a scene's sides are {SMALLEST_PX} to {LARGEST_PX} px, not {size_hw}")
    if kind not in ("street", "indoor", None):
        raise ValueError(f"a scene is a street or indoor, not {kind!r}")
