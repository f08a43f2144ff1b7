"""A reduced head model as tensors in the layout of the solver, with the head's size taken out of the identity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .reduced import JAW, LEFT_EYE, RIGHT_EYE, ROOT, ReducedModel

POSE = 6
_MAX_PRODUCT_BYTES = 256 << 20  # beyond this the precomputed products cost more than they save
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True)
class CompiledModel:
    """A reduced model as tensors, with the head's size taken out of the identity.

    Size and depth cannot be told apart by landmarks, and a size left free in the identity drifts (heads are pulled
    near). The size that an identity mode brings with it is therefore taken out of the mode, about the pivot: along all
    coefficients z ~ N(0, I) the least-squares size of the landmarks stays one, and what else a mode does is kept.
    A head is then ``1 / (1 + growth z)`` of the head model's with the same coefficients.

    Attributes:
        head_mean: [3, L] rigid part at zero coefficients, relative to ``pivot``. jaw_mean: [3, Lj] part turned by the
            jaw about its joint, for the landmarks ``jaw_index`` [Lj].
        head_expression: [E, 3 L]; jaw_expression: [E, 3 Lj]; head_shape: [S, 3 L]; jaw_shape: [S, 3 Lj], in z.
        jaw_correctives: [2, 3, Lj, 9] or None: the part added as it is, and the part turned with the jaw.
        jaw_axes: the jaw's free rotation axes (0, 1, 2), those with a range.
        expression_sd: [E]. jaw_sd: [J] radians.
        growth: [S] relative size that the head model's identity modes bring with them. pivot: [3]. root: [3] and eyes
            [2, 3] joints relative to ``pivot``, with ``root_shape`` [S, 3], ``eyes_shape`` [S, 2, 3].
        normals: [L, 3] outward unit normals, estimated from the neighbourhood of each landmark.
        landmarks: [L] FaceMesh indices.
    """

    head_mean: Tensor
    jaw_mean: Tensor
    head_expression: Tensor
    jaw_expression: Tensor
    head_shape: Tensor
    jaw_shape: Tensor
    jaw_correctives: Tensor | None
    jaw_index: Tensor
    jaw_axes: tuple[int, ...]
    expression_sd: Tensor
    jaw_sd: Tensor
    growth: Tensor
    pivot: Tensor
    root: Tensor
    root_shape: Tensor
    eyes: Tensor
    eyes_shape: Tensor
    normals: Tensor
    landmarks: Tensor
    expression_products: Tensor | None
    shape_products: Tensor | None

    @property
    def n_expression(self) -> int:
        return self.head_expression.shape[0]

    @property
    def n_shape(self) -> int:
        return self.head_shape.shape[0]

    @property
    def n_frame(self) -> int:
        """Unknowns of a frame: expression, jaw, pose."""
        return self.n_expression + len(self.jaw_axes) + POSE

    def basis(self, with_shape: bool) -> Tensor:
        """Constant directions at jaw zero: [E (+ S), 3 L]."""
        parts = [(self.head_expression, self.jaw_expression)]
        if with_shape:
            parts.append((self.head_shape, self.jaw_shape))
        return torch.cat([self._with_jaw(h, j) for h, j in parts])

    def _with_jaw(self, head: Tensor, jaw: Tensor) -> Tensor:
        total = head.reshape(head.shape[0], 3, head.shape[1] // 3).clone()
        total[..., self.jaw_index] += jaw.reshape(jaw.shape[0], 3, len(self.jaw_index))
        return total.reshape(head.shape)


def compile_model(
    model: ReducedModel, n_shape: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> CompiledModel:
    """Bring a reduced model to the layout of the solver; keeps the first ``n_shape`` identity modes."""
    f64 = torch.float64
    mean = torch.as_tensor(model.mean, dtype=f64)
    shape = torch.as_tensor(model.shape_dirs[..., :n_shape], dtype=f64)
    expression = torch.as_tensor(model.expression_dirs, dtype=f64)
    weights = torch.as_tensor(model.weights, dtype=f64)
    joints = torch.as_tensor(model.joints, dtype=f64)
    joint_dirs = torch.as_tensor(model.joint_dirs[..., :n_shape], dtype=f64)
    pivot = 0.5 * (joints[LEFT_EYE] + joints[RIGHT_EYE])

    # Derivative of the log of the landmarks' least-squares size along each identity mode.
    total_mean, total_shape = mean.sum(0), shape.sum(0)
    growth = size_change(total_mean, total_shape)

    w_jaw = weights[1]
    correctives = None
    if model.jaw_correctives is not None and model.jaw_correctives_turned is not None:
        both = (model.jaw_correctives, model.jaw_correctives_turned)
        correctives = torch.stack([torch.as_tensor(c, dtype=f64) for c in both])
    moves = w_jaw > 1e-6
    if correctives is not None:
        moves |= correctives.abs().amax((0, 2, 3)) > 0
    jaw_index = torch.nonzero(moves)[:, 0]
    limits = torch.as_tensor(model.jaw_limits, dtype=f64)
    span = limits[:, 1] - limits[:, 0]
    jaw_axes = tuple(int(k) for k in torch.nonzero(span > 1e-6)[:, 0]) if len(jaw_index) else ()

    head = mean[0] + w_jaw[:, None] * joints[JAW] - pivot
    jaw = (mean[1] - w_jaw[:, None] * joints[JAW])[jaw_index]
    head_shape = shape[0] + w_jaw[:, None, None] * joint_dirs[JAW] - head[..., None] * growth
    jaw_shape = (shape[1] - w_jaw[:, None, None] * joint_dirs[JAW])[jaw_index] - jaw[..., None] * growth
    root, eyes = joints[ROOT] - pivot, joints[[LEFT_EYE, RIGHT_EYE]] - pivot
    head_expression, jaw_expression = expression[0], expression[1]
    if model.joint_expression_dirs is not None:  # the jaw joint follows the expression
        follow = w_jaw[:, None, None] * torch.as_tensor(model.joint_expression_dirs[JAW], dtype=f64)
        head_expression, jaw_expression = head_expression + follow, jaw_expression - follow
    jaw_expression = jaw_expression[jaw_index]

    def flat(modes: Tensor) -> Tensor:  # [L, 3, K] -> [K, 3 L], landmark fastest
        return modes.permute(2, 1, 0).reshape(modes.shape[2], -1).to(device, dtype)

    def move(value: Tensor) -> Tensor:
        return value.to(device, dtype)

    compiled = CompiledModel(
        head_mean=move(head.T.contiguous()),
        jaw_mean=move(jaw.T.contiguous()),
        head_expression=flat(head_expression),
        jaw_expression=flat(jaw_expression),
        head_shape=flat(head_shape),
        jaw_shape=flat(jaw_shape),
        jaw_correctives=None
        if correctives is None
        else move(correctives[:, jaw_index].permute(0, 2, 1, 3).contiguous()),
        jaw_index=jaw_index.to(device),
        jaw_axes=jaw_axes,
        expression_sd=torch.as_tensor(model.expression_sd, dtype=f64, device=device),
        jaw_sd=(0.35 * span[list(jaw_axes)]).to(device),
        growth=growth.to(device),
        pivot=pivot.to(device),
        root=root.to(device),
        root_shape=(joint_dirs[ROOT] - root[:, None] * growth).T.to(device),
        eyes=eyes.to(device),
        eyes_shape=(joint_dirs[[LEFT_EYE, RIGHT_EYE]] - eyes[..., None] * growth).permute(2, 0, 1).to(device),
        normals=_normals(total_mean).to(device, dtype),
        landmarks=torch.as_tensor(model.landmarks, device=device),
        expression_products=None,
        shape_products=None,
    )
    products = {name: _products(compiled.basis(name == "shape_products")) for name in _PRODUCTS}
    return CompiledModel(**{**compiled.__dict__, **products})


_ALIKE = 1e-3  # relative difference of two landmarks' motion that is none
_PRODUCTS = ("expression_products", "shape_products")


def size_change(points: Tensor, modes: Tensor) -> Tensor:
    """Derivative of the log of a face's size along modes: [L, 3], [L, 3, K] -> [K].

    Size is the least-squares scale of the frontal view (x and y). Depth relief is left out: it is known only through
    the head's turns, and its errors would leak into the distance.
    """
    centred = (points - points.mean(0))[:, :2]
    moved = (modes - modes.mean(0))[:, :2]
    return torch.einsum("ld,lds->s", centred, moved) / (centred * centred).sum()


def rigid_part(model: CompiledModel) -> tuple[CompiledModel, Tensor]:
    """The landmarks that expressions and jaw move least, as a model without free coefficients, and their rows.

    Of two that lie on either side of the face both are taken, or neither.
    """
    motion = mobility(model)
    motion[model.jaw_index] += motion.amax()
    count = max(len(motion) * 2 // 5, min(len(motion), 24))
    index = torch.nonzero(motion <= torch.sort(motion).values[count - 1] * (1 + _ALIKE))[:, 0]
    count = len(index)
    mean = model.head_mean.clone()
    mean[:, model.jaw_index] += model.jaw_mean
    empty = mean.new_zeros(0, 3 * count)
    none = mean.new_zeros(0, 0)
    return (
        replace(
            model,
            head_mean=mean[:, index].contiguous(),
            jaw_mean=mean.new_zeros(3, 0),
            head_expression=empty,
            jaw_expression=none,
            head_shape=empty,
            jaw_shape=none,
            jaw_correctives=None,
            jaw_index=index[:0],
            jaw_axes=(),
            expression_sd=model.expression_sd[:0],
            jaw_sd=model.jaw_sd[:0],
            normals=model.normals[index],
            landmarks=model.landmarks[index],
            expression_products=mean.new_zeros(6 * count, 0),
            shape_products=None,
        ),
        index,
    )


def mobility(model: CompiledModel) -> Tensor:
    """How far expressions and jaw move each landmark: rms over their priors, [L] metres."""
    dtype = model.head_mean.dtype
    modes = model.basis(False).reshape(model.n_expression, 3, model.head_mean.shape[1])
    square = ((modes * model.expression_sd[:, None, None].to(dtype)) ** 2).sum((0, 1))
    if model.jaw_axes:
        arm = model.jaw_mean.norm(dim=0) * float(model.jaw_sd.norm())
        square[model.jaw_index] += arm**2
    return square.sqrt()


def _normals(points: Tensor, neighbours: int = 14) -> Tensor:
    """Outward normals [L, 3] of a face-like point cloud [L, 3]: plane through each point's neighbours.

    Neighbours weigh less the farther they are, down to nothing at the last one: which of two equally far ones is taken
    in would be chance on a symmetric face, and a mirrored face would not be fitted alike.
    """
    apart = torch.cdist(points, points)
    reach = apart.topk(min(neighbours, len(points)), largest=False).values[:, -1:]
    weight = (1 - (apart / reach.clamp_min(1e-9)) ** 2).clamp_min(0.0)
    weight = weight / weight.sum(1, keepdim=True)
    centre = weight @ points
    patch = (points[None] - centre[:, None]) * weight.sqrt()[..., None]
    normal = torch.linalg.eigh(patch.transpose(1, 2) @ patch).eigenvectors[..., 0]
    inside = points.mean(0) - torch.tensor([0.0, 0.0, 0.06], dtype=points.dtype)  # metres, behind the face
    return normal * torch.sign((normal * (points - inside)).sum(-1, keepdim=True))


def _products(basis: Tensor) -> Tensor | None:
    """Pairwise products of directions [n, 3 L] -> [6 L, n (n + 1) / 2], or None where that is too large."""
    n, length = basis.shape[0], basis.shape[1] // 3
    rows, columns = torch.triu_indices(n, n, device=basis.device)
    if 6 * length * len(rows) * basis.element_size() > _MAX_PRODUCT_BYTES:
        return None
    b = basis.reshape(n, 3, length)
    parts = []
    for i, j in PAIRS:
        product = b[rows, i] * b[columns, j]
        if i != j:
            product = product + b[rows, j] * b[columns, i]
        parts.append(product.T)
    return torch.cat(parts).contiguous()
