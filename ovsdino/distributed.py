"""One process or many: what torchrun starts finds its part here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from ovsdino_runtime.errors import BackendUnavailable

_PATIENCE = timedelta(hours=24)  # while one process caches views, the others wait


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: 0-based number of this process.
        world: number of processes.
        device: what it computes on.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            dist.barrier()

    def share(self, values: Iterable[Tensor]) -> None:
        """Give every process the first one's tensors, in place."""
        if self.world > 1:
            for value in values:
                dist.broadcast(value, 0)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes."""
        return self.sum(values) / self.world


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Yield this process's place; where torchrun started it, it joins the others.

    NCCL connects GPUs, gloo CPUs.

    Args:
        device: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        BackendUnavailable: CUDA was asked for and is not there, or there are fewer GPUs than processes.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise BackendUnavailable(
            "device 'cuda' was asked for, but this PyTorch sees no GPU; "
            "install a CUDA build or pass --device cpu"
        )
    world = int(os.environ.get("WORLD_SIZE", "1"))
    use_cuda = cuda and device != "cpu"
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", local) if use_cuda else torch.device("cpu")
    if use_cuda:
        if local >= torch.cuda.device_count():
            raise BackendUnavailable(
                f"process {local + 1} of this machine has no GPU: there are {torch.cuda.device_count()}; "
                "lower torchrun's --nproc-per-node"
            )
        torch.cuda.set_device(place)
    if world == 1:
        yield Ranks(0, 1, place)
        return
    dist.init_process_group("nccl" if use_cuda else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), world, place)
    finally:
        dist.destroy_process_group()
