"""Which views a step sees, in which order, and in which process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ovsdino.data.dataset import ORDER_STREAM, Batch, Collate, Task, View
from ovsdino.distributed import Ranks
from ovsdino.settings import TrainConfig


def epoch_order(seed: int, epoch: int, samples: int, batch_size: int) -> NDArray[np.int64]:
    """Return which samples each step of an epoch sees, int64 [steps, batch_size].

    Ours: the last batch is filled from the start of the same order, so that every batch is full
    and every sample is seen at least once.
    """
    order = np.random.default_rng((ORDER_STREAM, seed, epoch)).permutation(samples)
    steps = -(-samples // batch_size)
    return np.resize(order, (steps, batch_size))


def micro_batches(
    views: Dataset[View],
    collate: Collate,
    order: NDArray[np.int64],
    epoch: int,
    config: TrainConfig,
    ranks: Ranks,
) -> Iterator[Batch]:
    """Return an iterator over one process's micro-batches, on the CPU.

    The processes take equal, neighbouring parts of each batch, so that together they see what one
    process alone would.

    Args:
        views: cached views or views to be made.
        collate: stacks views.
        order: which samples each step sees, int64 [steps, batch_size].
        epoch: the epoch that the views are made for.
        config: sizes and worker processes.
        ranks: this process among those that train.
    """
    share = config.batch_size // ranks.world
    start = ranks.rank * share
    tasks: list[list[Task]] = [
        [(epoch, int(index)) for index in row[begin : min(begin + config.micro_batch, start + share)]]
        for row in order
        for begin in range(start, start + share, config.micro_batch)
    ]
    loader = DataLoader(
        views,
        batch_sampler=tasks,
        collate_fn=collate,
        num_workers=config.workers,
        pin_memory=ranks.device.type == "cuda",
    )
    return iter(loader)
