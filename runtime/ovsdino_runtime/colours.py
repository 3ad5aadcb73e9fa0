"""One colour for every class, as far from the others as colours can be."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BACKGROUND_RGB = (0, 0, 0)
_DIFFERENT = 255  # colours before they repeat: what an indexed PNG holds beside the background
_LEVELS = 16  # candidates along each of R, G, B
_LIGHTNESS = (0.50, 0.89)  # of OKLab, in [0, 1]: darker drowns in photographs, lighter in the paper
_LEAST_CHROMA = 0.09  # of OKLab: greys would be taken for the photograph
_LIGHTNESS_WEIGHT = 0.4  # laid over a photograph, two shades of one hue are hard to tell apart
_RGB_TO_CONES = (
    (0.41222147, 0.53633254, 0.05144599),
    (0.21190350, 0.68069955, 0.10739696),
    (0.08830246, 0.28171884, 0.62997870),
)
_CONES_TO_OKLAB = (
    (0.21045426, 0.79361779, -0.00407205),
    (1.97799850, -2.42859221, 0.45059371),
    (0.02590404, 0.78277177, -0.80867577),
)


def palette(count: int, background_index: int | None = None) -> NDArray[np.uint8]:
    """Return one colour a class, uint8 [count, 3], RGB; the same for the same arguments.

    The background is black. Beyond 255 classes colours repeat.

    Args:
        count: how many classes.
        background_index: which of them is the background, if one is.
    """
    colours = np.zeros((count, 3), dtype=np.uint8)
    classes = np.flatnonzero(np.arange(count) != background_index)
    different = _distinct_colours()
    colours[classes] = different[np.arange(len(classes)) % len(different)]
    if background_index is not None:
        colours[background_index] = BACKGROUND_RGB
    return colours


def oklab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return colours in a space where distance is what the eye sees, float64 [..., 3] (OKLab, Ottosson 2020).

    Args:
        rgb: sRGB colours, uint8 [..., 3].
    """
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ np.array(_RGB_TO_CONES).T)
    return np.asarray(cones @ np.array(_CONES_TO_OKLAB).T)


@lru_cache(maxsize=1)
def _distinct_colours() -> NDArray[np.uint8]:
    """Return `_DIFFERENT` colours, uint8 [n, 3]: each the candidate farthest from all before it."""
    levels = np.linspace(0, 255, _LEVELS).round().astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    places = oklab(candidates)
    light = (places[:, 0] >= _LIGHTNESS[0]) & (places[:, 0] <= _LIGHTNESS[1])
    vivid = np.hypot(places[:, 1], places[:, 2]) >= _LEAST_CHROMA
    candidates, places = candidates[light & vivid], places[light & vivid] * (_LIGHTNESS_WEIGHT, 1, 1)
    chosen = [int(np.argmax(np.linalg.norm(places[:, 1:], axis=1)))]
    distance = np.linalg.norm(places - places[chosen[0]], axis=1)
    while len(chosen) < _DIFFERENT:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return candidates[chosen]
