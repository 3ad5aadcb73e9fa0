"""Labelled pictures: COCO's or YOLO's masks of objects; what no mask covers is unlabelled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ovsdino.data.leave_out import read_labels
from ovsdino.data.samples import Sample
from ovsdino.data.specs import read_source
from ovsdino_bench.folder import is_unlabelled
from ovsdino_bench.label_maps import places_of
from ovsdino_runtime.errors import DataError

_MOST_CLASSES = 255


@dataclass(frozen=True, kw_only=True)
class ImageWithObjects:
    """One picture and the masks of its objects.

    Attributes:
        sample: the picture and its annotations.
        counted: for each class index whether it is a class; the others are unlabelled.
    """

    sample: Sample
    counted: tuple[bool, ...]

    @property
    def image(self) -> Path:
        """The picture's file."""
        return self.sample.image

    def truth(self) -> NDArray[np.uint8]:
        """Return the label map, uint8 [H, W]; where masks overlap, the smallest lies on top.

        Raises:
            DataError: picture or annotations cannot be read.
        """
        found = read_labels(self.sample).index_map()  # -1, no class, becomes the last place: unlabelled
        truth: NDArray[np.uint8] = places_of(self.counted)[found]
        return truth


def labelled_objects(spec: str) -> tuple[tuple[ImageWithObjects, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the pictures of `coco:JSON:IMAGES[:NAMES]` or `yolo:DIR[:NAMES]`, their class names, and notes.

    Raises:
        DataError: the data are not as they should be, or have more than 255 classes.
    """
    source = read_source(spec)
    if len(source.names) > _MOST_CLASSES:
        raise DataError(f"{spec} has {len(source.names)} classes; at most {_MOST_CLASSES} can be counted")
    counted = tuple(not is_unlabelled(name) for name in source.names)
    pictures = tuple(ImageWithObjects(sample=item, counted=counted) for item in source.samples)
    return pictures, source.names, source.notes
