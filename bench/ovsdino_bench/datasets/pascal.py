"""PASCAL VOC 2012 and PASCAL Context (VOC 2010), as their archives unpack."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ovsdino_bench.datasets.adapter import Adapter, Files, listed
from ovsdino_bench.datasets.context_json import JSON, conversions
from ovsdino_bench.datasets.values import background_last, zero_left_out

_CONTEXT_LIST = "ImageSets/SegmentationContext/val.txt"
_CONTEXT_LABELS = "SegmentationClassContext"


def _files(root: Path, *, names: str, labels: str) -> list[Files]:
    return [
        Files(image=root / "JPEGImages" / f"{name}.jpg", labels=root / labels / f"{name}.png")
        for name in listed(root / names)
    ]


_voc = partial(
    Adapter,
    inside=(".", "VOC2012", "VOCdevkit/VOC2012"),
    markers=("JPEGImages", "SegmentationClass"),
    expected="VOCdevkit/VOC2012 with JPEGImages/*.jpg, SegmentationClass/*.png and "
    "ImageSets/Segmentation/val.txt (VOCtrainval_11-May-2012.tar)",
    published=(1449,),
    files=partial(_files, names="ImageSets/Segmentation/val.txt", labels="SegmentationClass"),
)
_context = partial(
    Adapter,
    inside=(".", "VOC2010", "VOCdevkit/VOC2010"),
    markers=("JPEGImages", _CONTEXT_LABELS),
    expected=f"VOCdevkit/VOC2010 with JPEGImages/*.jpg (VOCtrainval_03-May-2010.tar), "
    f"{_CONTEXT_LABELS}/*.png and {_CONTEXT_LIST}",
    published=(5104, 5105),
    files=partial(_files, names=_CONTEXT_LIST, labels=_CONTEXT_LABELS),
    conversions=partial(conversions, names=_CONTEXT_LIST, labels=_CONTEXT_LABELS),
    raw=f"{JSON} of PASCAL in Detail, beside JPEGImages",
)

VOC20 = _voc(name="voc20", table=zero_left_out(20))
VOC21 = _voc(name="voc21", table=background_last(20))
CONTEXT59 = _context(name="context59", table=zero_left_out(59))
CONTEXT60 = _context(name="context60", table=background_last(59))
