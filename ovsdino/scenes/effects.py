"""What a camera does to a picture: halos, exposure, white balance, blur, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino.scenes.canvas import SAMPLES, Image
from ovsdino.scenes.noise import Rng, between, chance, noise_tile
from ovsdino.scenes.stage import Glow


def photographed(image: Image, glows: list[Glow], rng: Rng) -> Image:
    """Return a picture, uint8 [H, W, 3], as a camera of some quality takes it; nothing is moved."""
    seen = _with_halos(image, glows)
    seen = _unevenly_lit(seen, rng)
    seen = _blurred(seen, rng)
    seen = np.asarray(cv2.LUT(seen, _response(float(seen[::8, ::8].mean()) / 255, rng)), dtype=np.uint8)
    if chance(rng, 0.85):
        seen = _noisy(seen, rng)
    if chance(rng, 0.5):
        seen = _compressed(seen, int(rng.integers(40, 96)))
    return seen


def _with_halos(image: Image, glows: list[Glow]) -> Image:
    height, width = image.shape[:2]
    for glow in glows:
        radius = min(glow.radius / SAMPLES, 0.35 * max(height, width))
        x, y = glow.x / SAMPLES, glow.y / SAMPLES
        left, right = max(0, int(x - radius)), min(width, int(x + radius) + 1)
        top, bottom = max(0, int(y - radius)), min(height, int(y + radius) + 1)
        if radius < 1 or left >= right or top >= bottom:
            continue
        rows = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)) / np.float32(radius)
        columns = (np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)) / np.float32(radius)
        fall = np.clip(1 - np.sqrt(rows**2 + columns**2), 0, 1) ** 3
        added = (fall[..., None] * glow.colour.astype(np.float32)).astype(np.uint8)
        part = image[top:bottom, left:right]
        image[top:bottom, left:right] = cv2.add(part, added)
    return image


def _unevenly_lit(image: Image, rng: Rng) -> Image:
    """Return the picture darker towards its corners and in broad patches, as real light falls."""
    small = noise_tile("patch", rng)[::8, ::8] * np.float32(between(rng, 0.0, 0.05))
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    vignette = 1 - (x**2 + y**2) * between(rng, 0, 0.16) + x * between(rng, -0.05, 0.05) + small
    factor = np.clip(vignette * 200, 0, 255).astype(np.uint8)
    full = cv2.resize(factor, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(
        cv2.multiply(image, cv2.cvtColor(full, cv2.COLOR_GRAY2RGB), scale=1 / 200), dtype=np.uint8
    )


def _blurred(image: Image, rng: Rng) -> Image:
    # Blur in pixels grows with the picture, as that of a lens does.
    unit = float(np.sqrt(image.shape[0] * image.shape[1])) / 416
    kind = rng.choice(["none", "soft", "motion"], p=[0.45, 0.47, 0.08])
    if kind == "soft":
        sigma = between(rng, 0.3, 1.1) * unit
        return np.asarray(cv2.GaussianBlur(image, (0, 0), max(sigma, 0.1)), dtype=np.uint8)
    if kind == "motion":
        length = max(3, round(between(rng, 2, 7) * unit)) | 1  # odd, so that nothing moves
        kernel = np.zeros((length, length), dtype=np.float32)
        angle, middle = between(rng, 0, np.pi), length // 2
        for step in np.linspace(-middle, middle, 4 * length):
            kernel[middle + round(step * np.sin(angle)), middle + round(step * np.cos(angle))] = 1
        kernel = kernel + kernel[::-1, ::-1]
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), dtype=np.uint8)
    return image


def _response(brightness: float, rng: Rng) -> Image:
    """Return a table, uint8 [256, 1, 3]: exposure, white balance, contrast.

    Args:
        brightness: the picture's mean, in [0, 1]; the exposure goes part of the way to a usual one.
        rng: for the rest of the way.
    """
    value = np.arange(256)[:, None] / 255
    wanted = between(rng, 0.34, 0.54)
    exposure = (wanted / max(brightness, 0.05)) ** between(rng, 0.6, 0.9)
    balance = rng.uniform(0.93, 1.07, 3) * min(exposure, 2.6)
    gamma = between(rng, 0.85, 1.15)
    exposed = np.clip(value * balance, 0, 1.6) ** gamma
    contrast = between(rng, 0.85, 1.15)
    toned = (exposed - 0.45) * contrast + 0.45 + between(rng, -0.02, 0.04)
    # Bright values bend towards white instead of clipping.
    bent = np.where(toned > 0.85, 0.85 + 0.15 * np.tanh((toned - 0.85) / 0.15), toned)
    return np.asarray(np.clip(bent * 255, 0, 255), dtype=np.uint8)[:, None, :]


def _noisy(image: Image, rng: Rng) -> Image:
    height, width = image.shape[:2]
    strength = np.float32(between(rng, 0.8, 6.0))
    grain: NDArray[np.float32] = noise_tile("grain", rng)
    planes = []
    for _ in range(3):
        offset = rng.integers(256, size=2)
        repeated = np.roll(grain, offset, axis=(0, 1))
        copies = (-(-height // 256), -(-width // 256))
        planes.append(np.tile((repeated * strength).astype(np.int8), copies)[:height, :width])
    added = cv2.merge(planes)
    return np.asarray(cv2.add(image, added, dtype=cv2.CV_8U), dtype=np.uint8)


def _compressed(image: Image, quality: int) -> Image:
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    # OpenCV takes RGB for BGR: encoder and decoder undo each other, only chroma's weights differ.
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), dtype=np.uint8)
