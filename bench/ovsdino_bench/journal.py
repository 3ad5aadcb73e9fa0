"""The counts of a run, image by image, in a file that an interrupted run goes on with and shards share.

The first line says what is measured, each further one what an image gave, all as JSON. A line that an
interruption cut off is dropped; the image is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ovsdino_bench.results import ImageResult
from ovsdino_bench.runs import Recorded, Run, difference, each_once, load
from ovsdino_bench.selection import Shard
from ovsdino_runtime.errors import DataError, OutputError
from ovsdino_runtime.files import atomic_file, ensure_folder


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
    def open(
        cls, path: Path | None, run: Run, shard: Shard, machine: Mapping[str, Any], command: str
    ) -> Journal:
        """Begin a file of counts, or go on with one; images that failed are measured again.

        Args:
            path: the file; None keeps the counts in memory only.
            run: what is measured.
            shard: which part of it.
            machine: on what.
            command: how it was asked for.

        Raises:
            DataError: the file is of another run.
            OutputError: it cannot be written.
        """
        recorded = Recorded(run=run, shard=shard, machines=(machine,), commands=(command,), results={})
        if path is None:
            return cls(recorded, None)
        ensure_folder(path.parent)
        if path.exists():
            earlier = load(path)
            found = difference(json.loads(json.dumps(recorded.header())), earlier.header())
            if found is not None:
                raise DataError(
                    f"{path} has counts of another run: {found}; choose another --out or remove it"
                )
            done = {place: item for place, item in earlier.results.items() if not item.error}
            machines = each_once((earlier.machines, recorded.machines))
            commands = each_once((earlier.commands, recorded.commands))
            recorded = replace(earlier, results=done, machines=machines, commands=commands)
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
        """Close the file.

        Raises:
            OutputError: it cannot be written, and no other error is under way.
        """
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as failure:  # closing writes again what could not be written
            if error is None:
                raise self._unwritten(failure) from failure

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
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> OutputError:
        reason = error.strerror or error
        return OutputError(f"cannot write {self._path}: {reason}; free space and run the command again")


def _line(data: Mapping[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":")) + "\n"
