"""COCO's run lengths, in NumPy: preparing a data set needs no pycocotools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS, _MORE, _SIGN = 5, 0x20, 0x10  # of a character, which holds 5 bits of a number, lowest first
_MOST_GROUPS = 8


def mask_of_run_lengths(segmentation: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return a mask, bool [H, W].

    Args:
        segmentation: `size` (height, width) and `counts`: run lengths down the columns, of zeros first,
            as numbers or compressed to text.

    Raises:
        ValueError: they are no run lengths of such a mask.
    """
    try:
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        lengths = _decompressed(counts) if isinstance(counts, str) else np.asarray(counts, dtype=np.int64)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"no run lengths ({error!r})") from error
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths that do not fill {height} x {width} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def _decompressed(text: str) -> NDArray[np.int64]:
    """Return the run lengths in COCO's text: from the fourth on, differences from the one two before."""
    try:
        codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError as error:
        raise ValueError("run lengths in characters that COCO does not use") from error
    if codes.size == 0:
        return codes
    more = (codes & _MORE) != 0
    if more[-1] or codes.min() < 0 or codes.max() >= 2 * _MORE:
        raise ValueError("run lengths that are cut off or damaged")
    first = np.flatnonzero(np.concatenate([[True], ~more[:-1]]))
    groups = np.diff(np.append(first, codes.size))
    if groups.max() > _MOST_GROUPS:
        raise ValueError("run lengths that are damaged")
    within = np.arange(codes.size) - np.repeat(first, groups)
    numbers = np.add.reduceat((codes & (_MORE - 1)) << (_BITS * within), first)
    negative = (codes[first + groups - 1] & _SIGN) != 0
    numbers = np.where(negative, numbers - (np.int64(1) << (_BITS * groups)), numbers)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
