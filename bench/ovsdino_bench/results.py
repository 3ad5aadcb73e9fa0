"""What one image gave: counts that add up over images, shards and machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_bench.boundary import BoundaryCounts, count_boundaries
from ovsdino_bench.confusions import Counts, entries_of
from ovsdino_runtime.metrics import confusion

_BOUNDARY = ("found", "found_right", "true", "true_met")


@dataclass(frozen=True, kw_only=True)
class BackendCounts:
    """What one backend made of an image.

    Attributes:
        confusion: int64 [k, 3]: true class, predicted class, pixels.
        boundary: int64 [b, 5]: class, then its boundary pixels in the order of `BoundaryCounts`.
        same: pixels with the label that the first backend gave.
    """

    confusion: Counts
    boundary: Counts
    same: int

    @classmethod
    def of(
        cls,
        truth: NDArray[np.integer],
        labels: NDArray[np.integer],
        first: NDArray[np.integer],
        classes: int,
    ) -> BackendCounts:
        """Count one image.

        Args:
            truth: integer [H, W]; 255 is unlabelled.
            labels: integer [H, W], what the backend gave.
            first: integer [H, W], what the first backend gave.
            classes: number of classes.
        """
        rings = count_boundaries(truth, labels, classes)
        rows = np.stack([getattr(rings, name) for name in _BOUNDARY], axis=1)
        seen = np.flatnonzero(rows.any(axis=1))
        return cls(
            confusion=entries_of(confusion(truth, labels, classes)),
            boundary=np.concatenate([seen[:, None], rows[seen]], axis=1).astype(np.int64),
            same=int((labels == first).sum()),
        )


@dataclass(frozen=True, kw_only=True)
class ImageResult:
    """What one image gave, or why it gave nothing.

    Attributes:
        place: its place among the selected images.
        image: its file's name.
        pixels: its pixels.
        backends: counts by backend; empty if it failed.
        error: why it failed; empty if it did not.
    """

    place: int
    image: str
    pixels: int = 0
    backends: tuple[BackendCounts, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        if self.error:
            return {"place": self.place, "image": self.image, "error": self.error}
        return {
            "place": self.place,
            "image": self.image,
            "pixels": self.pixels,
            "backends": [
                {
                    "confusion": item.confusion.tolist(),
                    "boundary": item.boundary.tolist(),
                    "same": item.same,
                }
                for item in self.backends
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageResult:
        """Read what `as_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        if "error" in data:
            return cls(place=int(data["place"]), image=str(data["image"]), error=str(data["error"]))
        return cls(
            place=int(data["place"]),
            image=str(data["image"]),
            pixels=int(data["pixels"]),
            backends=tuple(
                BackendCounts(
                    confusion=_table(item["confusion"], 3),
                    boundary=_table(item["boundary"], 5),
                    same=int(item["same"]),
                )
                for item in data["backends"]
            ),
        )


def boundaries_of(tables: Sequence[Counts], classes: int) -> BoundaryCounts:
    """Return boundary pixels by class over images.

    Args:
        tables: for each image int64 [b, 5], see `BackendCounts`.
        classes: number of classes.
    """
    total = np.zeros((classes, len(_BOUNDARY)), dtype=np.int64)
    for table in tables:
        total[table[:, 0]] += table[:, 1:]  # a class stands once in a table
    return BoundaryCounts(**{name: total[:, column] for column, name in enumerate(_BOUNDARY)})


def _table(rows: Any, columns: int) -> Counts:
    table = np.array(rows, dtype=np.int64).reshape(-1, columns)
    if table.size != sum(map(len, rows)):
        raise ValueError(f"rows that are not of {columns} numbers")
    return table
