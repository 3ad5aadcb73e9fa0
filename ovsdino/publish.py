"""Publishing a checkpoint: in FP16, named, with its terms, without paths of the machine it came from."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ovsdino.checkpoint import WEIGHTS, CheckpointInfo, read_info, read_tensors, write_checkpoint
from ovsdino.window import at_window
from ovsdino_runtime.errors import CheckpointError, OutputError

# An absolute path, or one from a home or parent folder: everything before its last part is private.
_START = r"(?:~[\w.-]*|\.\.|[A-Za-z]:)?[/\\](?![/\\])"
_BEGINS = re.compile(_START)
_WITHIN = re.compile(rf"(?<![\w./~\\-]){_START}(?:[^\s:,;'\"/\\]+[/\\]+)*[^\s:,;'\"/\\]+")
_PARTS = re.compile(r"((?<!(?<![\w./~\\-])[A-Za-z]):|=)")  # kind:path:names, --option=path; not C:\path
_ELSEWHERE = ("hub:", "timm:", "random:")  # sources that mean the same on every machine


@dataclass(frozen=True)
class Published:
    """What was written.

    Attributes:
        tensors: how many.
        bytes: size of the weights on disk.
        removed: the folders that the record no longer names, sorted.
    """

    tensors: int
    bytes: int
    removed: tuple[str, ...]


def publish(
    checkpoint: Path,
    out: Path,
    *,
    name: str,
    license: str,
    backbone_source: str | None = None,
    half: bool = True,
    window_px: int | None = None,
) -> Published:
    """Write a checkpoint as others may have it.

    Args:
        checkpoint: what a training wrote.
        out: where; nothing may be there yet.
        name: what the model is called.
        license: terms of the weights.
        backbone_source: where others find the backbone's weights; needed where the training read a file.
        half: whether kernels and matrices are stored in FP16, see `write_checkpoint`.
        window_px: for windows of which size, see `at_window`; by default those of the training.

    Raises:
        CheckpointError: the checkpoint is broken, others could not find its backbone, a weight exceeds
            FP16's range, or the backbone's patch does not divide the window.
        OutputError: `out` exists or cannot be written.
    """
    info, tensors = read_info(checkpoint), read_tensors(checkpoint)
    if window_px is not None:
        info, tensors = at_window(info, tensors, window_px)
    removed: set[str] = set()
    shared = replace(
        info,
        name=name,
        license=license,
        backbone=info.backbone and replace(info.backbone, source=_source(info, backbone_source)),
        text_model=_reduced(info.text_model, removed),
        training=_without_folders(info.training, removed),
    )
    if out.exists():
        raise OutputError(f"{out} exists already; remove it or choose another --out")
    write_checkpoint(out, tensors, shared, half=half)
    return Published(len(tensors), (out / WEIGHTS).stat().st_size, tuple(sorted(removed)))


def _source(info: CheckpointInfo, given: str | None) -> str:
    """Return a source of the backbone that means something on other machines."""
    source = given or (info.backbone.source if info.backbone else "")
    if info.complete and not source.startswith(_ELSEWHERE):
        return "in the checkpoint"  # nobody needs to find it elsewhere
    if not source.startswith(_ELSEWHERE):
        raise CheckpointError(
            f"the checkpoint sits on a backbone from {source}, which others do not have; name where they "
            "find it with --backbone-source hub:OWNER/REPO"
        )
    return source


def _without_folders(record: Mapping[str, Any], removed: set[str]) -> dict[str, Any]:
    """Return a record in which paths of this machine are reduced to their last part."""

    def reduced(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            if key != "command":
                return _reduced(value, removed)
            return shlex.join(_reduced(word, removed) for word in shlex.split(value))
        if isinstance(value, Mapping):
            return {name: reduced(item, name) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [reduced(item) for item in value]
        return value

    return {key: reduced(value, key) for key, value in record.items()}


def _reduced(text: str, removed: set[str]) -> str:
    """Return a text in which paths are reduced; what is a path from its beginning may hold spaces."""

    def last_part(path: str) -> str:
        body = path.rstrip("/\\")
        cut = max(body.rfind("/"), body.rfind("\\")) + 1
        if cut:
            removed.add(path[:cut])
        return path[cut:]

    return "".join(
        last_part(part) if _BEGINS.match(part) else _WITHIN.sub(lambda found: last_part(found[0]), part)
        for part in _PARTS.split(text)
    )
