"""Cached views: the same as computed ones, resumable, never stale, and honest about the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ovsdino import views
from ovsdino.data.augment import Augmentation
from ovsdino.data.dataset import Collate
from ovsdino.distributed import Ranks
from ovsdino.journal import read_journal
from ovsdino.preparation import Prepared, prepare
from ovsdino.settings import TrainConfig
from ovsdino.trainer import fit
from ovsdino_runtime.errors import CheckpointError, DataError, OutputError

if TYPE_CHECKING:
    from conftest import World

ALONE = Ranks(0, 1, torch.device("cpu"))


def silent(sentence: str) -> None:
    """Say nothing."""


def losses(config: TrainConfig) -> NDArray[np.float64]:
    fit(config)
    return np.array([line["loss"] for line in read_journal(config.out) if line["kind"] == "step"])


def prepared(config: TrainConfig, say: Callable[[str], None] = silent) -> Prepared:
    config.out.mkdir(parents=True, exist_ok=True)
    return prepare(config, ALONE, say)


def cache_of(config: TrainConfig) -> Path:
    """Return the folder of the training views' cache, after making it."""
    cached = prepared(config).cached_training
    assert cached is not None
    return cached.folder


def changed_files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != "lock"}


@pytest.mark.parametrize("trainable", [0, 2])
def test_cached_and_computed_views_give_the_same_losses(world: World, trainable: int) -> None:
    model = {"backbone_trainable_blocks": trainable}
    computed = losses(world.config("computed", model=model))
    exact = losses(world.config("exact", model=model, cache_views=2, cache_dtype="float32"))
    halved = losses(world.config("halved", model=model, cache_views=2))
    assert len(computed) == 4
    assert len(set(computed)) == 4
    np.testing.assert_allclose(exact, computed, rtol=1e-5)
    np.testing.assert_allclose(halved, computed, rtol=1e-3)
    assert not np.array_equal(halved, computed)


def test_a_batch_from_the_cache_is_the_batch_of_the_same_views(world: World, tiny_sam: Path) -> None:
    config = world.config("run", cache_views=2, cache_dtype="float32", teacher=str(tiny_sam))
    ready = prepared(config)
    assert ready.cached_training is not None
    collate = Collate(ready.training.table, config.negatives, config.seed)
    tasks = [(3, 1), (0, 4), (2, 0)]
    stored = collate([ready.cached_training[task] for task in tasks])
    made = collate([ready.training[task] for task in tasks])
    for name in ("classes", "queried", "targets", "weights"):
        torch.testing.assert_close(getattr(stored, name), getattr(made, name), rtol=0, atol=0)
    backbone, teacher = ready.objective.model.backbone, ready.objective.teacher
    assert backbone is not None
    assert teacher is not None
    assert stored.frozen is not None
    assert made.images is not None
    assert made.teacher_images is not None
    frozen = backbone.frozen(made.images)
    assert len(stored.frozen.blocks) == len(frozen.blocks) == 5
    for left, right in zip(stored.frozen.blocks, frozen.blocks, strict=True):
        torch.testing.assert_close(left, right)
    torch.testing.assert_close(stored.frozen.tokens, frozen.tokens)
    assert stored.teacher is not None
    assert stored.teacher.dtype == torch.float16
    exact = teacher.features(made.teacher_images)
    torch.testing.assert_close(stored.teacher.float(), exact, rtol=1e-3, atol=1e-3)


def test_an_interrupted_caching_goes_on_and_ends_as_an_uninterrupted_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cache_of(world.config("whole", cache_views=3, micro_batch=4))  # so many views at once
    append, calls = views._Writer._append, []

    def fail_at_third(self: Any, slot: int, *rest: Any) -> int:
        calls.append(slot)
        if len(calls) == 3:
            for name in ("blocks", "masks"):  # a write cut off in its middle
                with (self.folder / name).open("ab") as file:
                    file.write(b"x" * 1000)
            with (self.folder / "index.jsonl").open("a") as file:
                file.write("[3, [0,")
            raise KeyboardInterrupt
        return append(self, slot, *rest)

    monkeypatch.setattr(views._Writer, "_append", fail_at_third)
    config = world.config("broken", cache_views=3, micro_batch=4)
    with pytest.raises(KeyboardInterrupt):
        prepared(config)
    assert calls == [0, 4, 8]
    broken = cache_of(config)
    assert calls[3] == 8  # not from the start; the validation views follow
    assert broken.name == whole.name
    for name in ("blocks", "tokens", "masks", "index.jsonl"):
        left, right = (whole / name).read_bytes(), (broken / name).read_bytes()
        assert left == right[: len(left)], name


def test_a_complete_cache_is_used_as_it_is_and_more_views_extend_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache_of(world.config("run", cache_views=1))
    before = changed_files(folder)
    assert cache_of(world.config("run", cache_views=1)) == folder
    assert changed_files(folder) == before
    one = (folder / "blocks").read_bytes()
    assert cache_of(world.config("run", cache_views=2)) == folder
    two = (folder / "blocks").read_bytes()
    assert len(two) == 2 * len(one)
    assert two.startswith(one)


def test_whatever_changes_the_content_changes_the_cache(world: World) -> None:
    def folder(**changes: Any) -> str:
        return cache_of(world.config("run", cache_views=1, **changes)).name

    first = folder()
    seen = {first}
    for changes in (
        {"seed": 1},
        {"backbone_weights": "random:1"},
        {"mask_px": 8},
        {"precision": "bf16"},
        {"cache_dtype": "float32"},
        {"augmentation": Augmentation(colour=0.1)},
        {"val_fraction": 0.5},
        {"model": {"layers": "sparse"}},
        {"model": {"backbone_trainable_blocks": 1}},
        {"model": {"window_px": 32}},
    ):
        seen.add(folder(**changes))
    assert len(seen) == 11
    assert folder(epochs=7, lr_heads=1.0, negatives=1) == first
    label = sorted((world.data / "labels").iterdir())[0]
    changed = bytearray(label.read_bytes()) + b"\0"
    label.write_bytes(bytes(changed))
    assert folder() not in seen


def test_teachers_of_other_weights_have_other_caches(world: World, tiny_sam: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other-sam"
    shutil.copytree(tiny_sam, other)
    tensors = load_file(other / "model.safetensors")
    name = next(key for key in sorted(tensors) if key.startswith("vision_encoder") and "neck" in key)
    tensors[name] = tensors[name] + 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    none = cache_of(world.config("run", cache_views=1))
    first = cache_of(world.config("run", cache_views=1, teacher=str(tiny_sam)))
    assert len({none, first, cache_of(world.config("run", cache_views=1, teacher=str(other)))}) == 3


def test_the_disk_it_needs_is_said_beforehand_and_true(world: World) -> None:
    said: list[str] = []
    config = world.config("run", cache_views=2)
    ready = prepared(config, said.append)
    assert ready.cached_training is not None
    announced = next(line for line in said if line.startswith("caching 12 views"))
    folder, layout = ready.cached_training.folder, ready.cached_training.layout
    assert str(folder) in announced
    fixed = sum((folder / name).stat().st_size for name in ("blocks", "tokens"))
    # 5 blocks of 4x4x64 and 17 tokens of 64, FP16
    assert fixed == 12 * (5 * 16 * 64 + 17 * 64) * 2
    assert 12 * layout.view_bytes == fixed + 12 * 9 * 16**2
    assert f"{12 * layout.view_bytes / 1e9:.2f} GB" in announced


def test_a_disk_too_small_is_refused_before_anything_is_computed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match="--cache-views") as error:
        prepared(world.config("run", cache_views=2))
    assert "\n" not in str(error.value)
    assert not list((world.folder / "run").rglob("blocks"))


def test_features_beyond_half_precision_are_refused_with_the_remedy(world: World) -> None:
    config = world.config("run", cache_views=1)
    ready = prepared(replace(config, cache_views=0))
    backbone = ready.objective.model.backbone
    assert backbone is not None
    with torch.no_grad():
        backbone.vit.blocks[1].mlp.fc2.bias += 1e5

    def cached(dtype: str) -> views.CachedViews:
        return views.cached_views(
            ready.training, ready.objective.model, None, world.folder / "cache", {},
            build=True, dtype=dtype, precision="fp32", batch=4, workers=0, say=silent,
        )  # fmt: skip

    with pytest.raises(CheckpointError, match="--cache-dtype float32"):
        cached("float16")
    assert float(np.abs(cached("float32")[(0, 0)].frozen.blocks).max()) > 65504  # type: ignore[union-attr]


def test_a_process_that_does_not_cache_refuses_an_incomplete_cache(world: World) -> None:
    ready = prepared(world.config("run"))
    with pytest.raises(DataError, match="--cache-folder"):
        views.cached_views(
            ready.training, ready.objective.model, None, world.folder / "cache", {},
            build=False, dtype="float16", precision="fp32", batch=4, workers=0, say=silent,
        )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("cache_views", [0, 1])
def test_an_unreadable_photograph_stops_the_training_in_one_line(
    world: World, cache_views: int, workers: int
) -> None:
    path = sorted((world.data / "images").iterdir())[0]
    path.write_bytes(b"no picture")
    with pytest.raises(DataError) as error:
        fit(world.config("run", cache_views=cache_views, workers=workers, val_fraction=0))
    assert path.name in str(error.value)
    assert "\n" not in str(error.value)


def _spoil(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "part cut": (lambda folder: os.truncate(folder / "blocks", 100), "blocks have 100 of"),
    "masks cut": (lambda folder: os.truncate(folder / "masks", 100), "masks have 100 of"),
    "part missing": (lambda folder: (folder / "tokens").unlink(), "tokens are missing"),
    "garbage": (lambda folder: _spoil(folder / "index.jsonl", b"]]\n", b"]]\n\xff\0 no\n"), "line 2 of"),
    "no classes": (lambda folder: _spoil(folder / "index.jsonl", b"[0, [", b"[0, 3]\n[0, ["), "line 1 of"),
    "line lost": (lambda folder: _spoil(folder / "index.jsonl", b"[0, [", b"[1, ["), "line 1 of"),
}


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_refused_in_one_line_that_says_to_remove_it(
    world: World, damage: str, more: int
) -> None:
    folder = cache_of(world.config("run", cache_views=1))
    spoil, said = DAMAGES[damage]
    spoil(folder)
    before = changed_files(folder)
    with pytest.raises(DataError, match=f"damaged: .*{said}.*; remove the folder") as error:
        cache_of(world.config("run", cache_views=1 + more))
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    assert changed_files(folder) == before


def test_a_complete_cache_needs_no_lock_and_may_be_read_only(world: World) -> None:
    folders = list(cache_of(world.config("run", cache_views=1)).parent.iterdir())
    for folder in folders:
        (folder / "lock").unlink()
        folder.chmod(0o555)
    assert cache_of(world.config("run", cache_views=1)) in folders
    assert not any((folder / "lock").exists() for folder in folders)  # root may write anywhere
    for folder in folders:
        folder.chmod(0o755)
