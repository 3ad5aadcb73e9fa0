"""Times of several ways in one run, in turn: A B A B."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ovsdino_bench.failures import OF_ONE, Failures
from ovsdino_bench.spread import pair_ratios, summary
from ovsdino_bench.ways import STAGES, Classes, Way
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.preprocess import load_image, resize

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One way on one picture.

    Attributes:
        way: its name.
        size_hw: the picture's size.
        stages: milliseconds of every counted run, by stage of `STAGES`.
    """

    way: str
    size_hw: tuple[int, int]
    stages: dict[str, tuple[float, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures and the observations, as JSON takes them."""
        return {
            "way": self.way,
            "size_hw": list(self.size_hw),
            "stages": {stage: figures_of(values) for stage, values in self.stages.items()},
        }


def time_ways(
    ways: Sequence[Way],
    image: Path,
    classes: Classes,
    sizes_hw: Sequence[tuple[int, int]],
    runs: int,
    warmup: int,
    failures: Failures,
) -> list[Timed]:
    """Time every way on every size, in turn.

    Args:
        ways: what is timed.
        image: the picture.
        classes: names, or a vocabulary.
        sizes_hw: sizes that it is resized to first, and kept as PNG; the picture as it is if there are none.
        runs: counted rounds.
        warmup: rounds before, that are not counted.
        failures: takes a way that fails; it is left out from there, and on that size without any figure.

    Raises:
        ImageError, VocabularyError: see `Segmenter`.
    """
    pixels = load_image(image)
    found: list[Timed] = []
    sizes = [*sizes_hw] or [(pixels.shape[0], pixels.shape[1])]
    with tempfile.TemporaryDirectory(prefix="ovsdino-bench.") as place:
        folder = Path(place)
        for size_hw in sizes:
            picture = image
            if sizes_hw:
                picture = folder / "picture.png"
                Image.fromarray(resize(pixels, size_hw)).save(picture)
            shown = f"{size_hw[1]}x{size_hw[0]}"

            def run(way: Way, picture: Path = picture) -> dict[str, float]:
                return way.run(picture, classes, folder)

            for name, rows in in_turn(ways, run, runs, warmup, shown, failures).items():
                stages = {stage: tuple(row[stage] for row in rows) for stage in STAGES}
                found.append(Timed(way=name, size_hw=size_hw, stages=stages))
    return found


def in_turn(
    ways: Sequence[Way], work: Callable[[Way], T], runs: int, warmup: int, during: str, failures: Failures
) -> dict[str, list[T]]:
    """Return what some work gave by way in every counted round: A B A B.

    Args:
        ways: what does it.
        work: the work.
        runs: counted rounds.
        warmup: rounds before, that are not counted.
        during: what it is, for people: "1920x1080", "batch 8".
        failures: takes a way that fails, which is left out with all that it gave before.
    """
    given: dict[str, list[T]] = {way.name: [] for way in ways}
    for _ in tqdm(range(warmup + runs), during, unit="round"):
        for way in ways:
            if way.name not in given:
                continue
            try:
                given[way.name].append(work(way))
            except OF_ONE as error:
                failures.add(way.name, during, error)
                del given[way.name]
    return {name: found[warmup:] for name, found in given.items()}


def ratios_to_the_first(timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """Return how many times as long as the first way each other takes, pair by pair, end to end."""
    found = []
    for item in timed:
        first = next(other for other in timed if other.size_hw == item.size_hw)
        if item is not first:
            ratios = pair_ratios(item.stages["total"], first.stages["total"])
            found.append(
                {"way": item.way, "to": first.way, "size_hw": list(item.size_hw), **_rounded(ratios)}
            )
    return found


def time_batches(
    ways: Sequence[Way], batches: Sequence[int], runs: int, warmup: int, failures: Failures
) -> list[dict[str, Any]]:
    """Return windows a second by way and batch size, timed in turn; copies to and from a GPU are included.

    Args:
        ways: what is timed.
        batches: windows in a batch.
        runs: counted rounds.
        warmup: rounds before, that are not counted.
        failures: takes a way that fails with a batch, which is left out.

    Raises:
        DataError: an engine does not take a batch.
    """
    check_batches(ways, batches)
    found: list[dict[str, Any]] = []
    for batch in batches if ways else ():
        windows = noise(ways[0], batch)

        def run(way: Way, windows: NDArray[np.uint8] = windows) -> float:
            start = time.perf_counter()
            way.segmenter.backend.features(windows)
            return 1000 * (time.perf_counter() - start)

        for name, times in in_turn(ways, run, runs, warmup, f"batch {batch}", failures).items():
            figures = figures_of(times)
            rate = round(1000 * batch / figures["p50"], 3) if figures["p50"] else None
            found.append({"way": name, "batch": batch, "windows_per_s": rate, **figures})
    return found


def check_batches(ways: Sequence[Way], batches: Sequence[int]) -> None:
    """Refuse batches that an engine would split, whose times would be of something else.

    Raises:
        DataError: there is such a batch.
    """
    for way in ways:
        most = way.largest_batch
        beyond = [batch for batch in batches if most is not None and batch > most]
        if beyond:
            raise DataError(
                f"a batch of {beyond[0]} was asked for, but the engine of {way.name} takes at most {most} "
                "windows; leave it out of --batches or build the engine with a larger --batch"
            )


def noise(way: Way, batch: int) -> NDArray[np.uint8]:
    """Return windows for a way that no content makes fast, uint8 [batch, S, S, 3]; the same every time."""
    side = way.segmenter.bundle.manifest.window_px
    return np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)


def figures_of(values_ms: Sequence[float]) -> dict[str, Any]:
    """Return the summary of some milliseconds and the observations themselves, as a report holds them."""
    return {**_rounded(summary(values_ms)), "observations_ms": [round(value, 4) for value in values_ms]}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}
