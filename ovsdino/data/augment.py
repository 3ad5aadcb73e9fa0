"""Scale, crop, flip and colour: one photograph as many square views."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ovsdino.data.labels import Box, Labels

_LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R BT.601, RGB


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much views may vary. All of it is ours; the paper does not say.

    Attributes:
        scale: least and greatest side of the square crop, relative to the photograph's short side;
            1 is the scale of the evaluation protocol, where the short side fills a window.
        object_crops: probability that a crop is laid around a pixel of a class, each class of the
            photograph being as likely as any other; otherwise it lies anywhere.
        flip: probability of exchanging left and right.
        colour: brightness, contrast and saturation are each multiplied by 1 ± up to this.
        grey: probability of a view without colour.
        blur: largest deviation of a Gaussian blur, in pixels of the view; half of the views have one.
        noise: largest deviation of added noise, in grey levels; half of the views have it.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    object_crops: float = 0.0
    flip: float = 0.5
    colour: float = 0.3
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: a setting is out of range.
        """
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"the crop's scale is {self.scale}; it needs 0 < least <= greatest <= 1")
        if not 0 <= self.object_crops <= 1:
            raise ValueError("the probability of a crop around an object lies in [0, 1]")
        if not 0 <= self.flip <= 1 or not 0 <= self.colour < 1:
            raise ValueError("the probability of a flip lies in [0, 1], the change of colour in [0, 1)")
        if not 0 <= self.grey <= 1 or not 0 <= self.blur < 100 or not 0 <= self.noise < 256:
            raise ValueError("the probability of grey lies in [0, 1], blur in [0, 100), noise in [0, 256)")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Framing:
    """What a view shows of its photograph.

    Attributes:
        box: the square crop, in pixels of the photograph.
        flip: whether left and right are exchanged.
        colour: factors of brightness, contrast and saturation.
        blur: deviation of a Gaussian blur, in pixels of the view.
        noise: deviation of added noise, in grey levels.
        noise_seed: of that noise.
    """

    box: Box
    flip: bool = False
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0

    def window(self, image: NDArray[np.uint8], side_px: int, *, jitter: bool = True) -> NDArray[np.uint8]:
        """Return the view, uint8 [side_px, side_px, 3] RGB.

        Args:
            image: the photograph, uint8 [H, W, 3] RGB.
            side_px: side of the view.
            jitter: whether the colours change too.
        """
        box = self.box
        crop = image[box.top : box.top + box.side, box.left : box.left + box.side]
        view = cv2.resize(crop, (side_px, side_px), interpolation=cv2.INTER_LINEAR)  # as at inference
        if self.flip:
            view = view[:, ::-1]
        return self._disturbed(view) if jitter else np.ascontiguousarray(view, dtype=np.uint8)

    def _disturbed(self, view: NDArray[np.generic]) -> NDArray[np.uint8]:
        seen = _recoloured(view, self.colour)
        if self.blur > 0:
            seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), self.blur), dtype=np.uint8)
        if self.noise > 0:
            random = np.random.default_rng(self.noise_seed)
            grain = random.standard_normal(seen.shape, dtype=np.float32) * np.float32(self.noise)
            seen = np.rint(np.clip(seen + grain, 0, 255)).astype(np.uint8)
        return seen


def random_framing(labels: Labels, settings: Augmentation, rng: np.random.Generator) -> Framing:
    """Return a random framing of a photograph.

    Ours: the logarithm of the side is uniform, so that halving is as likely anywhere in the range.

    Args:
        labels: the photograph's.
        settings: how much may vary.
        rng: the randomness.
    """
    size_hw = labels.size_hw
    short = min(size_hw)
    scale = float(np.exp(rng.uniform(*np.log(settings.scale))))
    side = min(short, max(1, round(short * scale)))
    ranges = [(0, length - side) for length in size_hw]
    if settings.object_crops and labels.masks.any() and rng.random() < settings.object_crops:
        seen = _random_pixel(labels, rng)
        ranges = [
            (max(0, place - side + 1), min(most, place))
            for place, (_, most) in zip(seen, ranges, strict=True)
        ]
    top, left = (int(rng.integers(least, most + 1)) for least, most in ranges)
    flip = bool(rng.random() < settings.flip)
    return disturbed(Framing(Box(top, left, side), flip), settings, rng)


def _random_pixel(labels: Labels, rng: np.random.Generator) -> tuple[int, int]:
    """Return row and column of a pixel of a class: first any class, then any of its pixels."""
    seen = np.flatnonzero(labels.masks.any(axis=(1, 2)))
    places = np.flatnonzero(labels.masks[rng.choice(seen)])
    return divmod(int(rng.choice(places)), labels.size_hw[1])


def disturbed(framing: Framing, settings: Augmentation, rng: np.random.Generator) -> Framing:
    """Return the same crop with random colours, blur and noise."""
    factors = rng.uniform(1 - settings.colour, 1 + settings.colour, size=3)
    grey, blurred, noisy = rng.random(3) < (settings.grey, 0.5, 0.5)
    blur, noise = rng.uniform(0, (settings.blur, settings.noise))
    return replace(
        framing,
        colour=(float(factors[0]), float(factors[1]), 0.0 if grey else float(factors[2])),
        blur=float(blur) if blurred else 0.0,
        noise=float(noise) if noisy else 0.0,
        noise_seed=int(rng.integers(2**32)),
    )


def centre_framing(size_hw: tuple[int, int]) -> Framing:
    """Return the largest square in the middle, unchanged."""
    side = min(size_hw)
    return Framing(Box((size_hw[0] - side) // 2, (size_hw[1] - side) // 2, side))


def _recoloured(view: NDArray[np.generic], factors: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Return an RGB image with its brightness, contrast and saturation multiplied, uint8 [h, w, 3]."""
    if factors == (1.0, 1.0, 1.0):
        return np.ascontiguousarray(view, dtype=np.uint8)
    brightness, contrast, saturation = factors
    pixels = view.astype(np.float32) * brightness
    mean = float((pixels @ _LUMA).mean())
    pixels = mean + (pixels - mean) * contrast
    grey = (pixels @ _LUMA)[..., None]
    pixels = grey + (pixels - grey) * saturation
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
