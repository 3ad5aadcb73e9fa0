"""PyTorch's features of some images in one file, to hold other forms against where there is no PyTorch.

The file is a .npz: `about` is JSON, `text` holds the classes' vectors, `I/windows`, `I/features` and, with
ground truth, `I/truth` are the I-th image's. Features are of the recorded windows, so that no decoder
or resize stands between two forms.
It holds pieces of the photographs: keep it where these may be.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime import __version__
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.files import NPZ_DAMAGE, atomic_file
from ovsdino_runtime.manifest import Manifest
from ovsdino_runtime.question import Question

SCHEMA = 1
_ABOUT, _TEXT = "about", "text"


@dataclass(frozen=True, kw_only=True)
class RecordedImage:
    """What PyTorch made of one image.

    Attributes:
        file: the picture's name.
        size_hw: its height and width.
        windows: uint8 [n, S, S, 3], in row-major order.
        features: float32 [n, D, h, w], L2-normalised.
        truth: label map uint8 [H, W], 255 where unlabelled; None without ground truth.
    """

    file: str
    size_hw: tuple[int, int]
    windows: NDArray[np.uint8]
    features: NDArray[np.float32]
    truth: NDArray[np.uint8] | None


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An opened file; images are read one at a time.

    Attributes:
        path: the file.
        about: what was recorded: `model`, `backend`, `question`, `images`, `failed`, and what else was said,
            as `checkpoint_sha256`, the hash of the checkpoint's weights, which earlier versions did not say.
        question: the classes, with the text vectors they were recorded with.
    """

    path: Path
    about: Mapping[str, Any]
    question: Question

    @classmethod
    def open(cls, path: Path) -> Recorded:
        """Open what `record` wrote.

        Raises:
            DataError: it is missing, something else, or of a newer schema.
        """
        if not path.is_file():
            raise DataError(
                f"there is no file {path}; `ovsdino-bench reference --out {path}` writes a reference"
            )
        try:
            with zipfile.ZipFile(path) as archive:
                about = json.loads(_read(archive, _ABOUT).tobytes())
                schema = int(about["schema"])
                if schema <= SCHEMA:
                    question = _question(about["question"], _read(archive, _TEXT))
                held = set(archive.namelist())
            images = enumerate(about["images"])
            needed = [f"{index}/{part}.npy" for index, item in images for part in item["parts"]]
            about["model"]
            about["failed"] = [{"image": item["image"], **item} for item in about.get("failed", ())]
        except NPZ_DAMAGE as error:
            raise DataError(
                f"{path} holds no reference ({error}); `ovsdino-bench reference` writes one"
            ) from error
        if schema > SCHEMA:
            raise DataError(f"{path} has schema {schema}, this version reads up to {SCHEMA}; upgrade ovsdino")
        missing = [name for name in needed if name not in held]
        if missing:
            raise DataError(f"{path} lacks {missing[0]}; record the reference again")
        return cls(path=path, about=about, question=question)

    @property
    def vocabulary(self) -> str | None:
        """The benchmark whose own vectors the question has; None for names, or where it was not said."""
        said = self.about.get("vocabulary")
        return said if isinstance(said, str) else None

    def __len__(self) -> int:
        return len(self.about["images"])

    def __iter__(self) -> Iterator[RecordedImage]:
        """Yield the images in order.

        Raises:
            DataError: the file is damaged.
        """
        return self.of(None)

    def of(self, files: Collection[str] | None) -> Iterator[RecordedImage]:
        """Yield the images of some names in order, or all if None; the others are not read.

        Raises:
            DataError: the file is damaged.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                for index, item in enumerate(self.about["images"]):
                    if files is not None and str(item["file"]) not in files:
                        continue
                    truth = _read(archive, f"{index}/truth") if "truth" in item["parts"] else None
                    yield RecordedImage(
                        file=str(item["file"]),
                        size_hw=(int(item["size_hw"][0]), int(item["size_hw"][1])),
                        windows=_read(archive, f"{index}/windows"),
                        features=_read(archive, f"{index}/features"),
                        truth=truth,
                    )
        except NPZ_DAMAGE as error:
            raise DataError(f"{self.path} is damaged ({error}); record the reference again") from error

    def array(self, archive: zipfile.ZipFile, index: int, part: str) -> NDArray[Any]:
        """Return `windows`, `features` or `truth` of the I-th image from the opened file.

        Raises:
            DataError: the file is damaged.
        """
        try:
            return _read(archive, f"{index}/{part}")
        except NPZ_DAMAGE as error:
            raise DataError(f"{self.path} is damaged ({error}); record the reference again") from error

    def check(self, manifest: Manifest) -> None:
        """Refuse a bundle of another model.

        Raises:
            DataError: backbone, geometry or score scale are others.
        """
        ours, theirs = dict(self.about["model"]), model_identity(manifest)
        different = sorted(key for key in theirs if ours.get(key) != theirs[key])
        if different:
            key = different[0]
            raise DataError(
                f"{self.path} was recorded with a model whose {key} is {ours.get(key)!r}, the bundle's is "
                f"{theirs[key]!r}; record a reference of this bundle's checkpoint"
            )


def record(
    path: Path,
    manifest: Manifest,
    question: Question,
    about: Mapping[str, Any],
    images: Iterable[RecordedImage],
) -> int:
    """Write images as they come, and return how many; the file appears whole or not at all.

    Args:
        path: the .npz file.
        manifest: of the bundle that gives geometry and text.
        question: the classes.
        about: what else to say, as JSON takes it.
        images: in order.

    Raises:
        OutputError: it cannot be written.
    """
    listed: list[dict[str, Any]] = []
    with atomic_file(path) as staged, zipfile.ZipFile(staged, "w", zipfile.ZIP_STORED) as archive:
        for index, image in enumerate(images):
            parts: dict[str, NDArray[Any]] = {"windows": image.windows, "features": image.features}
            if image.truth is not None:
                parts["truth"] = image.truth
            for name, values in parts.items():
                _write(archive, f"{index}/{name}", values)
            listed.append({"file": image.file, "size_hw": list(image.size_hw), "parts": list(parts)})
        complete = {
            "schema": SCHEMA,
            "created_by": f"ovsdino-bench {__version__}",
            "model": model_identity(manifest),
            "question": _question_dict(question),
            **about,
            "images": listed,
        }
        _write(archive, _TEXT, question.embeddings)
        _write(archive, _ABOUT, np.frombuffer(json.dumps(complete).encode(), dtype=np.uint8))
    return len(listed)


def model_identity(manifest: Manifest) -> dict[str, Any]:
    """Return what tells one model from another in a bundle's manifest, as JSON takes it."""
    return {
        "backbone": manifest.backbone.fingerprint or manifest.backbone.name,
        "window_px": manifest.window_px,
        "stride_px": manifest.stride_px,
        "grid_hw": list(manifest.grid_hw),
        "embedding_dim": manifest.embedding_dim,
        "score_scale": manifest.score_scale,
        "score_bias": manifest.score_bias,
    }


def _write(archive: zipfile.ZipFile, name: str, values: NDArray[np.generic]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)


def _read(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _question_dict(question: Question) -> dict[str, Any]:
    return {
        "names": list(question.names),
        "prompts": list(question.prompts),
        "groups": question.groups.tolist(),
        "background_index": question.background_index,
        "threshold": question.threshold,
        "untrained": list(question.untrained),
    }


def _question(about: Mapping[str, Any], embeddings: NDArray[np.float32]) -> Question:
    return Question(
        names=tuple(about["names"]),
        background_index=about["background_index"],
        prompts=tuple(about["prompts"]),
        embeddings=embeddings,
        groups=np.array(about["groups"], dtype=np.intp),
        threshold=about["threshold"],
        notes=(),
        untrained=tuple(about["untrained"]),
    )
