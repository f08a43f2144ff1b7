"""Compiling a head model to the rows that landmarks see, and evaluating those rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .head_model import JAW, Array, HeadModel, rotation_matrix
from .reduced import ReducedModel

_JAW_COLUMNS = slice(9, 18)  # of the 36 pose-corrective columns: vec(R_jaw - I)


def reduce(
    head: HeadModel,
    landmarks: npt.ArrayLike | None = None,
    n_shape: int | None = None,
    n_expression: int | None = None,
) -> ReducedModel:
    """Cut ``head`` down to its embedded landmarks; equal to full skinning there (exact algebra, no approximation).

    Landmark l lies at sum_k b_lk x_vk; skinning is linear in x, so weights fold into the template and the modes once.
    Root, neck and eyes are at rest in the fit and share the channel "head".

    Args:
        landmarks: FaceMesh indices to keep, all embedded ones by default; their order is kept.
        n_shape, n_expression: keep only the first modes.

    Raises:
        ValueError: a landmark that the head has no embedding for.
    """
    head = head.truncated(n_shape, n_expression)
    embedding = head.embedding
    wanted = embedding.landmarks if landmarks is None else np.asarray(landmarks, dtype=np.int64)
    row_of = {int(index): row for row, index in enumerate(embedding.landmarks)}
    missing = [int(i) for i in wanted if int(i) not in row_of]
    if missing:
        raise ValueError(f"{head.model_id} has no embedding for landmarks {missing[:8]}")
    rows = np.array([row_of[int(i)] for i in wanted], dtype=np.int64)
    corners = head.triangles[embedding.faces[rows]]  # [L, 3]
    b = embedding.barycentric[rows]
    jaw = b * head.weights[corners, JAW]
    channels = np.stack([b - jaw, jaw])  # [2, L, 3]; weights' rows sum to 1

    def fold(values: npt.NDArray[np.floating]) -> Array:
        return np.asarray(np.einsum("clk,lk...->cl...", channels, values[corners].astype(np.float64)))

    correctives: list[Array] | list[None] = [None, None]
    if head.pose_dirs is not None:
        correctives = list(fold(head.pose_dirs[..., _JAW_COLUMNS]))
    return ReducedModel(
        model_id=head.model_id,
        sha256=head.sha256,
        tier=head.tier,
        license=head.license,
        landmarks=wanted,
        mean=fold(head.vertices),
        shape_dirs=fold(head.shape_dirs),
        expression_dirs=fold(head.expression_dirs),
        weights=channels.sum(-1),
        jaw_correctives=correctives[0],
        joints=head.joints,
        joint_dirs=head.joint_dirs,
        expression_sd=head.expression_sd,
        expression_names=head.expression_names,
        jaw_limits=head.jaw_limits,
        eyeball_radius=head.iris_depth,
        iris_radius=head.iris_radius,
        mesh_vertices=head.vertices,
        mesh_triangles=head.triangles,
        jaw_correctives_turned=correctives[1],
        joint_expression_dirs=head.joint_expression_dirs,
    )


def reduced_landmarks(
    model: ReducedModel,
    shape: npt.ArrayLike | None = None,
    expression: npt.ArrayLike | None = None,
    jaw: npt.ArrayLike | None = None,
) -> Array:
    """Landmark rows [..., L, 3] metres of a reduced model; leading axes of the parameters are broadcast.

    Args:
        shape: [..., S]. expression: [..., E]. jaw: [..., 3] axis-angle, radians.
    """
    beta = np.zeros(model.shape_dirs.shape[-1]) if shape is None else np.asarray(shape, dtype=np.float64)
    psi = np.zeros(model.expression_dirs.shape[-1]) if expression is None else np.asarray(expression, dtype=np.float64)
    rotation = rotation_matrix(np.zeros(3) if jaw is None else jaw)
    rest = model.mean + _times(model.shape_dirs, beta) + _times(model.expression_dirs, psi)
    joint = model.joints[JAW] + _times(model.joint_dirs[JAW], beta)
    if model.joint_expression_dirs is not None:
        joint = joint + _times(model.joint_expression_dirs[JAW], psi)
    pivot = model.weights[1][:, None] * joint[..., None, :]
    still, turning = rest[..., 0, :, :], rest[..., 1, :, :] - pivot
    if model.jaw_correctives is not None and model.jaw_correctives_turned is not None:
        feature = (rotation - np.eye(3)).reshape(*rotation.shape[:-2], 9)
        still = still + _times(model.jaw_correctives, feature)
        turning = turning + _times(model.jaw_correctives_turned, feature)
    return np.asarray(still + np.einsum("...ij,...lj->...li", rotation, turning) + pivot)


def _times(dirs: Array, coefficients: Array) -> Array:
    """[*D, K] times [..., K] -> [..., *D]."""
    return np.asarray(np.tensordot(coefficients, np.moveaxis(dirs, -1, 0), axes=1))
