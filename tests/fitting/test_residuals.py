"""Gradients and normal equations against automatic differentiation; the size gauge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from duologue.fitting.compiled_model import CompiledModel, compile_model
from duologue.fitting.reduce import reduced_landmarks
from duologue.fitting.residuals import Observations, State, linearise, model_points, robust
from duologue.fitting.rotations import exp_so3

from .heads import FLIP, ellipsoid_head

B, T, C = 2, 3, 3.0
F64 = torch.float64


def problem(jaw: bool, open_jaw: bool = True) -> tuple[CompiledModel, Observations, State]:
    torch.manual_seed(0)
    model = compile_model(ellipsoid_head(40, 5, 6, jaw), 5, dtype=F64)
    n_j = len(model.jaw_axes)
    state = State(
        expression=0.3 * torch.randn(B, T, 6, dtype=F64),
        jaw=(0.2 if open_jaw else 0.0) * torch.rand(B, T, n_j, dtype=F64),
        rotation=exp_so3(0.4 * torch.randn(B, T, 3, dtype=F64)) @ torch.tensor(FLIP),
        place=torch.tensor([0.1, 0.05, 0.4], dtype=F64) + 0.05 * torch.randn(B, T, 3, dtype=F64),
        velocity=torch.zeros(B, T, 6, dtype=F64),
        shape=0.5 * torch.randn(B, model.n_shape, dtype=F64),
    )
    seen = projected(model, state)
    noise = 0.003 * torch.randn(seen.shape, dtype=F64)
    inv_sigma = 400 * (0.5 + torch.rand(B, T, 40, dtype=F64))
    data = Observations(seen + noise, inv_sigma, torch.ones(B, T, dtype=torch.bool), torch.arange(T).expand(B, T) / 25)
    return model, data, state


def projected(model: CompiledModel, state: State) -> torch.Tensor:
    camera = state.rotation @ model_points(model, state, F64) + state.translation()[..., None]
    return camera[..., :2, :] / camera[..., 2:, :]


def derivatives(
    model: CompiledModel, data: Observations, state: State
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradient and Gauss-Newton blocks by automatic differentiation: over frames' and shared unknowns."""
    n, n_e, n_j = model.n_frame, model.n_expression, len(model.jaw_axes)

    def moved(d: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        d = d.reshape(B, T, n)
        new = State(
            state.expression + d[..., :n_e],
            state.jaw + d[..., n_e : n_e + n_j],
            exp_so3(d[..., n_e + n_j : n - 3]) @ state.rotation,
            state.place + d[..., n - 3 :],
            state.velocity,
            state.shape + z.reshape(B, -1),
        )
        return (projected(model, new) - data.points) * data.inv_sigma[..., None, :]

    zero = torch.zeros(B * T * n, dtype=F64), torch.zeros(B * model.n_shape, dtype=F64)
    r = moved(*zero)
    jacobian = torch.cat([j.reshape(r.numel(), -1) for j in torch.func.jacrev(moved, argnums=(0, 1))(*zero)], 1)
    weight, _ = robust((r * r).sum(2), C)
    w = weight[:, :, None].expand_as(r).reshape(-1)
    return jacobian.T @ (w * r.reshape(-1)), (jacobian.T * w) @ jacobian, r


@pytest.mark.parametrize("jaw", [True, False])
def test_gradient_is_exact(jaw: bool) -> None:
    model, data, state = problem(jaw)
    gradient, _, r = derivatives(model, data, state)
    lin = linearise(model, data, state, C, with_shape=True, chunk=4)
    n = model.n_frame
    frames = gradient[: B * T * n].reshape(B, T, n)
    torch.testing.assert_close(lin.gradient, frames, rtol=1e-9, atol=1e-9 * float(frames.abs().max()))
    torch.testing.assert_close(lin.corner_gradient, gradient[B * T * n :].reshape(B, -1), rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(lin.square, (r * r).sum(2), rtol=1e-9, atol=1e-9)
    assert float(lin.cost.sum()) == pytest.approx(float(robust((r * r).sum(2), C)[1].sum()))


@pytest.mark.parametrize("jaw", [True, False])
@pytest.mark.parametrize("products", [True, False])
def test_hessian_is_the_gram_matrix_at_a_closed_jaw(jaw: bool, products: bool) -> None:
    model, data, state = problem(jaw, open_jaw=False)
    if not products:  # models too large for precomputed products
        model = replace(model, expression_products=None, shape_products=None)
    # correctives bend expression-free directions only through the jaw's own column, which is exact
    _, hessian, _ = derivatives(model, data, state)
    lin = linearise(model, data, state, C, with_shape=True, chunk=4)
    n, size = model.n_frame, float(hessian.abs().max())
    for b in range(B):
        shared = slice(B * T * n + b * model.n_shape, B * T * n + (b + 1) * model.n_shape)
        torch.testing.assert_close(lin.corner[b], hessian[shared, shared], rtol=1e-9, atol=1e-10 * size)
        for t in range(T):
            rows = slice((b * T + t) * n, (b * T + t + 1) * n)
            torch.testing.assert_close(lin.hessian[b, t], hessian[rows, rows], rtol=1e-9, atol=1e-10 * size)
            torch.testing.assert_close(lin.border[b, t], hessian[rows, shared], rtol=1e-9, atol=1e-10 * size)


def test_landmarks_are_those_of_the_reduced_model() -> None:
    """At the size that the coefficients bring with them, up to the square of it."""
    head = ellipsoid_head(60, 5, 6)
    model, _, state = problem(True)
    model = compile_model(head, 5, dtype=F64)
    jaw = np.zeros((B, T, 3))
    jaw[..., list(model.jaw_axes)] = state.jaw.numpy()
    small = replace(state, shape=1e-4 * state.shape)
    size = 1 + (small.shape @ model.growth).numpy()
    # expressions are not made larger or smaller with the head
    plain = reduced_landmarks(head, np.zeros(5), state.expression.numpy(), jaw) - model.pivot.numpy()
    grown = reduced_landmarks(head, small.shape.numpy()[:, None], 0 * state.expression.numpy(), jaw)
    still = reduced_landmarks(head, np.zeros(5), 0 * state.expression.numpy(), jaw) - model.pivot.numpy()
    expected = plain + (grown - model.pivot.numpy()) / size[:, None, None, None] - still
    np.testing.assert_allclose(model_points(model, small, F64).numpy(), np.swapaxes(expected, -1, -2), atol=1e-9)


def test_identity_cannot_change_size() -> None:
    """Least-squares size of the frontal view is stationary along every identity coordinate, which all stay free."""
    head = ellipsoid_head(200, 6, 4)
    model = compile_model(head, 6, dtype=F64)
    assert model.n_shape == 6
    assert float(model.growth.abs().max()) > 1e-3
    mean = head.mean.sum(0)
    centred = (mean - mean.mean(0))[:, :2]
    moved = model.basis(True)[model.n_expression :].numpy().reshape(6, 3, -1)[:, :2]
    size = np.einsum("ld,sdl->s", centred, moved - moved.mean(-1, keepdims=True))
    np.testing.assert_allclose(size / (centred**2).sum(), 0, atol=1e-15)
