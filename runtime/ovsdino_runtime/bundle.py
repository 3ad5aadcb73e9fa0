"""The bundle: a folder of files that its manifest names, sizes and hashes.

manifest.json    see `Manifest`
image.onnx       uint8 windows -> features, FP32
image.fp16.onnx  the same in FP16 with FP32 islands, where it was derived
image.int8.onnx  the same with INT8 products with weights, for CPUs, where it was derived
vocabulary.npz   class names and their text embeddings, see `EmbeddingTable`
text.onnx, tokenizer.json    the CLIP text tower, where it was exported
text_map.npz     what shortens its vectors, where the model has such a map
golden.npz       input windows and the features PyTorch gave for them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from ovsdino_runtime.embeddings import EmbeddingTable
from ovsdino_runtime.errors import BundleError
from ovsdino_runtime.files import NPZ_DAMAGE, sha256_of
from ovsdino_runtime.manifest import FileEntry, Manifest

MANIFEST = "manifest.json"
IMAGE_GRAPH = "image.onnx"
IMAGE_WEIGHTS = "image.onnx.data"
IMAGE_GRAPH_FP16 = "image.fp16.onnx"
IMAGE_GRAPH_INT8 = "image.int8.onnx"
VOCABULARY = "vocabulary.npz"
TEXT_GRAPH = "text.onnx"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.npz"
TEXT_MAP = "text_map.npz"  # what leads from the text encoder's vectors to the features' D numbers
ENGINES = "engines"  # what a device built from the bundle; no part of it
_MANIFEST_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its folder.
        manifest: what it says about itself.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> Bundle:
        """Open a bundle and hold every file against its size and hash.

        Raises:
            BundleError: the folder or its manifest is missing, a file is missing, changed or lies
                outside the folder, or the schema is newer than this reader.
        """
        folder = Path(path)
        try:
            text = cls._manifest_text(folder)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BundleError(
                f"cannot read the bundle {folder}: {reason}; check its permissions, or export it again"
            ) from error
        source = folder / MANIFEST
        bundle = cls(folder, Manifest.from_json(text, str(source)))
        for name, entry in bundle.manifest.files.items():
            try:
                _verify(folder, name, entry)
            except (OSError, ValueError) as error:  # unreadable, or a name no file can have
                reason = getattr(error, "strerror", None) or error
                raise BundleError(
                    f"cannot read {name[:80]!r} of the bundle {folder}: {reason}; copy or export it again"
                ) from error
        for name in (IMAGE_GRAPH, VOCABULARY):
            bundle.file(name)
        return bundle

    @staticmethod
    def _manifest_text(folder: Path) -> str:
        if not folder.is_dir():
            found = "a file" if folder.exists() else "nothing"
            raise BundleError(
                f"no bundle at {folder}: found {found} there; a bundle is a folder, "
                "written by `ovsdino-export onnx CHECKPOINT --out FOLDER`"
            )
        source = folder / MANIFEST
        if not source.is_file():
            raise BundleError(
                f"{folder} has no {MANIFEST}, so it is no bundle; "
                "write one with `ovsdino-export onnx CHECKPOINT --out FOLDER`"
            )
        if source.stat().st_size > _MANIFEST_LIMIT_BYTES:
            raise BundleError(f"{source} is larger than any manifest; export the bundle again")
        return source.read_text(encoding="utf-8")

    def has(self, name: str) -> bool:
        """Return whether the bundle ships the file."""
        return name in self.manifest.files

    def file(self, name: str) -> Path:
        """Return the path of a shipped file.

        Raises:
            BundleError: the bundle ships no file of that name.
        """
        if not self.has(name):
            raise BundleError(f"the bundle {self.path} ships no {name}; export it again with what it needs")
        return self.path / name

    def text_map(self) -> NDArray[np.float32] | None:
        """Return what shortens the text encoder's vectors to the features' D, float32 [D, text_dim].

        None where the text encoder's vectors have D numbers themselves.

        Raises:
            BundleError: the file is broken, or its size is not the manifest's.
        """
        if not self.has(TEXT_MAP):
            return None
        path = self.file(TEXT_MAP)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                matrix: NDArray[np.float32] = data["map"].astype(np.float32)
        except NPZ_DAMAGE as error:
            raise BundleError(
                f"{path} holds no map of text vectors ({error}); export the bundle again"
            ) from error
        if matrix.ndim != 2 or len(matrix) != self.manifest.embedding_dim or not np.isfinite(matrix).all():
            raise BundleError(
                f"{path} holds a map of shape {matrix.shape}, the manifest says "
                f"{self.manifest.embedding_dim} numbers; export the bundle again"
            )
        return matrix

    def embeddings(self) -> EmbeddingTable:
        """Return the names the bundle knows, with their text embeddings.

        Raises:
            BundleError: the file is broken, or its size D is not the manifest's.
        """
        table = EmbeddingTable.load(self.file(VOCABULARY))
        if table.embeddings.shape[1] != self.manifest.embedding_dim:
            raise BundleError(
                f"{self.path / VOCABULARY} has embeddings of {table.embeddings.shape[1]} numbers, "
                f"the manifest says {self.manifest.embedding_dim}; export the bundle again"
            )
        return table


def _verify(folder: Path, name: str, entry: FileEntry) -> None:
    parts = PurePosixPath(name)
    unsafe = parts.is_absolute() or ".." in parts.parts or PureWindowsPath(name).drive or "\\" in name
    path = folder / parts
    if unsafe or not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(
            f"the manifest of {folder} names {name!r}, which lies outside the bundle; do not use it"
        )
    if not path.is_file():
        raise BundleError(f"{path} is missing from the bundle; copy or export it again")
    if path.stat().st_size != entry.bytes:
        raise BundleError(
            f"{path} has {path.stat().st_size} bytes, the manifest says {entry.bytes}; "
            "copy or export it again"
        )
    found = sha256_of(path)
    if found != entry.sha256:
        raise BundleError(
            f"{path} has changed: its SHA-256 is {found[:12]}…, the manifest says {entry.sha256[:12]}…; "
            "copy or export it again"
        )
