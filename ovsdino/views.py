"""Fixed views whose frozen features lie on disk, so that heads train without running the backbone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ovsdino.config import STRUCTURE_CHANNELS, STRUCTURE_GRID
from ovsdino.data.dataset import FrozenView, Task, View, ViewDataset
from ovsdino.data.labels import ClassShares
from ovsdino.model import OVSDINO
from ovsdino.teacher import Teacher
from ovsdino_runtime.errors import CheckpointError, DataError, OutputError
from ovsdino_runtime.files import atomic_file, ensure_folder

_FORMAT = 1
_EXPECTED_CLASSES = 8  # a photograph, only to say beforehand how much disk the masks will need
_INDEX, _KEY, _LOCK = "index.jsonl", "key.json", "lock"


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
    """Return what must be stored of a view for a model and a teacher."""
    grid = (STRUCTURE_CHANNELS, STRUCTURE_GRID, STRUCTURE_GRID)
    blocks: tuple[int, ...] = (0,)
    tokens: tuple[int, ...] = (0,)
    backbone = model.backbone
    if backbone is not None:
        side, channels = backbone.grid, backbone.channels
        kept = sum(block <= backbone.frozen_depth for block in backbone.fused)
        blocks = (kept, side, side, channels)
        tokens = (side * side + int(backbone.vit.num_prefix_tokens), channels)
    return Layout(blocks, tokens, grid if teacher is not None else (0,), mask_px, dtype)


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
            DataError: the cache is not complete.
        """
        self.folder, self.layout, self.sources, self.views = folder, layout, sources, views
        self.records = _read_index(folder / _INDEX)
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


def cache_key(views: ViewDataset, model: OVSDINO, described: dict[str, Any]) -> dict[str, Any]:
    """Return everything that decides what a cache holds; caches of another key are never used.

    How many views there are is no part of it: the first K of a larger cache are those of a
    smaller one, so that a cache grows.

    Args:
        views: the views, with their data, which is read and hashed.
        model: the model.
        described: fingerprint of the backbone, teacher, precision and dtype.
    """
    digest = hashlib.sha256()
    for source, sample in tqdm(views.samples, "reading data", unit="image", leave=False, delay=1):
        digest.update(f"{source} {views.table.rows[source]}".encode())
        for part in sample.content():
            digest.update(hashlib.sha256(part).digest())
    backbone = model.backbone
    return {
        "format": _FORMAT,
        "data": digest.hexdigest(),
        "samples": len(views),
        "window_px": views.window_px,
        "mask_px": views.mask_px,
        "teacher_px": views.teacher_px,
        "seed": views.seed,
        "augmentation": views.augmentation.to_dict() if views.augmentation else None,
        "backbone": model.config.backbone if backbone else None,
        "fused": list(backbone.fused) if backbone else [],
        "frozen_depth": backbone.frozen_depth if backbone else 0,
        **described,
    }


def cached_views(
    views: ViewDataset,
    model: OVSDINO,
    teacher: Teacher | None,
    root: Path,
    described: dict[str, Any],
    *,
    build: bool,
    dtype: str,
    precision: str,
    batch: int,
    workers: int,
    say: Callable[[str], None],
) -> CachedViews:
    """Return the cache of some views, computing first what it lacks.

    Args:
        views: which.
        model: whose frozen part to run, on its own device.
        teacher: whose features to keep; None for none.
        root: folder of caches; each key has a folder of its own in it.
        described: what else decides the content, see `cache_key`.
        build: whether this process computes; one of several does.
        dtype: "float16" or "float32" for blocks and tokens.
        precision: "bf16" runs backbone and teacher under autocast.
        batch: views that go through the backbone at once.
        workers: processes that read images.
        say: takes a sentence on the disk that is needed.

    Raises:
        DataError: an image or label is broken.
        OutputError: the disk is too small or cannot be written.
        CheckpointError: features exceed FP16's range.
    """
    key = cache_key(views, model, {**described, "dtype": dtype, "precision": precision})
    text = json.dumps(key, sort_keys=True, default=list)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    layout = layout_of(model, teacher, views.mask_px, dtype)
    if build:
        ensure_folder(folder)
        with _locked(folder / _LOCK):
            if not (folder / _KEY).exists():
                with atomic_file(folder / _KEY) as staged:
                    staged.write_text(text + "\n", encoding="utf-8")
            _Writer(folder, layout, views, model, teacher, precision).complete(batch, workers, say)
    sources = [source for source, _ in views.samples]
    return CachedViews(folder, layout, sources, max(1, views.views))


class _Writer:
    """Computes the views a cache lacks, in order; what is listed in the index is whole."""

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        views: ViewDataset,
        model: OVSDINO,
        teacher: Teacher | None,
        precision: str,
    ) -> None:
        self.folder, self.layout, self.views = folder, layout, views
        self.model, self.teacher, self.precision = model, teacher, precision
        self.device = model.score_scale.device

    def complete(self, batch: int, workers: int, say: Callable[[str], None]) -> None:
        """Compute what is missing, a batch at a time."""
        samples, numbers = len(self.views), max(1, self.views.views)
        records = _read_index(self.folder / _INDEX, repair=True)
        tasks = [(number, index) for number in range(numbers) for index in range(samples)][len(records) :]
        if not tasks:
            return
        self._check_disk(len(tasks), len(records), say)
        planes = sum(len(classes) + 1 for _, classes in records)
        chunks = [tasks[start : start + batch] for start in range(0, len(tasks), batch)]
        loader = DataLoader(self.views, batch_sampler=chunks, collate_fn=list, num_workers=workers)
        bar = tqdm(total=len(records) + len(tasks), initial=len(records), desc="caching views", unit="view")
        slot = len(records)
        try:
            with bar:
                for chunk in loader:
                    planes = self._append(slot, planes, chunk)
                    slot += len(chunk)
                    bar.update(len(chunk))
        except OSError as error:
            raise OutputError(f"cannot write the cache {self.folder}: {error.strerror or error}") from error

    def _check_disk(self, missing: int, done: int, say: Callable[[str], None]) -> None:
        needed, free = missing * self.layout.view_bytes, shutil.disk_usage(self.folder).free
        went_on = f" ({done:,} are there already)" if done else ""
        say(
            f"caching {missing:,} views{went_on} needs about {needed / 1e9:.2f} GB in {self.folder}; "
            f"{free / 1e9:.1f} GB are free"
        )
        if needed > free:
            raise OutputError(
                f"the cached views need about {needed / 1e9:.1f} GB, but {self.folder} has "
                f"{free / 1e9:.1f} GB free; cache fewer views (--cache-views) or name another place "
                "(--cache-folder)"
            )

    def _append(self, slot: int, planes: int, chunk: list[View]) -> int:
        """Write views from `slot` on, then list them; return the planes of masks written so far."""
        side = self.layout.mask_px
        for name, values in self._features(chunk).items():
            size = int(values[0].nbytes)
            with _opened(self.folder / name) as file:
                file.seek(slot * size)
                file.write(values.tobytes())
                _sync(file)
        lines: list[str] = []
        with _opened(self.folder / "masks") as file:
            file.seek(planes * side * side)
            for view in chunk:
                file.write(view.shares.targets.tobytes() + view.shares.weights.tobytes())
                lines.append(json.dumps([planes, view.shares.classes.tolist()]))
                planes += len(view.shares.classes) + 1
            _sync(file)
        with (self.folder / _INDEX).open("a", encoding="ascii") as index:
            index.write("".join(f"{line}\n" for line in lines))
        return planes

    @torch.no_grad()
    def _features(self, chunk: list[View]) -> dict[str, NDArray[np.floating]]:
        """Return the records of the parts that are not empty, one row a view."""
        found: dict[str, torch.Tensor] = {}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            if self.model.backbone is not None:
                images = np.stack([view.image for view in chunk if view.image is not None])
                frozen = self.model.backbone.frozen(torch.from_numpy(images).to(self.device))
                if frozen.blocks:
                    found["blocks"] = torch.stack(
                        [block.permute(0, 2, 3, 1) for block in frozen.blocks], dim=1
                    )
                found["tokens"] = frozen.tokens
            if self.teacher is not None:
                seen = np.stack([view.teacher_image for view in chunk if view.teacher_image is not None])
                found["teacher"] = self.teacher.features(torch.from_numpy(seen).to(self.device))
        stored: dict[str, NDArray[np.floating]] = {}
        for name, values in found.items():
            with np.errstate(over="ignore"):
                stored[name] = values.float().cpu().numpy().astype(self.layout.parts[name][1])
            if not np.all(np.isfinite(stored[name])):
                raise CheckpointError(f"{name} exceed FP16's range; pass --cache-dtype float32")
        return stored


def _read_index(path: Path, *, repair: bool = False) -> list[tuple[int, list[int]]]:
    """Return first mask plane and classes of each listed view; a line cut off by an interruption is none.

    Args:
        path: the index.
        repair: whether to cut such a line off the file.
    """
    if not path.exists():
        return []
    whole = path.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    if repair and len(kept) < len(whole):
        with path.open("r+b") as file:
            file.truncate(len(kept))
    return [(int(first), list(classes)) for first, classes in map(json.loads, kept.splitlines())]


def _opened(path: Path) -> BinaryIO:
    return path.open("r+b" if path.exists() else "w+b")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time write a cache; where the system has no such locks, do without."""
    try:
        import fcntl  # noqa: PLC0415 (not on every system)
    except ImportError:  # Windows
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
