"""Muon: matrices step along their orthogonalized momentum, everything else as AdamW steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan et al.'s quintic iteration
_RMS = 0.2  # of an update, as AdamW's usually is, so that the same rates serve both


class Muon(torch.optim.AdamW):
    """AdamW, but for groups whose `parts` is 1 or more: their parameters are matrices and step by Muon.

    Muon (Jordan et al., 2024) replaces a matrix's momentum by the nearest matrix with all singular values
    near 1, so that directions with small gradients move as far as those with large ones. Scaled as by Liu et
    al. (2025), its steps are as long as AdamW's and take the same rates and weight decay.

    Ours; the paper has AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], weight_decay: float) -> None:
        """Watch parameters.

        Args:
            groups: as torch's optimizers take them. `parts` of a group, 0 if left out, is how many matrices
                of equal height stand on top of each other in each parameter; a convolution's kernel counts
                as a matrix of [outputs, inputs x height x width].
            weight_decay: for groups without their own.
        """
        super().__init__([{"parts": 0} | group for group in groups], weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step; `closure` is of torch's interface and must be None."""
        if closure is not None:
            raise ValueError("this optimizer evaluates no closure")
        gradients: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            if group["parts"]:
                for matrix in group["params"]:
                    if matrix.grad is not None:
                        gradients.append((matrix, matrix.grad))
                        self._turn(matrix, matrix.grad, group)
                        matrix.grad = None  # what follows passes it over
        super().step()
        for matrix, gradient in gradients:
            matrix.grad = gradient
        return None

    def _turn(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if not state:
            state["step"] = torch.zeros(())  # AdamW looks for it when it loads a state
            state["momentum"] = torch.zeros_like(matrix)
        state["step"] += 1
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        ahead = gradient.lerp(state["momentum"], _MOMENTUM)
        update = orthogonalized(ahead.reshape(group["parts"], -1, matrix[0].numel()))
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(update.view_as(matrix), alpha=-group["lr"] * _RMS * max(update.shape[-2:]) ** 0.5)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return matrices whose singular vectors are those given and whose singular values are near 1.

    By five steps of a quintic Newton-Schulz iteration, which leaves them between 0.7 and 1.2; those that are
    tiny beside the largest stay below. A matrix of zeros stays one.

    Args:
        matrices: [..., rows, columns].
    """
    first, second, third = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    turned: Tensor = matrices.mT if tall else matrices
    turned = turned / turned.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    for _ in range(_ITERATIONS):
        square = turned @ turned.mT
        turned = first * turned + (second * square + third * square @ square) @ turned
    return turned.mT if tall else turned
