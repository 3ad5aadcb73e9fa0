"""Knowledge distillation: a small model learns what a larger one makes of every known name, everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovsdino.backbone_weights import fingerprint
from ovsdino.checkpoint import load_checkpoint
from ovsdino.model import OVSDINO
from ovsdino_runtime.errors import CheckpointError


class ScoreTeacher(nn.Module):
    """A trained model that gives the cosine of every known name at every place.

    It stands where SAM stands in a training with alignment: its scores are computed once for each fixed
    view and cached.
    """

    def __init__(self, model: OVSDINO, text: Tensor, identity: str, grid: int) -> None:
        """Wrap a model.

        Args:
            model: the teacher.
            text: the text encoder's unit embeddings of the known names, float32 [N, D].
            identity: what its scores depend on, for their cache.
            grid: rows and columns of the scores.

        Raises:
            CheckpointError: the teacher needs SAM, or text vectors of another size.
        """
        super().__init__()
        config = model.config
        if model.backbone is None:
            raise CheckpointError(
                "the teacher was trained without encoder and needs SAM itself; name another one"
            )
        if text.shape[1] != (config.text_dim or config.embedding_dim):
            raise CheckpointError(
                f"the text vectors have {text.shape[1]} numbers, but the teacher was trained with "
                f"{config.text_dim or config.embedding_dim}; give the text vectors it was trained with"
            )
        self.model = model.eval().requires_grad_(False)
        self.text: Tensor
        self.register_buffer("text", model.map_text(text), persistent=False)
        self.image_px = config.window_px
        self.identity = identity
        self.shape = (len(text), grid, grid)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return cosines, float32 [B, N, grid, grid].

        Args:
            images: uint8 [B, image_px, image_px, 3], RGB in [0, 255].
        """
        embeddings = self.model(images).embeddings
        # Under autocast the model may run in bf16; its cosines are too close together for that.
        with torch.autocast(images.device.type, enabled=False):
            scores = self.model.scores(embeddings.float(), self.text)
            if scores.shape[-2:] == self.shape[1:]:
                return scores
            return F.interpolate(scores, size=self.shape[1:], mode="bilinear", antialias=True)


@dataclass(frozen=True)
class KnownText:
    """The text vectors of the known names.

    Attributes:
        vectors: the text encoder's, unit float32 [N, D].
        digest: of the names and their vectors.
        made_by: the text encoder; empty where nobody said.
    """

    vectors: Tensor
    digest: str
    made_by: str


def load_score_teacher(
    checkpoint: Path, backbone_weights: str | None, text: KnownText, grid: int
) -> ScoreTeacher:
    """Return a checkpoint as a teacher.

    Args:
        checkpoint: what a training wrote, or a published one.
        backbone_weights: where its backbone's weights are; None takes the source it names.
        text: the known names.
        grid: see `ScoreTeacher`.

    Raises:
        CheckpointError: it cannot be loaded or cannot teach, or was trained for another text encoder.
    """
    model, info = load_checkpoint(checkpoint, backbone_weights, option="--teacher-weights")
    if info.text_model and text.made_by and info.text_model != text.made_by:
        raise CheckpointError(
            f"the teacher was trained for the text encoder {info.text_model}, but the student's text vectors "
            f"are of {text.made_by}; name the same with --text-model and --text-pretrained"
        )
    weights = fingerprint(model.state_dict())
    return ScoreTeacher(model, text.vectors, f"scores {grid} {text.digest[:32]} {weights[:32]}", grid)


def distillation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the divergence of the student's distribution over the names from the teacher's, [B].

    Ours: at each place the softmax over the known names makes a distribution of either's logits; the
    Kullback-Leibler divergence is averaged over the places.

    Args:
        logits: the student's, [B, N, h, w].
        target: the teacher's, same shape.
    """
    student, teacher = (F.log_softmax(values.float(), dim=1) for values in (logits, target))
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1).mean(dim=(1, 2))


class Distillation(nn.Module):
    """The loss of a training with a `ScoreTeacher`.

    Ours: the teacher's logits are its cosines by a temperature; the student's are its own cosines by its
    score scale, which it learns, because shortened text vectors lie farther apart than the teacher's.

    Attributes:
        text: the known names' text vectors, unit [N, text_dim].
        temperature: what the teacher's cosines are divided by.
        weight: factor on the loss.
        undistilled: data sets whose labels alone teach, by number.
    """

    text: Tensor

    def __init__(self, text: Tensor, temperature: float, weight: float, undistilled: frozenset[int]) -> None:
        super().__init__()
        self.register_buffer("text", text, persistent=False)
        self.temperature, self.weight, self.undistilled = temperature, weight, undistilled

    def forward(self, model: OVSDINO, embeddings: Tensor, target: Tensor, sources: Tensor) -> Tensor:
        """Return the mean over a batch, a scalar; images of undistilled data count as zero.

        Args:
            model: the student, whose map shortens the text.
            embeddings: the student's, [B, D, h, w].
            target: the teacher's cosines, [B, N, g, g]; the student's are resized to their grid.
            sources: the data set of each image, int64 [B].
        """
        taught = [row for row, source in enumerate(sources.tolist()) if source not in self.undistilled]
        if not taught:
            return embeddings.sum() * 0  # every parameter keeps a gradient, as DDP wants it
        scores = model.scores(embeddings[taught].float(), model.map_text(self.text))
        if scores.shape[-2:] != target.shape[-2:]:
            scores = F.interpolate(scores, size=target.shape[-2:], mode="bilinear", align_corners=False)
        logits = model.score_scale.float() * scores
        losses = distillation_loss(logits, target[taught].float() / self.temperature)
        return self.weight * losses.sum() / len(embeddings)
