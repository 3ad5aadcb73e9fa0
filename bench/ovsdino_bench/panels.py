"""Pictures as HTML that holds them, and marks on the pixels that differ."""

from __future__ import annotations

import base64
import io
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SHOWN_PX = 640  # long side of a picture in the page
_MARK_PX = 5  # side of a single pixel's mark, so that it is seen
_MARK_RGB = (255, 40, 40)
_DIM = 0.5  # of the grey photograph under the marks


def marked(pixels: NDArray[np.uint8], differs: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a photograph dim and grey, with marks on some pixels, as large as the page shows it.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        differs: which pixels, bool [H, W]; each is marked, however small the picture is shown.
    """
    scale = min(1.0, _SHOWN_PX / max(differs.shape))
    height, width = (max(1, round(side * scale)) for side in differs.shape)
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)
    shown = np.repeat((grey * _DIM).astype(np.uint8)[:, :, None], 3, axis=2)
    marks = np.zeros((height, width), dtype=np.uint8)
    rows, columns = np.nonzero(differs)
    marks[rows * height // differs.shape[0], columns * width // differs.shape[1]] = 1
    shown[cv2.dilate(marks, np.ones((_MARK_PX, _MARK_PX), np.uint8)) > 0] = _MARK_RGB
    return shown


def panel(caption: str, pixels: NDArray[np.uint8] | Image.Image) -> str:
    """Return a picture under what it is called, as HTML."""
    return f"<figure><figcaption>{escape(caption)}</figcaption>{picture(pixels, caption)}</figure>"


def picture(pixels: NDArray[np.uint8] | Image.Image, alt: str) -> str:
    """Return a picture as HTML that holds it, as large as a page shows it.

    Args:
        pixels: uint8 [H, W, 3], RGB, or an image.
        alt: what it is called.
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image = image.convert("RGB")
    image.thumbnail((_SHOWN_PX, _SHOWN_PX))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85, subsampling=0)  # thin marks keep their colour
    text = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{text}">'
