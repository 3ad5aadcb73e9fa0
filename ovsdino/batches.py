"""Which views a step sees, in which order, and in which process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ovsdino.data.dataset import ORDER_STREAM, Batch, Collate, Task, View
from ovsdino.distributed import Ranks
from ovsdino.settings import TrainConfig
from ovsdino_runtime.errors import OvsDinoError

T = TypeVar("T")


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
    return loaded(views, collate, tasks, config.workers)


def loaded(
    views: Dataset[View], collate: Callable[[list[View]], T], tasks: list[list[Task]], workers: int
) -> Iterator[T]:
    """Return an iterator over what `collate` makes of each list of tasks.

    An error that the user can cause comes out as it was raised, from a worker process too. A DataLoader
    would bury its one line in the worker's traceback, so workers hand such errors over as results.

    Args:
        views: cached views or views to be made.
        collate: takes the views of a list of tasks.
        tasks: which views go together.
        workers: processes that read them; 0 reads in this one.
    """
    loader = DataLoader(
        _Caught(views), batch_sampler=tasks, collate_fn=_CollateCaught(collate), num_workers=workers
    )
    return map(_result, iter(loader))


class _Caught(Dataset[Any]):
    """Views, or the errors in their places."""

    def __init__(self, views: Dataset[View]) -> None:
        self.views = views

    def __getitem__(self, task: Task) -> View | OvsDinoError:
        try:
            return self.views[task]
        except OvsDinoError as error:
            return error


class _CollateCaught:
    """The first error among some views, or what `collate` makes of them."""

    def __init__(self, collate: Callable[[list[View]], Any]) -> None:
        self.collate = collate

    def __call__(self, views: list[View | OvsDinoError]) -> Any:
        errors = [view for view in views if isinstance(view, OvsDinoError)]
        return errors[0] if errors else self.collate([view for view in views if isinstance(view, View)])


def _result(made: T | OvsDinoError) -> T:
    if isinstance(made, OvsDinoError):
        raise made
    return made
