"""The benchmarks in the folder layouts in which they are downloaded (docs/benchmarks.md)."""

from __future__ import annotations

from collections.abc import Mapping

from ovsdino_bench.datasets.adapter import Adapter
from ovsdino_bench.datasets.cityscapes import CITYSCAPES
from ovsdino_bench.datasets.coco import COCO_OBJECT, COCO_STUFF
from ovsdino_bench.datasets.pascal import CONTEXT59, CONTEXT60, VOC20, VOC21
from ovsdino_bench.datasets.ready import ADE20K, CAMVID
from ovsdino_runtime.class_lists import canonical_set
from ovsdino_runtime.errors import DataError

ADAPTERS: Mapping[str, Adapter] = {
    item.name: item
    for item in (
        VOC21,
        CONTEXT60,
        COCO_OBJECT,
        VOC20,
        CONTEXT59,
        COCO_STUFF,
        CITYSCAPES,
        ADE20K,
        CAMVID,
    )
}


def adapter_of(name: str) -> Adapter:
    """Return the adapter of a benchmark.

    Args:
        name: its name or an alias in any spelling: "voc21", "COCO-Stuff", "ADE20K", ….

    Raises:
        DataError: there is none of that name.
    """
    found = ADAPTERS.get(canonical_set(name))
    if found is None:
        raise DataError(f"no benchmark is called {name!r}; there are {', '.join(ADAPTERS)}")
    return found
