"""Files with a pickle inside: whoever unpickles it makes a file, which a test looks for."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._marker,)


def put_pickle(path: Path, part: str | None, marker: Path) -> None:
    """Put a pickle in the place of one array of an .npz file, or of the whole file.

    Args:
        path: the file.
        part: the array's name; None for the file itself.
        marker: what appears when the pickle is executed.
    """
    if part is None:
        path.write_bytes(pickle.dumps(Touching(marker)))
        return
    spoiled = io.BytesIO()
    np.lib.format.write_array(spoiled, np.array([Touching(marker)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert f"{part}.npy" in members
    members[f"{part}.npy"] = spoiled.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
