"""Whether a checkpoint is the one that a bundle was exported from."""

from __future__ import annotations

import math
from pathlib import Path

from ovsdino.checkpoint import CheckpointInfo, load_checkpoint, read_info
from ovsdino.model import OVSDINO
from ovsdino_runtime.bundle import Bundle
from ovsdino_runtime.errors import CheckpointError
from ovsdino_runtime.manifest import BackboneInfo, Manifest

_SAME = 1e-5  # relative; score scale and bias are FP32 in every checkpoint and bundle
_REMEDY = "name the checkpoint the bundle was exported from, or measure the two one by one"
_Compared = tuple[tuple[str, object, object], ...]  # what, the checkpoint's, the bundle's


def load_same_model(bundle: Bundle, checkpoint: Path, backbone_weights: str | None) -> OVSDINO:
    """Return the model that a bundle was exported from.

    What the checkpoint says is compared before any weights are read or fetched.

    Args:
        bundle: the bundle.
        checkpoint: the checkpoint's folder.
        backbone_weights: see `load_checkpoint`.

    Raises:
        CheckpointError: it cannot be loaded, or is of another model.
    """
    _check_record(bundle.manifest, read_info(checkpoint), checkpoint, bundle.path)
    model, info = load_checkpoint(checkpoint, backbone_weights)
    check_same_model(bundle.manifest, model, info, checkpoint, bundle.path)
    return model


def check_same_model(
    manifest: Manifest, model: OVSDINO, info: CheckpointInfo, checkpoint: Path, bundle: Path
) -> None:
    """Refuse a checkpoint, of which `model` and `info` are, that is not of the model in a bundle.

    Raises:
        CheckpointError: backbone, geometry or score scale are others, or the model has no encoder.
    """
    _check_record(manifest, info, checkpoint, bundle)
    compared: _Compared = (
        ("grid", model.grid_hw, manifest.grid_hw),
        ("score scale", model.score_scale.item(), float(manifest.score_scale)),
        ("score bias", model.score_bias.item(), float(manifest.score_bias)),
    )
    _check(compared, checkpoint, bundle)


def _check_record(manifest: Manifest, info: CheckpointInfo, checkpoint: Path, bundle: Path) -> None:
    if info.backbone is None:
        raise CheckpointError(f"{checkpoint} has no encoder, so {bundle} cannot be of it; {_REMEDY}")
    compared: _Compared = (
        ("backbone", _identity(info.backbone), _identity(manifest.backbone)),
        ("window", info.model.window_px, manifest.window_px),
        ("embedding size", info.model.embedding_dim, manifest.embedding_dim),
    )
    _check(compared, checkpoint, bundle)


def _check(compared: _Compared, checkpoint: Path, bundle: Path) -> None:
    for what, ours, theirs in compared:
        same = ours == theirs
        if isinstance(ours, float) and isinstance(theirs, float):
            same = math.isclose(ours, theirs, rel_tol=_SAME)
        if not same:
            raise CheckpointError(
                f"{checkpoint} is not what {bundle} was exported from: its {what} is {ours}, the bundle's is "
                f"{theirs}; {_REMEDY}"
            )


def _identity(backbone: BackboneInfo) -> str:
    return f"{backbone.name} {str(backbone.fingerprint)[:16]}"
