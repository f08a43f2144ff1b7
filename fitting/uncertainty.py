"""How sure a fitted pose is: what noise, bias and a wrong head model leave open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .compiled_model import POSE, CompiledModel
from .residuals import Observations, State, linearise
from .temporal import MotionPrior

TURN_PER_METRE = 7.5  # rad / m: 0.43 degrees per axis for every millimetre of anatomy beyond the model
# Of a landmark's variance, half noise and half constant, what is left after smoothing: the constant half and a tenth of
# the noise's.
LASTING = 0.55
EVERY = 4
ABOUT_FACE = 0.5  # of the detector's rotation error, what is left of it about the way the face looks
PROFILE, PROFILE_WIDTH = np.radians(52.0), np.radians(5.0)  # from where on, and how fast, it loses the turn


def pose_sd(
    model: CompiledModel, data: Observations, state: State, prior: MotionPrior, foreign: Tensor, robust_scale: float
) -> tuple[Tensor, Tensor]:
    """Per-frame standard deviations of the rotation, about each of the camera's axes, and of log depth.

    From each frame's own information, expression eliminated, *without* its neighbours: half of a landmark's variance
    (detector bias, anatomy the model lacks) is constant over a track, so that averaging over time does not remove it.
    The other half nearly goes (``LASTING``).
    Every fourth frame is computed, those between are interpolated.

    Anatomy that the head model lacks turns the whole track by a constant: its share grows with how foreign the face is,
    by a factor calibrated on synthetic truth with known and unknown head models (``bench/fit.py``).

    Args:
        foreign: [B] metres, rms displacement of the landmarks by the anatomy modes.

    Returns:
        rotation: [B, T, 3] radians; depth: [B, T] sd of log depth.
    """
    few = Observations(
        data.points[:, ::EVERY], data.inv_sigma[:, ::EVERY], data.mask[:, ::EVERY], data.times[:, ::EVERY]
    )
    per_frame = ("expression", "jaw", "rotation", "place", "velocity")
    lin = linearise(model, few, replace(state, **{k: getattr(state, k)[:, ::EVERY] for k in per_frame}), robust_scale)
    hessian = lin.hessian.double()
    n_linear = hessian.shape[-1] - POSE
    index = torch.arange(n_linear, device=hessian.device)
    hessian[..., index, index] += prior.stationary_sd**-2
    pose = torch.arange(n_linear, n_linear + POSE, device=hessian.device)
    hessian[..., pose, pose] += 1e-6
    factor = torch.linalg.cholesky(hessian)
    trailing = factor[..., -POSE:, -POSE:]  # Cholesky factor of the pose's Schur complement
    covariance = torch.cholesky_inverse(trailing)
    variance = LASTING * torch.diagonal(covariance, dim1=-2, dim2=-1)
    variance = variance[..., [0, 1, 2, 5]]
    last = few.mask.sum(1).clamp_min(1) - 1  # beyond it lies padding
    at = torch.arange(data.mask.shape[1], device=variance.device) / EVERY
    low = torch.minimum(at.floor().long()[None], last[:, None])
    high = torch.minimum(low + 1, last[:, None])
    f = (at - at.floor())[None, :, None]
    rows = torch.arange(len(variance), device=variance.device)[:, None]
    variance = variance[rows, low] * (1 - f) + variance[rows, high] * f
    systematic = (TURN_PER_METRE * foreign)[:, None, None] ** 2
    return (variance[..., :3] + systematic).sqrt(), variance[..., 3].sqrt()


def detector_variance(face: npt.NDArray[np.floating], ray: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Variance of a landmark network's own rotation error about the camera's axes, [T, 3]; 1 for a frontal nod.

    On films of rendered heads with other seeds than the suite's (``docs/accuracy.md``) its size hardly depends on how
    far a face is turned, up to near profile, where the network's answer stands still.

    Args:
        face: [T, 3] unit, into the face (along the line of sight for a frontal one). ray: [T, 3] unit line of sight.
    """
    axis = np.cross(ray, face)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    turned = np.arctan2(sine, (ray * face).sum(-1, keepdims=True))
    beyond = np.maximum(turned - PROFILE, 0.0) / PROFILE_WIDTH
    lost = (axis / np.maximum(sine, 1e-9) * beyond) ** 2
    return np.asarray(1 - (1 - ABOUT_FACE**2) * face.astype(np.float64) ** 2 + lost)
