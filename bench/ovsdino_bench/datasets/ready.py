"""Benchmarks whose labels are used as they are downloaded: ADE20K and CamVid."""

from __future__ import annotations

from pathlib import Path

from ovsdino_bench.datasets.adapter import Adapter, Files, by_stem, contents, first_there, paired
from ovsdino_bench.datasets.values import zero_left_out
from ovsdino_bench.label_maps import LabelTable
from ovsdino_runtime.metrics import IGNORE

_CAMVID_CLASSES = 11
_CAMVID_IMAGES, _CAMVID_LABELS = ("val/images", "val"), ("val/labels", "valannot")


def _ade_files(root: Path) -> list[Files]:
    images, labels = root / "images" / "validation", root / "annotations" / "validation"
    return paired(
        by_stem(contents(images), ".jpg"),
        by_stem(contents(labels), ".png"),
        lambda key: images / f"{key}.jpg",
        lambda key: labels / f"{key}.png",
    )


def _camvid_files(root: Path) -> list[Files]:
    images, labels = first_there(root, _CAMVID_IMAGES), first_there(root, _CAMVID_LABELS)
    return paired(
        {**by_stem(contents(images), ".jpg"), **by_stem(contents(images), ".png")},
        by_stem(contents(labels), ".png"),
        lambda key: images / f"{key}.png",
        lambda key: labels / f"{key}.png",
    )


ADE20K = Adapter(
    name="ade20k",
    inside=(".", "ADEChallengeData2016"),
    markers=("images/validation", "annotations/validation"),
    expected="ADEChallengeData2016 with images/validation/*.jpg and annotations/validation/*.png "
    "(ADEChallengeData2016.zip)",
    published=(2000,),
    table=zero_left_out(150),
    files=_ade_files,
)
CAMVID = Adapter(
    name="camvid",
    inside=(".", "CamVid", "camvid"),
    markers=(*_CAMVID_LABELS,),
    expected="val/*.png with valannot/*.png, or val/images/*.png with val/labels/*.png, "
    "in the 11-class version at 480x360",
    published=(101,),
    table=LabelTable.of(
        {**{value: value for value in range(_CAMVID_CLASSES)}, _CAMVID_CLASSES: IGNORE},
        f"values are 0 to {_CAMVID_CLASSES - 1}, {_CAMVID_CLASSES} and 255 for unlabelled; is this the "
        "11-class version?",
    ),
    files=_camvid_files,
)
