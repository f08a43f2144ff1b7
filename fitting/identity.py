"""What is constant for a person: which frames determine it, and the part of it that no identity mode can express."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .compiled_model import CompiledModel, size_change
from .reduced import ReducedModel
from .residuals import Observations, State, residual_vectors, robust
from .solver import LMOptions, solve
from .temporal import MotionPrior, typical_depth

Array = npt.NDArray[np.float64]


def choose_frames(rotation: Tensor, data: Observations, count: int) -> tuple[Tensor, Tensor]:
    """Frames that see the head from as many sides, and at as many moments, as possible.

    Greedy farthest-point sampling in (yaw, pitch, time); deterministic.

    Args:
        rotation: [B, T, 3, 3] model to camera.
        count: frames wanted per chain.

    Returns:
        index: [B, K] rising, K = min(count, T); mask: [B, K] False for padding (chains shorter than K).
    """
    b, t = data.mask.shape
    count = min(count, t)
    forward = rotation[..., :, 2]  # model +z in the camera frame
    lifted = data.times - data.times[:, :1]
    span = lifted.amax(1, keepdim=True).clamp_min(1e-6)
    feature = torch.stack([2 * forward[..., 0], 2 * forward[..., 1], 0.5 * lifted / span], -1)
    distance = torch.full((b, t), float("inf"), dtype=feature.dtype, device=feature.device)
    distance = torch.where(data.mask, distance, torch.full_like(distance, -1.0))
    frontal = torch.where(data.mask, forward[..., 2], torch.full_like(forward[..., 2], 2.0))
    pick = frontal.argmin(1)  # the most frontal frame first: +z points at the camera, so its z is smallest
    chosen = []
    taken = ~data.mask
    for _ in range(count):
        chosen.append(torch.where(torch.gather(taken, 1, pick[:, None])[:, 0], torch.full_like(pick, t), pick))
        taken = taken | torch.nn.functional.one_hot(pick, t).bool()
        gap = (feature - torch.gather(feature, 1, pick[:, None, None].expand(-1, 1, 3))).norm(dim=-1)
        distance = torch.where(taken, torch.full_like(distance, -1.0), torch.minimum(distance, gap))
        pick = distance.argmax(1)
    index = torch.sort(torch.stack(chosen, 1), 1).values  # padding (== t) sorts last
    mask = index < t
    return index.clamp_max(t - 1), mask


def fit_identity(
    model: CompiledModel,
    data: Observations,
    state: State,
    prior_of: Callable[[Observations, Tensor], MotionPrior],
    options: LMOptions,
    count: int,
    constant_share: float,
) -> tuple[State, Tensor]:
    """Identity from chosen frames, their expressions as a start for all frames, and the landmarks' constant error.

    Most of a landmark's error is constant over a track (the detector's habit, detail that no mode expresses), so that
    K frames say nearly as little about what is constant in a face as one: the data weigh K times too much. They are
    weakened by ``constant_share``, and the identity's prior is strengthened (``options.shape_weight``). What is then
    left of each landmark on average over the frames is its constant error.

    Args:
        prior_of: the motion prior for frames at a typical depth [B].
        count: frames that determine the identity. constant_share: factor on the variance of the landmarks.

    Returns:
        The state with identity, and expression and jaw interpolated to all frames; constant error [B, 2, L] in
        normalised image coordinates.
    """
    chosen, mask = choose_frames(state.rotation, data, count)
    few, part = _gather(data, state, chosen, mask)
    prior = prior_of(few, typical_depth(part.place, mask))
    softer = float(constant_share**0.5)
    weak = replace(few, inv_sigma=few.inv_sigma / softer)
    part = solve(model, weak, part, prior, replace(options, robust_scale=options.robust_scale / softer), True).state
    expression = _spread(part.expression, few.times, few.mask, data.times)
    jaw = _spread(part.jaw, few.times, few.mask, data.times)
    constant = _constant_error(model, few, part, options.robust_scale)
    return replace(state, expression=expression, jaw=jaw, shape=part.shape), constant


def _constant_error(model: CompiledModel, data: Observations, state: State, robust_scale: float) -> Tensor:
    """Robust mean of the residuals over frames, shrunk as if noise were as large as the constant part: [B, 2, L]."""
    residual = residual_vectors(model, data, state)
    information = data.inv_sigma**2
    weight, _ = robust((residual**2).sum(2) * information, robust_scale)
    weight = weight * information
    total = weight.sum(1)
    mean = (weight[:, :, None] * residual).sum(1) / total.clamp_min(1e-12)[:, None]
    frames = total / information.amax(1).clamp_min(1e-12)
    return mean * (frames / (frames + 1))[:, None]


def foreign_anatomy(model: CompiledModel, shape: Tensor, own: int) -> Tensor:
    """How far a face is from what the head model's own ``own`` identity modes express: rms over landmarks, [B] m."""
    beyond = shape[:, own:].to(model.head_mean.dtype)
    moved = (beyond @ model.basis(True)[model.n_expression + own :]).reshape(len(beyond), 3, -1)
    return (moved.double() ** 2).sum(1).mean(-1).sqrt()


def with_anatomy_modes(
    model: ReducedModel, sd: float, length: float, count: int, asymmetry: float = 0.3
) -> ReducedModel:
    """Append smooth deformations to the identity, for what a person's anatomy has and the head model lacks.

    Eigenmodes of a Gaussian-process prior over the landmarks (squared-exponential kernel), with translation, rotation
    and size taken out: they can change what a face looks like, never where its frame is. Without them a foreign
    anatomy is explained by turning the head (2-3 degrees between two head models; Luethi et al. 2018, "Gaussian process
    morphable models", is the same prior on whole scans).

    Args:
        sd: metres per axis. length: metres, correlation length. count: kernel modes per axis.
        asymmetry: sd of what is not mirror-symmetric, as a fraction.

    Returns:
        The model with ``3 * count`` more unit-variance identity modes after its own.
    """
    points = model.mean.sum(0)
    joints = model.joints
    mirror = np.array([-1.0, 1.0, 1.0])

    def kernel(a: Array, b: Array) -> Array:
        return np.asarray(np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(-1) / length**2))

    n, axes = len(points), np.eye(3)
    all_modes, all_joint_modes = [], []
    for parity in (1.0, -1.0):  # functions even and odd under the mirror x -> -x
        values, vectors = np.linalg.eigh(0.5 * (kernel(points, points) + parity * kernel(points, points * mirror)))
        order = np.argsort(values)[::-1][:count]
        values, vectors = values[order], vectors[:, order]
        vectors = vectors * np.where(vectors[np.abs(vectors).argmax(0), np.arange(count)] < 0, -1.0, 1.0)
        field = vectors * np.sqrt(values)  # [L, count]
        cross = 0.5 * (kernel(joints, points) + parity * kernel(joints, points * mirror))
        at_joints = cross @ vectors / np.sqrt(values)  # the same functions, at the joints
        # A symmetric deformation is odd in x and even in y and z.
        spread = sd * np.where(mirror == parity, 1.0, asymmetry)
        all_modes.append(np.einsum("lk,ij->likj", field, axes * spread).reshape(n, 3, -1))
        all_joint_modes.append(np.einsum("lk,ij->likj", at_joints, axes * spread).reshape(5, 3, -1))
    modes, joint_modes = np.concatenate(all_modes, -1), np.concatenate(all_joint_modes, -1)
    strongest = np.sort(np.argsort(-(modes**2).sum((0, 1)), kind="stable")[: 3 * count])
    modes, joint_modes = modes[..., strongest], joint_modes[..., strongest]

    centre = points.mean(0)

    gauge = _similarity(points, centre).reshape(3 * n, 7)
    part = np.linalg.lstsq(gauge, modes.reshape(3 * n, -1), rcond=None)[0]
    modes = modes - (gauge @ part).reshape(modes.shape)
    joint_modes = joint_modes - _similarity(joints, centre) @ part
    scale = size_change(torch.as_tensor(points), torch.as_tensor(modes)).numpy()
    modes = modes - (points - centre)[..., None] * scale
    joint_modes = joint_modes - (joints - centre)[..., None] * scale
    joint_modes[:3] = 0.0  # root, neck and jaw stay where the head model has them; eyeballs move with the face
    return replace(
        model,
        shape_dirs=np.concatenate([model.shape_dirs, model.weights[..., None, None] * modes[None]], -1),
        joint_dirs=np.concatenate([model.joint_dirs, joint_modes], -1),
    )


def _similarity(x: Array, centre: Array) -> Array:
    """Directions of translation, rotation and size about ``centre`` at points [N, 3]: [N, 3, 7]."""
    d = x - centre
    zero = np.zeros(len(d))
    turns = np.stack(
        [
            np.stack([zero, -d[:, 2], d[:, 1]], -1),
            np.stack([d[:, 2], zero, -d[:, 0]], -1),
            np.stack([-d[:, 1], d[:, 0], zero], -1),
        ],
        -1,
    )
    return np.concatenate([np.broadcast_to(np.eye(3), (len(d), 3, 3)), turns, d[..., None]], -1)


def _gather(data: Observations, state: State, chosen: Tensor, mask: Tensor) -> tuple[Observations, State]:
    def rows(value: Tensor) -> Tensor:
        index = chosen.reshape(*chosen.shape, *[1] * (value.ndim - 2)).expand(-1, -1, *value.shape[2:])
        return torch.gather(value, 1, index)

    few = Observations(rows(data.points), rows(data.inv_sigma) * mask[..., None], mask, rows(data.times))
    names = ("expression", "jaw", "rotation", "place", "velocity")
    return few, replace(state, **{k: rows(getattr(state, k)) for k in names})


def _spread(values: Tensor, times: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
    """Interpolate [B, K, E] at ``times`` [B, K] to ``wanted`` [B, T] linearly: only a start for the solver."""
    last = torch.where(mask, times, torch.full_like(times, float("inf")))
    after = torch.searchsorted(last.contiguous(), wanted.contiguous())
    count = mask.sum(1, keepdim=True)
    high = torch.minimum(after, count - 1)
    low = (after - 1).clamp_min(0)
    low = torch.minimum(low, high)
    t0, t1 = torch.gather(times, 1, low), torch.gather(times, 1, high)
    span = (t1 - t0).clamp_min(1e-6)
    f = ((wanted - t0) / span).clamp(0, 1)[..., None]

    def at(index: Tensor) -> Tensor:
        return torch.gather(values, 1, index[..., None].expand(-1, -1, values.shape[-1]))

    return at(low) * (1 - f) + at(high) * f
