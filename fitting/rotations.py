"""Rotations as batched torch functions: exponential, logarithm, Jacobians of SO(3), slerp.

Conventions: axis-angle vectors ``[..., 3]`` in radians, matrices ``[..., 3, 3]`` acting on column vectors, left
perturbations ``R <- exp(w) R``. Formulas: Barfoot, State Estimation for Robotics, ch. 7. Every function works in the
dtype and on the device of its input and is smooth through the zero angle.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL = 1e-4  # radians^2 below which the Taylor series is more exact than the closed form


FLIP = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))  # model to camera of a face that looks at it


def hat(v: Tensor) -> Tensor:
    """Cross-product matrix: ``hat(v) @ x == cross(v, x)``. [..., 3] -> [..., 3, 3]."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    return rows.reshape(*v.shape[:-1], 3, 3)


def _coefficients(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(a)/a, (1 - cos a)/a^2, (a - sin a)/a^3 for the angle a = |v|, each [..., 1, 1]."""
    square = (v * v).sum(-1)[..., None, None]
    small = square < _SMALL
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6 + square * square / 120, angle.sin() / angle)
    half = (0.5 * angle).sin()
    b = torch.where(small, 0.5 - square / 24 + square * square / 720, 2 * half * half / safe)
    c = torch.where(small, 1 / 6 - square / 120, (angle - angle.sin()) / (safe * angle))
    return a, b, c


def exp_so3(v: Tensor) -> Tensor:
    """Rodrigues' formula. Axis-angle [..., 3] -> rotation matrix [..., 3, 3]."""
    a, b, _ = _coefficients(v)
    k = hat(v)
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    return eye + a * k + b * (k @ k)


def to_quaternion(r: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) with w >= 0 of a rotation matrix: [..., 3, 3] -> [..., 4]."""
    m = r.reshape(*r.shape[:-2], 9)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = m.unbind(-1)
    # Each candidate row is 4 q_k q; the one with the largest q_k loses no digits (Shepperd's method).
    rows = torch.stack(
        [
            torch.stack([1 + m00 + m11 + m22, m21 - m12, m02 - m20, m10 - m01], -1),
            torch.stack([m21 - m12, 1 + m00 - m11 - m22, m10 + m01, m02 + m20], -1),
            torch.stack([m02 - m20, m10 + m01, 1 - m00 + m11 - m22, m12 + m21], -1),
            torch.stack([m10 - m01, m02 + m20, m12 + m21, 1 - m00 - m11 + m22], -1),
        ],
        dim=-2,
    )
    best = torch.diagonal(rows, dim1=-2, dim2=-1).argmax(-1)
    q = torch.take_along_dim(rows, best[..., None, None], dim=-2).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def log_so3(r: Tensor) -> Tensor:
    """Axis-angle vector of a rotation matrix, angle in [0, pi]. [..., 3, 3] -> [..., 3]."""
    q = to_quaternion(r)
    w, v = q[..., :1], q[..., 1:]
    n = v.norm(dim=-1, keepdim=True)
    small = n < 1e-7
    angle = 2 * torch.atan2(n, w)
    return torch.where(small, 2 * v, v * (angle / torch.where(small, torch.ones_like(n), n)))


def left_jacobian(v: Tensor) -> Tensor:
    """J_l with exp(v + d) ~= exp(J_l(v) d) exp(v). [..., 3] -> [..., 3, 3]."""
    _, b, c = _coefficients(v)
    k = hat(v)
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    return eye + b * k + c * (k @ k)


def inverse_left_jacobian(v: Tensor) -> Tensor:
    """Inverse of :func:`left_jacobian`; singular only at an angle of 2 pi. [..., 3] -> [..., 3, 3]."""
    square = (v * v).sum(-1)[..., None, None]
    small = square < _SMALL
    safe = torch.where(small, torch.ones_like(square), square)
    half = 0.5 * safe.sqrt()
    c = torch.where(small, 1 / 12 + square / 720, (1 - half * half.cos() / half.sin()) / safe)
    k = hat(v)
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    return eye - 0.5 * k + c * (k @ k)


def slerp(r0: Tensor, r1: Tensor, fraction: Tensor) -> Tensor:
    """Constant-speed rotation from ``r0`` (fraction 0) to ``r1`` (1). [..., 3, 3], [..., 3, 3], [...]."""
    step = log_so3(r1 @ r0.transpose(-1, -2))
    return exp_so3(step * fraction[..., None]) @ r0


def geodesic(r0: Tensor, r1: Tensor) -> Tensor:
    """Angle in radians between two rotations. [..., 3, 3] twice -> [...]."""
    return log_so3(r1 @ r0.transpose(-1, -2)).norm(dim=-1)
