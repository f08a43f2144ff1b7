"""Batched Levenberg-Marquardt over whole face tracks.

B chains (tracks or windows of tracks) of T frames are solved at once: per-frame unknowns (expression, jaw, pose,
velocity) form a block-tridiagonal system through the motion prior, the identity shared by a chain is its dense border.
Assembly in fp32, linear algebra and state in fp64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .block_tridiagonal import BorderedFactor, Factor, factorise
from .compiled_model import POSE, CompiledModel
from .residuals import Linearisation, Observations, State, linearise
from .rotations import exp_so3
from .temporal import MotionPrior, MotionTerm, motion_term


@dataclass(frozen=True)
class LMOptions:
    """Levenberg-Marquardt.

    Attributes:
        iterations: most steps.
        tolerance: a chain has converged when a step lowers its cost by less than this fraction.
        damping: first value, relative to the diagonal; divided by 8 on success, multiplied by 8 on failure.
        robust_scale: Geman-McClure scale, in standard deviations.
        chunk: frames assembled at a time.
        assembled: steps for which the Hessian of the data is assembled anew; later ones keep the last, and its
            factors, until a step fails (chord steps: the gradient, and with it the answer, stays exact).
        shape_weight: factor on the identity's prior. A landmark's error is mostly constant over a track, so that K
            frames say less about the identity than K independent ones would.
        adaptive_from: identity modes from this one on share a prior variance that is estimated with them, from the
            head model's own value (1) with ``adaptive_student`` degrees of freedom. None leaves it at 1.
    """

    iterations: int = 8
    tolerance: float = 1e-3
    damping: float = 1e-4
    robust_scale: float = 3.0
    chunk: int = 64
    assembled: int = 3
    shape_weight: float = 1.0
    adaptive_from: int | None = None
    adaptive_student: float = 4.0


@dataclass(frozen=True)
class Solution:
    """Where the solver stopped.

    Attributes:
        data: the data term linearised there (its ``square`` holds the residuals).
        cost: [B]; start_cost: [B]; iterations: steps taken; converged: [B].
        shape_information: [B, S, S] Schur complement of the identity, or None where it was held.
    """

    state: State
    data: Linearisation
    cost: Tensor
    start_cost: Tensor
    iterations: int
    converged: Tensor
    shape_information: Tensor | None


def solve(
    model: CompiledModel,
    data: Observations,
    state: State,
    prior: MotionPrior,
    options: LMOptions,
    with_shape: bool = False,
) -> Solution:
    """Minimise data + motion (+ identity) terms from ``state``. Every step is accepted on the true cost, per chain."""
    lin = linearise(model, data, state, options.robust_scale, with_shape, options.chunk)
    motion = motion_term(prior, state)
    precision = options.shape_weight * torch.ones_like(state.shape)
    cost = _total(lin, motion, state, precision, with_shape)
    start_cost = cost
    damping = torch.full_like(cost, options.damping)
    converged = torch.zeros_like(cost, dtype=torch.bool)
    schur: Tensor | None = None
    factor: Factor | BorderedFactor | None = None
    stale = False
    steps = 0
    while steps < options.iterations and not bool(converged.all()):
        steps += 1
        factor = factor or _factorise(lin, motion, data.mask, damping, with_shape)
        step, shape_step, schur = _step(factor, lin, motion, state, damping, precision)
        trial = _apply(state, step, shape_step, model)
        near = None if steps < options.assembled else lin
        trial_lin = linearise(model, data, trial, options.robust_scale, with_shape, options.chunk, near)
        trial_motion = motion_term(prior, trial)
        trial_cost = _total(trial_lin, trial_motion, trial, precision, with_shape)
        better = (trial_cost < cost) & ~converged
        small = (cost - trial_cost).abs() <= options.tolerance * cost.abs()
        state = trial.select(better, state)
        lin = _select_lin(better, trial_lin, lin)
        motion = _select_motion(better, trial_motion, motion)
        cost = torch.where(better, trial_cost, cost)
        if bool((better | small | converged).all()):
            damping = damping / 8
            factor = None if near is None else factor
        elif stale:  # a step that was not good enough deserves a Hessian of where it starts
            lin = linearise(model, data, state, options.robust_scale, with_shape, options.chunk)
            factor = None
        else:
            damping = torch.where(better, damping / 8, damping * 8)
            factor = None
        stale = factor is not None
        converged = converged | small | (damping > 1e8)
        if schur is not None and options.adaptive_from is not None:
            precision = _adapted(precision, state.shape, schur, options)
            cost = torch.where(converged, cost, _total(lin, motion, state, precision, with_shape))
    return Solution(state, lin, cost, start_cost, steps, converged, schur)


def _adapted(precision: Tensor, shape: Tensor, information: Tensor, options: LMOptions) -> Tensor:
    """Prior precision of the adaptive modes: one EM step for the scale of a Student t prior, [B, S].

    The expected square of the modes is that of their estimate and of what is still open of it.
    """
    first, weight = options.adaptive_from, options.shape_weight
    count = shape.shape[1] - (first or 0)
    covariance = weight * torch.linalg.inv(information)
    open_square = torch.diagonal(covariance, dim1=1, dim2=2)[:, first:].sum(1)
    square = (shape[:, first:] ** 2).sum(1) + open_square
    out = precision.clone()
    out[:, first:] = (weight * (options.adaptive_student + count) / (options.adaptive_student + square))[:, None]
    return out


def refine_pose(
    model: CompiledModel, data: Observations, state: State, iterations: int, robust_scale: float, chunk: int
) -> State:
    """Pose of every frame by itself, everything else held; for a ``model`` without free expression. [B, T] frames."""
    lin = linearise(model, data, state, robust_scale, chunk=chunk)
    cost = _frame_cost(lin, robust_scale)
    damping = torch.full_like(cost, 1e-4)
    eye = torch.eye(POSE, dtype=torch.float64, device=cost.device)
    for _ in range(iterations):
        hessian = lin.hessian[..., -POSE:, -POSE:].double()
        diagonal = torch.diagonal(hessian, dim1=-2, dim2=-1)
        floor = 1e-9 * diagonal.amax(-1, keepdim=True) + 1e-9
        hessian = hessian + eye * (damping[..., None] * diagonal + floor)[..., None]
        step = -torch.linalg.solve(hessian, lin.gradient[..., -POSE:].double())
        place_step = step[..., 3:].clamp(-0.5, 0.5)
        trial = State(
            state.expression,
            state.jaw,
            exp_so3(step[..., :3].clamp(-1.0, 1.0)) @ state.rotation,
            state.place + place_step,
            state.velocity,
            state.shape,
        )
        trial_lin = linearise(model, data, trial, robust_scale, chunk=chunk)
        trial_cost = _frame_cost(trial_lin, robust_scale)
        better = trial_cost < cost
        damping = torch.where(better, damping / 8, damping * 8)
        keep = better[..., None]
        state = State(
            state.expression,
            state.jaw,
            torch.where(keep[..., None], trial.rotation, state.rotation),
            torch.where(keep, trial.place, state.place),
            state.velocity,
            state.shape,
        )
        lin.hessian = torch.where(keep[..., None], trial_lin.hessian, lin.hessian)
        lin.gradient = torch.where(keep, trial_lin.gradient, lin.gradient)
        cost = torch.where(better, trial_cost, cost)
    return state


def _frame_cost(lin: Linearisation, c: float) -> Tensor:
    ratio = 1 / (1 + lin.square / (c * c))
    return (0.5 * lin.square * ratio).sum(-1, dtype=torch.float64)


def _total(lin: Linearisation, motion: MotionTerm, state: State, precision: Tensor, with_shape: bool) -> Tensor:
    total = lin.cost + motion.cost
    if with_shape:
        total = total + 0.5 * (precision * state.shape**2).sum(-1)
    return torch.where(torch.isfinite(total), total, torch.full_like(total, float("inf")))


def _factorise(
    lin: Linearisation, motion: MotionTerm, mask: Tensor, damping: Tensor, with_shape: bool
) -> Factor | BorderedFactor:
    """The damped normal equations over (expression, jaw, pose, velocity), with the identity's border."""
    b, t, n, _ = lin.hessian.shape
    n_linear = n - POSE
    device = lin.hessian.device
    diagonal = torch.zeros(b, t, n + POSE, n + POSE, dtype=torch.float64, device=device)
    diagonal[..., :n, :n] = lin.hessian
    linear = torch.arange(n_linear, device=device)
    diagonal[..., linear, linear] += motion.linear_diagonal
    diagonal[..., n_linear:, n_linear:] += motion.pose_diagonal
    everything = torch.arange(n + POSE, device=device)
    own = diagonal[..., everything, everything]
    diagonal[..., everything, everything] = own * (1 + damping[:, None, None]) + 1e-9 + (~mask[..., None]).double()
    upper = torch.zeros(b, t - 1, n + POSE, n + POSE, dtype=torch.float64, device=device)
    upper[..., linear, linear] = motion.linear_upper
    upper[..., n_linear:, n_linear:] = motion.pose_upper
    chain = factorise(diagonal, upper, tail=2 * POSE)
    if not with_shape:
        return chain
    assert lin.border is not None
    border = torch.zeros(b, t, n + POSE, lin.border.shape[-1], dtype=torch.float64, device=device)
    border[..., :n, :] = lin.border
    return BorderedFactor.of(chain, border)


def _step(
    factor: Factor | BorderedFactor,
    lin: Linearisation,
    motion: MotionTerm,
    state: State,
    damping: Tensor,
    precision: Tensor,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Damped Gauss-Newton step [B, T, n + 6], the identity's [B, S], and the identity's information."""
    gradient = motion.gradient.clone()
    gradient[..., : lin.gradient.shape[-1]] += lin.gradient
    if isinstance(factor, Factor):
        return -factor.solve(gradient[..., None])[..., 0], None, None
    assert lin.corner is not None
    assert lin.corner_gradient is not None
    corner = lin.corner + torch.diag_embed(precision)
    corner = corner + torch.diag_embed(damping[:, None] * torch.diagonal(corner, dim1=1, dim2=2))
    step, shape_step, schur = factor.solve(gradient, corner, lin.corner_gradient + precision * state.shape)
    return -step, -shape_step, schur


def _apply(state: State, step: Tensor, shape_step: Tensor | None, model: CompiledModel) -> State:
    n_e, n_j = model.n_expression, len(model.jaw_axes)
    expression, jaw, turn, place, velocity = step.split([n_e, n_j, 3, 3, POSE], dim=-1)
    return State(
        expression=state.expression + expression,
        jaw=state.jaw + jaw,
        rotation=exp_so3(turn.clamp(-1.0, 1.0)) @ state.rotation,
        place=state.place + place.clamp(-0.5, 0.5),
        velocity=state.velocity + velocity,
        shape=state.shape if shape_step is None else state.shape + shape_step,
    )


def _pick(keep: Tensor, mine: Tensor, theirs: Tensor) -> Tensor:
    return torch.where(keep.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)


def _select_lin(keep: Tensor, a: Linearisation, b: Linearisation) -> Linearisation:
    if bool(keep.all()):
        return a
    values = {k: None if v is None else _pick(keep, v, getattr(b, k)) for k, v in a.__dict__.items()}
    return Linearisation(**values)


def _select_motion(keep: Tensor, a: MotionTerm, b: MotionTerm) -> MotionTerm:
    if bool(keep.all()):
        return a
    return MotionTerm(**{k: _pick(keep, v, getattr(b, k)) for k, v in a.__dict__.items()})
