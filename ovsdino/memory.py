"""A lack of memory, said in a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ovsdino.settings import TrainConfig
from ovsdino_runtime.errors import TrainingError

# What PyTorch's allocators say, of a GPU and of the machine's own memory.
_LACKING = re.compile("out of memory|not enough memory|can't allocate memory", re.IGNORECASE)


@contextmanager
def memory_in_a_line(config: TrainConfig) -> Iterator[None]:
    """Turn a lack of memory, of a GPU or of the machine, into one line with the remedy.

    Args:
        config: the training that is under way.

    Raises:
        TrainingError: there is too little memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not _LACKING.search(str(error)):
            raise
        raise TrainingError(
            f"out of memory with {config.micro_batch} images at once; lower --micro-batch, and go on with "
            "--resume if a state was saved"
        ) from error
