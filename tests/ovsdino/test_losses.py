"""The losses against NumPy written from the equations, and who gets gradients from which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ovsdino.config import ModelConfig
from ovsdino.data.dataset import Batch
from ovsdino.losses import (
    alignment_losses,
    bce_per_image,
    dice_per_image,
    mask_logits,
    segmentation_losses,
)
from ovsdino.model import OVSDINO
from ovsdino.objective import Objective

Array = NDArray[np.float64]
TINY = ModelConfig(backbone="test_vit", window_px=64, embedding_dim=16, backbone_trainable_blocks=3)


class FakeTeacher:
    """Random features of SAM's shape, the same for the same images."""

    image_px = 64
    identity = "fake"

    def features(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(int(images.sum()))
        return torch.randn(len(images), 256, 64, 64, generator=generator)

    def to(self, device: torch.device) -> FakeTeacher:
        return self


def random_masks(seed: int, images: int, classes: int, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    queried = rng.random((images, classes)) < 0.7
    queried[:, 0] = True
    arrays = (
        rng.normal(scale=3, size=(images, classes, side, side)),
        rng.random((images, classes, side, side)),
        rng.random((images, side, side)) * (rng.random((images, side, side)) < 0.8),
        queried,
    )
    logits, targets, weights, asked = (torch.from_numpy(array) for array in arrays)
    return logits.float(), targets.float(), weights.float(), asked


def slow_segmentation(logits: Array, targets: Array, weights: Array, queried: Array) -> tuple[float, float]:
    """Dice and BCE by loops over images, classes and cells."""
    dice, bce = [], []
    for image in range(len(logits)):
        own_dice, own_bce = [], []
        for place in range(logits.shape[1]):
            if not queried[image, place]:
                continue
            crossed = known = overlap = total = 0.0
            for cell in np.ndindex(weights.shape[1:]):
                weight = weights[image][cell]
                target = targets[image, place][cell]
                chance = 1 / (1 + np.exp(-logits[image, place][cell]))
                crossed -= weight * (target * np.log(chance) + (1 - target) * np.log(1 - chance))
                known += weight
                overlap += weight * chance * target
                total += weight * (chance**2 + target**2)
            own_bce.append(crossed / max(known, 1e-6))
            own_dice.append(1 - (2 * overlap + 1) / (total + 1))
        dice.append(np.mean(own_dice))
        bce.append(np.mean(own_bce))
    return float(np.mean(dice)), float(np.mean(bce))


def test_alignment_is_cosine_plus_mse_of_the_equations() -> None:
    rng = np.random.default_rng(0)
    found, target = rng.normal(size=(2, 2, 5, 3, 4))
    cosine = squared = 0.0
    for image, row, column in np.ndindex(2, 3, 4):
        left, right = found[image, :, row, column], target[image, :, row, column]
        cosine += 1 - left @ right / (np.linalg.norm(left) * np.linalg.norm(right))
        squared += ((left - right) ** 2).sum() / 5
    losses = alignment_losses(torch.from_numpy(found), torch.from_numpy(target))
    assert losses["cosine"].item() == pytest.approx(cosine / 24, rel=1e-5)
    assert losses["mse"].item() == pytest.approx(squared / 24, rel=1e-5)
    assert losses["align"].item() == pytest.approx((cosine + squared) / 24, rel=1e-5)


def test_alignment_is_zero_only_where_the_features_are_equal() -> None:
    features = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    assert alignment_losses(features, features)["align"].item() == pytest.approx(0, abs=1e-6)
    doubled = alignment_losses(2 * features, features)
    assert doubled["cosine"].item() == pytest.approx(0, abs=1e-6)  # direction alone
    assert doubled["mse"].item() == pytest.approx(features.square().mean().item(), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_segmentation_is_dice_plus_bce_of_the_equations(
    seed: int, images: int, classes: int, side: int
) -> None:
    parts = random_masks(seed, images, classes, side)
    dice, bce = slow_segmentation(*(part.numpy().astype(np.float64) for part in parts))
    losses = segmentation_losses(*parts)
    assert losses["dice"].item() == pytest.approx(dice, rel=1e-4, abs=1e-6)
    assert losses["bce"].item() == pytest.approx(bce, rel=1e-4, abs=1e-6)
    assert losses["seg"].item() == pytest.approx(dice + bce, rel=1e-4, abs=1e-6)


def test_unlabelled_cells_and_padding_rows_change_neither_loss_nor_gradient() -> None:
    logits, targets, weights, queried = random_masks(3, 2, 3, 5)
    weights = weights.clamp(min=0.1)
    weights[:, 2] = 0
    queried[:, 2] = False
    changed_logits, changed_targets = logits.clone(), targets.clone()
    for changed in (changed_logits, changed_targets):
        changed[:, :, 2] = 0.5
        changed[:, 2] = 0.25
    for one in (dice_per_image, bce_per_image):
        torch.testing.assert_close(
            one(logits, targets, weights, queried), one(changed_logits, changed_targets, weights, queried)
        )
    logits.requires_grad_()
    segmentation_losses(logits, targets, weights, queried)["seg"].backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, 2].any()
    assert not logits.grad[:, 2].any()
    assert logits.grad[:, 0, 0].all()


def test_halves_of_a_batch_average_to_the_whole_whatever_their_classes() -> None:
    parts = random_masks(5, 4, 5, 4)
    whole = segmentation_losses(*parts)["seg"]
    halves = [
        segmentation_losses(*(part[half] for part in parts))["seg"] for half in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole)


@pytest.mark.parametrize("factor", [0.0, 0.5, 3.0])
def test_the_dice_loss_counts_by_its_factor(factor: float) -> None:
    losses = segmentation_losses(*random_masks(6, 2, 3, 4), dice_weight=factor)
    torch.testing.assert_close(losses["seg"], losses["bce"] + factor * losses["dice"])


def slow_cross_entropy(logits: Array, targets: Array, weights: Array, queried: Array) -> float:
    """The softmax's cross-entropy by loops over images, classes and cells."""
    found = []
    for image in range(len(logits)):
        total = roots = 0.0
        for place in np.flatnonzero(queried[image]):
            wrong = covered = 0.0
            for row, column in np.ndindex(weights.shape[1:]):
                asked = logits[image, queried[image] > 0, row, column]
                share = targets[image, place, row, column] * weights[image, row, column]
                wrong -= share * (logits[image, place, row, column] - np.log(np.exp(asked).sum()))
                covered += share
            total += np.sqrt(covered) * wrong / max(covered, 1.0)
            roots += np.sqrt(covered)
        found.append(total / max(roots, 1.0))
    return float(np.mean(found))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 999), factor=st.floats(0.1, 3))
def test_the_cross_entropy_is_that_of_the_queried_classes(seed: int, factor: float) -> None:
    logits, targets, weights, queried = random_masks(seed, 2, 3, 4)
    targets = targets * queried[:, :, None, None]  # what only pads a batch covers nothing
    losses = segmentation_losses(logits, targets, weights, queried, cross_entropy_weight=factor)
    parts = (part.numpy().astype(np.float64) for part in (logits, targets, weights, queried))
    assert losses["cross_entropy"].item() == pytest.approx(slow_cross_entropy(*parts), rel=1e-4)
    expected = losses["dice"] + losses["bce"] + factor * losses["cross_entropy"]
    torch.testing.assert_close(losses["seg"], expected)
    assert "cross_entropy" not in segmentation_losses(logits, targets, weights, queried)


def test_the_cross_entropy_minds_a_small_class_more_than_its_area() -> None:
    logits = torch.zeros(1, 2, 10, 10)
    targets = torch.zeros(1, 2, 10, 10)
    targets[:, 0], targets[:, 1, 0, :4] = 1, 1
    targets[:, 0, 0, :4] = 0
    weights, queried = torch.ones(1, 10, 10), torch.ones(1, 2, dtype=torch.bool)
    logits[:, 0] = 3.0  # everything is taken for the large class
    loss = segmentation_losses(logits, targets, weights, queried, cross_entropy_weight=1)["cross_entropy"]
    right, wrong = np.log1p(np.exp(-3)), np.log1p(np.exp(3))
    large, small = np.sqrt(96), np.sqrt(4)
    assert loss.item() == pytest.approx((large * right + small * wrong) / (large + small), rel=1e-4)


def test_an_image_without_any_label_costs_nothing_and_is_finite() -> None:
    logits, targets, weights, queried = random_masks(7, 1, 2, 3)
    losses = segmentation_losses(logits, targets, torch.zeros_like(weights), queried, cross_entropy_weight=1)
    assert losses["seg"].item() == pytest.approx(0, abs=1e-6)


def test_dice_is_least_where_the_probability_is_the_soft_target() -> None:
    targets = torch.full((1, 1, 4, 4), 0.3)
    ones, asked = torch.ones(1, 4, 4), torch.ones(1, 1, dtype=torch.bool)
    losses = {
        chance: dice_per_image(torch.logit(torch.full_like(targets, chance)), targets, ones, asked).item()
        for chance in (0.1, 0.2, 0.3, 0.4, 0.6, 0.99)
    }
    assert min(losses, key=losses.__getitem__) == 0.3
    assert losses[0.3] == pytest.approx(0, abs=1e-6)


def test_mask_logits_are_scaled_shifted_and_upsampled_as_bilinear_interpolation_says() -> None:
    cosines = torch.tensor([[[[0.0, 1.0], [0.5, -0.5]]]])
    logits = mask_logits(cosines, torch.tensor(10.0), torch.tensor(-2.0), 4)[0, 0].numpy()
    places = np.clip((np.arange(4) + 0.5) / 2 - 0.5, 0, 1)  # align_corners False
    rows = np.stack([np.interp(places, (0, 1), row) for row in cosines[0, 0].numpy()])
    expected = np.stack([np.interp(places, (0, 1), column) for column in rows.T]).T * 10 - 2
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def batch(images: int = 2) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        classes=torch.from_numpy(rng.integers(0, 4, (images, 3))),
        queried=torch.ones(images, 3, dtype=torch.bool),
        targets=torch.from_numpy(rng.integers(0, 256, (images, 3, 8, 8), dtype=np.uint8)),
        weights=torch.full((images, 8, 8), 255, dtype=torch.uint8),
        images=torch.from_numpy(rng.integers(0, 256, (images, 64, 64, 3), dtype=np.uint8)),
        teacher_images=torch.from_numpy(rng.integers(0, 256, (images, 64, 64, 3), dtype=np.uint8)),
    )


def parts_with_gradient(config: ModelConfig, loss: str) -> set[str]:
    """Return which parts of the model a loss reaches: names of modules, blocks as `block N`."""
    torch.manual_seed(0)
    model = OVSDINO(config)
    text = torch.nn.functional.normalize(torch.randn(4, config.embedding_dim), dim=1)
    Objective(model, text, FakeTeacher(), "fp32")(batch())[loss].backward()
    reached = set()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and parameter.grad.abs().max() > 0:
            words = name.split(".")
            is_block = words[:3] == ["backbone", "vit", "blocks"]
            reached.add(f"block {int(words[3]) + 1}" if is_block else words[0])
    return reached


HEADS = {"encoder", "decoder", "projector", "score_scale", "score_bias"}


@pytest.mark.parametrize("trainable", [0, 3])
def test_alignment_teaches_the_encoder_and_nothing_else(trainable: int) -> None:
    config = replace(TINY, backbone_trainable_blocks=trainable)
    assert parts_with_gradient(config, "align") == {"encoder"}


def test_segmentation_teaches_the_heads_and_the_last_three_blocks() -> None:
    assert parts_with_gradient(TINY, "seg") == HEADS | {"block 4", "block 5", "block 6"}  # of 6


def test_segmentation_leaves_a_frozen_backbone_alone() -> None:
    assert parts_with_gradient(replace(TINY, backbone_trainable_blocks=0), "seg") == HEADS


def test_the_objective_is_the_sum_of_both_losses_and_segmentation_alone_without_alignment() -> None:
    torch.manual_seed(0)
    text = torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    losses = Objective(OVSDINO(TINY), text, FakeTeacher(), "fp32")(batch())
    assert losses["loss"].item() == pytest.approx((losses["align"] + losses["seg"]).item())
    alone = Objective(OVSDINO(replace(TINY, alignment=False)), text, None, "fp32")(batch())
    assert "align" not in alone
    assert alone["loss"].item() == alone["seg"].item()


def test_without_encoder_the_teachers_features_go_through_decoder_and_projector() -> None:
    config = replace(TINY, encoder=False, gate=False, alignment=False, backbone_trainable_blocks=0)
    assert parts_with_gradient(config, "loss") == {"decoder", "projector", "score_scale", "score_bias"}


def test_bf16_autocast_gives_the_gradients_of_fp32_to_every_layer() -> None:
    """PyTorch 2.15 once gave garbage to the dilated layer's weights on a CPU: see `DepthwiseConv2d`."""
    text = torch.nn.functional.normalize(
        torch.randn(4, 16, generator=torch.Generator().manual_seed(0)), dim=1
    )
    found: dict[str, dict[str, Tensor]] = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        model = OVSDINO(TINY)
        Objective(model, text, FakeTeacher(), precision)(batch())["loss"].backward()
        found[precision] = {
            name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
        }
    for name, exact in found["fp32"].items():
        rounded = found["bf16"][name]
        cosine = torch.nn.functional.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0).item()
        assert cosine > 0.97 or exact.norm() < 1e-6, name


def test_bf16_autocast_gives_nearly_the_losses_of_fp32() -> None:
    torch.manual_seed(0)
    model = OVSDINO(TINY)
    text = torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    exact = Objective(model, text, FakeTeacher(), "fp32")(batch())
    rounded = Objective(model, text, FakeTeacher(), "bf16")(batch())
    assert all(value.dtype == torch.float32 for value in rounded.values())
    for name, value in exact.items():
        assert rounded[name].item() == pytest.approx(value.item(), rel=2e-2)
        assert rounded[name].item() != value.item()
