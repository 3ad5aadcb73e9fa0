"""The usual meanings of label values: from zero, zero left out, zero for the background."""

from __future__ import annotations

from ovsdino_bench.label_maps import LabelTable
from ovsdino_runtime.metrics import IGNORE

_WRONG_FILE = "is this the label map of this benchmark?"


def from_zero(classes: int) -> LabelTable:
    """Return the table of maps whose values are the classes."""
    return LabelTable.of(
        {value: value for value in range(classes)},
        f"values are 0 to {classes - 1}, 255 for unlabelled; {_WRONG_FILE}",
    )


def zero_left_out(classes: int) -> LabelTable:
    """Return the table of maps whose class i is i + 1 and whose 0 does not count (`reduce_zero_label`)."""
    return LabelTable.of(
        {0: IGNORE, **{value + 1: value for value in range(classes)}},
        f"values are 0 to {classes}, 255 for unlabelled; {_WRONG_FILE}",
    )


def background_last(classes: int) -> LabelTable:
    """Return the table of maps whose class i is i + 1 and whose 0 is the background.

    The runtime puts the background behind the classes, and so do these places.
    """
    return LabelTable.of(
        {0: classes, **{value + 1: value for value in range(classes)}},
        f"values are 0 to {classes}, 255 for unlabelled; {_WRONG_FILE}",
    )
