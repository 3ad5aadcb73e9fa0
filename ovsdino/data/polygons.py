"""Masks from polygons and run lengths, as COCO draws them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ovsdino.data.labels import Mask

_MOST_BITS = 60  # of a number in compressed run lengths


def polygon_mask(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> Mask:
    """Return the union of polygons, bool [H, W].

    Args:
        polygons: each x1, y1, x2, y2, … in pixels, at least three points.
        size_hw: height and width.

    Raises:
        ValueError: a polygon has fewer than three points or an odd count of numbers, or lies more than
            the image's longer side outside it.
    """
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon of {len(polygon)} numbers; it needs x and y of three points or more")
        check_coordinates(polygon, size_hw, "a polygon")
    if not polygons:
        return np.zeros(size_hw, dtype=np.bool_)
    coded = coco_mask.frPyObjects([list(map(float, polygon)) for polygon in polygons], *size_hw)
    return _decode(coco_mask.merge(coded))


def box_mask(box: Sequence[float], size_hw: tuple[int, int]) -> Mask:
    """Return the pixels that a box touches, bool [H, W].

    Args:
        box: COCO's `bbox`: left, top, width and height in pixels.
        size_hw: height and width.

    Raises:
        ValueError: it is no such box.
    """
    if len(box) != 4 or min(box[2:]) < 0:
        raise ValueError(f"the box {list(box)}; it needs x, y, width and height")
    left, top, width, height = box
    edges = (left, top, left + width, top + height)
    check_coordinates(edges, size_hw, "a box")
    first_column, first_row = (max(0, math.floor(edge)) for edge in edges[:2])
    stop_column, stop_row = (max(0, math.ceil(edge)) for edge in edges[2:])
    mask = np.zeros(size_hw, dtype=np.bool_)
    mask[first_row:stop_row, first_column:stop_column] = True
    return mask


def check_coordinates(numbers: Sequence[float], size_hw: tuple[int, int], what: str) -> None:
    """Refuse coordinates far outside an image, which pycocotools would take for an area to fill.

    Args:
        numbers: coordinates in pixels.
        size_hw: height and width.
        what: what has these coordinates, for the message.

    Raises:
        ValueError: one is not finite, or further outside than the image's longer side.
    """
    side = max(size_hw)
    try:
        values = np.asarray(numbers, dtype=np.float64)
    except OverflowError as error:  # JSON's integers have no end
        raise ValueError(f"{what} with a coordinate that no image has") from error
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{what} with a coordinate that is not finite")
    outside = values[(values < -side) | (values > 2 * side)]
    if outside.size:
        raise ValueError(
            f"{what} with the coordinate {outside[0]:g}, far outside an image of {size_hw[1]}x{size_hw[0]}"
        )


def rle_mask(rle: Mapping[str, Any], size_hw: tuple[int, int]) -> Mask:
    """Return the mask of run lengths, bool [H, W].

    Args:
        rle: COCO's `size` and `counts`, as a list of lengths or as its compressed string.
        size_hw: height and width.

    Raises:
        ValueError: it is of another size, or its counts are no run lengths of exactly that many pixels.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or tuple(size) != size_hw:
        raise ValueError(f"run lengths for the size {size}, where the image is {list(size_hw)}")
    if isinstance(counts, str):
        counts = _unpacked(counts)
    if not isinstance(counts, list):
        raise ValueError("run lengths without counts")
    pixels = size_hw[0] * size_hw[1]
    for count in counts:
        if not isinstance(count, int) or isinstance(count, bool):
            raise ValueError(f"the run length {count!r}, which is no whole number")
        if count < 0:
            raise ValueError("a run length below 0")
    if sum(counts) != pixels:
        # Whoever draws shorter ones without looking shows what the memory happened to hold.
        raise ValueError(f"run lengths that cover {sum(counts)} pixels of {pixels}")
    # The runs go down the columns and begin with zeros.
    columns: Mask = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return columns.reshape(size_hw[1], size_hw[0]).T


def _unpacked(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed string.

    Each character holds five bits, lowest first, above 48; bit 5 says that more follow, and bit 4 of
    the last is the sign. From the fourth run on, the number is the difference to the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"compressed run lengths with the character {character!r}")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            if shift > _MOST_BITS:
                raise ValueError("compressed run lengths with a number that no image needs")
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("compressed run lengths that end within a number")
    return counts


def _decode(coded: Any) -> Mask:
    with warnings.catch_warnings():
        # pycocotools' array type predates NumPy 2's __array__(copy=…).
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        decoded: Mask = np.asarray(coco_mask.decode(coded)).astype(np.bool_)
    return decoded
