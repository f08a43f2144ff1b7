"""Motion priors between neighbouring frames, exact for any spacing in time.

Expression and jaw follow an Ornstein-Uhlenbeck process: stationary sd as the head model's prior says, correlated over a
time constant of their own (lids are fast, brows slow). Two frames dt apart are tied by ``exp(-dt / tau)``: across a gap
the tie dissolves by itself, and the per-frame prior is never counted twice.

Pose follows white noise on acceleration (constant velocity; Barfoot, State Estimation for Robotics, 3.4 and 11.2), with
the velocity as part of the state so that the system stays block-tridiagonal. Accelerations are heavy-tailed (Student
t): a nod is not smoothed away, a tremble is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .compiled_model import POSE, CompiledModel
from .residuals import Observations, State
from .rotations import inverse_left_jacobian, log_so3

REFERENCE_DT = 0.04  # seconds; velocities are per reference frame so that all unknowns have similar size
_VELOCITY_SD = (0.2, 0.2, 0.2, 0.1, 0.1, 0.1)  # per reference frame; only keeps single frames solvable
_DOF = 2 * POSE


@dataclass(frozen=True)
class MotionPrior:
    """Precomputed for one batch of chains.

    Attributes:
        decay: [B, T - 1, E + J] correlation of neighbours; stationary_sd: [E + J].
        information: [B, T - 1, 2, 2] inverse covariance of (position, velocity) over each link for unit acceleration;
            zero where the link is cut or padding.
        pose_variance: [B, 6] variance of the velocity change over a reference frame.
        tau: [B, T - 1] link length in reference frames.
        start: [B, T] frames that begin a chain (the first, and those after a cut).
        student: degrees of freedom of the heavy-tailed acceleration; infinity is Gaussian.
    """

    decay: Tensor
    stationary_sd: Tensor
    information: Tensor
    pose_variance: Tensor
    tau: Tensor
    mask: Tensor
    student: float


@dataclass(frozen=True)
class MotionTerm:
    """Its part of the normal equations over (expression, jaw, pose, velocity): n + 6 unknowns a frame.

    Attributes:
        linear_diagonal: [B, T, E + J]; linear_upper: [B, T - 1, E + J] (diagonal blocks).
        pose_diagonal: [B, T, 12, 12]; pose_upper: [B, T - 1, 12, 12]; over (pose, velocity).
        gradient: [B, T, E + J + 12]; cost: [B].
    """

    linear_diagonal: Tensor
    linear_upper: Tensor
    pose_diagonal: Tensor
    pose_upper: Tensor
    gradient: Tensor
    cost: Tensor


def motion_prior(
    model: CompiledModel,
    data: Observations,
    depth: Tensor,
    time_constants: Tensor,
    rotation_sd: float,
    translation_sd: float,
    longest_link_s: float,
    student: float,
) -> MotionPrior:
    """Prior for the frame times of ``data``.

    Args:
        depth: [B] metres, a typical distance: image-plane motion of a given acceleration scales with it.
        time_constants: [E + J] seconds.
        rotation_sd: rad / s^1.5, square root of the spectral density of angular acceleration.
        translation_sd: m / s^1.5.
        longest_link_s: pose is not tied across longer gaps.
    """
    sd = torch.cat([model.expression_sd, model.jaw_sd])
    times, mask = data.times.double(), data.mask
    dt = times[:, 1:] - times[:, :-1]
    both = mask[:, 1:] & mask[:, :-1]
    decay = torch.exp(-dt.clamp_min(1e-4)[..., None] / time_constants) * both[..., None]
    tau = dt.clamp_min(1e-4) / REFERENCE_DT
    unit = torch.stack([12 / tau**3, -6 / tau**2, -6 / tau**2, 4 / tau], -1).reshape(*tau.shape, 2, 2)
    linked = both & (dt <= longest_link_s)
    step = REFERENCE_DT**1.5
    rotation = torch.full_like(depth, rotation_sd * step)[:, None].expand(-1, 3)
    place = (translation_sd * step / depth)[:, None].expand(-1, 3)
    return MotionPrior(
        decay=decay,
        stationary_sd=sd,
        information=unit * linked[..., None, None],
        pose_variance=torch.cat([rotation, place], 1) ** 2,
        tau=tau,
        mask=mask,
        student=student,
    )


_TIME_CONSTANTS = (  # seconds; the first part of a name that matches decides
    (("blink", "squint", "wide", "lid", "eye"), 0.06),
    (("jaw", "mouth", "lip", "tongue", "viseme"), 0.15),
    (("brow", "cheek", "nose", "sneer"), 0.4),
)


def time_constants(names: tuple[str, ...], n_jaw: int) -> Tensor:
    """How long an expression keeps its value: [E + J] seconds. 0.15 where the name says nothing."""
    out = []
    for name in names:
        low = name.lower()
        out.append(next((tau for keys, tau in _TIME_CONSTANTS if any(k in low for k in keys)), 0.15))
    return torch.tensor(out + [0.15] * n_jaw, dtype=torch.float64)


def typical_depth(place: Tensor, mask: Tensor) -> Tensor:
    """Median depth of each chain, [B] metres."""
    log_depth = torch.where(mask, place[..., 2], torch.full_like(place[..., 2], float("nan")))
    return torch.nanmedian(log_depth, dim=1).values.exp()


def motion_term(prior: MotionPrior, state: State) -> MotionTerm:
    """Linearise the motion prior at ``state``."""
    linear = torch.cat([state.expression, state.jaw], -1)
    a = prior.decay
    variance = prior.stationary_sd**2
    mask = prior.mask[..., None].double()
    # First frame of a chain: the stationary prior. Others: given their predecessor.
    info = mask.expand(-1, -1, linear.shape[-1]) / variance
    info = info.clone()
    info[:, 1:] = info[:, 1:] / (1 - a * a)
    step = linear.clone()
    step[:, 1:] -= a * linear[:, :-1]
    linear_gradient = info * step
    linear_cost = 0.5 * (info * step * step).sum((1, 2))
    diagonal = info.clone()
    back = a * info[:, 1:]
    diagonal[:, :-1] += a * back
    linear_gradient = linear_gradient.clone()
    linear_gradient[:, :-1] -= back * step[:, 1:]

    pose_diagonal, pose_upper, pose_gradient, pose_cost = _pose_term(prior, state)
    return MotionTerm(
        linear_diagonal=diagonal,
        linear_upper=-back,
        pose_diagonal=pose_diagonal,
        pose_upper=pose_upper,
        gradient=torch.cat([linear_gradient, pose_gradient], -1),
        cost=linear_cost + pose_cost,
    )


def _pose_term(prior: MotionPrior, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    b, t = state.place.shape[:2]
    device = state.place.device
    diagonal = torch.zeros(b, t, 2 * POSE, 2 * POSE, dtype=torch.float64, device=device)
    gradient = torch.zeros(b, t, 2 * POSE, dtype=torch.float64, device=device)
    weak = torch.tensor(_VELOCITY_SD, dtype=torch.float64, device=device) ** -2 * prior.mask[..., None]
    index = torch.arange(POSE, 2 * POSE, device=device)
    diagonal[..., index, index] = weak
    gradient[..., POSE:] = weak * state.velocity
    cost = 0.5 * (weak * state.velocity**2).sum((1, 2))
    if t == 1:
        return diagonal, torch.zeros(b, 0, 12, 12, dtype=torch.float64, device=device), gradient, cost

    relative = state.rotation[:, 1:] @ state.rotation[:, :-1].transpose(-1, -2)
    turn = log_so3(relative)
    v0, v1 = state.velocity[:, :-1], state.velocity[:, 1:]
    tau = prior.tau[..., None]
    position = torch.cat([turn, state.place[:, 1:] - state.place[:, :-1]], -1) - tau * v0
    error = torch.cat([position, v1 - v0], -1)  # [B, T - 1, 12]

    from_jacobian = torch.zeros(b, t - 1, 12, 12, dtype=torch.float64, device=device)
    to_jacobian = torch.zeros_like(from_jacobian)
    inverse = inverse_left_jacobian(turn)
    to_jacobian[..., :3, :3] = inverse
    from_jacobian[..., :3, :3] = -inverse @ relative
    eye3, eye6 = torch.eye(3, dtype=torch.float64, device=device), torch.eye(6, dtype=torch.float64, device=device)
    to_jacobian[..., 3:6, 3:6] = eye3
    from_jacobian[..., 3:6, 3:6] = -eye3
    from_jacobian[..., :6, 6:] = -tau[..., None] * eye6
    from_jacobian[..., 6:, 6:] = -eye6
    to_jacobian[..., 6:, 6:] = eye6

    info = _link_information(prior)
    weighted = (info @ error[..., None])[..., 0]
    square = (error * weighted).sum(-1)
    # Student t as iteratively re-weighted least squares: weight (nu + d) / (nu + m^2).
    if prior.student == float("inf"):
        weight, rho = torch.ones_like(square), 0.5 * square
    else:
        weight = (prior.student + _DOF) / (prior.student + square)
        rho = 0.5 * (prior.student + _DOF) * torch.log1p(square / prior.student)
    info = info * weight[..., None, None]
    weighted = weighted * weight[..., None]
    left = from_jacobian.transpose(-1, -2) @ info
    right = to_jacobian.transpose(-1, -2) @ info
    diagonal[:, :-1] += left @ from_jacobian
    diagonal[:, 1:] += right @ to_jacobian
    gradient[:, :-1] += (from_jacobian.transpose(-1, -2) @ weighted[..., None])[..., 0]
    gradient[:, 1:] += (to_jacobian.transpose(-1, -2) @ weighted[..., None])[..., 0]
    return diagonal, left @ to_jacobian, gradient, cost + rho.sum(1)


def _link_information(prior: MotionPrior) -> Tensor:
    """[B, T - 1, 12, 12] over (position 6, velocity 6)."""
    b, t = prior.information.shape[:2]
    out = torch.zeros(b, t, 2, POSE, 2, POSE, dtype=torch.float64, device=prior.information.device)
    scaled = prior.information[..., None] / prior.pose_variance[:, None, None, None, :]  # [B, T - 1, 2, 2, 6]
    index = torch.arange(POSE, device=out.device)
    out[:, :, :, index, :, index] = scaled.permute(4, 0, 1, 2, 3)
    return out.reshape(b, t, 2 * POSE, 2 * POSE)
