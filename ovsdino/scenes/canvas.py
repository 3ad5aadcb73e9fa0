"""A picture and its labels, painted together: a stroke that paints both has one mask for them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino.scenes.names import Thing

Image = NDArray[np.uint8]
Colour = NDArray[np.float64]
SAMPLES = 2  # samples along each side of a pixel
_FRACTION_BITS = 4
_FRACTION = 1 << _FRACTION_BITS

Shader = Callable[[int, int, int, int], Image]
"""Returns the colours, uint8 [bottom - top, right - left, 3], of (top, bottom, left, right)."""


class Canvas:
    """What is painted so far, at `SAMPLES` samples a pixel and side.

    Attributes:
        image: uint8 [2H, 2W, 3], RGB.
        labels: uint8 [2H, 2W].
        flat: whether every class is painted in one colour of its own, to test that labels fit.
    """

    def __init__(self, size_hw: tuple[int, int], *, flat: bool = False) -> None:
        height, width = size_hw[0] * SAMPLES, size_hw[1] * SAMPLES
        self.image: Image = np.zeros((height, width, 3), dtype=np.uint8)
        self.labels: Image = np.full((height, width), 255, dtype=np.uint8)
        self.flat = flat

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in samples."""
        return int(self.labels.shape[0]), int(self.labels.shape[1])

    def polygon(
        self, outline: NDArray[np.float64] | None, colour: Colour | tuple[float, float, float], thing: Thing
    ) -> None:
        """Paint a polygon, [N, 2] x and y in samples, in one colour (RGB in [0, 255])."""
        if outline is None:
            return
        corners = [_fixed(outline)]
        paint = flat_colour(thing) if self.flat else colour
        red, green, blue = (min(255.0, max(0.0, float(channel))) for channel in paint)
        cv2.fillPoly(self.image, corners, (red, green, blue), cv2.LINE_8, _FRACTION_BITS)
        cv2.fillPoly(self.labels, corners, (int(thing),), cv2.LINE_8, _FRACTION_BITS)

    def claim(self, outline: NDArray[np.float64] | None, thing: Thing) -> None:
        """Label a polygon without painting it: the gaps of a railing, which are part of it."""
        if self.flat:
            self.polygon(outline, flat_colour(thing), thing)
        elif outline is not None:
            cv2.fillPoly(self.labels, [_fixed(outline)], (int(thing),), cv2.LINE_8, _FRACTION_BITS)

    def shaded(self, outline: NDArray[np.float64] | None, shader: Shader, thing: Thing) -> None:
        """Paint a polygon with colours that differ from sample to sample."""
        box = None if outline is None else self.box(outline)
        if outline is None or box is None:
            return
        top, bottom, left, right = box
        mask = np.zeros((bottom - top, right - left), dtype=np.uint8)
        cv2.fillPoly(mask, [_fixed(outline - (left, top))], (255,), cv2.LINE_8, _FRACTION_BITS)
        self.stamp(shader(top, bottom, left, right), mask, (top, left), thing)

    def stamp(self, colours: Image, mask: Image, corner: tuple[int, int], thing: Thing) -> None:
        """Paint an array of colours, uint8 [h, w, 3], where a mask, uint8 [h, w], is not 0.

        Args:
            colours: RGB.
            mask: of the same height and width.
            corner: row and column of the array's first sample; it lies wholly in the picture.
            thing: its class.
        """
        rows, columns = mask.shape
        inside = np.s_[corner[0] : corner[0] + rows, corner[1] : corner[1] + columns]
        if self.flat:
            colours = np.broadcast_to(flat_colour(thing).astype(np.uint8), colours.shape).copy()
        cv2.copyTo(colours, mask, self.image[inside])
        cv2.copyTo(np.full_like(mask, int(thing)), mask, self.labels[inside])

    def sprite(
        self, colours: Image, mask: Image, box: tuple[float, float, float, float], thing: Thing
    ) -> None:
        """Paint a small picture, resized to a box of (top, bottom, left, right), which may reach outside.

        Args:
            colours: uint8 [h, w, 3].
            mask: uint8 [h, w]; what is above 127 is painted.
            box: its sides in samples.
            thing: its class.
        """
        top, bottom, left, right = (round(side) for side in box)
        if bottom <= top or right <= left or bottom - top > 6000 or right - left > 6000:
            return
        height, width = self.size_hw
        first_row, last_row = max(0, top), min(height, bottom)
        first_column, last_column = max(0, left), min(width, right)
        if first_row >= last_row or first_column >= last_column:
            return
        size = (last_column - first_column, last_row - first_row)
        scale = ((right - left) / mask.shape[1], (bottom - top) / mask.shape[0])
        if min(scale) < 0.75:  # averaged first, so that no texel is passed over
            shrunk = (max(1, min(mask.shape[1], right - left)), max(1, min(mask.shape[0], bottom - top)))
            colours = np.asarray(cv2.resize(colours, shrunk, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            mask = np.asarray(cv2.resize(mask, shrunk, interpolation=cv2.INTER_AREA), dtype=np.uint8)
            scale = ((right - left) / shrunk[0], (bottom - top) / shrunk[1])
        moved = np.array(
            [
                [scale[0], 0, left - first_column + (scale[0] - 1) / 2],
                [0, scale[1], top - first_row + (scale[1] - 1) / 2],
            ]
        )
        resized = cv2.warpAffine(colours, moved, size, borderMode=cv2.BORDER_REPLICATE)
        shape = cv2.warpAffine(mask, moved, size)
        _, cut = cv2.threshold(shape, 127, 255, cv2.THRESH_BINARY)
        corner = (first_row, first_column)
        self.stamp(np.asarray(resized, dtype=np.uint8), np.asarray(cut, dtype=np.uint8), corner, thing)

    def box(self, outline: NDArray[np.float64]) -> tuple[int, int, int, int] | None:
        """Return the rows and columns (top, bottom, left, right) that a polygon touches, or None."""
        height, width = self.size_hw
        left, top = np.floor(outline.min(axis=0)).astype(int)
        right, bottom = np.ceil(outline.max(axis=0)).astype(int) + 1
        box = max(0, int(top)), min(height, int(bottom)), max(0, int(left)), min(width, int(right))
        return box if box[0] < box[1] and box[2] < box[3] else None

    def developed(self) -> tuple[Image, Image]:
        """Return the picture, uint8 [H, W, 3], and its labels, uint8 [H, W].

        A pixel's colour is the mean of its four samples; its label is one that most of them have.
        """
        height, width = self.size_hw
        small = cv2.resize(self.image, (width // SAMPLES, height // SAMPLES), interpolation=cv2.INTER_AREA)
        first, second = self.labels[::2, ::2], self.labels[::2, 1::2]
        third, fourth = self.labels[1::2, ::2], self.labels[1::2, 1::2]
        # Whatever two of the last three share is a mode of all four; if none do, the first's is.
        twice = (second == third) | (second == fourth)
        labels = np.where(twice, second, np.where(third == fourth, third, first))
        return np.asarray(small, dtype=np.uint8), labels


def flat_colour(thing: Thing) -> Colour:
    """Return the colour of a class where only classes are painted, RGB float64 [3]."""
    code = int(thing) + 1  # base 4, so that any two colours are at least 80 apart in one channel
    return np.array([code % 4, code // 4 % 4, code // 16 % 4], dtype=np.float64) * 80.0


def _fixed(outline: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(outline * _FRACTION).astype(np.int32)
