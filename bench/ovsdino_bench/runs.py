"""What is measured and what was counted of it: a run, its file of counts, and what tells two runs apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ovsdino_bench.results import ImageResult
from ovsdino_bench.selection import Shard
from ovsdino_runtime.errors import DataError

KIND, SCHEMA = "ovsdino-bench counts", 1
ENDING = ".counts.jsonl"
# May differ between the parts of a run; where the data lie does not say which they are.
PLACE = "data_place_sha256"  # among the facts: where the data lay
_AROUND = {"machines", "commands", "facts.data", "run.facts.data", f"facts.{PLACE}", f"run.facts.{PLACE}"}
# Not recorded by earlier versions: no difference where only one of the two has it.
_LATER = (
    "facts.model.short_side_px",
    "facts.model.long_side_px",
    "facts.dataset.values",
)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is measured. Shards of one run, and parts of an interrupted one, differ in `facts.data` alone.

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
        commands: how it was asked for, each command once; earlier versions did not keep it.
        results: what the images gave, by place.
        parts: how many shards were put together.
    """

    run: Run
    shard: Shard
    machines: tuple[Mapping[str, Any], ...]
    results: Mapping[int, ImageResult]
    commands: tuple[str, ...] = ()
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
            "commands": list(self.commands),
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
        raise DataError(
            f"cannot read the counts {path}: {reason}; name the files, or the folder, that "
            "`ovsdino-bench accuracy --out` wrote"
        ) from error
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
        commands = tuple(map(str, header.get("commands", ())))
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
    return Recorded(run=run, shard=shard, machines=machines, commands=commands, results=results)


def each_once(lists: Iterable[Iterable[T]]) -> tuple[T, ...]:
    """Return what several lists hold, each once, as the machines of several files."""
    found: list[T] = []
    for items in lists:
        found += [item for item in items if item not in found]
    return tuple(found)


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


def difference(now: Any, earlier: Any, where: str = "") -> str | None:
    """Return the first difference between two headers in words; None if they agree in what is measured."""
    if isinstance(now, dict) and isinstance(earlier, dict):
        for key in sorted({*now, *earlier}):
            inside = f"{where}.{key}" if where else str(key)
            if inside in _AROUND or (inside.endswith(_LATER) and not (key in now and key in earlier)):
                continue
            found = difference(now.get(key), earlier.get(key), inside)
            if found is not None:
                return found
        return None
    return None if now == earlier else f"{where} is {_short(now)} now and {_short(earlier)} there"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def difference_of_runs(one: Run, other: Run) -> str | None:
    """Return the first difference between two runs in words; None if they are the same."""
    return difference(one.as_dict(), other.as_dict())
