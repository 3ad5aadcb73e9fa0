"""What a training stands on beside its settings: fingerprints of files whose paths alone those record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ovsdino.backbone_weights import BackboneWeights
from ovsdino.class_text import KnownNames
from ovsdino.data.classes import ClassTable
from ovsdino.data.samples import Sample
from ovsdino.settings import TrainConfig
from ovsdino.teacher import Teacher
from ovsdino.text import MODEL, PRETRAINED
from ovsdino_runtime.errors import CheckpointError
from ovsdino_runtime.files import sha256_of

Foundation = Mapping[str, str | int | None]  # by what a person calls it
Samples = Sequence[tuple[int, Sample]]  # number of the data set, sample


def foundation_of(
    config: TrainConfig,
    weights: BackboneWeights | None,
    teacher: Teacher | None,
    known: KnownNames,
    table: ClassTable,
    training: Samples,
    validation: Samples,
    processes: int,
) -> Foundation:
    """Return what a training stands on.

    Args:
        config: its settings.
        weights: the backbone's; None for a model without backbone.
        teacher: None where there is none.
        known: all names and their text vectors; what distils or shortens text depends on every one.
        table: the classes and their text vectors.
        training: what is trained on.
        validation: what is validated on.
        processes: that train together; a backbone that trains as a whole may normalise by the images that
            each sees.
    """
    return {
        "the number of processes": processes if config.model.whole_backbone else None,
        "the backbone's fingerprint": weights.fingerprint if weights is not None else None,
        "the teacher's fingerprint": teacher.identity.split()[-1] if teacher is not None else None,
        "the number of training images": len(training),
        "the list of training images": _names_digest(training),
        "the list of validation images": _names_digest(validation),
        "the text vectors' digest": _text_digest(config, table),
        "the classes by label value": hashlib.sha256(repr(table.rows).encode()).hexdigest(),
        "the known names' digest": known.identity() if config.distill or config.shorten_text else None,
    }


_LATER = ("the classes by label value",)  # earlier versions did not record it


def check_foundation(before: Foundation, now: Foundation) -> None:
    """Refuse to go on where files at the same paths hold something else than they did.

    Args:
        before: what the training began on.
        now: what it would go on with.

    Raises:
        CheckpointError: they differ.
    """
    changes = [
        f"{name} was {str(before.get(name))[:16]}, now it is {str(now.get(name))[:16]}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name) and (name in before or name not in _LATER)
    ]
    if changes:
        raise CheckpointError(
            f"the training cannot go on: {', '.join(changes)}; "
            "resume with what it began with, or train into another folder"
        )


def _names_digest(samples: Iterable[tuple[int, Sample]]) -> str:
    """Return the SHA-256 over the images' names in their order, with the number of their data set."""
    digest = hashlib.sha256()
    for source, sample in samples:
        digest.update(f"{source}/{sample.image.name}\n".encode())
    return digest.hexdigest()


def _text_digest(config: TrainConfig, table: ClassTable) -> str:
    """Return the SHA-256 over the classes' prompts and ready-made vectors or the encoder's weights.

    The encoder's own vectors differ in their last bits from machine to machine, and a training may
    go on on another one; its weights do not.
    """
    digest = hashlib.sha256("\n".join("\t".join(prompts) for prompts in table.prompts).encode())
    if config.text_embeddings is not None:
        digest.update(np.ascontiguousarray(table.vectors, dtype=np.float32).tobytes())
        return digest.hexdigest()
    model, pretrained = config.text_model or MODEL, config.text_pretrained or PRETRAINED
    weights = sha256_of(Path(pretrained)) if Path(pretrained).is_file() else pretrained
    digest.update(f"{model} {weights}".encode())
    return digest.hexdigest()
