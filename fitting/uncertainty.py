"""How sure a fitted pose is: what noise, bias and a wrong head model leave open."""

from __future__ import annotations

import torch
from torch import Tensor

from .residuals import POSE, CompiledModel, Linearisation, State
from .temporal import MotionPrior


def pose_sd(lin: Linearisation, state: State, prior: MotionPrior, model: CompiledModel) -> tuple[Tensor, Tensor]:
    """Per-frame standard deviations of the rotation (root mean square over the three axes) and of log depth.

    From each frame's own information, expression eliminated, *without* its neighbours: most of a landmark's error
    (detector bias, anatomy the model lacks) is constant over a track, so that averaging over time does not remove it.

    Returns:
        rotation: [B, T] radians per axis; depth: [B, T] sd of log depth.
    """
    hessian = lin.hessian.double()
    n_linear = hessian.shape[-1] - POSE
    index = torch.arange(n_linear, device=hessian.device)
    hessian[..., index, index] += prior.stationary_sd**-2
    pose = torch.arange(n_linear, n_linear + POSE, device=hessian.device)
    hessian[..., pose, pose] += 1e-6
    factor = torch.linalg.cholesky(hessian)
    trailing = factor[..., -POSE:, -POSE:]  # Cholesky factor of the pose's Schur complement
    covariance = torch.cholesky_inverse(trailing)
    variance = torch.diagonal(covariance, dim1=-2, dim2=-1)
    return variance[..., :3].mean(-1).sqrt(), variance[..., 5].sqrt()
