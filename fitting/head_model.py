"""A full head mesh that can be posed, whatever file it came from.

Every provider (canonical, FLAME, GNM, ICT-FaceKit, MediaPipe) is brought to FLAME's layout: metres, +x the subject's
left, +y up, +z out of the face; joints root, neck, jaw, left eye, right eye with parents -, 0, 1, 1, 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Modes = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
PARENTS = (-1, 0, 1, 1, 1)
ROOT, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(5)
IRIS_RADIUS = 0.00585  # metres, the visible iris: 11.7 mm across in adults, sd 0.5

SKIN, LEFT_EYEBALL, RIGHT_EYEBALL, INNER_MOUTH, BACK = range(5)


@dataclass(frozen=True)
class LandmarkEmbedding:
    """Where FaceMesh landmarks lie on a mesh.

    Attributes:
        landmarks: [L] FaceMesh indices, 0-467, ascending.
        faces: [L] triangle index. barycentric: [L, 3], rows sum to 1.
        source: "exact", "registered" (made at load time) or the path it was read from.
    """

    landmarks: Index
    faces: Index
    barycentric: Array
    source: str


@dataclass(frozen=True)
class HeadModel:
    """A posable head with V vertices, S identity and E expression modes.

    Attributes:
        model_id, sha256, tier, license: provenance; ``sha256`` is of the file (or of the folder's files, in name
            order).
        vertices: [V, 3] metres. triangles: [F, 3], outward.
        shape_dirs: [V, 3, S] float32, for unit-variance coefficients. expression_dirs: [V, 3, E] float32.
        weights: [V, 5] skinning weights, rows sum to 1.
        joints: [5, 3] at zero coefficients. joint_dirs: [5, 3, S]. joint_expression_dirs: [5, 3, E] or None (zero).
        pose_dirs: [V, 3, 36] or None: FLAME's ``posedirs``, for vec(R - I) of neck, jaw, left eye, right eye.
        expression_sd: [E] prior standard deviations. jaw_limits: [3, 2] radians, x is opening.
        eyeball_radius: metres, of the sphere that the lids slide on.
        iris_radius: metres, of the limbus.
        embedding: FaceMesh landmarks on this mesh.
        parts: [V] SKIN, LEFT_EYEBALL, RIGHT_EYEBALL, INNER_MOUTH or BACK, for drawing.
    """

    model_id: str
    sha256: str
    tier: str
    license: str
    vertices: Array
    triangles: Index
    shape_dirs: Modes
    expression_dirs: Modes
    weights: Array
    joints: Array
    joint_dirs: Array
    joint_expression_dirs: Array | None
    pose_dirs: Modes | None
    shape_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    expression_sd: Array
    jaw_limits: Array
    eyeball_radius: float
    iris_radius: float
    embedding: LandmarkEmbedding
    parts: npt.NDArray[np.uint8]
    notes: tuple[str, ...] = field(default=())

    @property
    def iris_depth(self) -> float:
        """Metres from the eyeball's centre to the plane of the iris: where the iris centre is seen."""
        return float(np.sqrt(max(self.eyeball_radius**2 - self.iris_radius**2, 0.0)))

    def neutral(self, shape: npt.ArrayLike | None = None, expression: npt.ArrayLike | None = None) -> Array:
        """Vertices before any joint moves. Coefficients [..., <=S] and [..., <=E]; returns [..., V, 3] metres."""
        offset = _combine(self.shape_dirs, shape) + _combine(self.expression_dirs, expression)
        return np.asarray(self.vertices + offset, dtype=np.float64)

    def posed_joints(self, shape: npt.ArrayLike | None = None, expression: npt.ArrayLike | None = None) -> Array:
        """Joints [..., 5, 3] metres of the unposed head."""
        joints = self.joints + _combine(self.joint_dirs, shape)
        if self.joint_expression_dirs is not None:
            joints = joints + _combine(self.joint_expression_dirs, expression)
        return np.asarray(joints, dtype=np.float64)

    def pose(
        self,
        shape: npt.ArrayLike | None = None,
        expression: npt.ArrayLike | None = None,
        jaw: npt.ArrayLike | None = None,
        neck: npt.ArrayLike | None = None,
        eyes: npt.ArrayLike | None = None,
    ) -> Array:
        """Linear blend skinning of the whole mesh (Loper et al. 2015, "SMPL"; Li et al. 2017, "FLAME").

        Args:
            shape: [..., <=S] unit-variance coefficients; missing ones are zero.
            expression: [..., <=E] coefficients.
            jaw, neck: [..., 3] axis-angle, radians, model frame.
            eyes: [..., 2, 3] axis-angle of the left and right eyeball.

        Returns:
            [..., V, 3] metres, model frame, root at rest. Leading axes are broadcast.
        """
        joints = self.posed_joints(shape, expression)
        vertices = self.neutral(shape, expression)
        eyes_vector = np.zeros((2, 3)) if eyes is None else np.asarray(eyes, dtype=np.float64)
        rotations = [
            rotation_matrix(np.zeros(3) if neck is None else neck),
            rotation_matrix(np.zeros(3) if jaw is None else jaw),
            rotation_matrix(eyes_vector[..., 0, :]),
            rotation_matrix(eyes_vector[..., 1, :]),
        ]
        if self.pose_dirs is not None:
            lead = np.broadcast_shapes(*(r.shape[:-2] for r in rotations))
            flat = [np.broadcast_to(r - np.eye(3), (*lead, 3, 3)).reshape(*lead, 9) for r in rotations]
            vertices = vertices + _combine(self.pose_dirs, np.concatenate(flat, axis=-1))
        neck_rotation = rotations[0]
        # x = sum_j w_j (A_j x + b_j), with A, b composed along root -> neck -> (jaw, eyes)
        neck_offset = _offset(neck_rotation, joints[..., NECK, :])
        linear = [np.eye(3), neck_rotation]
        offsets = [np.zeros(3), neck_offset]
        for joint, rotation in zip((JAW, LEFT_EYE, RIGHT_EYE), rotations[1:], strict=True):
            linear.append(neck_rotation @ rotation)
            local = _offset(rotation, joints[..., joint, :])
            offsets.append(np.einsum("...ij,...j->...i", neck_rotation, local) + neck_offset)
        posed: Array | None = None
        for j in range(5):
            moved = np.einsum("...vj,...ij->...vi", vertices, linear[j]) + offsets[j][..., None, :]
            term = self.weights[:, j, None] * moved
            posed = term if posed is None else posed + term
        assert posed is not None
        return posed

    def landmarks(self, vertices: Array) -> Array:
        """FaceMesh landmarks [..., L, 3] of posed ``vertices`` [..., V, 3], in the order of ``embedding.landmarks``."""
        corners = vertices[..., self.triangles[self.embedding.faces], :]
        return np.asarray(np.einsum("lk,...lkd->...ld", self.embedding.barycentric, corners))

    def truncated(self, n_shape: int | None = None, n_expression: int | None = None) -> HeadModel:
        """The same head with only its first modes."""
        s = len(self.shape_names) if n_shape is None else min(n_shape, len(self.shape_names))
        e = len(self.expression_names) if n_expression is None else min(n_expression, len(self.expression_names))
        bound = self.joint_expression_dirs
        return replace(
            self,
            shape_dirs=self.shape_dirs[..., :s],
            expression_dirs=self.expression_dirs[..., :e],
            joint_dirs=self.joint_dirs[..., :s],
            joint_expression_dirs=None if bound is None else bound[..., :e],
            shape_names=self.shape_names[:s],
            expression_names=self.expression_names[:e],
            expression_sd=self.expression_sd[:e],
        )


def _combine(dirs: npt.NDArray[np.floating], coefficients: npt.ArrayLike | None) -> npt.NDArray[np.floating]:
    """[N, 3, K] modes times [..., <=K] coefficients -> [..., N, 3]; zeros where there are none."""
    n = dirs.shape[0]
    if coefficients is None:
        return np.zeros((n, 3))
    c = np.asarray(coefficients)
    k = c.shape[-1]
    if k > dirs.shape[2]:
        raise ValueError(f"{k} coefficients for a head model with {dirs.shape[2]} modes")
    flat = dirs[..., :k].reshape(n * 3, k)
    out = c.astype(dirs.dtype, copy=False) @ flat.T
    return np.asarray(out.reshape(*c.shape[:-1], n, 3))


def _offset(rotation: Array, joint: Array) -> Array:
    """Translation of "rotate about this joint": J - R J."""
    return np.asarray(joint - np.einsum("...ij,...j->...i", rotation, joint))


def rotation_matrix(axis_angle: npt.ArrayLike) -> Array:
    """Rodrigues' formula: [..., 3] radians -> [..., 3, 3], exact to machine precision at zero too."""
    v = np.asarray(axis_angle, dtype=np.float64)
    angle2 = np.sum(v * v, axis=-1)[..., None, None]
    angle = np.sqrt(angle2)
    small = angle2 < 1e-12
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 1.0 - angle2 / 6.0, np.sin(safe) / safe)
    b = np.where(small, 0.5 - angle2 / 24.0, (1.0 - np.cos(safe)) / (safe * safe))
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    o = np.zeros_like(x)
    k = np.stack([o, -z, y, z, o, -x, -y, x, o], axis=-1).reshape(*v.shape[:-1], 3, 3)
    return np.asarray(np.eye(3) + a * k + b * (k @ k))
