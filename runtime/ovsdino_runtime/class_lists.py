"""The benchmarks' class lists and the prompt templates, as package data."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from ovsdino_runtime.errors import VocabularyError
from ovsdino_runtime.queries import ClassQuery, parse_query

_FAMILIES = (("voc20", "voc21"), ("context59", "context60"), ("coco_stuff", "coco_object"))


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The classes of a benchmark (docs/protocol.md).

    Attributes:
        name: its canonical name.
        queries: the classes in label order.
        has_background: whether the benchmark's label 0 is the background, which is none of `queries`.
        covers_every_pixel: whether the classes leave nothing over in the images they are made for; lists of
            objects alone do.
    """

    name: str
    queries: tuple[ClassQuery, ...]
    has_background: bool
    covers_every_pixel: bool


def vocabulary(name: str) -> Vocabulary:
    """Return a benchmark's classes.

    Args:
        name: a canonical name or an alias, in any spelling: "cityscapes", "ADE20K", "COCO-Stuff", "voc", ….

    Raises:
        VocabularyError: there is none of that name.
    """
    found = vocabularies().get(canonical_set(name))
    if found is None:
        near = difflib.get_close_matches(_squeezed(name), _aliases(), n=1)
        meant = f" (nearest: {_aliases()[near[0]]})" if near else ""
        raise VocabularyError(
            f"no vocabulary is called {name!r}{meant}; there are {', '.join(vocabularies())}"
        )
    return found


def canonical_set(name: str) -> str:
    """Return the canonical name of a vocabulary or a set of embeddings; unknown names stay as they are."""
    return _aliases().get(_squeezed(name), name)


def related_sets(name: str) -> tuple[str, ...]:
    """Return the sets whose vectors serve a vocabulary: its own, then another of its family.

    Ours: VOC21 is asked with VOC20's vectors, Context60 with Context59's, COCO-Object with COCO-Stuff's.
    """
    own = canonical_set(name)
    family = next((names for names in _FAMILIES if own in names), (own,))
    return (own, *(other for other in family if other != own))


@lru_cache(maxsize=1)
def vocabularies() -> Mapping[str, Vocabulary]:
    """Return every vocabulary by its canonical name."""
    data = _package_json("vocabularies.json")

    def classes(name: str) -> list[str]:
        entry = data[name]
        if "classes_of" in entry:
            return classes(entry["classes_of"])
        return [*(classes(entry["extends"]) if "extends" in entry else []), *entry["classes"]]

    return {
        name: Vocabulary(
            name=name,
            queries=tuple(parse_query(text) for text in classes(name)),
            has_background=entry.get("background", False),
            covers_every_pixel=not entry.get("background", entry.get("objects_only", False)),
        )
        for name, entry in data.items()
    }


@lru_cache(maxsize=1)
def benchmark_labels() -> Mapping[str, tuple[str, ...]]:
    """Return the benchmarks' labels that are not themselves a prompt ("floor-wood": "wood floor")."""
    return {
        query.label: query.prompts
        for item in vocabularies().values()
        for query in item.queries
        if query.prompts != (query.label,)
    }


def told_apart(first: str, second: str) -> bool:
    """Return whether a benchmark has two names as classes of their own: COCO-Stuff has rug and carpet."""
    for item in vocabularies().values():
        one, other = ({q.label for q in item.queries if name in q.prompts} for name in (first, second))
        if one and other and one.isdisjoint(other):
            return True
    return False


@lru_cache(maxsize=1)
def _aliases() -> Mapping[str, str]:
    data = _package_json("vocabularies.json")
    return {_squeezed(alias): name for name, entry in data.items() for alias in (name, *entry["aliases"])}


def _squeezed(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _package_json(name: str) -> dict[str, Any]:
    text = resources.files("ovsdino_runtime").joinpath("data", name).read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


IMAGENET_TEMPLATES: tuple[str, ...] = tuple(_package_json("templates.json")["imagenet"])
