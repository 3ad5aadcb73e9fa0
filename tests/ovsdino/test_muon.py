"""Muon turns matrices and leaves everything else to AdamW."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ovsdino.muon import Muon, orthogonalized


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_orthogonalizing_keeps_singular_vectors_and_brings_the_values_near_one(
    rows: int, columns: int, seed: int
) -> None:
    torch.manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, min(rows, columns)))
    right, _ = torch.linalg.qr(torch.randn(columns, min(rows, columns)))
    values = torch.linspace(1, 5, min(rows, columns))
    found = orthogonalized(left * values @ right.T)
    turned = left.T @ found @ right
    assert torch.allclose(left @ turned @ right.T, found, atol=1e-4)
    diagonal = turned.diagonal()
    assert torch.allclose(turned, torch.diag(diagonal), atol=1e-4)
    assert (diagonal > 0.6).all()
    assert (diagonal < 1.3).all()


def test_a_matrix_without_gradient_direction_stays_as_it_is() -> None:
    assert torch.equal(orthogonalized(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def _parameters() -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    torch.manual_seed(0)
    return (
        nn.Parameter(torch.randn(24, 8)),
        nn.Parameter(torch.randn(6, 2, 3, 3)),
        nn.Parameter(torch.randn(5)),
    )


def _optimizer(parameters: tuple[nn.Parameter, ...]) -> Muon:
    stacked, kernel, bias = parameters
    groups = [
        {"params": [stacked], "lr": 0.01, "parts": 3},
        {"params": [kernel], "lr": 0.01, "parts": 1},
        {"params": [bias], "lr": 0.01},
    ]
    return Muon(groups, weight_decay=0.1)


def _loss(parameters: tuple[nn.Parameter, ...], step: int) -> Tensor:
    torch.manual_seed(step)
    terms = [(value * torch.randn_like(value)).sum() for value in parameters]
    return torch.stack(terms).sum()


def test_stacked_matrices_are_turned_one_by_one_and_kernels_as_matrices() -> None:
    parameters = _parameters()
    before = [value.detach().clone() for value in parameters]
    optimizer = _optimizer(parameters)
    torch.autograd.backward(_loss(parameters, 1))
    gradients = [value.grad for value in parameters]
    optimizer.step()
    for value, gradient in zip(parameters, gradients, strict=True):
        assert value.grad is gradient  # others may want to look at it
    stacked, kernel, _ = parameters
    for start in range(0, 24, 8):
        part = gradients[0][start : start + 8]  # type: ignore[index]
        moved = stacked[start : start + 8] - before[0][start : start + 8] * (1 - 0.01 * 0.1)
        assert torch.allclose(moved, -0.01 * 0.2 * 8**0.5 * orthogonalized(part), atol=1e-5)
    assert gradients[1] is not None
    flat = orthogonalized(gradients[1].flatten(1)).view_as(kernel)
    moved = kernel - before[1] * (1 - 0.01 * 0.1)
    assert torch.allclose(moved, -0.01 * 0.2 * 18**0.5 * flat, atol=1e-5)


def test_a_step_follows_nesterov_s_momentum() -> None:
    torch.manual_seed(0)
    matrix = nn.Parameter(torch.randn(8, 24))
    optimizer = Muon([{"params": [matrix], "lr": 0.01, "parts": 1}], weight_decay=0.0)
    momentum = torch.zeros(8, 24)
    for gradient in torch.randn(3, 8, 24):
        before, matrix.grad = matrix.detach().clone(), gradient.clone()
        optimizer.step()
        momentum = 0.95 * momentum + 0.05 * gradient
        step = orthogonalized(0.05 * gradient + 0.95 * momentum)
        torch.testing.assert_close(matrix - before, -0.01 * 0.2 * 24**0.5 * step, atol=1e-5, rtol=0)


def test_what_is_no_matrix_steps_as_adamw_steps() -> None:
    parameters = _parameters()
    alone = copy.deepcopy(parameters[2])
    optimizer, plain = _optimizer(parameters), torch.optim.AdamW([alone], lr=0.01, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        torch.autograd.backward(_loss(parameters, step))
        assert parameters[2].grad is not None
        alone.grad = parameters[2].grad.clone()
        optimizer.step()
        plain.step()
    assert torch.equal(alone, parameters[2])


def test_a_state_that_is_written_and_read_goes_on_exactly() -> None:
    whole = _parameters()
    optimizer = _optimizer(whole)
    for step in range(2):
        optimizer.zero_grad()
        torch.autograd.backward(_loss(whole, step))
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = tuple(nn.Parameter(value.detach().clone()) for value in whole)
    other = _optimizer(resumed)
    other.load_state_dict(torch.load(file, weights_only=True))
    for parameters, stepping in ((whole, optimizer), (resumed, other)):
        stepping.zero_grad()
        torch.autograd.backward(_loss(parameters, 7))
        stepping.step()
    for one, two in zip(whole, resumed, strict=True):
        assert torch.equal(one, two)


def test_it_evaluates_no_closure() -> None:
    with pytest.raises(ValueError, match="no closure"):
        _optimizer(_parameters()).step(lambda: 0.0)
