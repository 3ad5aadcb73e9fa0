"""Which of a data set's images are measured, so that a report can say it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from ovsdino_bench.benchmark import Benchmark
from ovsdino_bench.folder import LabelledImage
from ovsdino_runtime.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which images are measured: first those that show a class, then every so many-th, then a limit.

    Attributes:
        showing: only images that show one of these labels; empty for all.
        every: every so many-th of them.
        limit: at most so many; 0 for all.
    """

    showing: tuple[str, ...] = ()
    every: int = 1
    limit: int = 0

    def of(self, benchmark: Benchmark) -> Sequence[LabelledImage]:
        """Return the images.

        Raises:
            DataError: a label is none of the benchmark's, or no image is left.
        """
        images = benchmark.images
        if self.showing:
            images = self._showing(benchmark)
        return self.thinned(images)

    def thinned(self, images: Sequence[T]) -> Sequence[T]:
        """Return every so many-th of some images, up to the limit."""
        images = images[:: self.every]
        return images[: self.limit] if self.limit else images

    def as_dict(self) -> dict[str, Any]:
        """Return the selection as JSON takes it."""
        return {"showing": list(self.showing), "every": self.every, "limit": self.limit or None}

    def _showing(self, benchmark: Benchmark) -> Sequence[LabelledImage]:
        labels = benchmark.labels
        unknown = [name for name in self.showing if name not in labels]
        if unknown:
            raise DataError(
                f"--showing names {unknown[0]!r}, which is no class of the data: {', '.join(labels)}"
            )
        places = [labels.index(name) for name in self.showing]
        looked_at = tqdm(benchmark.images, "showing", unit="image", delay=1, leave=False, disable=None)
        kept = [item for item in looked_at if _may_show(item, places)]
        if not kept:
            wanted = ",".join(self.showing)
            raise DataError(f"none of {len(benchmark.images)} images shows {wanted}; choose other classes")
        return kept


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several parts of the selected images: every `count`-th from the `number`-th on.

    Attributes:
        number: which, from 1.
        count: how many there are.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse a part that there is not.

        Raises:
            ValueError: the number is not in 1 to count.
        """
        if not 1 <= self.number <= self.count:
            raise ValueError(f"shard {self.number} of {self.count}; shards are numbered 1 to {self.count}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard in "2/4".

        Raises:
            ValueError: it is none.
        """
        number, slash, count = text.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal()):
            raise ValueError(f"{text!r} is no shard; write it as in 2/4, the second of four")
        return cls(number=int(number), count=int(count))

    def places(self, images: int) -> range:
        """Return the places of its images among all that are selected."""
        return range(self.number - 1, images, self.count)


def list_hash(names: Sequence[str]) -> str:
    """Return the SHA-256 of a list of images' names, one a line: the same for the same images in order."""
    return hashlib.sha256(
        "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
    ).hexdigest()


def _may_show(item: LabelledImage, places: Sequence[int]) -> bool:
    """Return whether an image shows one of the classes; one whose labels are broken is left for later."""
    try:
        return bool(np.isin(item.truth(), places).any())
    except DataError:
        return True
