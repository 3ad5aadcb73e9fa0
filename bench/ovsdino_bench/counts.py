"""Confusion counts of every image, kept so that models can be compared on the same images later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ovsdino_bench.bootstrap import miou_interval
from ovsdino_bench.confusions import Confusions
from ovsdino_bench.plain_json import finite
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import NPZ_DAMAGE, atomic_file
from ovsdino_runtime.metrics import iou_per_class, mean_iou


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """What one model made of some images.

    Attributes:
        names: the C classes.
        images: the N images, by file name.
        counts: pixels by image and (true, predicted) class.
    """

    names: tuple[str, ...]
    images: tuple[str, ...]
    counts: Confusions

    def save(self, path: Path) -> None:
        """Write them as .npz; the file appears whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        with atomic_file(path) as staged, staged.open("wb") as file:
            np.savez_compressed(
                file,
                names=np.array(self.names),
                images=np.array(self.images),
                entries=self.counts.entries,
            )

    @classmethod
    def load(cls, path: Path) -> ImageCounts:
        """Read what `save` wrote, or the dense counts that earlier versions wrote.

        Raises:
            DataError: the file is missing or something else.
        """
        if not path.is_file():
            raise DataError(f"there is no file {path}; `ovsdino-bench accuracy --counts {path}` writes one")
        try:
            with np.load(path, allow_pickle=False) as data:
                names, images = np.atleast_1d(data["names"]), np.atleast_1d(data["images"])
                if "entries" in data:
                    counts = Confusions(images=images.size, classes=names.size, entries=data["entries"])
                else:
                    counts = Confusions.of(data["counts"].astype(np.int64, casting="same_kind"))
        except NPZ_DAMAGE as error:
            raise DataError(
                f"{path} holds no confusion counts ({error}); `ovsdino-bench accuracy --counts` writes them"
            ) from error
        if (counts.images, counts.classes) != (images.size, names.size):
            raise DataError(
                f"{path} holds counts of {counts.images} images and {counts.classes} classes, but names "
                f"{images.size} and {names.size}; write it again"
            )
        return cls(names=tuple(map(str, names)), images=tuple(map(str, images)), counts=counts)


LEAST_RUNS = 6  # samples from which an interval may tell a change from noise


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What changed from one model to another, in [0, 1] units.

    Attributes:
        miou: mean IoU of both.
        interval_95: interval of the difference; both models see the same draws of frames.
        iou: by class, the difference; NaN where a class never occurs, as all three are where none does.
        runs: how many samples the interval is of.
    """

    miou: tuple[float, float]
    interval_95: tuple[float, float]
    iou: dict[str, float]
    runs: int

    @property
    def beyond_noise(self) -> bool | None:
        """Whether the interval excludes no change; None where the samples are too few to tell.

        Of k samples all lie on one side by chance once in 2^(k-1) times, which is 1 in 20 from six on.
        """
        if self.runs < LEAST_RUNS:
            return None
        low, high = self.interval_95
        return low > 0 or high < 0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON takes them; null where a class never occurs."""
        return {
            "miou": [finite(value) for value in self.miou],
            "gain_interval_95": [finite(end) for end in self.interval_95],
            "beyond_noise": self.beyond_noise,
            "iou_gain": {name: finite(value) for name, value in self.iou.items()},
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
    sums = before.counts.sums(), after.counts.sums()
    if not np.array_equal(sums[0].true, sums[1].true):
        raise DataError("the two were measured on other labels; compare what was measured on the same")
    totals = before.counts.total(), after.counts.total()
    difference = iou_per_class(totals[1]) - iou_per_class(totals[0])
    return Gain(
        miou=(mean_iou(totals[0]), mean_iou(totals[1])),
        interval_95=miou_interval(sums[1], block=block, baseline=sums[0]),
        iou=dict(zip(before.names, map(float, difference), strict=True)),
        runs=-(-len(before.images) // block),
    )


def _first_difference(before: ImageCounts, after: ImageCounts, what: str) -> str:
    ours: Sequence[str] = getattr(before, what)
    theirs: Sequence[str] = getattr(after, what)
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            return f"{one!r} and {other!r}"
    return f"{len(ours)} and {len(theirs)} of them"
