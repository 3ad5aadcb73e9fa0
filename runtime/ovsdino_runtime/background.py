"""What happens to pixels of none of the classes (docs/protocol.md)."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from ovsdino_runtime.errors import VocabularyError
from ovsdino_runtime.meanings import meanings
from ovsdino_runtime.names import plain, readings
from ovsdino_runtime.vocabulary import ClassQuery, resolve, vocabularies

BACKGROUND = "background"
# The literature's stuff names, in the spellings of the embeddings' own vocabularies.
STUFF = (
    "sky",
    "wall",
    "tree",
    "wood",
    "grass",
    "road",
    "sea",
    "river",
    "mountain",
    "sand",
    "desk",
    "bed",
    "building",
    "clouds",
    "lamp",
    "door",
    "window",
    "wardrobe",
    "ceiling",
    "shelf",
    "curtain",
    "stairs",
    "floor",
    "hill",
    "railing",
    "fence",
)
_HOW = "choose auto, none, list, threshold:T, or names as in sky|wall"


@dataclass(frozen=True, kw_only=True)
class Background:
    """A background policy.

    Attributes:
        kind: "auto" takes common stuff when only a few names are asked for; "none" has no background;
            "names" takes the names given; "threshold" takes what scores below `threshold`.
        names: for "names".
        threshold: for "threshold", a cosine in [-1, 1] against the merged pixel value.
    """

    kind: Literal["auto", "none", "names", "threshold"]
    names: tuple[str, ...] = ()
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that lacks what its kind needs.

        Raises:
            ValueError: names or threshold do not go with the kind.
        """
        if (self.kind == "names") != bool(self.names) or (self.kind == "threshold") != (
            self.threshold is not None
        ):
            raise ValueError(f"a background of kind {self.kind!r} cannot have these names or this threshold")


def parse_background(text: str) -> Background:
    """Return the policy in "auto", "none", "list", "threshold:T", "NAME" or "NAME|NAME".

    Raises:
        VocabularyError: it is none of these, or T is no cosine.
    """
    word = text.strip().lower()
    if word == "auto":
        return Background(kind="auto")
    if word == "none":
        return Background(kind="none")
    if word == "list":
        return Background(kind="names", names=STUFF)
    if word == "threshold" or word.startswith("threshold:"):
        return Background(kind="threshold", threshold=_cosine(text))
    names = tuple(part.strip() for part in text.split("|"))
    if not all(names):
        raise VocabularyError(f"the background {text!r} has an empty name; {_HOW}")
    return Background(kind="names", names=names)


def _cosine(text: str) -> float:
    value = text.partition(":")[2].strip()
    try:
        threshold = float(value)
    except ValueError:
        threshold = math.nan
    if not -1 <= threshold <= 1:
        raise VocabularyError(
            f"the background threshold {value!r} is no cosine in [-1, 1]; write it as in threshold:0.2"
        )
    return threshold


def background_query(
    policy: Background,
    queries: Sequence[ClassQuery],
    known: Collection[str],
    *,
    whole_vocabulary: bool,
    open_vocabulary: bool,
    trained: Collection[str] = (),
) -> ClassQuery | None:
    """Return the class that stands for the rest of the image, or None if none does.

    Ours: common stuff leaves out what is asked for and whatever overlaps it in meaning, so that
    "street" does not compete with "road", nor "house" with "building".

    Args:
        policy: the policy.
        queries: what is asked for, resolved.
        known: the names that have embeddings.
        whole_vocabulary: whether the queries are all classes of a vocabulary that covers every pixel.
        open_vocabulary: whether any name can be embedded.
        trained: those of the known names that were among the training classes, see `resolve`.

    Raises:
        VocabularyError: a background name is unknown, or all of them are classes asked for.
    """
    if policy.kind in ("none", "threshold"):
        return None
    if policy.kind == "auto":
        if whole_vocabulary or _covers_a_vocabulary(queries):
            return None
        names = _stuff_beside(queries, known, open_vocabulary)
    elif policy.names == STUFF:
        names = _stuff_beside(queries, known, open_vocabulary)
    else:
        names, _ = _named(policy, queries, known, open_vocabulary, trained)
    if names:
        return ClassQuery(label=BACKGROUND, prompts=names)
    if policy.kind == "auto":
        return None
    raise VocabularyError(
        "every name of the background is asked for as a class, or unknown to the bundle; "
        "choose other names or --background none"
    )


def background_notes(
    policy: Background,
    queries: Sequence[ClassQuery],
    known: Collection[str],
    *,
    open_vocabulary: bool,
    trained: Collection[str] = (),
) -> tuple[str, ...]:
    """Return what names of a policy were understood as others; see `background_query` for the rest."""
    if not names_by_hand(policy):
        return ()
    _, notes = _named(policy, queries, known, open_vocabulary, trained)
    return tuple(f"background: {note}" for note in notes)


def names_by_hand(policy: Background) -> bool:
    """Return whether a person named what the background is, rather than took the list."""
    return policy.kind == "names" and policy.names != STUFF


def _named(
    policy: Background,
    queries: Sequence[ClassQuery],
    known: Collection[str],
    open_vocabulary: bool,
    trained: Collection[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what a policy's names stand for but what is asked for as a class, and what to say of them."""
    asked = {prompt for query in queries for prompt in query.prompts}
    kept: list[str] = []
    notes: list[str] = []
    for name in policy.names:
        request = ClassQuery(label=name, prompts=(name,)) if "=" in name else name
        found = resolve([request], known, open_vocabulary=open_vocabulary, trained=trained)
        prompts = found.queries[0].prompts
        left = tuple(prompt for prompt in prompts if prompt not in asked)
        kept += left
        if left == prompts:
            notes += found.notes
        elif left:
            notes.append(f"{name!r} -> {' | '.join(left)}")
    return tuple(dict.fromkeys(kept)), tuple(notes)


def _stuff_beside(
    queries: Sequence[ClassQuery], known: Collection[str], open_vocabulary: bool
) -> tuple[str, ...]:
    taken: set[str] = set()
    for query in queries:
        for name in query.prompts:
            taken |= meanings().overlapping(name)
    return tuple(
        name for name in STUFF if (open_vocabulary or name in known) and taken.isdisjoint(readings(name))
    )


def _covers_a_vocabulary(queries: Sequence[ClassQuery]) -> bool:
    """Return whether the queries hold all classes of a vocabulary that leaves no pixel over."""
    # By label too: a name may be asked for by its trained synonym.
    asked = {plain(name) for query in queries for name in (query.label, *query.prompts)}
    return any(
        asked.issuperset(prompt for query in item.queries for prompt in query.prompts)
        for item in vocabularies().values()
        if item.covers_every_pixel
    )
