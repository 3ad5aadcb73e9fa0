"""Cityscapes val: leftImg8bit, gtFine, and the train ids made from its label ids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ovsdino_bench.datasets.adapter import Adapter, Conversion, Files, by_stem, contents, paired
from ovsdino_bench.datasets.values import from_zero
from ovsdino_bench.label_maps import LabelMap, LabelTable, read_label_map
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.metrics import IGNORE

_IMAGES, _LABELS = "leftImg8bit/val", "gtFine/val"
_IMAGE, _IDS, _TRAIN_IDS = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
_RAW = f"{_LABELS}/CITY/*{_IDS} (gtFine_trainvaltest.zip)"
_HIGHEST_ID = 33
_COUNTED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TRAIN_IDS_OF_IDS = LabelTable.of(
    {
        **dict.fromkeys(range(_HIGHEST_ID + 1), IGNORE),
        **{number: place for place, number in enumerate(_COUNTED)},
    },
    f"Cityscapes' label ids are 0 to {_HIGHEST_ID}, 255 for licence plates; is this a map of label ids?",
)


def _in_cities(folder: Path, ending: str) -> dict[str, Path]:
    """Return files by `CITY/CITY_000000_000019`."""
    return {
        f"{city.name}/{stem}": path
        for city in contents(folder)
        if city.is_dir()
        for stem, path in by_stem(contents(city), ending).items()
    }


def _files(root: Path) -> list[Files]:
    return paired(
        _in_cities(root / _IMAGES, _IMAGE),
        _in_cities(root / _LABELS, _TRAIN_IDS),
        lambda key: root / _IMAGES / f"{key}{_IMAGE}",
        lambda key: root / _LABELS / f"{key}{_TRAIN_IDS}",
    )


def _conversions(root: Path) -> Iterator[Conversion]:
    raw = _in_cities(root / _LABELS, _IDS)
    if not raw:
        raise DataError(f"{root / _LABELS} holds no label ids; {root} should hold {_RAW}")
    for key, path in raw.items():
        yield Conversion(target=root / _LABELS / f"{key}{_TRAIN_IDS}", make=partial(_converted, path))


def _converted(path: Path) -> LabelMap:
    return TRAIN_IDS_OF_IDS.apply(read_label_map(path), path)


CITYSCAPES = Adapter(
    name="cityscapes",
    inside=(".", "cityscapes"),
    markers=("leftImg8bit", "gtFine"),
    expected=f"{_IMAGES}/CITY/*{_IMAGE} (leftImg8bit_trainvaltest.zip) and {_LABELS}/CITY/*{_TRAIN_IDS}",
    published=(500,),
    table=from_zero(len(_COUNTED)),
    files=_files,
    conversions=_conversions,
    raw=_RAW,
)
