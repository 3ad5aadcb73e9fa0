"""Masks from polygons and run lengths, as COCO draws them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ovsdino.data.labels import Mask


def polygon_mask(polygons: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> Mask:
    """Return the union of polygons, bool [H, W].

    Args:
        polygons: each x1, y1, x2, y2, … in pixels, at least three points.
        size_hw: height and width.

    Raises:
        ValueError: a polygon has fewer than three points or an odd count of numbers.
    """
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon of {len(polygon)} numbers; it needs x and y of three points or more")
        if not np.all(np.isfinite(np.asarray(polygon, dtype=np.float64))):
            raise ValueError("a polygon with a coordinate that is not finite")
    if not polygons:
        return np.zeros(size_hw, dtype=np.bool_)
    coded = coco_mask.frPyObjects([list(map(float, polygon)) for polygon in polygons], *size_hw)
    return _decode(coco_mask.merge(coded))


def rle_mask(rle: Mapping[str, Any], size_hw: tuple[int, int]) -> Mask:
    """Return the mask of run lengths, bool [H, W].

    Args:
        rle: COCO's `size` and `counts`, as a list of lengths or as its compressed string.
        size_hw: height and width.

    Raises:
        ValueError: it is of another size, or no run lengths.
    """
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or tuple(size) != size_hw:
        raise ValueError(f"run lengths for the size {size}, where the image is {list(size_hw)}")
    if isinstance(counts, list):
        if sum(counts) != size_hw[0] * size_hw[1]:
            raise ValueError(f"run lengths that cover {sum(counts)} pixels of {size_hw[0] * size_hw[1]}")
        return _decode(coco_mask.frPyObjects({"size": size, "counts": counts}, *size_hw))
    if isinstance(counts, str):
        return _decode({"size": size, "counts": counts.encode("ascii")})
    raise ValueError("run lengths without counts")


def _decode(coded: Any) -> Mask:
    with warnings.catch_warnings():
        # pycocotools' array type predates NumPy 2's __array__(copy=…).
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        decoded: Mask = np.asarray(coco_mask.decode(coded)).astype(np.bool_)
    return decoded
