"""The training objective: model, text and losses in one module, so that DDP can wrap it (eq. 16)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ovsdino.data.dataset import Batch
from ovsdino.distillation import Distillation
from ovsdino.losses import alignment_losses, mask_logits, segmentation_losses
from ovsdino.model import OVSDINO, Output
from ovsdino.teacher import Teacher


class Objective(nn.Module):
    """L = L_align + L_seg of a batch.

    Attributes:
        model: what is trained.
        text: float32 [N, D], the unit embeddings of the training classes.
        precision: "bf16" runs the model under autocast; the losses are always FP32.
        dice_weight: factor on the Dice loss (eq. 15: 1).
        cross_entropy_weight: factor on the softmax's cross-entropy, which eq. 15 has not.
        distillation: what the teacher's targets are for, if not for alignment; None without.
    """

    text: Tensor

    def __init__(
        self,
        model: OVSDINO,
        text: Tensor,
        teacher: Teacher | None,
        precision: str,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 0.0,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self.dice_weight, self.cross_entropy_weight = dice_weight, cross_entropy_weight
        self.distillation = distillation
        self.register_buffer("text", text, persistent=False)
        # Not a submodule: DDP has no business with frozen weights, nor has the checkpoint.
        self._teacher = (teacher,)

    @property
    def teacher(self) -> Teacher | None:
        """The teacher, for batches that come without its features."""
        return self._teacher[0]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and the parts it has: seg, dice, bce, cross_entropy; align, cosine, mse; distill."""
        target = self._target(batch)
        align = self.model.config.alignment
        if align and target is None:
            raise ValueError("alignment needs a teacher")
        output = self._output(batch, target, align)
        text = self.model.map_text(self.text)[batch.classes]
        cosines = self.model.scores(output.embeddings.float(), text)
        logits = mask_logits(cosines, self.model.score_scale, self.model.score_bias, batch.targets.shape[-1])
        losses = segmentation_losses(
            logits,
            batch.targets.float() / 255,
            batch.weights.float() / 255,
            batch.queried,
            self.dice_weight,
            self.cross_entropy_weight,
        )
        total = losses["seg"]
        if output.alignable is not None and target is not None:
            losses.update(alignment_losses(output.alignable, target))
            total = total + losses["align"]
        if self.distillation is not None:
            if target is None:
                raise ValueError("distillation needs a teacher")
            losses["distill"] = self.distillation(self.model, output.embeddings, target, batch.sources)
            total = total + losses["distill"]
        return {"loss": total, **losses}

    def embed(self, batch: Batch) -> Tensor:
        """Return the embeddings of a batch, [B, D, h, w]."""
        return self._output(batch, self._target(batch), align=False).embeddings

    def _output(self, batch: Batch, target: Tensor | None, align: bool) -> Output:
        with self._autocast():
            return self._run(batch, target, align)

    def _run(self, batch: Batch, target: Tensor | None, align: bool) -> Output:
        if self.model.backbone is None:
            # Nothing but the teacher's features goes in; `images` is only there to be ignored.
            without_encoder: Output = self.model(batch.weights, structure=target)
            return without_encoder
        if batch.frozen is not None:
            return self.model.from_frozen(batch.frozen, align=align)
        if batch.images is None:
            raise ValueError("a batch needs images or cached features")
        whole: Output = self.model(batch.images, align=align)
        return whole

    def _target(self, batch: Batch) -> Tensor | None:
        if batch.teacher is not None:
            return batch.teacher
        if self.teacher is None or batch.teacher_images is None:
            return None
        with self._autocast():
            return self.teacher.features(batch.teacher_images).float()

    def _autocast(self) -> torch.autocast:
        kind = self.text.device.type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bf16")
