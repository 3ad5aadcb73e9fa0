"""What TensorRT's engines take by the GPU's own clock, with and without copies to and from the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from ovsdino_bench.latency import check_batches, figures_of, noise
from ovsdino_bench.ways import Way


def time_engines(ways: Sequence[Way], batches: Sequence[int], runs: int, warmup: int) -> list[dict[str, Any]]:
    """Return engine times by way and batch size, timed in turn; empty where no way runs TensorRT.

    These rounds come after all others and are in no other figure: events stand between the steps here.

    Args:
        ways: what is timed; those without an engine are passed over.
        batches: windows in a batch.
        runs: counted rounds.
        warmup: rounds before, that are not counted.

    Raises:
        DataError: an engine does not take a batch.
        InferenceError: the GPU fails.
    """
    timed = [way for way in ways if way.engine is not None]
    check_batches(timed, batches)
    found: list[dict[str, Any]] = []
    if not (timed and batches):
        return found
    for batch in tqdm(batches, "engines", unit="size"):
        windows = noise(timed[0], batch)
        rounds = [[way.engine.time(windows) for way in timed] for _ in range(warmup + runs)][warmup:]
        for place, way in enumerate(timed):
            times = [row[place] for row in rounds]
            found.append(
                {
                    "way": way.name,
                    "batch": batch,
                    "cuda_graph": all(item.cuda_graph for item in times),
                    "without_transfers": figures_of([item.without_transfers_ms for item in times]),
                    "with_transfers": figures_of([item.with_transfers_ms for item in times]),
                }
            )
    return found
