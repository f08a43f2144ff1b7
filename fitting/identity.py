"""What is constant for a person: which frames determine it, and the part of it that no identity mode can express."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .compiled_model import size_change
from .reduced import ReducedModel
from .residuals import Observations

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
