"""Generated scenes as a data set: a folder of pictures, label PNGs and the list of their names."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ovsdino.scenes.generator import Kind, Scene, require_possible, scene
from ovsdino.scenes.names import INDOOR_CLASSES, SCENE_CLASSES, STREET_CLASSES
from ovsdino_runtime.colours import palette
from ovsdino_runtime.errors import DataError, OutputError
from ovsdino_runtime.files import atomic_file, ensure_folder
from ovsdino_runtime.render import label_image

GENERATOR = 1  # raised whenever a seed's picture changes: scenes of two generators are not mixed
NAMES, RECORD = "names.txt", "scenes.json"
_JPEG_QUALITY = 92


def write_scenes(
    folder: Path,
    count: int,
    *,
    first_seed: int = 0,
    kind: Kind | None = None,
    size_hw: tuple[int, int] = (360, 480),
    lossless: bool = False,
    showing: Sequence[str] = (),
) -> int:
    """Write scenes that `--data folder:DIR:DIR/names.txt` reads, and return how many were new.

    A scene is `images/SEED.jpg` (or .png) and `labels/SEED.png`, whose pixel values are the lines of
    `names.txt`. What an interrupted run has written is kept, and later runs with the same arguments but a
    greater count add to it.

    Args:
        folder: where; created if need be.
        count: how many scenes there are to be, those already there included.
        first_seed: the first one's seed; the others' follow.
        kind: streets, rooms, or, by default, both.
        size_hw: height and width.
        lossless: whether the pictures are PNG: six times as large as JPEG.
        showing: only scenes in which one of these classes is seen; seeds of others are passed over. Empty
            for all.

    Raises:
        DataError: scenes of this kind have no such class.
        OutputError: the folder cannot be written to, or holds other scenes than these, or other data.
        ValueError: less than one scene, or what `scene` refuses.
    """
    require_possible(first_seed, kind, size_hw)
    if count < 1:
        raise ValueError(f"a set has one scene or more, not {count}")
    wanted = _numbers(showing, kind)
    images, labels = folder / "images", folder / "labels"
    ensure_folder(folder)
    asked: dict[str, object] = {
        "generator": GENERATOR,
        "kind": kind,
        "size_hw": list(size_hw),
        "lossless": lossless,
        "first_seed": first_seed,
        "showing": sorted(set(showing)),
    }
    _record(folder, asked)
    for part in (images, labels):
        ensure_folder(part)
    suffix = ".png" if lossless else ".jpg"
    passed_over_to = max((int(path.stem) for path in labels.glob("[0-9]*.png")), default=-1) if wanted else -1
    there = written = 0
    with tqdm(total=count, desc="scenes", unit="scene", file=sys.stderr, disable=None) as bar:
        for seed in itertools.count(first_seed):
            if there == count:
                break
            picture, label = images / f"{seed:08d}{suffix}", labels / f"{seed:08d}.png"
            if not (picture.exists() and label.exists()):
                if seed < passed_over_to and not picture.exists() and not label.exists():
                    continue  # it shows none of them, for scenes are written in the order of their seeds
                made = scene(seed, kind=kind, size_hw=size_hw)
                if wanted and not np.isin(made.labels, wanted).any():
                    continue
                _write(made, picture, label)
                written += 1
            there += 1
            bar.update()
    return written


def _numbers(showing: Sequence[str], kind: Kind | None) -> list[int]:
    """Return the classes' numbers.

    Raises:
        DataError: no scene of the kind can show one.
    """
    possible = {"street": STREET_CLASSES, "indoor": INDOOR_CLASSES}.get(kind or "", SCENE_CLASSES)
    for name in showing:
        if name not in possible:
            raise DataError(
                f"scenes that show {name!r} were asked for, but the classes of {kind or 'all'} scenes are "
                f"{', '.join(possible)}"
            )
    return [SCENE_CLASSES.index(name) for name in showing]


def _record(folder: Path, asked: dict[str, object]) -> None:
    """Note what a folder's scenes are, or check, if it has any, that they are what is asked for.

    Raises:
        OutputError: they are others, or the note is unreadable, or the folder holds something else.
    """
    note, names = folder / RECORD, folder / NAMES
    written = next((item for part in ("images", "labels") for item in folder.glob(f"{part}/*")), None)
    found = _noted(note)
    if found is None and (note.exists() or written is not None or names.exists()):
        other = note if note.exists() else written or names
        raise OutputError(f"{folder} holds other data than generated scenes ({other}); choose another folder")
    if found is not None and written is not None:
        for key in sorted({*found, *asked}):
            if found.get(key) != asked.get(key):
                raise OutputError(
                    f"the scenes in {folder} were made with {key} {json.dumps(found.get(key))}, not "
                    f"{json.dumps(asked.get(key))}; choose another folder"
                )
    with atomic_file(note) as staged:  # first, so that a folder that has names has a note
        staged.write_text(json.dumps(asked) + "\n", encoding="utf-8")
    with atomic_file(names) as staged:
        staged.write_text("\n".join(SCENE_CLASSES) + "\n", encoding="utf-8")


def _noted(note: Path) -> dict[str, object] | None:
    """Return what a note says; None where there is none, or another program's.

    Raises:
        OutputError: it cannot be read.
    """
    if not note.exists():
        return None
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot read {note}: {error}; write the scenes to another folder") from error
    return found if isinstance(found, dict) and "generator" in found else None


def _write(made: Scene, picture: Path, label: Path) -> None:
    colours = palette(len(SCENE_CLASSES))
    with atomic_file(picture) as staged:
        Image.fromarray(made.image).save(staged, quality=_JPEG_QUALITY)
    with atomic_file(label) as staged:  # last, so that a scene with a label is whole
        label_image(made.labels, colours).save(staged, "PNG", optimize=False)
