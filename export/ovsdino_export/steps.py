"""How long work tells what begins, and how a command line shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

Progress = Callable[[str], object]


def silent(step: str) -> None:
    """Report nothing."""


@contextmanager
def progress_bar(steps: int) -> Iterator[Progress]:
    """Yield a function to call at the beginning of each step; shows a bar on stderr.

    Args:
        steps: how many there will be; more or fewer only move the bar.
    """
    with tqdm(total=steps, file=sys.stderr, bar_format="{desc:<28}{bar:24} {elapsed}", leave=False) as bar:
        begun = False

        def begin(step: str) -> None:
            nonlocal begun
            bar.update(int(begun))
            bar.set_description_str(step)
            begun = True

        yield begin
