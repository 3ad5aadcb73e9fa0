"""Pictures as people have them, as RGB arrays of the size the windows are cut from."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ovsdino_runtime.errors import ImageError
from ovsdino_runtime.inputs import MAX_PIXELS, VIDEO_SUFFIXES

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
_URL = re.compile(r"\w{2,}:/")  # of which Path has taken one of the slashes
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class LoadedPicture:
    """A picture that was read from a file.

    Attributes:
        pixels: uint8 [H, W, 3], see `load_image`.
        transparent_px: how many of them are not wholly opaque in the file.
    """

    pixels: NDArray[np.uint8]
    transparent_px: int


def load_image(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return a picture as a viewer shows it: uint8 [H, W, 3], RGB, in [0, 255], EXIF orientation applied.

    JPEG, PNG, WebP, TIFF and BMP; of several pages or frames the first. Colours as in `as_rgb`.

    Args:
        path: the file.
        max_pixels: the most pixels the header may claim; more is refused before anything is decoded.

    Raises:
        ImageError: the file is missing, empty, truncated, no picture, too large, or holds floats.
    """
    return load_picture(path, max_pixels=max_pixels).pixels


def load_picture(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> LoadedPicture:
    """Return what `load_image` does, and how much of it is transparent.

    Args:
        path: the file.
        max_pixels: see `load_image`.

    Raises:
        ImageError: see `load_image`.
    """
    path = Path(path)
    try:
        if not path.is_file():
            if _URL.match(str(path)):
                raise ImageError(f"cannot read {path}: it is an address, not a file; download it first")
            found = "it is a folder" if path.is_dir() else "there is no such file"
            raise ImageError(f"cannot read {path}: {found}; name a picture")
        if path.stat().st_size == 0:
            raise ImageError(f"cannot read {path}: the file is empty; copy it again")
        with path.open("rb") as file, _without_pillow_limit():
            return _decode(file, path, max_pixels)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}; check the file") from error


def as_rgb(image: NDArray[Any] | Image.Image) -> NDArray[np.uint8]:
    """Return an image in memory as uint8 [H, W, 3], RGB, in [0, 255].

    Ours: transparency is laid on white, as a page shows it (what lies under transparent pixels is
    arbitrary); of 16 bits the upper 8 are kept, nothing is stretched; CMYK is converted without colour
    profiles. A PIL image is taken as its pixels lie: EXIF orientation is for files (`load_image`).

    Args:
        image: an array [H, W] (grey), [H, W, 1], [H, W, 2] (grey, alpha), [H, W, 3] (RGB) or
            [H, W, 4] (RGBA) of uint8, uint16 or bool; or a PIL image of any mode but floats.

    Raises:
        ImageError: a PIL image holds floats or 32-bit numbers, or its file is broken.
        TypeError: an array is of another dtype.
        ValueError: an array is of another shape, or empty.
    """
    if isinstance(image, Image.Image):
        try:
            return _rgb_of_pillow(image).pixels
        except OSError as error:  # its file is decoded only now
            raise ImageError(f"the picture is truncated or damaged ({error}); copy it again") from error
    pixels = _eight_bits(np.asarray(image))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.size == 0 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (2, 3, 4))):
        raise ValueError(
            f"an image is [H, W] or [H, W, 1 to 4] with at least one pixel, got {list(image.shape)}; "
            "pass one image at a time, channels last"
        )
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return np.ascontiguousarray(pixels)
    return _rgb_of_pillow(Image.fromarray(np.ascontiguousarray(pixels))).pixels


def resized_hw(size_hw: tuple[int, int], short_side_px: int, long_side_px: int) -> tuple[int, int]:
    """Return the size, height and width, that an image is resized to (docs/protocol.md, step 1).

    Keeps the ratio; the short side becomes `short_side_px` unless the long one would exceed
    `long_side_px`. No side falls below one pixel.

    Args:
        size_hw: height and width of the image.
        short_side_px: 448 in the protocol.
        long_side_px: 2048 in the protocol.
    """
    height, width = size_hw
    scale = min(long_side_px / max(size_hw), short_side_px / min(size_hw))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the image resized, uint8 [h, w, 3]: bilinear, no antialias, OpenCV's rounding.

    See docs/protocol.md, step 1.

    Args:
        image: uint8 [H, W, 3].
        size_hw: height and width to give it.
    """
    height, width = size_hw
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _decode(file: Any, path: Path, max_pixels: int) -> LoadedPicture:
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise ImageError(
                f"cannot read {path}: videos are not read; extract frames and pass their folder, for example "
                f"with: ffmpeg -i {path.name} frames/%05d.png"
            ) from error
        raise ImageError(
            f"cannot read {path}: it is no JPEG, PNG, WebP, TIFF or BMP, or its beginning is damaged; "
            "convert it or copy it again"
        ) from error
    except Exception as error:  # decoders raise a dozen types, each means a broken file
        raise _broken(path, error) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"cannot read {path}: it claims {width} x {height} = {width * height:,} pixels, more than the "
            f"{max_pixels:,} allowed; shrink it or raise --max-pixels"
        )
    try:
        image.load()
        if image.format == "PNG" and image.mode == "I":  # what Pillow before 11 made of 16-bit grey
            return _rgb_of_pillow(_upright(image.convert("I;16")))
        return _rgb_of_pillow(_upright(image))
    except ImageError as error:
        raise ImageError(f"cannot read {path}: {error}") from error
    except Exception as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"cannot read {path}: it is truncated or damaged ({reason}); copy it again")


def _upright(image: Image.Image) -> Image.Image:
    """Return a loaded image turned as its EXIF data say; TIFF images are turned by Pillow on loading."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF data are no reason to refuse the picture
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _rgb_of_pillow(image: Image.Image) -> LoadedPicture:
    if image.mode == "F":
        raise ImageError("its pixels are floating-point numbers of unknown range; convert it to 8 or 16 bits")
    if image.mode == "I":
        raise ImageError("its pixels are 32-bit numbers of unknown range; convert it to 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    transparent = 0
    try:
        if image.has_transparency_data:
            clear = image.convert("RGBA")
            transparent = int(np.count_nonzero(np.asarray(clear.getchannel("A")) < 255))
            image = Image.new("RGB", image.size, "white")
            image.paste(clear, mask=clear)
        pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
        return LoadedPicture(pixels=pixels, transparent_px=transparent)
    except ValueError as error:
        raise ImageError(f"its colours are of mode {image.mode}; convert it to RGB") from error


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        return (pixels >> 8).astype(np.uint8)
    if pixels.dtype == object and pixels.ndim == 0:
        raise TypeError(f"{type(pixels.item()).__name__} is no picture; was the frame dropped?")
    raise TypeError(
        f"pixels must be uint8, uint16 or bool, got {pixels.dtype}; scale them to [0, 255] as uint8"
    )


class _Depth:
    """How many calls are inside `_without_pillow_limit`, and what they will restore."""

    lock = threading.Lock()
    count = 0
    limit: int | None = None


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Lift Pillow's own bomb limit, which would warn or refuse below `max_pixels`; calls may overlap.

    The limit is a global of Pillow, read on opening and by some formats again on decoding. It is
    restored when the last of several threads leaves.
    """
    with _Depth.lock:
        if _Depth.count == 0:
            _Depth.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _Depth.count += 1
    try:
        yield
    finally:
        with _Depth.lock:
            _Depth.count -= 1
            if _Depth.count == 0:
                Image.MAX_IMAGE_PIXELS = _Depth.limit
