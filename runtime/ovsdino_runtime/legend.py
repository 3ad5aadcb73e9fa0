"""The legend of an overlay: which colour is which class, and how much of the picture it covers."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_MOST_ENTRIES = 40
_NAME_START, _NAME_END = 24, 14  # characters kept of a longer name: what differs may stand at its end
_FONT_PX = (14, 64)
_SIDE_PER_FONT = 80  # the font is an 80th of the picture's long side: readable when the whole is looked at
_LEAST_ROWS = 12  # of a legend beside a picture that is not as tall as that
_PAPER, _INK = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line: a colour (None for the line that stands for the rest), a name, a share as text."""

    colour: tuple[int, int, int] | None
    name: str
    share: str


def entries_of(
    names: Sequence[str], area_px: Sequence[int], colours: NDArray[np.uint8], most: int = _MOST_ENTRIES
) -> list[Entry]:
    """Return a line for every class that is there, largest first; beyond `most` the last stands for the rest.

    Args:
        names: C names.
        area_px: C areas; classes of area 0 are left out.
        colours: uint8 [C, 3], RGB.
        most: the longest the legend may be, at least 2.
    """
    total = sum(area_px)
    present = sorted((i for i, area in enumerate(area_px) if area), key=lambda i: (-area_px[i], i))
    shown = present if len(present) <= most else present[: most - 1]
    entries = [
        Entry(
            colour=(int(colours[i, 0]), int(colours[i, 1]), int(colours[i, 2])),
            name=_drawable(names[i], i),
            share=percent(area_px[i], total),
        )
        for i in shown
    ]
    if rest := present[len(shown) :]:
        share = percent(sum(area_px[i] for i in rest), total)
        entries.append(Entry(colour=None, name=f"and {len(rest)} more", share=share))
    return entries


def percent(area_px: int, total_px: int) -> str:
    """Return a share as people read it: `12.3 %`; `<0.1 %` for what would round to nothing."""
    share = 100 * area_px / total_px
    return "<0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


def with_legend(picture: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    """Return the picture with its legend beside it (if it stands upright) or below it, never on it."""
    page = _Page(picture.size, entries)
    beside = picture.height > picture.width
    if beside:
        rows = max((picture.height - 2 * page.pad) // page.row, _LEAST_ROWS)
        columns = -(-len(entries) // rows)
    else:
        columns = min(page.columns_within(picture.width), len(entries))
    drawn = page.draw(columns)
    if beside:
        size = (picture.width + drawn.width, max(picture.height, drawn.height))
    else:
        size = (max(picture.width, drawn.width), picture.height + drawn.height)
    canvas = Image.new("RGB", size, _PAPER)
    canvas.paste(picture, (0, 0))
    canvas.paste(drawn, (picture.width, 0) if beside else (0, picture.height))
    return canvas


class _Page:
    """Measures of a legend, in pixels.

    Attributes:
        row: height of a line.
        column: width of a column.
        pad: space around the whole.
        gap: space between columns, wider than any within one.
    """

    def __init__(self, picture_size: tuple[int, int], entries: Sequence[Entry]) -> None:
        self.entries = entries
        least, most = _FONT_PX
        self.text_px = min(max(round(max(picture_size) / _SIDE_PER_FONT), least), most)
        self.font = ImageFont.load_default(self.text_px)
        self.row = round(self.text_px * 1.5)
        self.pad = round(self.text_px * 0.8)
        self.gap = 3 * self.pad
        self.indent = self.text_px + self.pad // 2
        name = max(self.font.getlength(entry.name) for entry in entries)
        share = max(self.font.getlength(entry.share) for entry in entries)
        self.column = round(self.indent + name + self.pad + share)

    def columns_within(self, width_px: int) -> int:
        """Return how many columns fit a width, at least one."""
        return max((width_px - 2 * self.pad + self.gap) // (self.column + self.gap), 1)

    def draw(self, columns: int) -> Image.Image:
        """Return the legend in so many columns, filled from top to bottom, left to right."""
        rows = -(-len(self.entries) // columns)
        columns = -(-len(self.entries) // rows)
        width = columns * (self.column + self.gap) - self.gap + 2 * self.pad
        image = Image.new("RGB", (width, rows * self.row + 2 * self.pad), _PAPER)
        pen = ImageDraw.Draw(image)
        for i, entry in enumerate(self.entries):
            left = self.pad + (i // rows) * (self.column + self.gap)
            middle = self.pad + (i % rows) * self.row + self.row // 2
            if entry.colour is not None:
                top = middle - self.text_px // 2
                pen.rectangle((left, top, left + self.text_px, top + self.text_px), entry.colour, _INK)
            pen.text((left + self.indent, middle), entry.name, _INK, self.font, anchor="lm")
            pen.text((left + self.column, middle), entry.share, _INK, self.font, anchor="rm")
        return image


def _drawable(name: str, index: int) -> str:
    """Return a name in the letters of Pillow's font, which are ASCII and the ellipsis, on one line."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    if not any(c.isalnum() for c in plain):
        plain = f"class {index}"
    if len(plain) <= _NAME_START + _NAME_END:
        return plain
    return f"{plain[:_NAME_START].rstrip()}…{plain[-_NAME_END:].lstrip()}"
