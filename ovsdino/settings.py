"""Everything `ovsdino-train fit` can be told, with the paper's values as defaults."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ovsdino.config import ModelConfig
from ovsdino.data.augment import Augmentation


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Knowledge distillation from a larger model. All of it is ours.

    Attributes:
        checkpoint: whose scores of every known name are learned.
        backbone_weights: where its backbone's weights are; None takes the source it names.
        weight: factor on the loss.
        temperature: what differences of cosines are divided by, see `ovsdino.distillation`.
    """

    checkpoint: Path
    backbone_weights: str | None = None
    weight: float = 1.0
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what makes no loss.

        Raises:
            ValueError: weight or temperature is out of range.
        """
        if not 0 <= self.weight < float("inf"):
            raise ValueError(f"the weight of distillation is {self.weight}, but must be zero or more")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"the temperature is {self.temperature}, but must be positive")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training.

    Attributes:
        data: specifications of the training data, see `ovsdino.data.specs`.
        out: folder for checkpoints, metrics and curves.
        model: what to build. Its `alignment` is turned off without a teacher.
        backbone_weights: see `load_backbone_weights`; None takes timm's from the hub.
        start: a checkpoint to begin with, see `ovsdino.start`. Ours.
        text_embeddings: ready-made text vectors (.npz); None asks open_clip.
        text_names: their names (.json).
        text_model: open_clip's model; None is sec. 5.1's CLIP ViT-B/16. Beside ready-made vectors it
            says what made them.
        text_pretrained: open_clip's tag of its weights; None is OpenAI's.
        teacher: "sam" (SAM ViT-B, sec. 5.1), "none", or another SAM.
        leave_out: names with commas between that are not trained, see `ovsdino.data.leave_out`. Ours.
        distill: the checkpoint whose scores the model learns too; None for none. Ours.
        labelled_only: further training data, whose labels alone teach where there is distillation. Ours.
        shorten_text: numbers to which text vectors are shortened, see `ovsdino.text_map`; 0 keeps them. Ours.
        val: specifications of validation data; empty holds out a part of `data`.
        val_fraction: share of each data set to hold out. Ours.
        val_blocks: runs of neighbouring images that the held-out part consists of. Ours.
        val_every: epochs between validations. Ours.
        batch_size: images a step, over all processes (sec. 5.1: 64).
        micro_batch: images that go through the model at once; gradients add up. Ours.
        epochs: sec. 5.1: 25.
        warmup_epochs: sec. 5.1: one.
        optimizer: "adamw", as in sec. 5.1, or "muon" for matrices (see `ovsdino.muon`). Ours.
        lr_heads: rate of encoder, decoder and projector (sec. 5.1: 1e-4).
        lr_blocks: rate of the unfrozen blocks (sec. 5.1: 1e-5).
        lr_scalars: rate of γ, α, score scale and bias. Ours.
        weight_decay: sec. 5.1: 1e-4.
        grad_clip: largest norm of a step's gradient; 0 for no limit. The paper names none.
        negatives: absent classes asked of an image. Ours.
        dice_weight: factor on the Dice loss (eq. 15: 1); 0 trains without.
        cross_entropy_weight: factor on the cross-entropy of the softmax over an image's classes. Ours.
        mask_px: cells a side of the masks in the loss. Ours.
        augmentation: how views vary. Ours.
        cache_views: fixed views a photograph whose frozen features are cached; 0 makes a new
            view every epoch and computes everything. Ours.
        cache_folder: where; None for `out`/views.
        cache_dtype: precision of cached features. Teacher features are always FP16.
        precision: "bf16" runs the model under autocast, on GPU and CPU.
        seed: of weights and views.
        device: "auto", "cpu" or "cuda".
        workers: processes that read images; 0 reads in the training process.
        self_contained: store the frozen backbone in the checkpoints too. Ours.
        save_every: steps between saved states, beside the end of each epoch; 0 for only that.
        resume: go on with what `out` holds.
        command: how the training was started, for the record.
    """

    data: tuple[str, ...]
    out: Path
    model: ModelConfig = field(default_factory=ModelConfig)
    backbone_weights: str | None = None
    start: Path | None = None
    text_embeddings: Path | None = None
    text_names: Path | None = None
    text_model: str | None = None
    text_pretrained: str | None = None
    teacher: str = "sam"
    leave_out: str = ""
    distill: Distill | None = None
    labelled_only: tuple[str, ...] = ()
    shorten_text: int = 0
    val: tuple[str, ...] = ()
    val_fraction: float = 0.1
    val_blocks: int = 4
    val_every: int = 1
    batch_size: int = 64
    micro_batch: int = 8
    epochs: int = 25
    warmup_epochs: float = 1.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr_heads: float = 1e-4
    lr_blocks: float = 1e-5
    lr_scalars: float = 1e-2
    weight_decay: float = 1e-4
    grad_clip: float = 0.0
    negatives: int = 10
    dice_weight: float = 1.0
    cross_entropy_weight: float = 0.0
    mask_px: int = 112
    augmentation: Augmentation = field(default_factory=Augmentation)
    cache_views: int = 0
    cache_folder: Path | None = None
    cache_dtype: Literal["float16", "float32"] = "float16"
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = 0
    self_contained: bool = False
    save_every: int = 0
    resume: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse settings that make no training.

        Raises:
            ValueError: a setting is out of range, or two of them exclude each other.
        """
        if not self.data:
            raise ValueError("a training needs data")
        positive = ("batch_size", "micro_batch", "epochs", "mask_px", "val_blocks", "val_every")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive")
        for name in (
            "shorten_text",
            "cache_views",
            "negatives",
            "workers",
            "seed",
            "save_every",
            "warmup_epochs",
            "grad_clip",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must not be negative")
        for name in (
            "lr_heads",
            "lr_blocks",
            "lr_scalars",
            "weight_decay",
            "dice_weight",
            "cross_entropy_weight",
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, but must be zero or more")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"val_fraction is {self.val_fraction}, but must lie in [0, 1)")
        for name, choices in (
            ("precision", ("fp32", "bf16")),
            ("cache_dtype", ("float16", "float32")),
            ("device", ("auto", "cpu", "cuda")),
            ("optimizer", ("adamw", "muon")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be {' or '.join(choices)}")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse settings that exclude each other."""
        if (self.text_embeddings is None) != (self.text_names is None):
            raise ValueError("text_embeddings and text_names belong together: give both or neither")
        if self.distill is not None and not self.cache_views:
            raise ValueError(
                "the scores to distil are cached for fixed views: set cache_views to their number"
            )
        learns_features = self.distill is not None or (self.teacher != "none" and self.model.alignment)
        if self.model.whole_backbone and self.cache_views and not learns_features:
            raise ValueError(
                "of a backbone that trains as a whole, without a teacher, there is nothing to cache: leave "
                "cache_views at 0"
            )
        if self.labelled_only and self.distill is None:
            raise ValueError("labelled_only sets data apart from distillation; without it, name them as data")
        if self.distill is not None and not self.model.whole_backbone:
            raise ValueError("a model that learns from a checkpoint trains as a whole: set whole_backbone")
        if self.distill is not None and self.teacher != "none":
            raise ValueError("a training learns from SAM or from a checkpoint: set teacher to none")
        if self.teacher == "none" and not self.model.encoder:
            raise ValueError("a model without encoder lives on SAM's features, so it needs a teacher")

    def recorded(self) -> dict[str, Any]:
        """Return the settings that decide what is learned, as JSON takes them.

        A training may go on from another place and another device, not with another of these.
        """
        free = {
            "out",
            "cache_folder",
            "device",
            "workers",
            "self_contained",
            "save_every",
            "resume",
            "command",
            "micro_batch",
        }
        if self.model.whole_backbone:
            free.discard("micro_batch")  # such a backbone may have BatchNorm, whose statistics are of these
        values = dataclasses.asdict(self)
        values["model"] = self.model.to_dict()
        return {name: _plain(value) for name, value in values.items() if name not in free}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value
