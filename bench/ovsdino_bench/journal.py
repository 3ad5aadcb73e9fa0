"""The counts of a run, image by image, in a file that an interrupted run goes on with and shards share.

The first line says what is measured, each further one what an image gave, all as JSON. A line that an
interruption cut off is dropped; the image is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from ovsdino_bench.results import ImageResult
from ovsdino_bench.selection import Shard
from ovsdino_runtime.errors import DataError, OutputError
from ovsdino_runtime.files import atomic_file, ensure_folder

KIND, SCHEMA = "ovsdino-bench counts", 1
ENDING = ".counts.jsonl"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is measured. The shards of one run, and the parts of an interrupted one, agree in all of it.

    Attributes:
        name: the benchmark's name.
        names: the classes in the order of the counts.
        backends: what ran, in order.
        images: how many images are selected, over all shards.
        facts: the rest of what the report says: data, model, selection, question; as JSON takes it.
    """

    name: str
    names: tuple[str, ...]
    backends: tuple[str, ...]
    images: int
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "name": self.name,
            "names": list(self.names),
            "backends": list(self.backends),
            "images": self.images,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Run:
        """Read what `as_dict` gave; KeyError or TypeError if it is something else."""
        return cls(
            name=str(data["name"]),
            names=tuple(map(str, data["names"])),
            backends=tuple(map(str, data["backends"])),
            images=int(data["images"]),
            facts=dict(data["facts"]),
        )


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a file of counts holds.

    Attributes:
        run: what was measured.
        shard: which part of it.
        machines: on what, each machine once.
        results: what the images gave, by place.
        parts: how many shards were put together.
    """

    run: Run
    shard: Shard
    machines: tuple[Mapping[str, Any], ...]
    results: Mapping[int, ImageResult]
    parts: int = 1

    @property
    def missing(self) -> int:
        """How many of the shard's images were not reached."""
        return sum(place not in self.results for place in self.shard.places(self.run.images))

    def header(self) -> dict[str, Any]:
        """Return the file's first line."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "run": self.run.as_dict(),
            "shard": [self.shard.number, self.shard.count],
            "machines": [dict(item) for item in self.machines],
        }


def file_name(name: str, shard: Shard) -> str:
    """Return what the file of a benchmark's counts is called."""
    part = "" if shard.count == 1 else f".{shard.number}-of-{shard.count}"
    return f"{name}{part}{ENDING}"


def load(path: Path) -> Recorded:
    """Read a file of counts.

    Raises:
        DataError: it cannot be read, is something else or damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read the counts {path}: {reason}") from error
    lines = text.split("\n")[:-1]  # what follows the last line break was cut off
    try:
        header = json.loads(lines[0])
        if header["kind"] != KIND:
            raise ValueError(f"it holds {header['kind']!r}")
        if header["schema"] != SCHEMA:
            raise DataError(
                f"{path} has schema {header['schema']}, this version reads {SCHEMA}; measure again or use "
                "the version that wrote it"
            )
        run = Run.from_dict(header["run"])
        shard = Shard(number=header["shard"][0], count=header["shard"][1])
        machines = tuple(dict(item) for item in header["machines"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path} holds no counts ({error}); `ovsdino-bench accuracy --out` writes them"
        ) from error
    results: dict[int, ImageResult] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            result = ImageResult.from_dict(json.loads(line))
            _check(result, run, shard)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DataError(
                f"line {number} of {path} is damaged ({error}); without the line the image is measured again"
            ) from error
        results[result.place] = result
    return Recorded(run=run, shard=shard, machines=machines, results=results)


class Journal:
    """Counts that are written as they come.

    Attributes:
        recorded: what is known so far.
    """

    def __init__(self, recorded: Recorded, path: Path | None) -> None:
        self._results = dict(recorded.results)
        self.recorded = replace(recorded, results=self._results)
        self._path = path
        self._file: TextIO | None = None

    @classmethod
    def open(cls, path: Path | None, run: Run, shard: Shard, machine: Mapping[str, Any]) -> Journal:
        """Begin a file of counts, or go on with one; images that failed are measured again.

        Args:
            path: the file; None keeps the counts in memory only.
            run: what is measured.
            shard: which part of it.
            machine: on what.

        Raises:
            DataError: the file is of another run.
            OutputError: it cannot be written.
        """
        recorded = Recorded(run=run, shard=shard, machines=(machine,), results={})
        if path is None:
            return cls(recorded, None)
        ensure_folder(path.parent)
        if path.exists():
            earlier = load(path)
            difference = _difference(json.loads(json.dumps(recorded.header())), earlier.header())
            if difference is not None:
                raise DataError(
                    f"{path} has counts of another run: {difference}; choose another --out or remove it"
                )
            done = {place: item for place, item in earlier.results.items() if not item.error}
            machines = all_machines((earlier, recorded))
            recorded = replace(earlier, results=done, machines=machines)
        with atomic_file(path) as staged, staged.open("w", encoding="utf-8") as file:
            file.write(_line(recorded.header()))
            file.writelines(_line(item.as_dict()) for item in recorded.results.values())
        return cls(recorded, path)

    def __enter__(self) -> Journal:
        if self._path is not None:
            try:
                self._file = self._path.open("a", encoding="utf-8")
            except OSError as error:
                raise OutputError(
                    f"cannot write {self._path}: {error.strerror}; choose another --out"
                ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, result: ImageResult) -> None:
        """Write what an image gave.

        Raises:
            OutputError: it cannot be written.
        """
        self._results[result.place] = result
        if self._file is None:
            return
        try:
            self._file.write(_line(result.as_dict()))
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self._path}: {error.strerror}; free space and run the command again"
            ) from error


def all_machines(parts: Iterable[Recorded]) -> tuple[Mapping[str, Any], ...]:
    """Return the machines of several files, each once."""
    found: list[Mapping[str, Any]] = []
    for part in parts:
        found += [item for item in part.machines if item not in found]
    return tuple(found)


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":")) + "\n"


def _check(result: ImageResult, run: Run, shard: Shard) -> None:
    if result.place not in shard.places(run.images):
        raise ValueError(f"image {result.place} is not of the shard")
    if result.error:
        return
    if len(result.backends) != len(run.backends):
        raise ValueError(f"{len(result.backends)} backends in place of {len(run.backends)}")
    for item in result.backends:
        classes = np.concatenate([item.confusion[:, :2].ravel(), item.boundary[:, 0]])
        if classes.size and (classes.min() < 0 or classes.max() >= len(run.names)):
            raise ValueError(f"a class outside the {len(run.names)} there are")


def _difference(now: Any, earlier: Any, where: str = "") -> str | None:
    """Return the first difference between two headers in words; None if they agree but for the machines."""
    if isinstance(now, dict) and isinstance(earlier, dict):
        for key in sorted({*now, *earlier} - {"machines"}):
            inside = f"{where}.{key}" if where else str(key)
            found = _difference(now.get(key), earlier.get(key), inside)
            if found is not None:
                return found
        return None
    return None if now == earlier else f"{where} is {_short(now)} now and {_short(earlier)} there"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def difference_of_runs(one: Run, other: Run) -> str | None:
    """Return the first difference between two runs in words; None if they are the same."""
    return _difference(one.as_dict(), other.as_dict())
