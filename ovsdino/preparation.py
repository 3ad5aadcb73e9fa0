"""From settings to everything a training needs: data, classes, text vectors, model, teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ovsdino import text
from ovsdino.backbone_weights import BackboneWeights, load_backbone_weights
from ovsdino.data.augment import Augmentation
from ovsdino.data.classes import ClassTable, Embed, class_table
from ovsdino.data.dataset import ViewDataset
from ovsdino.data.leave_out import leave_out
from ovsdino.data.samples import Sample, Source
from ovsdino.data.specs import held_out, read_source
from ovsdino.distributed import Ranks
from ovsdino.foundation import Foundation, check_foundation, foundation_of
from ovsdino.model import OVSDINO
from ovsdino.objective import Objective
from ovsdino.settings import TrainConfig
from ovsdino.teacher import SamTeacher, load_teacher
from ovsdino.view_store import CachedViews
from ovsdino.views import cached_views
from ovsdino_runtime.embeddings import EmbeddingTable
from ovsdino_runtime.vocabulary import parse_classes, vocabularies

_WINDOWS_AT_ONCE = 8  # that go through the backbone while views are cached


@dataclass(frozen=True)
class Prepared:
    """A training about to begin.

    Attributes:
        objective: model, text and losses, on the device.
        weights: the backbone's weights; None for a model without backbone.
        trained_names: the names the text encoder was asked for by the training data.
        text_model: what made the text vectors; empty where nobody said.
        text: the same for people, naming ready-made vectors by their file.
        training: views to train on.
        validation: views to validate on; None where nothing is held out.
        cached_training: the training views' cached features, or None.
        cached_validation: the validation views' cached features, or None.
        foundation: what the training stands on, so that it goes on with nothing else.
    """

    objective: Objective
    weights: BackboneWeights | None
    trained_names: tuple[str, ...]
    text_model: str
    text: str
    training: ViewDataset
    validation: ViewDataset | None
    cached_training: CachedViews | None
    cached_validation: CachedViews | None
    foundation: Foundation


def prepare(
    config: TrainConfig,
    ranks: Ranks,
    say: Callable[[str], None],
    begun_on: Foundation | None = None,
) -> Prepared:
    """Read data and weights, build the model, cache views if asked.

    Args:
        config: the settings.
        ranks: this process among those that train.
        say: takes sentences for the person who waits.
        begun_on: what a resumed training began on, compared before views are cached; None for a new one.

    Raises:
        OvsDinoError: anything that was named is missing, broken, does not fit, or is not what the
            training began on.
    """
    sources = [read_source(spec) for spec in config.data]
    extra = [read_source(spec) for spec in config.val]
    sources, table, trained_names = _classes(config, sources, extra)
    text_model, described = _text_model(config, int(table.vectors.shape[1]))
    for note in (*(note for source in (*sources, *extra) for note in source.notes), *table.notes):
        say(f"note: {note}")
    teacher = _teacher(config)
    # Without teacher there is nothing to align with: the row "w/o SA" of table 2.
    aligned = config.model.alignment and teacher is not None
    settings = replace(config.model, alignment=aligned, embedding_dim=int(table.vectors.shape[1]))
    weights = load_backbone_weights(settings.backbone, config.backbone_weights) if settings.encoder else None
    train_samples, val_samples = _split(config, sources, extra)
    foundation = foundation_of(config, weights, teacher, table, train_samples, val_samples)
    if begun_on is not None:
        check_foundation(begun_on, foundation)
    torch.manual_seed(config.seed)
    model = OVSDINO(settings)
    if weights is not None:
        model.load_backbone(weights)
    model.to(ranks.device)
    if teacher is not None:
        teacher.to(ranks.device)
    vectors = torch.from_numpy(table.vectors).to(ranks.device)
    say(
        f"{len(train_samples):,} images to train on, {len(val_samples):,} to validate on, "
        f"{len(table.names)} classes; {sum(p.numel() for p in model.parameters() if p.requires_grad):,} "
        f"parameters to train on {ranks.device}"
    )

    def views(samples: Sequence[tuple[int, Sample]], augmentation: Augmentation | None) -> ViewDataset:
        return ViewDataset(
            samples,
            table,
            augmentation,
            seed=config.seed,
            window_px=settings.window_px,
            mask_px=config.mask_px,
            teacher_px=teacher.image_px if teacher is not None else None,
            views=config.cache_views if augmentation else 0,
        )

    training = views(train_samples, config.augmentation)
    validation = views(val_samples, None) if val_samples else None
    if validation is not None and settings.encoder:
        validation.teacher_px = None  # only a model without encoder sees the teacher's features

    def cached(dataset: ViewDataset | None) -> CachedViews | None:
        if not config.cache_views or dataset is None:
            return None
        return _cached(config, dataset, model, teacher, weights, ranks, say)

    caches = (cached(training), cached(validation))
    objective = Objective(model, vectors, teacher, config.precision, config.dice_weight)
    return Prepared(
        objective, weights, trained_names, text_model, described, training, validation, *caches, foundation
    )


def _cached(
    config: TrainConfig,
    dataset: ViewDataset,
    model: OVSDINO,
    teacher: SamTeacher | None,
    weights: BackboneWeights | None,
    ranks: Ranks,
    say: Callable[[str], None],
) -> CachedViews:
    seen = teacher if dataset.teacher_px is not None else None
    described = {
        "fingerprint": weights.fingerprint if weights is not None else None,
        "teacher": seen.identity if seen is not None else None,
    }

    def opened(build: bool) -> CachedViews:
        return cached_views(
            dataset,
            model,
            seen,
            config.cache_folder or config.out / "views",
            described,
            build=build,
            dtype=config.cache_dtype,
            precision=config.precision,
            batch=_WINDOWS_AT_ONCE,
            workers=config.workers,
            say=say,
        )

    cache = opened(build=True) if ranks.main else None
    ranks.barrier()
    return cache if cache is not None else opened(build=False)


def _teacher(config: TrainConfig) -> SamTeacher | None:
    """Return the teacher where something learns from it or lives on it."""
    if config.model.encoder and not config.model.alignment:
        return None
    return load_teacher(config.teacher)


def _classes(
    config: TrainConfig, sources: list[Source], extra: list[Source]
) -> tuple[list[Source], ClassTable, tuple[str, ...]]:
    """Return the training data without the names left out, the classes, and the names that training uses."""
    if config.text_embeddings is not None and config.text_names is not None:
        sets = text.read_embedding_sets(config.text_embeddings, config.text_names)
        vectors = EmbeddingTable.from_sets(sets, ())
        known, embed, open_vocabulary = frozenset(vectors.names), _lookup(vectors), False
    else:
        queries = (query for item in vocabularies().values() for query in item.queries)
        known = frozenset(name for query in queries for name in query.prompts)
        embed, open_vocabulary = _encoder(config), True
    if config.leave_out:
        names = parse_classes(config.leave_out)
        sources = list(leave_out(sources, names, known, open_vocabulary=open_vocabulary))
    table = class_table([*sources, *extra], known, embed, open_vocabulary=open_vocabulary)
    rows = {row for index in range(len(sources)) for row in table.rows_of(index).tolist()}
    trained = {name for row in rows for name in table.prompts[row]}
    return sources, table, tuple(sorted(trained))


def _text_model(config: TrainConfig, numbers: int) -> tuple[str, str]:
    """Return what made the text vectors, empty where nobody said, and a description for people.

    Ready-made vectors do not tell.
    """
    name = text.text_model_name(config.text_model, config.text_pretrained)
    if config.text_embeddings is None:
        return name, name
    said = name if config.text_model or config.text_pretrained else ""
    described = f"ready-made: {config.text_embeddings.name}, {numbers} numbers"
    return said, f"{described}, {said}" if said else described


def _lookup(vectors: EmbeddingTable) -> Embed:
    def embed(names: Sequence[str]) -> NDArray[np.float32]:
        return vectors.lookup(names)

    return embed


def _encoder(config: TrainConfig) -> Embed:
    def embed(names: Sequence[str]) -> NDArray[np.float32]:
        return text.encode_names(
            names,
            model=config.text_model or text.MODEL,
            pretrained=config.text_pretrained or text.PRETRAINED,
        )

    return embed


def _split(
    config: TrainConfig, sources: list[Source], extra: list[Source]
) -> tuple[list[tuple[int, Sample]], list[tuple[int, Sample]]]:
    """Return data set and sample of what is trained and what is validated on."""
    training: list[tuple[int, Sample]] = []
    validation: list[tuple[int, Sample]] = []
    fraction = 0.0 if extra else config.val_fraction
    for number, source in enumerate(sources):
        kept, out = held_out(len(source.samples), fraction, config.val_blocks)
        training += [(number, source.samples[index]) for index in kept]
        validation += [(number, source.samples[index]) for index in out]
    for number, source in enumerate(extra, start=len(sources)):
        validation += [(number, sample) for sample in source.samples]
    return training, validation
