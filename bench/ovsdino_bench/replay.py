"""PyTorch's recorded features in place of PyTorch, for machines that have none."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ovsdino_bench.recorded import Recorded
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import sha256_of
from ovsdino_runtime.manifest import Manifest


class ReplayBackend:
    """A backend that looks features up by their windows, so that they are of the very same pixels.

    Attributes:
        name: `pytorch-recorded`.
        facts: what a report says of the file, as JSON takes it.
    """

    name = "pytorch-recorded"

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Open what `ovsdino-bench reference` wrote.

        Args:
            path: the file.
            manifest: of the bundle that is measured.

        Raises:
            DataError: it is no reference, damaged, or of another model.
        """
        self._recorded = Recorded.open(path)
        self._recorded.check(manifest)
        about = self._recorded.about
        self.facts: dict[str, Any] = {
            "sha256": sha256_of(path),
            **{name: about.get(name) for name in ("created_by", "backend", "machine")},
        }
        if "checkpoint_sha256" in about:  # earlier files do not say
            self.facts["checkpoint_sha256"] = about["checkpoint_sha256"]
        self._archive = zipfile.ZipFile(path)
        places = tqdm(range(len(self._recorded)), "reference", unit="image", delay=1, leave=False)
        self._places = {_digest(self._recorded.array(self._archive, at, "windows")): at for at in places}

    def check_images(self, names: Sequence[str]) -> None:
        """Refuse pictures that were not recorded; those that could not be are no more readable here.

        Args:
            names: of the pictures' files.

        Raises:
            DataError: the file lacks one.
        """
        about = self._recorded.about
        known = {item["file"] for item in about["images"]} | {item["image"] for item in about["failed"]}
        missing = [name for name in names if name not in known]
        if missing:
            raise DataError(
                f"{self._recorded.path} lacks {len(missing)} of {len(names)} pictures, the first is "
                f"{missing[0]}; record a reference of this data, or measure what it holds with --every, "
                "--limit"
            )

    def features(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what PyTorch gave for a picture's windows, float32 [B, D, h, w].

        Args:
            windows: uint8 [B, S, S, 3], all of a picture.

        Raises:
            DataError: no picture with these windows was recorded.
        """
        place = self._places.get(_digest(windows))
        if place is None:
            raise DataError(
                f"its pixels are not those of any picture in {self._recorded.path}; it has changed or is "
                "decoded otherwise here, record the reference again"
            )
        return np.asarray(self._recorded.array(self._archive, place, "features"), dtype=np.float32)


def _digest(windows: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(repr(windows.shape).encode() + windows.tobytes()).digest()
