"""The manifest: what a bundle says about itself, as frozen dataclasses and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ovsdino_runtime.errors import BundleError

SCHEMA_VERSION = 1
_LARGEST = 1 << 14  # of any size: beyond every model, within what resizing takes
_TEXTS = ("name", "created_by", "text_model", "license")
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a graph; a dimension is a number, or a name where it varies."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True)
class BackboneInfo:
    """Which backbone the features come from.

    Attributes:
        name: timm's architecture name.
        source: where its weights came from, in the words of the person who exported it.
        fingerprint: SHA-256 over the weights, equal for every file, precision and naming of them.
    """

    name: str
    source: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """Size and hash of one shipped file."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a bundle says about itself (manifest.json).

    Attributes:
        schema: version of this format; a reader refuses newer ones.
        name: what the model is called.
        created_by: the program and version that wrote the bundle.
        backbone: the backbone under the model.
        window_px: side of the square window the graph takes.
        stride_px: distance between windows (sec. 5.1: 224).
        short_side_px: the image's short side after resizing (sec. 5.1: 448).
        long_side_px: bound on the image's long side after resizing (docs/protocol.md: 2048).
        grid_hw: rows and columns of features that one window gives.
        embedding_dim: D, the size of the text space.
        score_scale: learned factor on the cosine; probabilities are sigmoid(scale * cosine + bias).
        score_bias: learned offset, see `score_scale`.
        image_input: the image graph's input, uint8 [batch, window, window, 3].
        image_output: the image graph's output, float32 [batch, D, h, w], L2-normalised over D.
        text_model: the text encoder whose space D is.
        templates: prompt templates with one `{}` each; none where ready-made vectors do not say theirs.
        license: terms of the weights, apart from the code's.
        provenance: what the weights were trained on, by which command; free text by key.
        parity: agreement with PyTorch measured at export, by precision.
        precisions: what was decided and measured for each further precision, by its name (`fp16`, `int8`).
        files: every shipped file but the manifest itself.
    """

    name: str
    created_by: str
    backbone: BackboneInfo
    window_px: int
    stride_px: int
    short_side_px: int
    long_side_px: int
    grid_hw: tuple[int, int]
    embedding_dim: int
    score_scale: float
    score_bias: float
    image_input: TensorSpec
    image_output: TensorSpec
    text_model: str
    templates: tuple[str, ...]
    license: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    precisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    schema: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """Return the manifest as JSON text, stable in order."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Read a manifest.

        Args:
            text: the JSON text.
            where: what to call it in an error.

        Raises:
            BundleError: it is no JSON, of a newer schema, or a field is missing or of a wrong type.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{where} is not JSON ({error}); export the bundle again") from error
        if not isinstance(data, dict):
            raise BundleError(f"{where} holds no manifest; export the bundle again")
        schema = data.get("schema")
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise BundleError(f"{where} names no schema version; export the bundle again")
        if schema > SCHEMA_VERSION:
            raise BundleError(
                f"{where} has schema {schema}, this version of ovsdino reads up to {SCHEMA_VERSION}; "
                "upgrade ovsdino or export the bundle with this version"
            )
        try:
            known = {name: data[name] for name in _field_names(cls) if name in data}
            known["backbone"] = BackboneInfo(**data["backbone"])
            known["image_input"] = _tensor(data["image_input"])
            known["image_output"] = _tensor(data["image_output"])
            rows, columns = data["grid_hw"]
            known["grid_hw"] = (rows, columns)
            known["templates"] = _templates(data["templates"])
            known["files"] = {name: _file_entry(**entry) for name, entry in data["files"].items()}
            manifest = cls(**known)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"{where} is no complete manifest ({error!r}); export the bundle again"
            ) from error
        manifest._check(where)
        return manifest

    def _check(self, where: str) -> None:
        """Refuse values that make no sense together, whoever wrote them.

        Raises:
            BundleError: one does not.
        """
        sizes = ("window_px", "stride_px", "short_side_px", "long_side_px", "embedding_dim")
        problems = [
            f"{name} is {getattr(self, name)!r}, but must be a whole number from 1 to {_LARGEST}"
            for name in sizes
            if not _is_size(getattr(self, name))
        ]
        problems += [f"{name} is no text" for name in _TEXTS if not isinstance(getattr(self, name), str)]
        problems += [
            f"{name} is no finite number"
            for name in ("score_scale", "score_bias")
            if not isinstance(getattr(self, name), (int, float)) or not math.isfinite(getattr(self, name))
        ]
        if not all(_is_size(side) for side in self.grid_hw):
            problems.append(f"grid_hw is {list(self.grid_hw)}, but must be two whole numbers")
        if not all(isinstance(text, str) and text.count("{}") == 1 for text in self.templates):
            problems.append("a template has not exactly one {}")
        if not _is_mapping_of_mappings(self.precisions):
            problems.append("precisions is no table of tables")
        if not problems and self.stride_px > self.window_px:
            problems.append(
                f"a stride of {self.stride_px} leaves gaps between windows of {self.window_px} px"
            )
        if not problems and self.short_side_px > self.long_side_px:
            problems.append(f"the short side, {self.short_side_px} px, is longer than the long side")
        if problems:
            raise BundleError(f"{where}: {problems[0]}; export the bundle again")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def _tensor(data: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(name=str(data["name"]), dtype=str(data["dtype"]), shape=tuple(data["shape"]))


def _templates(data: object) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise TypeError("templates are a list")
    return tuple(data)


def _file_entry(sha256: object, bytes: object) -> FileEntry:
    if not isinstance(sha256, str) or not isinstance(bytes, int):
        raise TypeError("a file's sha256 is text and its bytes a whole number")
    return FileEntry(sha256=sha256, bytes=bytes)


def _field_names(cls: type[_T]) -> list[str]:
    return [item.name for item in dataclasses.fields(cls)]  # type: ignore[arg-type]


def _is_mapping_of_mappings(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values())
