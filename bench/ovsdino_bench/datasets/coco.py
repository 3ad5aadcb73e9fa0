"""COCO-Stuff and COCO-Object: val2017, and label maps made from raw stuffthingmaps (docs/benchmarks.md)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ovsdino_bench.datasets.adapter import (
    Adapter,
    Conversion,
    Files,
    by_stem,
    contents,
    first_there,
    paired,
)
from ovsdino_bench.datasets.values import background_last, from_zero
from ovsdino_bench.label_maps import LabelMap, LabelTable, read_label_map
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.metrics import IGNORE

_IMAGES = ("val2017", "images/val2017")
_LABELS = ("stuffthingmaps/val2017", "annotations/val2017")
_STUFF, _OBJECT = "_labelTrainIds.png", "_instanceTrainIds.png"
_RAW = "stuffthingmaps/val2017/*.png (stuffthingmaps_trainval2017.zip)"
# Raw values are COCO's category ids less one; ids that COCO never used do not occur.
_THINGS = [value for value in range(90) if value not in {11, 25, 28, 29, 44, 65, 67, 68, 70, 82}]
_STUFFS = list(range(91, 182))
_EXPECTED = "raw values are COCO's ids less one, 0 to 181, 255 for unlabelled; is this a raw COCO-Stuff map?"
STUFF_OF_RAW = LabelTable.of({raw: place for place, raw in enumerate(_THINGS + _STUFFS)}, _EXPECTED)
OBJECT_OF_RAW = LabelTable.of(
    {IGNORE: 0, **dict.fromkeys(_STUFFS, 0), **{raw: place + 1 for place, raw in enumerate(_THINGS)}},
    _EXPECTED,
)


def _files(root: Path, *, ending: str) -> list[Files]:
    images, labels = first_there(root, _IMAGES), first_there(root, _LABELS)
    return paired(
        by_stem(contents(images), ".jpg"),
        by_stem(contents(labels), ending),
        lambda key: images / f"{key}.jpg",
        lambda key: labels / f"{key}{ending}",
    )


def _conversions(root: Path, *, ending: str, table: LabelTable) -> Iterator[Conversion]:
    folder = first_there(root, _LABELS)
    raw = [
        path
        for path in contents(folder)
        if path.suffix == ".png"
        and not path.name.startswith(".")
        and not path.name.endswith((_STUFF, _OBJECT))
    ]
    if not raw:
        raise DataError(f"{folder} holds no raw label maps; {root} should hold {_RAW}")
    for path in raw:
        yield Conversion(target=path.with_name(path.stem + ending), make=partial(_converted, path, table))


def _converted(path: Path, table: LabelTable) -> LabelMap:
    return table.apply(read_label_map(path), path)


_coco = partial(
    Adapter,
    inside=(".", "coco", "coco_stuff164k"),
    markers=_IMAGES,
    published=(5000,),
    raw=_RAW,
)
COCO_STUFF = _coco(
    name="coco_stuff",
    expected=f"val2017/*.jpg and stuffthingmaps/val2017/*{_STUFF}",
    table=from_zero(len(_THINGS) + len(_STUFFS)),
    files=partial(_files, ending=_STUFF),
    conversions=partial(_conversions, ending=_STUFF, table=STUFF_OF_RAW),
)
COCO_OBJECT = _coco(
    name="coco_object",
    expected=f"val2017/*.jpg and stuffthingmaps/val2017/*{_OBJECT}",
    table=background_last(len(_THINGS)),
    files=partial(_files, ending=_OBJECT),
    conversions=partial(_conversions, ending=_OBJECT, table=OBJECT_OF_RAW),
)
