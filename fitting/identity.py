"""What is constant for a person: which frames determine it, and the part of it that no identity mode can express."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .residuals import CompiledModel, Observations, State, model_points, robust


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


def estimate_offsets(model: CompiledModel, data: Observations, state: State, sd: float, robust_scale: float) -> State:
    """Constant displacement of each landmark from the model, given everything else: ridge regression, closed form.

    Takes up the anatomy that the identity modes cannot follow and the detector's constant bias, so that neither has to
    be explained frame by frame by pose and expression.

    Args:
        sd: metres, prior sd per axis.
    """
    x = model_points(model, state).double()
    rotation, translation = state.rotation, state.translation()
    y = rotation @ x + translation[..., None]
    depth = y[..., 2, :].clamp_min(1e-3)
    u, v = y[..., 0, :] / depth, y[..., 1, :] / depth
    inv_sigma = data.inv_sigma.double()
    ru = (data.points[..., 0, :] - u) * inv_sigma
    rv = (data.points[..., 1, :] - v) * inv_sigma
    weight, _ = robust(ru * ru + rv * rv, robust_scale)
    scale = weight.sqrt() * inv_sigma / depth
    r0, r1, r2 = rotation.unbind(-2)
    rows_u = scale[..., None] * (r0[:, :, None, :] - u[..., None] * r2[:, :, None, :])  # [B, T, L, 3]
    rows_v = scale[..., None] * (r1[:, :, None, :] - v[..., None] * r2[:, :, None, :])
    normal = torch.einsum("btli,btlj->blij", rows_u, rows_u) + torch.einsum("btli,btlj->blij", rows_v, rows_v)
    root = weight.sqrt()
    right = torch.einsum("btli,btl->bli", rows_u, root * ru) + torch.einsum("btli,btl->bli", rows_v, root * rv)
    prior = torch.eye(3, dtype=x.dtype, device=x.device) / (sd * sd)
    # The residual is relative to the present offsets: the prior pulls their sum to zero.
    right = right - state.offsets.transpose(1, 2) / (sd * sd)
    step = torch.linalg.solve(normal + prior, right)
    return replace(state, offsets=state.offsets + step.transpose(1, 2))
