"""Caching fixed views: the frozen features are computed once, so that heads train without the backbone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino.batches import loaded
from ovsdino.data.dataset import View, ViewDataset
from ovsdino.model import OVSDINO
from ovsdino.teacher import Teacher
from ovsdino.view_store import INDEX, CachedViews, Layout, layout_of, read_records
from ovsdino_runtime.errors import CheckpointError, OutputError
from ovsdino_runtime.files import atomic_file, ensure_folder

_FORMAT = 2
_KEY, _LOCK = "key.json", "lock"


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
    # Of a backbone that learns as a whole nothing is stored, so that its kind does not matter.
    backbone = None if model.config.whole_backbone else model.backbone
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
        views: which; with a teacher it sees all of them.
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
        DataError: an image or label is broken, or the cache is damaged.
        OutputError: the disk is too small or cannot be written.
        CheckpointError: features exceed FP16's range.
    """
    key = cache_key(views, model, {**described, "dtype": dtype, "precision": precision})
    text = json.dumps(key, sort_keys=True, default=list)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    layout = layout_of(model, teacher, views.mask_px, dtype)
    wanted = len(views) * max(1, views.views)
    # Looked at before the lock, so that a complete cache may lie where nobody can write.
    if build and len(read_records(folder, layout)) < wanted:
        ensure_folder(folder)
        with _locked(folder / _LOCK, say):
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
        records = read_records(self.folder, self.layout, repair=True)
        tasks = [(number, index) for number in range(numbers) for index in range(samples)][len(records) :]
        if not tasks:
            return
        self._check_disk(len(tasks), len(records), say)
        planes = sum(len(classes) + 1 for _, classes in records)
        chunks = [tasks[start : start + batch] for start in range(0, len(tasks), batch)]
        bar = tqdm(total=len(records) + len(tasks), initial=len(records), desc="caching views", unit="view")
        slot = len(records)
        try:
            with bar:
                for chunk in loaded(self.views, list, chunks, workers):
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
            with _opened(self.folder / name) as file:
                file.seek(slot * int(values[0].nbytes))
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
        with (self.folder / INDEX).open("a", encoding="ascii") as index:
            index.write("".join(f"{line}\n" for line in lines))
        return planes

    @torch.no_grad()
    def _features(self, chunk: list[View]) -> dict[str, NDArray[np.floating]]:
        """Return the records of the parts that are not empty, one row a view."""
        found: dict[str, torch.Tensor] = {}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            if self.model.backbone is not None and not self.model.backbone.whole:
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
            if not torch.isfinite(values).all():
                raise CheckpointError(f"{name} of a view are not finite; compute them in --precision fp32")
            if not np.all(np.isfinite(stored[name])):
                raise CheckpointError(f"{name} exceed FP16's range; pass --cache-dtype float32")
        return stored


def _opened(path: Path) -> BinaryIO:
    return path.open("r+b" if path.exists() else "w+b")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time write a cache; where the system has no such locks, do without."""
    try:
        import fcntl  # noqa: PLC0415 (not on every system)
    except ImportError:  # Windows
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is caching into {path.parent}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
