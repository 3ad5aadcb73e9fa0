"""From settings to everything a training needs: data, classes, text vectors, model, teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ovsdino.backbone_weights import BackboneWeights, load_backbone_weights
from ovsdino.class_text import KnownNames, text_model_of, trained_names, training_classes
from ovsdino.config import ModelConfig
from ovsdino.data.augment import Augmentation
from ovsdino.data.dataset import ViewDataset
from ovsdino.data.samples import Sample, Source
from ovsdino.data.specs import held_out, read_source
from ovsdino.distillation import Distillation, KnownText, ScoreTeacher, load_score_teacher
from ovsdino.distributed import Ranks
from ovsdino.foundation import Foundation, check_foundation, foundation_of
from ovsdino.model import OVSDINO
from ovsdino.objective import Objective
from ovsdino.settings import TrainConfig
from ovsdino.start import start_from
from ovsdino.teacher import SamTeacher, Teacher, load_teacher
from ovsdino.text_map import distinguishing_map
from ovsdino.view_store import CachedViews
from ovsdino.views import cached_views
from ovsdino_runtime.errors import CheckpointError

_WINDOWS_AT_ONCE = 8  # that go through the backbone while views are cached
_TAUGHT_GRID = 32  # rows and columns of a distilled view's scores, as decoder_stride 2 gives them


@dataclass(frozen=True)
class Prepared:
    """A training about to begin.

    Attributes:
        objective: model, text and losses, on the device.
        weights: the backbone's weights; None for a model without backbone.
        trained_names: what the text encoder was asked for, for each class that a training image shows.
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
    extra = [read_source(spec) for spec in config.val]
    known = KnownNames(config)
    data = [read_source(spec) for spec in (*config.data, *config.labelled_only)]
    sources, table = training_classes(config, known, data, extra)
    text_model, described = text_model_of(config, int(table.vectors.shape[1]))
    for note in (*(note for source in (*sources, *extra) for note in source.notes), *table.notes):
        say(f"note: {note}")
    teacher = _teacher(config, known)
    settings = _model_config(config, teacher, int(table.vectors.shape[1]))
    weights = load_backbone_weights(settings.backbone, config.backbone_weights) if settings.encoder else None
    train_samples, val_samples = _split(config, sources, extra)
    names, untrained = trained_names(table, train_samples)
    if untrained:
        say(f"note: {untrained}")
    foundation = foundation_of(
        config, weights, teacher, known, table, train_samples, val_samples, ranks.world
    )
    if begun_on is not None:
        check_foundation(begun_on, foundation)
    torch.manual_seed(config.seed)
    model = OVSDINO(settings)
    if weights is not None:
        model.load_backbone(weights)
    if model.text_map is not None:
        model.text_map.copy_(_text_map(known, settings.embedding_dim))
    if config.start is not None and begun_on is None:
        say(start_from(config.start, model, weights, text_model))
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
            # Only the teacher's view of a fixed crop is cached: the student may see it ever anew.
            fresh_colours=settings.whole_backbone and augmentation is not None,
            untaught=frozenset(range(len(config.data), len(sources))),
        )

    training = views(train_samples, config.augmentation)
    # What the teacher does not see comes last, so that the others keep their numbers, on which crops depend.
    taught = views([item for item in train_samples if item[0] < len(config.data)], config.augmentation)
    validation = views(val_samples, None) if val_samples else None
    if validation is not None and settings.encoder:
        validation.teacher_px = None  # only a model without encoder sees the teacher's features

    def cached(dataset: ViewDataset | None) -> CachedViews | None:
        if not config.cache_views or dataset is None:
            return None
        if settings.whole_backbone and dataset.teacher_px is None:
            return None  # nothing is frozen and nothing taught
        return _cached(config, dataset, model, teacher, weights, ranks, say)

    caches = (cached(taught), cached(validation))
    distillation = _distillation(config, known, training.untaught, ranks.device)
    objective = Objective(
        model,
        vectors,
        teacher,
        config.precision,
        config.dice_weight,
        config.cross_entropy_weight,
        distillation,
    )
    return Prepared(
        objective,
        weights,
        names,
        text_model,
        described,
        training,
        validation,
        *caches,
        foundation,
    )


def _cached(
    config: TrainConfig,
    dataset: ViewDataset,
    model: OVSDINO,
    teacher: Teacher | None,
    weights: BackboneWeights | None,
    ranks: Ranks,
    say: Callable[[str], None],
) -> CachedViews:
    seen = teacher if dataset.teacher_px is not None else None
    described = {
        "fingerprint": weights.fingerprint if weights and not model.config.whole_backbone else None,
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
            batch=min(_WINDOWS_AT_ONCE, config.micro_batch),
            workers=config.workers,
            say=say,
        )

    cache = opened(build=True) if ranks.main else None
    ranks.barrier()
    return cache if cache is not None else opened(build=False)


def _model_config(config: TrainConfig, teacher: Teacher | None, text_dim: int) -> ModelConfig:
    """Return what to build: the text vectors and the teacher decide what the settings leave open."""
    # Without SAM there is nothing to align with: the row "w/o SA" of table 2.
    aligned = config.model.alignment and isinstance(teacher, SamTeacher)
    shortened = config.shorten_text
    try:
        return replace(
            config.model,
            alignment=aligned,
            embedding_dim=shortened or text_dim,
            text_dim=text_dim if shortened else 0,
        )
    except ValueError as error:
        raise CheckpointError(f"text vectors of {text_dim} numbers cannot be shortened: {error}") from error


def _text_map(known: KnownNames, numbers: int) -> torch.Tensor:
    vectors, _ = known.all()
    if numbers >= min(vectors.shape):
        raise CheckpointError(
            f"text vectors of {vectors.shape[1]} numbers cannot be shortened to {numbers} numbers by the "
            f"{len(vectors)} names that are known; shorten them to {min(vectors.shape) - 1} or fewer"
        )
    return torch.from_numpy(distinguishing_map(vectors, numbers))


def _distillation(
    config: TrainConfig, known: KnownNames, untaught: frozenset[int], device: torch.device
) -> Distillation | None:
    if config.distill is None:
        return None
    text = torch.from_numpy(known.all()[0]).to(device)
    return Distillation(text, config.distill.temperature, config.distill.weight, untaught)


def _teacher(config: TrainConfig, known: KnownNames) -> SamTeacher | ScoreTeacher | None:
    """Return the teacher where something learns from it or lives on it."""
    if config.distill is not None:
        vectors, digest = known.all()
        wanted = config.distill
        made_by, _ = text_model_of(config, int(vectors.shape[1]))
        text = KnownText(torch.from_numpy(vectors), digest, made_by)
        return load_score_teacher(wanted.checkpoint, wanted.backbone_weights, text, _TAUGHT_GRID)
    if config.model.encoder and not config.model.alignment:
        return None
    return load_teacher(config.teacher)


def _split(
    config: TrainConfig, sources: Sequence[Source], extra: Sequence[Source]
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
