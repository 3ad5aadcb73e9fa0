"""Reading fixed views whose frozen features lie on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ovsdino.data.dataset import FrozenView, Task, View, ViewDataset
from ovsdino.data.labels import ClassShares
from ovsdino.model import OVSDINO
from ovsdino.teacher import Teacher
from ovsdino_runtime.errors import DataError

INDEX = "index.jsonl"
_EXPECTED_CLASSES = 8  # a photograph, only to say beforehand how much disk the masks will need


@dataclass(frozen=True)
class Layout:
    """What is stored of a view; each part has a file with one record of fixed size a view.

    Attributes:
        blocks: shape of the fused frozen blocks, (n, h, w, C).
        tokens: shape of the last frozen block's output, (T, C).
        teacher: shape of the teacher's features; (0,) without teacher.
        mask_px: cells a side of the masks.
        dtype: of blocks and tokens; the teacher's features are FP16.
    """

    blocks: tuple[int, ...]
    tokens: tuple[int, ...]
    teacher: tuple[int, ...]
    mask_px: int
    dtype: str

    @property
    def parts(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and dtype of each part, by its name."""
        wide, half = np.dtype(self.dtype), np.dtype(np.float16)
        return {
            "blocks": (self.blocks, wide),
            "tokens": (self.tokens, wide),
            "teacher": (self.teacher, half),
        }

    @property
    def view_bytes(self) -> int:
        """Bytes a view needs, its masks estimated."""
        fixed = sum(int(np.prod(shape)) * kind.itemsize for shape, kind in self.parts.values())
        return fixed + (_EXPECTED_CLASSES + 1) * self.mask_px**2


def layout_of(model: OVSDINO, teacher: Teacher | None, mask_px: int, dtype: str) -> Layout:
    """Return what must be stored of a view for a model and a teacher.

    Where the whole backbone learns there is nothing of it to store.
    """
    blocks: tuple[int, ...] = (0,)
    tokens: tuple[int, ...] = (0,)
    backbone = model.backbone
    if backbone is not None and not backbone.whole:
        side, channels = backbone.grid, backbone.channels
        kept = sum(block <= backbone.frozen_depth for block in backbone.fused)
        blocks = (kept, side, side, channels)
        tokens = (side * side + int(backbone.vit.num_prefix_tokens), channels)
    return Layout(blocks, tokens, teacher.shape if teacher is not None else (0,), mask_px, dtype)


class CachedViews(Dataset[View]):
    """Views read back from disk; the same tasks as `ViewDataset` has, with the view epoch modulo K."""

    def __init__(self, folder: Path, layout: Layout, sources: list[int], views: int) -> None:
        """Open a complete cache.

        Args:
            folder: where it lies.
            layout: what it holds.
            sources: the data set of each sample.
            views: K, views a photograph.

        Raises:
            DataError: the cache is not complete, or damaged.
        """
        self.folder, self.layout, self.sources, self.views = folder, layout, sources, views
        self.records = read_records(folder, layout)
        if len(self.records) < views * len(sources):
            raise DataError(
                f"{folder} holds {len(self.records)} of {views * len(sources)} views; let the caching "
                "finish, and where several machines train, put --cache-folder on a disk they share"
            )

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, task: Task) -> View:
        """Return the cached view of a sample in an epoch."""
        epoch, index = task
        slot = (epoch % self.views) * len(self.sources) + index
        parts = {name: self._record(name, slot) for name in self.layout.parts}
        teacher = parts["teacher"] if parts["teacher"].size else None
        frozen = FrozenView(parts["blocks"], parts["tokens"], teacher)
        return View(self.sources[index], task, self._shares(slot), frozen=frozen)

    def _record(self, name: str, slot: int) -> NDArray[np.floating]:
        shape, kind = self.layout.parts[name]
        size = int(np.prod(shape)) * kind.itemsize
        if size == 0:
            return np.zeros(shape, kind)
        return np.memmap(self.folder / name, kind, "r", slot * size, shape)

    def _shares(self, slot: int) -> ClassShares:
        first, classes = self.records[slot]
        side = self.layout.mask_px
        planes = np.memmap(
            self.folder / "masks", np.uint8, "r", first * side * side, (len(classes) + 1, side, side)
        )
        return ClassShares(np.array(classes, dtype=np.int64), planes[:-1], planes[-1])


class TaughtViews(Dataset[View]):
    """Views whose images are made anew while the teacher's features of their crops are read back."""

    def __init__(self, views: ViewDataset, cached: CachedViews) -> None:
        """Join them.

        Args:
            views: with fixed crops where the teacher sees them.
            cached: what the teacher makes of the crops of the first of them; the others it does not see.
        """
        self.views, self.cached = views, cached
        self.unseen = np.zeros(cached.layout.teacher, dtype=np.float16)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, task: Task) -> View:
        """Return the view of a sample in an epoch, with its image and the teacher's features, or zeros."""
        view = self.views[task]
        if task[1] < len(self.cached):
            return replace(view, teacher_image=None, frozen=self.cached[task].frozen)
        nothing = np.zeros(0, dtype=np.float16)
        return replace(view, frozen=FrozenView(nothing, nothing, self.unseen))


def read_records(folder: Path, layout: Layout, *, repair: bool = False) -> list[tuple[int, list[int]]]:
    """Return first mask plane and classes of each view that a cache lists and holds.

    A last line that an interruption cut off lists nothing. Each part is written before the index lists
    it, so that a part too short for the index was damaged later.

    Args:
        folder: where the cache lies.
        layout: what it holds.
        repair: whether to cut such a line off the index.

    Raises:
        DataError: the cache is damaged or cannot be read.
    """
    path = folder / INDEX
    try:
        if not path.exists():
            return []
        whole = path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        records = _parsed(kept.splitlines(), folder)
        planes = sum(len(classes) + 1 for _, classes in records)
        needed = {"masks": planes * layout.mask_px**2}
        for name, (shape, kind) in layout.parts.items():
            needed[name] = len(records) * int(np.prod(shape)) * kind.itemsize
        for name, size in needed.items():
            if not size:
                continue
            if not (folder / name).is_file():
                raise _damaged(folder, f"its {name} are missing")
            found = (folder / name).stat().st_size
            if found < size:
                raise _damaged(folder, f"its {name} have {found:,} of {size:,} bytes")
        if repair and len(kept) < len(whole):
            with path.open("r+b") as file:
                file.truncate(len(kept))
    except OSError as error:
        raise DataError(f"cannot read the cached views in {folder}: {error.strerror or error}") from error
    return records


def _parsed(lines: list[bytes], folder: Path) -> list[tuple[int, list[int]]]:
    """Return the records of an index, of which each begins where the one before it ends."""
    records: list[tuple[int, list[int]]] = []
    planes = 0
    for number, line in enumerate(lines, 1):
        try:
            first, classes = json.loads(line)
            whole = first == planes and all(isinstance(index, int) and index >= 0 for index in classes)
        except (ValueError, TypeError):
            whole = False
        if not whole:
            raise _damaged(folder, f"line {number} of its {INDEX} is no record")
        records.append((planes, list(classes)))
        planes += len(classes) + 1
    return records


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(
        f"the cached views in {folder} are damaged: {what}; remove the folder to cache them anew"
    )
