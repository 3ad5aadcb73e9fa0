"""Counts of shards added up, and shards that the processes of one launch share."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path

from ovsdino_bench.runs import ENDING, Recorded, Run, difference_of_runs, each_once, file_name, load
from ovsdino_bench.selection import Shard
from ovsdino_runtime.errors import DataError

_PATIENCE_S, _STEP_S = 600.0, 1.0
_GRACE_S = 60.0  # in which a process of the launch begins, though another has counted its images already
Stamp = tuple[int, int, int]


def files_of_counts(paths: Sequence[Path]) -> list[Path]:
    """Return files of counts: those named, and those of shards in folders that are named.

    Raises:
        DataError: a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if not _is_folder(path):
            found.append(path)
            continue
        inside = sorted(path.glob(f"*-of-*{ENDING}"))
        if not inside:
            raise DataError(
                f"{path} holds no counts of shards (*-of-*{ENDING}); `ovsdino-bench accuracy --shard` "
                "writes them"
            )
        found += inside
    return found


def merge(files: Sequence[Path]) -> list[Recorded]:
    """Return the counts of every run, all shards together.

    Raises:
        DataError: a file holds no counts, or shards are missing, unfinished, twice there or of different
            runs.
    """
    by_run: defaultdict[str, list[tuple[Path, Recorded]]] = defaultdict(list)
    for path in files:
        recorded = load(path)
        by_run[recorded.run.name].append((path, recorded))
    return [_together(name, parts) for name, parts in by_run.items()]


def _together(name: str, parts: Sequence[tuple[Path, Recorded]]) -> Recorded:
    (first_path, first), *others = parts
    for path, part in others:
        difference = difference_of_runs(first.run, part.run)
        if difference is None and part.shard.count != first.shard.count:
            difference = f"one is of {first.shard.count} shards, the other of {part.shard.count}"
        if difference is not None:
            raise DataError(f"{first_path} and {path} are of different runs: {difference}")
    numbers = [part.shard.number for _, part in parts]
    twice = {number for number in numbers if numbers.count(number) > 1}
    if twice:
        raise DataError(f"shard {min(twice)}/{first.shard.count} of {name} is there twice; name it once")
    absent = sorted({*range(1, first.shard.count + 1)} - {*numbers})
    if absent:
        raise DataError(
            f"{name} lacks shard {absent[0]}/{first.shard.count}"
            + (f" and {len(absent) - 1} more" if len(absent) > 1 else "")
            + "; run `ovsdino-bench accuracy` with --shard for it"
        )
    for path, part in parts:
        if part.missing:
            raise DataError(
                f"{path} is not finished: {part.missing} images are missing; run shard "
                f"{part.shard.number}/{part.shard.count} again, it goes on"
            )
    results = {place: item for _, part in parts for place, item in part.results.items()}
    return replace(
        first,
        shard=Shard(),
        machines=each_once(part.machines for _, part in parts),
        commands=each_once(part.commands for _, part in parts),
        results=dict(sorted(results.items())),
        parts=len(parts),
    )


def rank_of(environment: Mapping[str, str]) -> Shard | None:
    """Return the shard of this process among those that `torchrun` started; None if it did not.

    Raises:
        ValueError: the variables RANK and WORLD_SIZE make no sense.
    """
    rank, size = environment.get("RANK"), environment.get("WORLD_SIZE")
    if rank is None or size is None or size == "1":
        return None
    if not (rank.isdecimal() and size.isdecimal()):
        raise ValueError(f"RANK={rank} and WORLD_SIZE={size} are no part of a launch; unset them")
    return Shard(number=int(rank) + 1, count=int(size))


def take_own_gpu(environment: MutableMapping[str, str]) -> None:
    """Leave only one GPU visible to each process of a launch, by LOCAL_RANK; before anything uses CUDA."""
    local = environment.get("LOCAL_RANK", "")
    if not local.isdecimal():
        return
    if "CUDA_VISIBLE_DEVICES" not in environment:
        environment["CUDA_VISIBLE_DEVICES"] = local
        return
    visible = environment["CUDA_VISIBLE_DEVICES"].split(",")
    if len(visible) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = visible[int(local) % len(visible)]


def counted_with_failures(folder: Path, run: Run, count: int) -> dict[Path, Stamp]:
    """Return the shards' files that are finished but for images that failed, as they are now.

    As a launch begins, such a file is of an earlier one: the process whose it is measures the failed images
    again as soon as it comes to it.

    Args:
        folder: where the processes write.
        run: what is measured.
        count: number of shards.
    """
    found = {}
    for path in _files(folder, run, count):
        stamp = _stamp(path)
        if stamp is None:
            continue
        try:
            recorded = load(path)
        except DataError:  # whose file it is says so
            continue
        if not recorded.missing and any(item.error for item in recorded.results.values()):
            found[path] = stamp
    return found


def wait_for_shards(
    folder: Path,
    run: Run,
    count: int,
    earlier_files: Mapping[Path, Stamp] | None = None,
    patience_s: float = _PATIENCE_S,
    grace_s: float = _GRACE_S,
) -> list[Path]:
    """Return the files of all shards of a run once each has a line for every image.

    Args:
        folder: where the processes write.
        run: what is measured.
        count: number of shards.
        earlier_files: what `counted_with_failures` gave as this process began.
        patience_s: how long to wait while no file grows.
        grace_s: how long to wait for each of the earlier files to be gone on with. One that is not is taken
            as it is: its process was done before this one began.

    Raises:
        DataError: no file grew for so long.
    """
    files = _files(folder, run, count)
    wanted = [len(Shard(number=number, count=count).places(run.images)) + 1 for number in range(1, count + 1)]
    waited_on = earlier_files or {}
    earlier: list[int] = []
    since = begun = time.monotonic()
    while True:
        in_grace = time.monotonic() - begun < grace_s
        old = in_grace and any(_stamp(path) == stamp for path, stamp in waited_on.items())
        lines = [path.read_bytes().count(b"\n") if path.is_file() else 0 for path in files]
        if not old and all(there >= needed for there, needed in zip(lines, wanted, strict=True)):
            return files
        if lines != earlier:
            earlier, since = lines, time.monotonic()
        if not old and time.monotonic() - since > patience_s:
            raise DataError(
                f"waited {patience_s:.0f} s for the other processes' counts of {run.name} in {folder}; start "
                "the same command again, it goes on, or run `ovsdino-bench merge` when all are finished"
            )
        time.sleep(_STEP_S)


def _files(folder: Path, run: Run, count: int) -> list[Path]:
    return [folder / file_name(run.name, Shard(number=number, count=count)) for number in range(1, count + 1)]


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder; of one that cannot be looked at, reading it will say why."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _stamp(path: Path) -> Stamp | None:
    """Return what changes when a file is written anew or longer; None if there is none."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns
