"""What a training writes down: metrics.jsonl, one line a step and one an epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovsdino_runtime.errors import CheckpointError, OutputError
from ovsdino_runtime.files import atomic_file

METRICS = "metrics.jsonl"


class Journal:
    """Appends to a metrics file; a resumed training first drops what came after its state.

    Each line has `kind` ("step" or "epoch"), `step` (steps done) and `epoch` (0-based).
    """

    def __init__(self, folder: Path, steps_done: int, epochs_done: int) -> None:
        """Open the journal.

        Args:
            folder: where metrics.jsonl lies.
            steps_done: steps of the state that goes on; later lines are dropped.
            epochs_done: epochs that it has measured and kept; the lines of others are dropped too.

        Raises:
            OutputError: it cannot be written.
        """
        self.path = folder / METRICS
        kept = [
            line
            for line in (read_journal(folder) if steps_done else [])
            if line["step"] <= steps_done and (line["kind"] != "epoch" or line["epoch"] < epochs_done)
        ]
        with atomic_file(self.path) as staged:
            staged.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(line)) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file; none where there is no such file.

    A last line that an interruption cut off is left out.

    Raises:
        CheckpointError: another line is broken.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    try:
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{path} is no metrics file ({error}); remove it") from error
