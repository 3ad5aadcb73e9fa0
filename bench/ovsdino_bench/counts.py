"""Confusion counts of every image, kept so that models can be compared on the same images later."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_bench.bootstrap import miou_interval
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import atomic_file
from ovsdino_runtime.metrics import iou_per_class, mean_iou


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """What one model made of some images.

    Attributes:
        names: the C classes.
        images: the N images, by file name.
        counts: pixels by image and (true, predicted) class, int64 [N, C, C].
    """

    names: tuple[str, ...]
    images: tuple[str, ...]
    counts: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write them as .npz; the file appears whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        with atomic_file(path) as staged, staged.open("wb") as file:
            np.savez_compressed(
                file, names=np.array(self.names), images=np.array(self.images), counts=self.counts
            )

    @classmethod
    def load(cls, path: Path) -> ImageCounts:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                names, images, counts = data["names"], data["images"], data["counts"]
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            EOFError,
            zipfile.BadZipFile,
        ) as error:
            raise DataError(
                f"{path} holds no confusion counts ({error}); `ovsdino-bench accuracy --counts` writes them"
            ) from error
        if counts.shape != (images.size, names.size, names.size) or counts.dtype.kind != "i":
            raise DataError(f"{path} holds counts of {counts.shape} for {images.size} images; write it again")
        return cls(
            names=tuple(map(str, names)), images=tuple(map(str, images)), counts=counts.astype(np.int64)
        )


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What changed from one model to another, in [0, 1] units.

    Attributes:
        miou: mean IoU of both.
        interval_95: interval of the difference; both models see the same draws of frames.
        iou: by class, the difference; NaN where a class never occurs.
    """

    miou: tuple[float, float]
    interval_95: tuple[float, float]
    iou: dict[str, float]

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval excludes no change."""
        low, high = self.interval_95
        return low > 0 or high < 0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON takes them; null where a class never occurs."""
        return {
            "miou": list(self.miou),
            "gain_interval_95": list(self.interval_95),
            "beyond_noise": self.beyond_noise,
            "iou_gain": {name: value if np.isfinite(value) else None for name, value in self.iou.items()},
        }


def gain(before: ImageCounts, after: ImageCounts, block: int) -> Gain:
    """Return what changed.

    Args:
        before: one model.
        after: another, on the same images.
        block: neighbouring frames that count as one sample, see `miou_interval`.

    Raises:
        DataError: the images, their labels or the classes are not the same.
    """
    for what in ("names", "images"):
        if getattr(before, what) != getattr(after, what):
            raise DataError(
                f"the two have different {what} ({_first_difference(before, after, what)}); "
                "compare what was measured on the same images and classes"
            )
    if not np.array_equal(before.counts.sum(axis=2), after.counts.sum(axis=2)):
        raise DataError("the two were measured on other labels; compare what was measured on the same")
    totals = before.counts.sum(axis=0), after.counts.sum(axis=0)
    difference = iou_per_class(totals[1]) - iou_per_class(totals[0])
    return Gain(
        miou=(mean_iou(totals[0]), mean_iou(totals[1])),
        interval_95=miou_interval(after.counts, block=block, baseline=before.counts),
        iou=dict(zip(before.names, map(float, difference), strict=True)),
    )


def _first_difference(before: ImageCounts, after: ImageCounts, what: str) -> str:
    ours: Sequence[str] = getattr(before, what)
    theirs: Sequence[str] = getattr(after, what)
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            return f"{one!r} and {other!r}"
    return f"{len(ours)} and {len(theirs)} of them"
