"""Making the label maps that are not downloaded, so that an interrupted run goes on where it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ovsdino_bench.datasets.adapter import Adapter, Inventory
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import atomic_file, ensure_folder

_NAMED = 3  # failures told in the error


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a run did.

    Attributes:
        root: where the data set lies.
        written: label maps made.
        kept: label maps that were there already.
        images: pictures with labels.
    """

    root: Path
    written: int
    kept: int
    images: int


def prepare(adapter: Adapter, folder: Path) -> Prepared:
    """Make what of a data set must be made, and check that it is complete.

    Every file appears whole or not at all; what is there already is left alone.

    Args:
        adapter: which benchmark.
        folder: where it was unpacked.

    Raises:
        DataError: the folder holds something else, a source cannot be converted (the others are), or
            something is missing.
        OutputError: a label map cannot be written.
    """
    root = adapter.root(folder)
    written = kept = 0
    if adapter.conversions is not None and not _complete(adapter, root):
        failures: list[str] = []
        tasks = list(adapter.conversions(root))
        for task in tqdm(tasks, desc=f"prepare {adapter.name}", unit="map", disable=None):
            if task.target.is_file():
                kept += 1
                continue
            try:
                labels = task.make()
            except DataError as error:
                failures.append(str(error))
                continue
            ensure_folder(task.target.parent)
            with atomic_file(task.target) as staged:
                Image.fromarray(labels).save(staged, format="PNG")
            written += 1
        if failures:
            more = "; …" if len(failures) > _NAMED else ""
            raise DataError(
                f"{len(failures)} of {len(tasks)} label maps of {adapter.name} could not be made, the others "
                f"are: {'; '.join(failures[:_NAMED])}{more}"
            )
    inventory = Inventory.take(adapter, root)
    if not written + kept and adapter.conversions is not None:
        kept = len(inventory.complete)
    lacks = inventory.lacks(adapter, root)
    if lacks is not None:
        source = f"; label maps are made from {adapter.raw}" if adapter.raw else ""
        raise DataError(f"{lacks}; {root} should hold {adapter.expected}{source}")
    return Prepared(root=root, written=written, kept=kept, images=len(inventory.complete))


def _complete(adapter: Adapter, root: Path) -> bool:
    try:
        return Inventory.take(adapter, root).lacks(adapter, root) is None
    except DataError:  # the list of images may be among what is made
        return False
