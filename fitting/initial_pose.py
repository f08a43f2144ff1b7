"""First guess of every frame's pose: scaled-orthographic alignment of the mean face, then the points that hold still.

The alignment is closed form and follows POSIT's first step (DeMenthon & Davis 1995): an affine camera is fitted by
least squares, its two rows are made orthonormal, and the rotation is then turned from the optical axis to the ray on
which the face is seen. A few Gauss-Newton steps on the landmarks that expressions move least follow.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .compiled_model import CompiledModel
from .residuals import Observations, State
from .rotations import FLIP
from .solver import refine_pose


def initial_state(model: CompiledModel, data: Observations) -> State:
    """Mean face, no expression, posed by :func:`scaled_orthographic_pose`; padding faces the camera."""
    b, t = data.mask.shape
    mean = model.head_mean.clone()
    mean[:, model.jaw_index] += model.jaw_mean
    weight = (data.inv_sigma > 0).reshape(b * t, -1)
    rotation, place = scaled_orthographic_pose(data.points.reshape(b * t, 2, -1), mean, weight)
    missing = ~data.mask.reshape(-1)
    rotation[missing] = FLIP.to(rotation.device)
    place[missing] = 0.0
    return _without_expression(model, rotation.reshape(b, t, 3, 3), place.reshape(b, t, 3))


def _without_expression(model: CompiledModel, rotation: Tensor, place: Tensor) -> State:
    b, t = rotation.shape[:2]
    zeros = {"dtype": torch.float64, "device": rotation.device}
    return State(
        expression=torch.zeros(b, t, model.n_expression, **zeros),
        jaw=torch.zeros(b, t, len(model.jaw_axes), **zeros),
        rotation=rotation,
        place=place,
        velocity=torch.zeros(b, t, 6, **zeros),
        shape=torch.zeros(b, model.n_shape, **zeros),
    )


def refine_on_rigid(
    rigid: tuple[CompiledModel, Tensor], data: Observations, state: State, iterations: int, chunk: int
) -> State:
    """Pose only, on the points that expressions move least (see :func:`~.compiled_model.rigid_part`)."""
    model, index = rigid
    small = Observations(data.points[..., index], data.inv_sigma[..., index], data.mask, data.times)
    reduced = refine_pose(model, small, _without_expression(model, state.rotation, state.place), iterations, 6.0, chunk)
    return replace(state, rotation=reduced.rotation, place=reduced.place)


def facing_weights(
    model: CompiledModel, data: Observations, state: State, far_side_factor: float, steadiness: Tensor
) -> Observations:
    """Weaken landmarks that face away from the camera. Held fixed afterwards, so that costs stay comparable.

    Args:
        far_side_factor: on the standard deviation of a landmark that faces away. steadiness: [L] factor on 1 / sd.
    """
    one = torch.ones_like(state.place[..., :1])
    ray = torch.cat([state.place[..., :2], one], -1)
    ray = ray / ray.norm(dim=-1, keepdim=True)
    towards = -(ray[..., None, :] @ state.rotation)[..., 0, :].to(data.points.dtype) @ model.normals.T  # [B, T, L]
    ramp = ((0.15 - towards) / 0.2).clamp(0.0, 1.0)
    return replace(data, inv_sigma=data.inv_sigma / (1 + (far_side_factor - 1) * ramp) * steadiness)


def scaled_orthographic_pose(points: Tensor, model_points: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Pose of the mean face in N frames.

    Args:
        points: [N, 2, L] normalised image coordinates; anything finite where the weight is zero.
        model_points: [3, L] metres, model frame.
        weight: [N, L] >= 0.

    Returns:
        rotation: [N, 3, 3] model to camera. place: [N, 3] = (tx / tz, ty / tz, log tz) of the model's origin.
    """
    points, model, weight = points.double(), model_points.double(), weight.double()
    total = weight.sum(-1).clamp_min(1e-12)
    mean_model = torch.einsum("nl,dl->nd", weight, model) / total[:, None]
    mean_point = torch.einsum("nl,ndl->nd", weight, points) / total[:, None]
    x = model[None] - mean_model[..., None]
    y = points - mean_point[..., None]
    xx = (x * weight[:, None]) @ x.transpose(1, 2)
    yx = (y * weight[:, None]) @ x.transpose(1, 2)
    ridge = 1e-9 * torch.diagonal(xx, dim1=1, dim2=2).mean(-1)[:, None, None] + 1e-18
    affine = torch.linalg.solve(xx + ridge * torch.eye(3, dtype=x.dtype, device=x.device), yx.transpose(1, 2))
    affine = affine.transpose(1, 2)  # [N, 2, 3]: y = affine x
    u, s, vh = torch.linalg.svd(affine, full_matrices=False)
    rows = u @ vh
    scale = s.mean(-1).clamp_min(1e-9)
    rotation = torch.cat([rows, torch.linalg.cross(rows[:, 0], rows[:, 1])[:, None]], 1)
    # The affine view is along the ray to the face, not along the optical axis.
    ray = torch.cat([mean_point, torch.ones_like(mean_point[:, :1])], 1)
    rotation = _turn_from_axis(ray) @ rotation
    depth = 1 / scale
    centre = mean_point * depth[:, None]
    position = torch.cat([centre, depth[:, None]], 1) - (rotation @ mean_model[..., None])[..., 0]
    tz = position[:, 2].clamp_min(0.05)
    return rotation, torch.stack([position[:, 0] / tz, position[:, 1] / tz, tz.log()], -1)


def _turn_from_axis(ray: Tensor) -> Tensor:
    """Smallest rotation that takes the optical axis to ``ray`` [N, 3] -> [N, 3, 3]."""
    d = ray / ray.norm(dim=-1, keepdim=True)
    x, y, z = d.unbind(-1)
    k = 1 / (1 + z)
    rows = [1 - x * x * k, -x * y * k, x, -x * y * k, 1 - y * y * k, y, -x, -y, z]
    return torch.stack(rows, -1).reshape(-1, 3, 3)
