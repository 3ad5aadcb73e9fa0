"""What TensorRT's engines take by the GPU's own clock, with and without copies to and from the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_bench.failures import Failures
from ovsdino_bench.latency import check_batches, figures_of, in_turn, noise
from ovsdino_bench.ways import Way
from ovsdino_runtime.backends.trt_lane import EngineTime


def time_engines(
    ways: Sequence[Way], batches: Sequence[int], runs: int, warmup: int, failures: Failures
) -> list[dict[str, Any]]:
    """Return engine times by way and batch size, timed in turn; empty where no way runs TensorRT.

    These rounds come after all others and are in no other figure: events stand between the steps here.

    Args:
        ways: what is timed; those without an engine are passed over.
        batches: windows in a batch.
        runs: counted rounds.
        warmup: rounds before, that are not counted.
        failures: takes an engine that fails with a batch, which is left out.

    Raises:
        DataError: an engine does not take a batch.
    """
    timed = [way for way in ways if way.engine is not None]
    check_batches(timed, batches)
    found: list[dict[str, Any]] = []
    if not (timed and batches):
        return found
    for batch in batches:
        windows = noise(timed[0], batch)

        def run(way: Way, windows: NDArray[np.uint8] = windows) -> EngineTime:
            taken: EngineTime = way.engine.time(windows)
            return taken

        for name, times in in_turn(timed, run, runs, warmup, f"engine, batch {batch}", failures).items():
            found.append(
                {
                    "way": name,
                    "batch": batch,
                    "cuda_graph": all(item.cuda_graph for item in times),
                    "without_transfers": figures_of([item.without_transfers_ms for item in times]),
                    "with_transfers": figures_of([item.with_transfers_ms for item in times]),
                }
            )
    return found
