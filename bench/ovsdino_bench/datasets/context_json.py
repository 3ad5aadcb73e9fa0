"""PASCAL Context's label maps from trainval_merged.json, the annotations of PASCAL in Detail."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ovsdino_bench.datasets.adapter import Conversion
from ovsdino_bench.datasets.run_lengths import mask_of_run_lengths
from ovsdino_bench.label_maps import LabelMap
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import atomic_file, ensure_folder

JSON = "trainval_merged.json"
# The 59 of its 459 categories that are counted, by their numbers; in order they are the classes.
CATEGORIES = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98),
    *(104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308),
    *(324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)
_LABEL = {0: 0, **{category: place + 1 for place, category in enumerate(CATEGORIES)}}  # 0 is background
Annotation = tuple[int, Mapping[str, Any]]


def conversions(root: Path, *, names: str, labels: str) -> Iterator[Conversion]:
    """Return the label maps of the validation images, and write their list if there is none yet.

    Args:
        root: VOC2010, with the JSON in it.
        names: where the list belongs.
        labels: where the label maps belong.

    Raises:
        DataError: the JSON is missing or something else.
    """
    images, annotations = _read(root / JSON)
    if not (root / names).is_file():
        ensure_folder((root / names).parent)
        stems = "".join(f"{Path(item['file_name']).stem}\n" for item in images)
        with atomic_file(root / names) as staged:
            staged.write_text(stems, encoding="utf-8")
    for item in images:
        stem = Path(item["file_name"]).stem
        size = int(item["height"]), int(item["width"])
        make = partial(_drawn, annotations[item["image_id"]], size, f"{stem} in {root / JSON}")
        yield Conversion(target=root / labels / f"{stem}.png", make=make)


def _read(path: Path) -> tuple[list[dict[str, Any]], Mapping[int, list[Annotation]]]:
    """Return the validation images, and annotations by image, in the file's order."""
    if not path.is_file():
        raise DataError(f"{path} is missing; download {JSON} of PASCAL in Detail and put it there")
    try:
        with path.open(encoding="utf-8") as file, tqdm(desc=f"reading {JSON}", disable=None):
            data = json.load(file)
        images = [item for item in data["images"] if item["phase"] == "val"]
        for item in images:
            item["file_name"], int(item["height"]), int(item["width"])
        wanted = {item["image_id"] for item in images}
        annotations: defaultdict[int, list[Annotation]] = defaultdict(list)
        for item in data["annos_segmentation"]:
            if item["image_id"] in wanted:
                annotations[item["image_id"]].append((int(item["category_id"]), item["segmentation"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not PASCAL in Detail's JSON ({error!r}); download it again") from error
    if not images:
        raise DataError(f"{path} has no image of the phase 'val'; download it again")
    return images, annotations


def _drawn(annotations: Sequence[Annotation], size_hw: tuple[int, int], where: str) -> LabelMap:
    """Return the label map, uint8 [H, W]; a later annotation covers an earlier one."""
    labels = np.zeros(size_hw, dtype=np.uint8)
    for category, segmentation in annotations:
        if category not in _LABEL:
            raise DataError(
                f"{where} has the category {category}, which is none of the {len(CATEGORIES)} counted"
            )
        try:
            mask = mask_of_run_lengths(segmentation)
        except ValueError as error:
            raise DataError(f"{where} has {error}; download the file again") from error
        if mask.shape != size_hw:
            raise DataError(f"{where} has a mask of {mask.shape} for an image of {size_hw}")
        labels[mask] = _LABEL[category]
    return labels
