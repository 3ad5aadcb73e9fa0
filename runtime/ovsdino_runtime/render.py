"""Label maps as pictures: the indexed PNG for programs, the overlay for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ovsdino_runtime.colours import palette
from ovsdino_runtime.legend import entries_of, with_legend

Labels = NDArray[np.uint8] | NDArray[np.uint16]
OVERLAY_LONG_SIDE_PX = 4096  # an overlay is for looking at; larger pictures are shown at this size
_COLOUR_SHARE = 0.5
_BACKGROUND_LIGHT = 0.55  # of the grey photograph, where nothing was found
_QUICK = 3  # of zlib's levels: half the time of the usual 6, and 15 % more bytes
_SIDE_PER_LINE = 800  # a boundary is an 800th of the long side, at least one pixel


def label_image(labels: Labels, colours: NDArray[np.uint8]) -> Image.Image:
    """Return a label map as an image whose pixel values are the labels.

    Indexed with the palette where labels are uint8, else 16-bit grey.

    Args:
        labels: [H, W], uint8 or uint16.
        colours: uint8 [C, 3], RGB; see `palette`.
    """
    if labels.dtype != np.uint8:
        return Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint16))
    image = Image.frombytes("P", (labels.shape[1], labels.shape[0]), np.ascontiguousarray(labels).tobytes())
    image.putpalette(colours[:256].tobytes())
    return image


def overlay_image(
    picture: NDArray[np.uint8],
    labels: Labels,
    names: Sequence[str],
    *,
    background_index: int | None = None,
) -> Image.Image:
    """Return the photograph under the colours of its classes, with boundaries and a legend.

    The background keeps the photograph, grey and darker. Beyond `OVERLAY_LONG_SIDE_PX` it is shown smaller.

    Args:
        picture: uint8 [H, W, 3], RGB.
        labels: [H, W], indices into `names`.
        names: C names.
        background_index: which of them is the background, if one is.
    """
    area_px = np.bincount(labels.ravel(), minlength=len(names)).tolist()
    colours = palette(len(names), background_index)
    picture, labels = _for_the_screen(picture, labels)
    mixed = cv2.addWeighted(picture, 1 - _COLOUR_SHARE, colours[labels], _COLOUR_SHARE, 0)
    if background_index is not None:
        grey = cv2.convertScaleAbs(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), alpha=_BACKGROUND_LIGHT)
        rest = labels == background_index
        mixed[rest] = grey[rest][:, None]
    mixed[_boundaries(labels)] = 255
    return with_legend(Image.fromarray(mixed), entries_of(names, area_px, colours))


def save_labels(
    target: Path, labels: Labels, names: Sequence[str], *, background_index: int | None = None
) -> None:
    """Write a label map as PNG, with the class names in its text chunk `Classes` as a JSON list.

    Args:
        target: the file; see `label_image` for what it holds.
        labels: [H, W], indices into `names`.
        names: C names.
        background_index: which of them is the background, if one is.
    """
    text = PngInfo()
    text.add_itxt("Classes", json.dumps(list(names)))
    label_image(labels, palette(len(names), background_index)).save(target, "PNG", pnginfo=text)


def save_overlay(
    target: Path,
    picture: NDArray[np.uint8],
    labels: Labels,
    names: Sequence[str],
    *,
    background_index: int | None = None,
) -> None:
    """Write `overlay_image` as PNG."""
    overlay_image(picture, labels, names, background_index=background_index).save(
        target, "PNG", compress_level=_QUICK
    )


def _for_the_screen(picture: NDArray[np.uint8], labels: Labels) -> tuple[NDArray[np.uint8], Labels]:
    long_side = max(labels.shape)
    if long_side <= OVERLAY_LONG_SIDE_PX:
        return picture, labels
    scale = OVERLAY_LONG_SIDE_PX / long_side
    height, width = (max(1, round(side * scale)) for side in labels.shape)
    smaller: Any = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8), smaller


def _boundaries(labels: Labels) -> NDArray[np.bool_]:
    """Return where the right or lower neighbour has another label, [H, W]; wider in large pictures."""
    edges = np.zeros(labels.shape, dtype=np.uint8)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    width = max(labels.shape) // _SIDE_PER_LINE
    if width > 1:
        edges = np.asarray(cv2.dilate(edges, np.ones((width, width), np.uint8)), dtype=np.uint8)
    return edges.astype(np.bool_)
