"""Reprojection residuals of a reduced head model and their normal equations, assembled without a Jacobian matrix.

A landmark ``x`` in the model frame (relative to the pivot, the midpoint between the eyeballs) is seen at
``pi(R x + t)`` with ``R = R(rotation) F`` (see :mod:`duologue.schemas.heads`). Everything is done in normalised image
coordinates ``(pixel - principal point) / focal``.

Unknowns of a frame, in this order: expression [E], jaw [J <= 3], then the six pose unknowns: left perturbation of the
rotation (3), ``a = tx / tz``, ``b = ty / tz`` and ``log tz``. Shared: identity ``z`` [S].

Speed. Expression moves a landmark along *constant* model-frame directions B_l, so the expression block of J'WJ is
``sum_l B_l' W_l B_l`` with the 3x3 landmark weight ``W_l = R' (dpi' w dpi) R``: linear in the six numbers of W_l. With
the products of B precomputed it is one matrix product for all frames (6L numbers by E(E+1)/2 columns), and no [2L, E]
Jacobian is ever built. A jaw rotation turns part of B; the Hessian uses B at jaw zero throughout, which only makes the
step slightly inexact: the gradient, and with it the answer, is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .compiled_model import PAIRS, POSE, CompiledModel
from .rotations import exp_so3, hat, left_jacobian


@dataclass(frozen=True)
class Observations:
    """Landmarks of B chains of up to T frames, in normalised image coordinates.

    Attributes:
        points: [B, T, 2, L]; anything finite where ``inv_sigma`` is zero.
        inv_sigma: [B, T, L] one over the standard deviation, zero for what was not measured or is padding.
        mask: [B, T] frames that exist.
        times: [B, T] seconds, rising; padding repeats the last time.
    """

    points: Tensor
    inv_sigma: Tensor
    mask: Tensor
    times: Tensor


@dataclass(frozen=True)
class State:
    """Unknowns, in fp64. Shapes: expression [B, T, E], jaw [B, T, J], rotation [B, T, 3, 3] (model to camera),
    place [B, T, 3] = (tx / tz, ty / tz, log tz) of the pivot, velocity [B, T, 6] a reference frame, shape z [B, S]."""

    expression: Tensor
    jaw: Tensor
    rotation: Tensor
    place: Tensor
    velocity: Tensor
    shape: Tensor

    def translation(self) -> Tensor:
        """Camera-frame position of the pivot, [B, T, 3] metres."""
        depth = self.place[..., 2].exp()
        return torch.stack([self.place[..., 0] * depth, self.place[..., 1] * depth, depth], dim=-1)

    def select(self, keep: Tensor, other: State) -> State:
        """This state where ``keep`` [B], the other elsewhere."""

        def pick(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(keep.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)

        return State(**{k: pick(v, getattr(other, k)) for k, v in self.__dict__.items()})


@dataclass
class Linearisation:
    """Gauss-Newton system of the data term. n = E + J + 6.

    Attributes:
        hessian: [B, T, n, n]; gradient: [B, T, n] (of the cost); cost: [B].
        border: [B, T, n, S], corner: [B, S, S], corner_gradient: [B, S], None unless asked for.
        square: [B, T, L] squared normalised residuals (2D), for robust statistics.
    """

    hessian: Tensor
    gradient: Tensor
    cost: Tensor
    square: Tensor
    border: Tensor | None = None
    corner: Tensor | None = None
    corner_gradient: Tensor | None = None


def robust(square: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Geman-McClure: weight and cost of squared normalised residuals (cost = r^2 / 2 near zero, c^2 / 2 far away)."""
    ratio = 1 / (1 + square / (c * c))
    return ratio * ratio, 0.5 * square * ratio


def model_points(model: CompiledModel, state: State, dtype: torch.dtype | None = None) -> Tensor:
    """Landmarks in the model frame relative to the pivot: [B, T, 3, L] metres."""
    dtype = dtype or model.head_mean.dtype
    b, t = state.expression.shape[:2]
    head, jaw = _shaped_means(model, state, dtype)
    psi = state.expression.to(dtype)
    points = (psi @ model.head_expression.to(dtype)).reshape(b, t, 3, head.shape[-1]) + head[:, None]
    if len(model.jaw_index):
        turned, _, _ = _jaw_part(model, jaw[:, None], psi, state.jaw.to(dtype))
        points[..., model.jaw_index] += turned
    return points


def residual_vectors(model: CompiledModel, data: Observations, state: State) -> Tensor:
    """Measured minus predicted landmarks, normalised image coordinates, [B, T, 2, L]."""
    x = model_points(model, state)
    y = state.rotation.to(x.dtype) @ x + state.translation().to(x.dtype)[..., None]
    return data.points - y[:, :, :2] / y[:, :, 2:].clamp_min(1e-3)


def _shaped_means(model: CompiledModel, state: State, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    z = state.shape.to(dtype)
    b = z.shape[0]
    head = model.head_mean.to(dtype) + (z @ model.head_shape.to(dtype)).reshape(b, 3, -1)
    jaw = model.jaw_mean.to(dtype) + (z @ model.jaw_shape.to(dtype)).reshape(b, 3, len(model.jaw_index))
    return head, jaw


def _jaw_rotation(model: CompiledModel, angles: Tensor) -> tuple[Tensor, Tensor]:
    """Axis-angle [..., 3] with the locked axes at zero, and its rotation matrix."""
    full = torch.zeros(*angles.shape[:-1], 3, dtype=angles.dtype, device=angles.device)
    if model.jaw_axes:
        full[..., list(model.jaw_axes)] = angles
    return full, exp_so3(full)


def _jaw_part(
    model: CompiledModel, jaw: Tensor, psi: Tensor, angles: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Landmark part turned by the jaw [..., 3, Lj], the rotation, and what the derivative needs."""
    full, rotation = _jaw_rotation(model, angles)
    arm = (psi @ model.jaw_expression.to(psi.dtype)).reshape(*psi.shape[:-1], 3, jaw.shape[-1]) + jaw
    if model.jaw_correctives is None:
        return rotation @ arm, rotation, (full, arm)
    eye = torch.eye(3, dtype=psi.dtype, device=psi.device)
    feature = (rotation - eye).reshape(*rotation.shape[:-2], 9)
    still, turning = (torch.einsum("dlk,...k->...dl", c.to(psi.dtype), feature) for c in model.jaw_correctives)
    arm = arm + turning
    return rotation @ arm + still, rotation, (full, arm)


def _jaw_columns(model: CompiledModel, rotation: Tensor, full: Tensor, arm: Tensor) -> Tensor:
    """d x / d jaw for the jaw's landmarks: [N, J, 3, Lj]."""
    jacobian = left_jacobian(full)  # exp(v + d) = exp(J d) exp(v)
    rotated = rotation @ arm
    columns = []
    for axis in model.jaw_axes:
        axis_vector = jacobian[..., axis]  # [N, 3]
        column = hat(axis_vector) @ rotated
        if model.jaw_correctives is not None:
            feature = (hat(axis_vector) @ rotation).reshape(*rotation.shape[:-2], 9)
            still, turning = (torch.einsum("dlk,nk->ndl", c, feature) for c in model.jaw_correctives)
            column = column + still + rotation @ turning
        columns.append(column)
    return torch.stack(columns, dim=1)


def linearise(
    model: CompiledModel,
    data: Observations,
    state: State,
    c: float,
    with_shape: bool = False,
    chunk: int = 64,
    near: Linearisation | None = None,
) -> Linearisation:
    """Normal equations of the robust reprojection cost at ``state``.

    Args:
        c: Geman-McClure scale in standard deviations.
        with_shape: also return the identity's border and corner.
        chunk: frames per step; small chunks stay in a CPU's cache.
        near: a linearisation near by, whose Hessian (with border and corner) is taken instead of assembling one, which
            is most of the work. Cost and gradient are exact all the same.
    """
    dtype = model.head_mean.dtype
    b, t = data.mask.shape
    n_frames, n_e, n_j = b * t, model.n_expression, len(model.jaw_axes)
    n_s = model.n_shape if with_shape else 0
    head, jaw = _shaped_means(model, state, dtype)
    owner = torch.arange(b, device=head.device).repeat_interleave(t)
    psi = state.expression.to(dtype).reshape(n_frames, n_e)
    angles = state.jaw.to(dtype).reshape(n_frames, n_j)
    rotation = state.rotation.to(dtype).reshape(n_frames, 3, 3)
    translation = state.translation().to(dtype).reshape(n_frames, 3)
    points = data.points.reshape(n_frames, 2, -1)
    inv_sigma = data.inv_sigma.reshape(n_frames, -1)
    basis = _Basis(model, with_shape)
    pieces = []
    for start in range(0, n_frames, chunk):
        rows = slice(start, min(start + chunk, n_frames))
        pieces.append(
            _linearise_frames(
                model, basis, head[owner[rows]], jaw[owner[rows]], psi[rows], angles[rows], rotation[rows],
                translation[rows], points[rows], inv_sigma[rows], c, near is None,
            )
        )  # fmt: skip
    full, gradient, cost, square = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    n = n_e + n_j + POSE
    gradient = gradient.reshape(b, t, n + n_s)
    if near is not None:
        return replace(
            near,
            gradient=gradient[..., n_s:],
            cost=cost.reshape(b, t).sum(1, dtype=torch.float64),
            square=square.reshape(b, t, -1),
            corner_gradient=gradient[..., :n_s].sum(1, dtype=torch.float64) if with_shape else None,
        )
    full = full.reshape(b, t, n + n_s, n + n_s)
    out = Linearisation(full, gradient, cost.reshape(b, t).sum(1, dtype=torch.float64), square.reshape(b, t, -1))
    if with_shape:  # order inside: shape, expression, jaw, pose
        out.hessian, out.gradient = full[..., n_s:, n_s:], gradient[..., n_s:]
        out.border = full[..., n_s:, :n_s]
        out.corner = full[..., :n_s, :n_s].sum(1, dtype=torch.float64)
        out.corner_gradient = gradient[..., :n_s].sum(1, dtype=torch.float64)
    return out


class _Basis:
    """Directions of the linear unknowns (shape, expression) and how to assemble their block."""

    def __init__(self, model: CompiledModel, with_shape: bool) -> None:
        order = [(model.head_expression, model.jaw_expression)]
        if with_shape:
            order.insert(0, (model.head_shape, model.jaw_shape))
        self.head = torch.cat([h for h, _ in order])
        self.jaw = torch.cat([j for _, j in order])
        self.n = self.head.shape[0]
        self.products = None
        self.total = self.head
        if with_shape:
            self.products = model.shape_products
            e = model.n_expression
            own = model.basis(True)
            self.total = torch.cat([own[e:], own[:e]])
            order_of = torch.cat([torch.arange(e, self.n), torch.arange(e)]).to(self.head.device)
        else:
            self.products = model.expression_products
            self.total = model.basis(False)
            order_of = torch.arange(self.n, device=self.head.device)
        # position in the packed triangle of every entry of the full symmetric block
        a, c = torch.meshgrid(order_of, order_of, indexing="ij")
        low, high = torch.minimum(a, c), torch.maximum(a, c)
        self.unpack = (low * self.n - low * (low - 1) // 2 + high - low).reshape(-1)

    def block(self, weight: Tensor) -> Tensor:
        """sum_l B_l' W_l B_l. ``weight`` [N, 6, L] -> [N, n, n]."""
        n_frames = weight.shape[0]
        if self.products is not None:
            packed = weight.reshape(n_frames, -1) @ self.products
            return packed[:, self.unpack].reshape(n_frames, self.n, self.n)
        index = torch.tensor([[0, 1, 2], [1, 3, 4], [2, 4, 5]], device=weight.device)
        b = self.total.reshape(self.n, 3, -1)
        blocks = []
        for w in weight:  # one frame at a time: [n, 3 L] twice is all it holds
            weighted = torch.einsum("ijl,njl->nil", w[index], b).reshape(self.n, -1)
            blocks.append(weighted @ self.total.T)
        return torch.stack(blocks)


def _linearise_frames(
    model: CompiledModel,
    basis: _Basis,
    head: Tensor,
    jaw: Tensor,
    psi: Tensor,
    angles: Tensor,
    rotation: Tensor,
    translation: Tensor,
    points: Tensor,
    inv_sigma: Tensor,
    c: float,
    assemble: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hessian (empty unless ``assemble``), gradient, cost and squared residuals of N frames."""
    n = psi.shape[0]
    n_j, n_b = len(model.jaw_axes), basis.n
    x = (psi @ model.head_expression).reshape(n, 3, -1) + head
    jaw_rotation = jaw_columns = None
    if len(model.jaw_index):
        turned, jaw_rotation, (full, arm) = _jaw_part(model, jaw, psi, angles)
        x[..., model.jaw_index] += turned
        if n_j:
            jaw_columns = _jaw_columns(model, jaw_rotation, full, arm)
    y = rotation @ x
    depth = (y[:, 2] + translation[:, 2:]).clamp_min(1e-3)
    u = (y[:, 0] + translation[:, :1]) / depth
    v = (y[:, 1] + translation[:, 1:2]) / depth
    ru = (u - points[:, 0]) * inv_sigma
    rv = (v - points[:, 1]) * inv_sigma
    square = ru * ru + rv * rv
    weight, rho = robust(square, c)
    root = weight.sqrt()
    scale = root * inv_sigma / depth  # of the rows of the projection's derivative
    # 2 x 6 pose Jacobian and the residual as a seventh column: [N, 7, 2, L]
    tx, ty, tz = (translation[:, k : k + 1] for k in range(3))
    zero = torch.zeros_like(u)
    y0, y1, y2 = y.unbind(1)
    u_row = torch.stack([-u * y1, y2 + u * y0, -y1, tz + zero, zero, tx - u * tz], 1) * scale[:, None]
    v_row = torch.stack([-y2 - v * y1, v * y0, y0, zero, tz + zero, ty - v * tz], 1) * scale[:, None]
    gu, gv = root * ru, root * rv
    size = n_b + n_j + POSE
    gradient = torch.empty(n, size, dtype=x.dtype, device=x.device)
    gradient[:, -POSE:] = (u_row @ gu[..., None] + v_row @ gv[..., None])[..., 0]
    # Back into the model frame: rows of the projection are scale * ([1, 0, -u] R, [0, 1, -v] R). Here W_l applied to
    # the residual; the gradient takes directions turned by the jaw.
    pull = _into_model(rotation, u, v, (gu * scale)[:, None], (gv * scale)[:, None])  # [N, 1, 3, L]
    slope = pull.reshape(n, -1) @ basis.head.T
    if jaw_rotation is not None:
        local = jaw_rotation.transpose(1, 2) @ pull[:, 0][..., model.jaw_index]
        slope = slope + local.reshape(n, -1) @ basis.jaw.T
    gradient[:, :n_b] = slope
    inner = slice(n_b, n_b + n_j)
    if jaw_columns is not None:
        gradient[:, inner] = torch.einsum("njdl,ndl->nj", jaw_columns, pull[:, 0][..., model.jaw_index])
    if not assemble:
        return x.new_empty(n, 0, 0), gradient, rho.sum(-1), square

    # All Hessian blocks use the directions at jaw zero, so that it stays a Gram matrix (positive semi-definite).
    back = _into_model(rotation, u, v, u_row * scale[:, None], v_row * scale[:, None])  # [N, 6, 3, L]
    hessian = torch.empty(n, size, size, dtype=x.dtype, device=x.device)
    hessian[:, -POSE:, -POSE:] = u_row @ u_row.transpose(1, 2) + v_row @ v_row.transpose(1, 2)
    if jaw_columns is not None:
        weighted_jaw, jaw_jaw, jaw_pose = _jaw_blocks(model, jaw_columns, rotation, scale, u, v, back)
        back = torch.cat([weighted_jaw, back], 1)  # [N, J + 6, 3, L]
        hessian[:, inner, inner] = jaw_jaw
        hessian[:, inner, -POSE:] = jaw_pose
        hessian[:, -POSE:, inner] = jaw_pose.transpose(1, 2)
    cross = (back.reshape(n * (n_j + POSE), -1) @ basis.total.T).reshape(n, n_j + POSE, n_b)
    s2 = scale * scale
    four = torch.stack([s2, -s2 * u, -s2 * v, s2 * (u * u + v * v)], 1)  # [N, 4, L]
    hessian[:, :n_b, :n_b] = basis.block(_turn_weights(rotation) @ four)
    hessian[:, n_b:, :n_b] = cross
    hessian[:, :n_b, n_b:] = cross.transpose(1, 2)
    return hessian, gradient, rho.sum(-1), square


def _into_model(rotation: Tensor, u: Tensor, v: Tensor, su: Tensor, sv: Tensor) -> Tensor:
    """Columns of image rows (su, sv), each [N, K, L], as model-frame directions [N, K, 3, L]."""
    n, k = su.shape[:2]
    camera = torch.stack([su, sv, -(u[:, None] * su + v[:, None] * sv)], 1)  # [N, 3, K, L]
    return (rotation.transpose(1, 2) @ camera.reshape(n, 3, -1)).reshape(n, 3, k, -1).transpose(1, 2)


def _jaw_blocks(
    model: CompiledModel, columns: Tensor, rotation: Tensor, scale: Tensor, u: Tensor, v: Tensor, back: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """W_l times the jaw's columns on all landmarks [N, J, 3, L], jaw-jaw [N, J, J], jaw with pose [N, J, 6]."""
    n, n_j = columns.shape[:2]
    index = model.jaw_index
    inside = rotation[:, None] @ columns  # camera frame, [N, J, 3, Lj]
    s, uj, vj = scale[:, None, index], u[:, None, index], v[:, None, index]
    ju = (inside[:, :, 0] - uj * inside[:, :, 2]) * s
    jv = (inside[:, :, 1] - vj * inside[:, :, 2]) * s
    jaw_jaw = ju @ ju.transpose(1, 2) + jv @ jv.transpose(1, 2)
    camera = torch.stack([ju * s, jv * s, -(uj * ju + vj * jv) * s], 2)
    weighted = torch.zeros(n, n_j, 3, scale.shape[-1], dtype=scale.dtype, device=scale.device)
    weighted[..., index] = rotation.transpose(1, 2)[:, None] @ camera
    jaw_pose = torch.einsum("njdl,nkdl->njk", columns, back[..., index])
    return weighted, jaw_jaw, jaw_pose


def _turn_weights(rotation: Tensor) -> Tensor:
    """Linear map from (k, -ku, -kv, k(u^2 + v^2)) to the six numbers of R' W R. [N, 3, 3] -> [N, 6, 4].

    W = k [[1, 0, -u], [0, 1, -v], [-u, -v, u^2 + v^2]].
    """
    rows = []
    r0, r1, r2 = rotation.unbind(1)  # rows of R, each [N, 3]
    for i, j in PAIRS:
        rows.append(
            torch.stack(
                [
                    r0[:, i] * r0[:, j] + r1[:, i] * r1[:, j],
                    r0[:, i] * r2[:, j] + r2[:, i] * r0[:, j],
                    r1[:, i] * r2[:, j] + r2[:, i] * r1[:, j],
                    r2[:, i] * r2[:, j],
                ],
                -1,
            )
        )
    return torch.stack(rows, 1)
