"""The light of a scene: time of day, weather, and the haze between the camera and things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovsdino.scenes.camera import Points
from ovsdino.scenes.canvas import Colour
from ovsdino.scenes.noise import Rng, between, chance


@dataclass(frozen=True)
class Light:
    """What shines.

    Attributes:
        sun: direction to the sun or the main window, unit vector.
        sun_rgb: what it adds to a surface that faces it, as factors of its colour.
        ambient_rgb: what reaches every surface, as factors.
        zenith_rgb: the sky overhead, in [0, 255].
        horizon_rgb: the sky at the horizon, and the haze.
        clouds: share of the sky that is covered.
        haze_m: depth at which 63 % of what is seen is haze.
        shadow: how much of the light a shadow takes.
        lamps: whether it is dark enough for lamps.
    """

    sun: Points
    sun_rgb: Colour
    ambient_rgb: Colour
    zenith_rgb: Colour
    horizon_rgb: Colour
    clouds: float
    haze_m: float
    shadow: float
    lamps: bool

    def on(self, normal: Points) -> Colour:
        """Return what reaches a surface, as factors of its colour; [3]."""
        upward = 0.88 + 0.12 * float(normal[1])  # the sky is above
        return np.asarray(self.ambient_rgb * upward + self.sun_rgb * max(0.0, float(normal @ self.sun)))

    def seen(
        self, base: Sequence[float], normal: Sequence[float], depth: float
    ) -> tuple[float, float, float]:
        """Return the colour in which a surface of a colour is seen; in plain numbers, for speed.

        Args:
            base: its own colour, RGB in [0, 255].
            normal: unit vector.
            depth: in metres.
        """
        upward = 0.88 + 0.12 * normal[1]
        (x, y, z), ambient, sun, haze = self._plain
        toward = max(0.0, normal[0] * x + normal[1] * y + normal[2] * z)
        share = 1 - math.exp(-max(depth, 0.0) / self.haze_m)
        red, green, blue = (
            min(255.0, own * (around * upward + direct * toward)) * (1 - share) + far * share
            for own, around, direct, far in zip(base, ambient, sun, haze, strict=True)
        )
        return red, green, blue

    @cached_property
    def _plain(self) -> tuple[list[float], list[float], list[float], list[float]]:
        return self.sun.tolist(), self.ambient_rgb.tolist(), self.sun_rgb.tolist(), self.horizon_rgb.tolist()

    def haze(self, depth: float) -> float:
        """Return the share of haze in what is seen at a depth."""
        return float(1 - np.exp(-max(depth, 0.0) / self.haze_m))


def daylight(rng: Rng) -> Light:
    """Return the light of a street: sunny, overcast, foggy, at dusk or at night."""
    azimuth = between(rng, 0, 2 * np.pi)
    kind = rng.choice(["sun", "overcast", "fog", "dusk", "night"], p=[0.48, 0.25, 0.05, 0.13, 0.09])
    height = between(rng, 0.12, 0.25) if kind == "dusk" else between(rng, 0.35, 0.95)
    flat = float(np.sqrt(1 - height**2))
    sun = np.array([flat * np.sin(azimuth), height, flat * np.cos(azimuth)])
    jitter = rng.uniform(0.94, 1.06, 3)
    if kind == "sun":
        blue = between(rng, 0.0, 1.0)
        zenith = np.array([60, 112, 190]) * (1 - blue) + np.array([118, 160, 214]) * blue
        horizon = np.array([178, 205, 232]) + rng.uniform(-14, 14)
        warm = np.array([1.0, 0.94, 0.84])
        return Light(
            sun,
            warm * between(rng, 0.55, 0.8) * jitter,
            np.array([0.52, 0.56, 0.64]) * between(rng, 0.85, 1.1),
            zenith,
            horizon,
            between(rng, 0.0, 0.6),
            between(rng, 250, 1500),
            between(rng, 0.35, 0.6),
            False,
        )
    if kind == "overcast":
        grey = between(rng, 165, 240)
        return Light(
            sun,
            np.full(3, 0.12),
            np.full(3, between(rng, 0.72, 0.95)) * jitter,
            np.full(3, grey * 0.88) * jitter,
            np.full(3, grey),
            between(rng, 0.5, 1.0),
            between(rng, 150, 600),
            0.2,
            False,
        )
    if kind == "fog":
        mist = between(rng, 170, 225) * jitter
        return Light(
            sun,
            np.full(3, 0.05),
            np.full(3, 0.8),
            mist * 0.97,
            mist,
            0.2,
            between(rng, 45, 110),
            0.1,
            False,
        )
    if kind == "dusk":
        warm = np.array([between(rng, 225, 255), between(rng, 150, 195), between(rng, 110, 160)])
        return Light(
            sun,
            np.array([0.62, 0.42, 0.26]),
            np.array([0.45, 0.43, 0.5]) * between(rng, 0.7, 1.1),
            np.array([78, 96, 150]) * between(rng, 0.7, 1.2),
            warm,
            between(rng, 0.1, 0.7),
            between(rng, 200, 700),
            0.35,
            chance(rng, 0.6),
        )
    dark = between(rng, 0.26, 0.42)
    return Light(
        sun,
        np.zeros(3),
        np.array([1.0, 0.96, 1.05]) * dark,
        np.array([16, 20, 38]) * between(rng, 0.7, 1.5),
        np.array([52, 46, 56]) * between(rng, 0.8, 1.5),
        between(rng, 0.1, 0.7),
        between(rng, 300, 900),
        0.15,
        True,
    )


def room_light(rng: Rng) -> Light:
    """Return the light of a room: daylight from the windows, or lamps in the evening."""
    evening = chance(rng, 0.3)
    side = float(rng.choice([-1.0, 1.0]))
    sun = np.array([side * 0.6, 0.55, -0.58])
    tint = np.array([1.0, 0.9, 0.74]) if evening else np.array([1.0, 0.99, 0.97])
    tint = tint * rng.uniform(0.96, 1.04, 3)
    ambient = between(rng, 0.5, 0.75)
    outside = np.array([26, 32, 56]) if evening else np.array([188, 210, 235]) * between(rng, 0.85, 1.05)
    return Light(
        sun,
        tint * between(rng, 0.25, 0.45),
        tint * ambient,
        outside * 0.8,
        outside,
        0.4,
        400.0,
        between(rng, 0.25, 0.5),
        evening or chance(rng, 0.3),
    )
