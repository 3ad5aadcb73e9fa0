"""The training losses: structural alignment (eq. 10-12) and segmentation (eq. 15)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_COVERED = 1.0  # cells; below, cross-entropy counts less, so that a sliver of a class is no whole image
_DICE_SMOOTH = 1.0  # in cells of the mask grid: what keeps the Dice of an empty mask defined


def cosine_loss(structure: Tensor, target: Tensor) -> Tensor:
    """Return 1 - cosine over the channels (eq. 10), a scalar.

    Ours: the mean over positions and images.

    Args:
        structure: F_middle, [B, d, h, w].
        target: SAM's features, same shape.
    """
    return (1 - F.cosine_similarity(structure.float(), target.float(), dim=1)).mean()


def mse_loss(structure: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance divided by the channels d (eq. 11), a scalar.

    Ours: the mean over positions and images, so that 1/d turns the norm into a plain mean.
    """
    return (structure.float() - target.float()).square().mean()


def alignment_losses(structure: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return `cosine` (eq. 10), `mse` (eq. 11) and their sum `align` (eq. 12)."""
    cosine, mse = cosine_loss(structure, target), mse_loss(structure, target)
    return {"cosine": cosine, "mse": mse, "align": cosine + mse}


def mask_logits(cosines: Tensor, scale: Tensor, bias: Tensor, mask_px: int) -> Tensor:
    """Return the logits of the masks, FP32 [B, K, mask_px, mask_px].

    Ours: logit = scale x cosine + bias, upsampled bilinearly to the grid of the masks.

    Args:
        cosines: cosines between features and text, [B, K, h, w].
        scale: the learned factor, a scalar.
        bias: the learned offset, a scalar.
        mask_px: side of the masks' grid.
    """
    logits = scale.float() * cosines.float() + bias.float()
    return F.interpolate(logits, size=(mask_px, mask_px), mode="bilinear", align_corners=False)


def bce_per_image(logits: Tensor, targets: Tensor, weights: Tensor, queried: Tensor) -> Tensor:
    """Return the binary cross-entropy of each image, FP32 [B].

    The mean over labelled cells, then over the queried classes. Ours: every class counts alike,
    present or sampled as absent.

    Args:
        logits: [B, K, m, m].
        targets: share of each cell that the class covers, [B, K, m, m] in [0, 1].
        weights: labelled share of each cell, [B, m, m] in [0, 1]; 0 excludes the cell.
        queried: bool [B, K]; False where a row only pads the batch.
    """
    cells = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    per_class = (cells * weights[:, None]).sum((2, 3)) / weights.sum((1, 2)).clamp(min=1e-6)[:, None]
    return _mean_over_queried(per_class, queried)


def dice_per_image(logits: Tensor, targets: Tensor, weights: Tensor, queried: Tensor) -> Tensor:
    """Return the Dice loss of each image, FP32 [B]; arguments as in `bce_per_image`.

    Ours: squares in the denominator, so that a soft target is met exactly where p = t, and a
    smoothing of one cell, so that an absent class met by an empty mask costs nothing.
    """
    found, weights = torch.sigmoid(logits), weights[:, None]
    overlap = (weights * found * targets).sum((2, 3))
    total = (weights * (found.square() + targets.square())).sum((2, 3))
    per_class = 1 - (2 * overlap + _DICE_SMOOTH) / (total + _DICE_SMOOTH)
    return _mean_over_queried(per_class, queried)


def cross_entropy_per_image(logits: Tensor, targets: Tensor, weights: Tensor, queried: Tensor) -> Tensor:
    """Return the cross-entropy of the queried classes' softmax, FP32 [B]; arguments as in `bce_per_image`.

    Ours: Dice and BCE ask of each class alone whether it is there; this asks which of them is, as the
    argmax of inference does, and a model that learns everything from random weights learns faster by it.
    The mean over the cells of each class, then over the classes, weighted by the root of the area that each
    covers: between the mean over cells, which forgets poles, and that over classes, which overrates them.
    """
    log_probabilities = logits.masked_fill(~queried[:, :, None, None], -1e4).log_softmax(dim=1)
    shares = targets * weights[:, None]
    covered = shares.sum((2, 3))
    per_class = -(shares * log_probabilities).sum((2, 3)) / covered.clamp(min=_LEAST_COVERED)
    roots = covered.sqrt()
    return (per_class * roots).sum(1) / roots.sum(1).clamp(min=_LEAST_COVERED)


def segmentation_losses(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    queried: Tensor,
    dice_weight: float = 1.0,
    cross_entropy_weight: float = 0.0,
) -> dict[str, Tensor]:
    """Return `dice`, `bce` and their sum `seg` (eq. 15), scalars; arguments as in `bce_per_image`.

    Each is a mean over images of per-image means, so that the parts of a batch, on one device or
    on several, average to the whole.

    Args:
        logits: [B, K, m, m].
        targets: share of each cell that the class covers, [B, K, m, m] in [0, 1].
        weights: labelled share of each cell, [B, m, m] in [0, 1].
        queried: bool [B, K]; False where a row only pads the batch.
        dice_weight: factor on `dice` in the sum (eq. 15: 1).
        cross_entropy_weight: factor on the further part `cross_entropy`, which is ours; 0 leaves it out.
    """
    dice = dice_per_image(logits, targets, weights, queried).mean()
    bce = bce_per_image(logits, targets, weights, queried).mean()
    losses = {"dice": dice, "bce": bce, "seg": dice_weight * dice + bce}
    if cross_entropy_weight:
        losses["cross_entropy"] = cross_entropy_per_image(logits, targets, weights, queried).mean()
        losses["seg"] = losses["seg"] + cross_entropy_weight * losses["cross_entropy"]
    return losses


def _mean_over_queried(per_class: Tensor, queried: Tensor) -> Tensor:
    """Return the mean of [B, K] over the queried classes, [B]; 0 for an image without any."""
    counted = queried.to(per_class.dtype)
    return (per_class * counted).sum(1) / counted.sum(1).clamp(min=1)
