"""Data as COCO's instance JSON, with polygons or run lengths."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ovsdino.data.labels import Labels, Mask, labels_of_masks
from ovsdino.data.polygons import box_mask, polygon_mask, rle_mask
from ovsdino.data.samples import Source, file_bytes
from ovsdino_runtime.errors import DataError


@dataclass(frozen=True)
class CocoInstance:
    """One annotation.

    Attributes:
        number: its own.
        index: its class.
        segmentation: COCO's; empty where there is only a box.
        crowd: whether it is one.
        box: COCO's `bbox`, kept where there is only a box.
    """

    number: int
    index: int
    segmentation: Any
    crowd: bool
    box: Any = None

    @property
    def box_only(self) -> bool:
        """Whether nobody drew its outline."""
        return isinstance(self.segmentation, list) and not self.segmentation

    def mask(self, size_hw: tuple[int, int]) -> Mask:
        """Return its mask or its box, bool [H, W]; ValueError says what is wrong with it."""
        if self.box_only:
            if not isinstance(self.box, list):
                raise ValueError("neither an outline nor a box")
            return box_mask(self.box, size_hw)
        if isinstance(self.segmentation, Mapping):
            return rle_mask(self.segmentation, size_hw)
        if isinstance(self.segmentation, list):
            return polygon_mask(self.segmentation, size_hw)
        raise ValueError("neither polygons nor run lengths")


@dataclass(frozen=True)
class CocoSample:
    """A photograph and its annotations.

    Attributes:
        image: the photograph.
        size_hw: the size the annotations were made for.
        instances: the annotations.
        annotations: the JSON they come from, for messages.
    """

    image: Path
    size_hw: tuple[int, int]
    instances: tuple[CocoInstance, ...]
    annotations: Path

    def labels(self, size_hw: tuple[int, int]) -> Labels:
        """Return the labels.

        Ours: a crowd's outline is coarse, so what it alone covers is unlabelled, for every class. In the
        box of an object without outline all is unlabelled, so that no other object's pixels there say
        that this one is not there.

        Raises:
            DataError: the photograph has another size, or an annotation is broken.
        """
        if size_hw != self.size_hw:
            raise DataError(
                f"{self.image} is {size_hw[1]}x{size_hw[0]} px, but {self.annotations} says "
                f"{self.size_hw[1]}x{self.size_hw[0]}"
            )
        masks: list[tuple[int, Mask]] = []
        ignore, boxes = np.zeros((2, *size_hw), dtype=np.bool_)
        for instance in self.instances:
            try:
                mask = instance.mask(size_hw)
            except (ValueError, TypeError, OverflowError) as error:
                raise DataError(
                    f"{self.annotations}: annotation {instance.number} of {self.image.name} has {error}"
                ) from error
            if instance.box_only:
                boxes |= mask
            elif instance.crowd:
                ignore |= mask
            else:
                masks.append((instance.index, mask))
        labels = labels_of_masks(masks, ignore)
        return replace(labels, labelled=labels.labelled & ~boxes)

    def shown(self) -> frozenset[int]:
        """Return the classes of the annotations that have an outline and are no crowd."""
        return frozenset(item.index for item in self.instances if not item.box_only and not item.crowd)

    def content(self) -> Iterable[bytes]:
        """Yield the photograph's bytes and the annotations."""
        yield file_bytes(self.image)
        yield repr(self.instances).encode()


def read_coco(annotations: Path, images: Path, names: tuple[str, ...] = ()) -> Source:
    """Return the data of a COCO instance JSON, in the order of the images' names.

    Args:
        annotations: the JSON.
        images: the folder of the photographs.
        names: `label=prompt` for categories whose own name the text encoder should not be asked.

    Raises:
        DataError: a file is missing, the JSON is not COCO's, or it refers to what it does not hold.
    """
    if not images.is_dir():
        raise DataError(f"no folder {images}; check the path in --data")
    try:
        data = json.loads(file_bytes(annotations))
        categories = {int(item["id"]): str(item["name"]) for item in data["categories"]}
        records = {int(item["id"]): item for item in data["images"]}
        index_of = {number: index for index, number in enumerate(sorted(categories))}
        instances: dict[int, list[CocoInstance]] = defaultdict(list)
        for item in data["annotations"]:
            if item["image_id"] not in records or item["category_id"] not in index_of:
                raise DataError(
                    f"{annotations}: annotation {item['id']} refers to image {item['image_id']} and category "
                    f"{item['category_id']}, not both of which the file holds"
                )
            instances[int(item["image_id"])].append(
                CocoInstance(
                    int(item["id"]),
                    index_of[item["category_id"]],
                    item["segmentation"],
                    bool(item.get("iscrowd", 0)),
                    None if item["segmentation"] else item.get("bbox"),
                )
            )
        samples = tuple(
            CocoSample(
                images / item["file_name"],
                (int(item["height"]), int(item["width"])),
                tuple(instances[number]),
                annotations,
            )
            for number, item in sorted(records.items(), key=lambda pair: str(pair[1]["file_name"]))
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{annotations} is no COCO instance file ({error!r})") from error
    if not samples:
        raise DataError(f"{annotations} lists no image")
    for sample in samples:
        if not sample.image.is_file():
            raise DataError(f"{annotations} lists {sample.image.name}, which is not in {images}")
    labels = [categories[number] for number in sorted(categories)]
    bare = sum(instance.box_only for sample in samples for instance in sample.instances)
    return Source(
        f"coco:{annotations}:{images}",
        _renamed(labels, names, annotations),
        samples,
        (f"{annotations}: {bare} of its annotations have no outline; their boxes are unlabelled",)
        if bare
        else (),
    )


def _renamed(labels: list[str], names: tuple[str, ...], annotations: Path) -> tuple[str, ...]:
    """Return the category names, with `label=prompt` in the place of those that `names` gives."""
    asked = {name.partition("=")[0].strip(): name for name in names}
    unknown = sorted(set(asked) - set(labels))
    if unknown:
        raise DataError(f"{annotations} has no category {unknown[0]!r}; it has {', '.join(labels[:8])}, …")
    return tuple(asked.get(label, label) for label in labels)
