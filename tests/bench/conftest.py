"""Small benchmarks as the real ones are downloaded, and a bundle that knows their names."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ovsdino_bench import cli
from ovsdino_bench.datasets import ADAPTERS
from ovsdino_runtime.background import STUFF
from ovsdino_runtime.vocabulary import vocabularies
from tests.bench.painted import painted, recorded  # noqa: F401 - fixtures

BLOCK_PX = 14
SIZES = ((28, 56), (42, 28), (28, 28))  # ragged; their short side is the tiny bundle's
LabelMap = NDArray[np.uint8]
Colour = tuple[int, int, int]

# The numbers of COCO's categories that were never used; the others of 1 to 90 are the 80 objects.
NEVER_USED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
# PASCAL in Detail's numbers of the 59 categories, in the order of the classes.
DETAIL = (
    "2 9 18 19 22 23 25 31 33 34 44 45 46 59 65 68 72 80 85 98 104 105 113 115 144 158 159 162 187 189 207 "
    "220 232 258 259 260 284 295 296 308 324 326 347 349 354 355 360 366 368 397 415 416 420 424 427 440 445 "
    "454 458"
)
# Cityscapes' label ids in the order of the train ids.
CITY_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@dataclass(frozen=True)
class Tree:
    """A benchmark as it was unpacked.

    Attributes:
        name: the benchmark.
        folder: what a person names.
        values: the raw label values of each picture, by the stem of the picture's file.
        labels: what each value means: a label, `background`, or None for unlabelled.
    """

    name: str
    folder: Path
    values: Mapping[str, NDArray[np.int64]]
    labels: Mapping[int, str | None]


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        return self.err.splitlines()[-1]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, object], Path]:
    """Writes a document as JSON into tmp_path and returns its file."""

    def call(name: str, document: object) -> Path:
        (tmp_path / name).write_text(json.dumps(document))
        return tmp_path / name

    return call


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `ovsdino-bench` with arguments."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["ovsdino-bench", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def colours() -> dict[str, Colour]:
    """A colour of its own for every name that any benchmark or the common stuff is asked by."""
    names = {prompt for item in vocabularies().values() for query in item.queries for prompt in query.prompts}
    steps = [int(value) for value in np.linspace(5, 250, 8)]
    palette = list(itertools.product(steps, repeat=3))
    np.random.default_rng(0).shuffle(palette)
    return dict(zip(sorted(names | {*STUFF}), (tuple(item) for item in palette), strict=False))


@pytest.fixture(scope="session")
def world_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    write_tiny_bundle: Callable[[Path, Mapping[str, Colour]], Path],
    colours: Mapping[str, Colour],
) -> Path:
    """A tiny bundle that knows every benchmark's names."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "world", colours)


@pytest.fixture
def three_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every benchmark is over three images, as the small trees are."""
    for name, item in ADAPTERS.items():
        monkeypatch.setitem(ADAPTERS, name, dataclasses.replace(item, published=(len(SIZES),)))  # type: ignore[arg-type]


def meanings_of(name: str) -> dict[int, str | None]:
    """What every raw label value of a benchmark means, from its documentation."""
    classes = [query.label for query in vocabularies()[name].queries]
    if name in ("coco_stuff", "coco_object"):
        things = [number for number in range(1, 91) if number not in NEVER_USED]
        stuff = range(92, 183)
        if name == "coco_stuff":
            return {
                **dict(zip((number - 1 for number in (*things, *stuff)), classes, strict=True)),
                255: None,
            }
        objects: dict[int, str | None] = dict(zip((number - 1 for number in things), classes, strict=True))
        return {**objects, **dict.fromkeys((number - 1 for number in stuff), "background"), 255: "background"}
    if name == "cityscapes":
        return {**dict.fromkeys(range(34)), **dict(zip(CITY_IDS, classes, strict=True))}
    if name == "camvid":
        return {**dict(enumerate(classes)), 11: None, 255: None}
    zero = "background" if vocabularies()[name].has_background else None
    if name.startswith("context"):
        return {0: zero, **dict(zip(map(int, DETAIL.split()), classes, strict=True))}
    return {0: zero, **dict(enumerate(classes, start=1)), 255: None}


def blocks(random: np.random.Generator, values: Sequence[int], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Random squares of values, int64 [H, W]."""
    small = random.choice(values, [side // BLOCK_PX for side in size_hw])
    return np.kron(small, np.ones((BLOCK_PX, BLOCK_PX), dtype=np.int64))


def save(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)


def save_palette(path: Path, labels: NDArray[np.int64]) -> None:
    """As PASCAL VOC's label PNGs are: indices with a palette of colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    indexed = Image.new("P", (labels.shape[1], labels.shape[0]))
    indexed.putpalette(list(np.random.default_rng(1).integers(0, 256, 768)))
    indexed.frombytes(labels.astype(np.uint8).tobytes())
    indexed.save(path)


def place_voc(root: Path, stem: str, picture: LabelMap, labels: NDArray[np.int64]) -> None:
    save(root / "VOCdevkit/VOC2012/JPEGImages" / f"{stem}.jpg", picture)
    save_palette(root / "VOCdevkit/VOC2012/SegmentationClass" / f"{stem}.png", labels)
    listing = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    with listing.open("a") as file:
        file.write(f"{stem}\n")


def place_context(root: Path, stem: str, picture: LabelMap, labels: NDArray[np.int64]) -> None:
    """As PASCAL in Detail has it: one JSON of run lengths for all images; a training image comes first."""
    from pycocotools import mask as coco_mask

    home = root / "VOCdevkit/VOC2010"
    save(home / "JPEGImages" / f"{stem}.jpg", picture)
    path = home / "trainval_merged.json"
    empty = {
        "images": [{"image_id": 7, "file_name": "t.jpg", "height": 1, "width": 1, "phase": "train"}],
        "annos_segmentation": [
            {"image_id": 7, "category_id": 2, "segmentation": {"size": [1, 1], "counts": "01"}}
        ],
    }
    data = json.loads(path.read_text()) if path.is_file() else empty
    number = 100 + len(data["images"])
    height, width = labels.shape
    data["images"].append(
        {"image_id": number, "file_name": f"{stem}.jpg", "height": height, "width": width, "phase": "val"}
    )
    values = [int(value) for value in np.unique(labels) if value]
    for value in values:
        # The first is drawn under all others too: what comes later must cover it.
        mask = np.isin(labels, values) if value == values[0] else labels == value
        coded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        coded["counts"] = coded["counts"].decode()
        data["annos_segmentation"].append(
            {
                "image_id": number,
                "category_id": value,
                "segmentation": coded,
                "id": len(data["annos_segmentation"]),
            }
        )
    path.write_text(json.dumps(data))


def place_coco(root: Path, stem: str, picture: LabelMap, labels: NDArray[np.int64]) -> None:
    save(root / "val2017" / f"{stem}.jpg", picture)
    save(root / "stuffthingmaps/val2017" / f"{stem}.png", labels)


def place_cityscapes(root: Path, stem: str, picture: LabelMap, labels: NDArray[np.int64]) -> None:
    city = stem.partition("_")[0]
    save(root / "leftImg8bit/val" / city / f"{stem}_leftImg8bit.png", picture)
    save(root / "gtFine/val" / city / f"{stem}_gtFine_labelIds.png", labels)
    save(root / "gtFine/val" / city / f"{stem}_gtFine_instanceIds.png", labels)


def place_ade(root: Path, stem: str, picture: LabelMap, labels: NDArray[np.int64]) -> None:
    save(root / "ADEChallengeData2016/images/validation" / f"{stem}.jpg", picture)
    save(root / "ADEChallengeData2016/annotations/validation" / f"{stem}.png", labels)


def place_camvid(root: Path, stem: str, picture: LabelMap, labels: NDArray[np.int64]) -> None:
    save(root / "CamVid/val" / f"{stem}.png", picture)
    save(root / "CamVid/valannot" / f"{stem}.png", labels)


PLACES = {
    "voc20": place_voc,
    "voc21": place_voc,
    "context59": place_context,
    "context60": place_context,
    "coco_stuff": place_coco,
    "coco_object": place_coco,
    "cityscapes": place_cityscapes,
    "ade20k": place_ade,
    "camvid": place_camvid,
}
STEMS = {"cityscapes": ("aachen_000000_000019", "bonn_000000_000019", "bonn_000001_000019")}


@pytest.fixture
def unpack(tmp_path: Path, colours: Mapping[str, Colour]) -> Callable[[str], Tree]:
    """Writes a benchmark of three pictures as it is downloaded: nothing that is made is there yet.

    A picture is painted in the colours of its labels, but for one square that is painted as another class.
    """

    def write(name: str) -> Tree:
        random = np.random.default_rng(sum(map(ord, name)))
        meaning = meanings_of(name)
        prompts = {query.label: query.prompts[0] for query in vocabularies()[name].queries}
        prompts["background"] = "sky" if name != "context60" else "lamp"
        values: dict[str, NDArray[np.int64]] = {}
        folder = tmp_path / f"{name} as downloaded"
        for stem, size in zip(STEMS.get(name, ("b_1", "a_2", "c_3")), SIZES, strict=True):
            labels = blocks(random, list(meaning), size)
            picture = np.zeros((*size, 3), dtype=np.uint8)
            for value in np.unique(labels):
                picture[labels == value] = colours[prompts.get(meaning[int(value)] or "", "sky")]
            picture[:BLOCK_PX, :BLOCK_PX] = colours[prompts[random.choice(list(prompts))]]
            PLACES[name](folder, stem, picture, labels)
            values[stem] = labels
        return Tree(name, folder, values, meaning)

    return write


@pytest.fixture
def prepared(
    unpack: Callable[[str], Tree], bench: Callable[..., Ran], three_published: None
) -> Callable[[str], Tree]:
    """Writes a benchmark of three pictures and makes what must be made."""

    def write(name: str) -> Tree:
        tree = unpack(name)
        done = bench("prepare", name, tree.folder)
        assert done.code == 0, done.err
        return tree

    return write
