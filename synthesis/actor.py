"""A posed person over all frames: points of every part in the world, and how they are drawn and measured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from ..fitting.head_model import JAW, ROOT, rotation_matrix
from .avatar import Avatar, face_points, oval_points
from .dress import FLIP, Mesh
from .motion import HeadMotion
from .rasterize import Canvas, project
from .scenario import Camera

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

LIGHT = np.array([-0.35, -0.60, -0.72])  # towards the lamp, world frame
_AMBIENT, _DIFFUSE = 0.78, 0.30
PUPIL_RADIUS = 0.0021
_SCLERA, _CORNER = (186.0, 178.0, 170.0), (150.0, 100.0, 92.0)
_IRIS_RING = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # model x, y: FaceMesh's order


def _normal_matrix(points: int, triangles: npt.NDArray[np.int32]) -> csr_matrix:
    rows = triangles.reshape(-1)
    columns = np.repeat(np.arange(len(triangles)), 3)
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(points, len(triangles)))


def _normals(points: Array, triangles: npt.NDArray[np.int32], gather: csr_matrix) -> Array:
    corner = points[triangles]
    (ax, ay, az), (bx, by, bz) = (corner[:, 1] - corner[:, 0]).T, (corner[:, 2] - corner[:, 0]).T
    flat = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)
    summed = gather @ flat
    return np.asarray(summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12))


def _shade(normals: Array) -> Float32:
    """Brightness; 1 for a surface that faces the audience, as the portraits were lit."""
    light = LIGHT / np.linalg.norm(LIGHT)
    facing = _AMBIENT + _DIFFUSE * float(-light[2])
    return np.asarray((_AMBIENT + _DIFFUSE * np.maximum(normals @ light, 0.0)) / facing, dtype=np.float32)


def shade_of(world: Array, triangles: npt.NDArray[np.int32]) -> Float32:
    """[V] brightness of a rigid mesh as it stands in the world."""
    return _shade(_normals(world, triangles, _normal_matrix(len(world), triangles)))


class Actor:
    """An avatar with its motion.

    Args:
        size: over the head model's, of everything but eyeballs and irises.
        chunk: frames posed at once (bounds the memory).
    """

    def __init__(self, avatar: Avatar, motion: HeadMotion, size: float = 1.0, chunk: int = 64) -> None:
        self.avatar, self.motion, self.size = avatar, motion, size
        model = avatar.model
        self.joints = model.posed_joints(avatar.shape)
        parts = []
        for start in range(0, len(motion.rotation), chunk):
            part = slice(start, start + chunk)
            posed = model.pose(avatar.shape, motion.expression[part], motion.jaw[part])
            parts.append(face_points(model, posed))
        self.faces = np.concatenate(parts)  # [T, 468, 3] model frame
        self._face_gather = _normal_matrix(468, avatar.face_triangles)
        self._rigid = {
            name: _normals(mesh.points, mesh.triangles, _normal_matrix(len(mesh.points), mesh.triangles))
            for name, mesh in (("hull", avatar.hull), ("body", avatar.body), ("neck", avatar.neck))
        }

    def to_world(self, points: Array, t: int) -> Array:
        """Model points [..., 3] of the head at frame ``t`` in the world."""
        linear = self.motion.rotation[t] @ FLIP
        return np.asarray(self.size * (points - self.joints[ROOT]) @ linear.T + self.motion.root[t])

    def body_to_world(self, points: Array, t: int) -> Array:
        linear = self.motion.body_rotation[t] @ FLIP
        return np.asarray(self.size * (points - self.joints[ROOT]) @ linear.T + self.motion.root[t])

    def centre(self, t: int) -> Array:
        """[3] the head centre in the world: midway between the eyeballs."""
        return self.to_world(self.joints[3:5].mean(0), t)

    def front_points(self, t: int, camera: Camera, width: int, height: int) -> Array:
        """[N, 2] pixels of the landmarks whose skin faces the camera."""
        face = self.to_world(self.faces[t], t)
        turned = _normals(self.faces[t], self.avatar.face_triangles, self._face_gather)
        turned = turned @ (self.motion.rotation[t] @ FLIP).T
        facing = np.sum(turned * (np.asarray(camera.position) - face), axis=1) > 0.0
        seen = camera.to_camera(face[facing])
        return project(seen[seen[:, 2] > 0.05], camera.focal_px, width, height)[:, :2]

    def eye_axes(self, t: int) -> Array:
        """[2, 3] optical axes, model frame."""
        return np.asarray(rotation_matrix(self.motion.eyes[t])[..., 2])

    def iris_points(self, t: int) -> Array:
        """[10, 3] model frame, in FaceMesh's order: right iris (centre, then its ring), left iris."""
        model = self.avatar.model
        frames = rotation_matrix(self.motion.eyes[t])
        points = []
        for eye in (1, 0):
            centre = self.joints[3 + eye] + model.iris_depth / self.size * frames[eye][:, 2]
            # Rings start on the nasal or temporal side as the network's do: its first point is at image left.
            ring = centre + model.iris_radius / self.size * (_IRIS_RING @ frames[eye][:, :2].T)
            points.append(np.concatenate([centre[None], ring]))
        return np.concatenate(points)

    def landmarks(self, t: int, camera: Camera, focal_px: float, width: int, height: int) -> Array:
        """[478, 3] pixels with FaceMesh's relative depth."""
        world = self.to_world(np.concatenate([self.faces[t], self.iris_points(t)]), t)
        points = project(camera.to_camera(world), focal_px, width, height)
        middle = float(points[:468, 2].mean())
        points[:, 2] = (points[:, 2] - middle) * focal_px / middle
        return points

    def draw(self, lower: Canvas, upper: Canvas, t: int, camera: Camera, focal_px: float) -> None:
        """Draw neck and clothes on ``lower``, the head on ``upper`` (which goes over it)."""
        avatar = self.avatar
        w, h = upper.width, upper.height

        def put(canvas: Canvas, mesh: Mesh, world: Array, shade: Float32, cull: bool = True) -> None:
            pixels = project(camera.to_camera(world), focal_px, w, h)
            canvas.draw(pixels, mesh.uv, shade, mesh.triangles, mesh.texture, cull)

        turn, body = self.motion.rotation[t] @ FLIP, self.motion.body_rotation[t] @ FLIP
        follow = avatar.neck_follow[:, None].astype(np.float64)
        neck = follow * self.to_world(avatar.neck.points, t) + (1 - follow) * self.body_to_world(avatar.neck.points, t)
        put(lower, avatar.neck, neck, _shade(self._rigid["neck"] @ body.T))
        put(lower, avatar.body, self.body_to_world(avatar.body.points, t), _shade(self._rigid["body"] @ body.T))
        face = self.faces[t]
        face_pixels = project(camera.to_camera(self.to_world(face, t)), focal_px, w, h)
        shade = _shade(_normals(face, avatar.face_triangles, self._face_gather) @ turn.T)
        upper.draw(face_pixels, avatar.face_uv, shade, avatar.face_triangles, avatar.texture)
        model = avatar.model
        iris = np.asarray(avatar.iris_color)
        colors = np.array([_SCLERA, iris * 0.45, iris, (14.0, 12.0, 12.0), _CORNER], np.float32)
        axes = self.eye_axes(t) @ turn.T @ camera.world_to_camera.T
        balls = camera.to_camera(self.to_world(self.joints[3:5], t))
        for eye in (0, 1):
            upper.draw_eye(face_pixels, avatar.eye_triangles[eye], focal_px, balls[eye], axes[eye],
                           (model.eyeball_radius, model.iris_radius, PUPIL_RADIUS), colors, 0.9)  # fmt: skip
        jaw = rotation_matrix(self.motion.jaw[t])
        teeth = (avatar.teeth_lower.points - self.joints[JAW]) @ jaw.T + self.joints[JAW]
        for mesh, points in (
            (avatar.teeth_upper, avatar.teeth_upper.points),
            (avatar.teeth_lower, teeth),
            (avatar.cavity, avatar.cavity.points),
        ):
            put(upper, mesh, self.to_world(points, t), np.full(len(points), 0.72, np.float32), cull=False)
        hull = avatar.hull.points.copy()
        ring = oval_points(face)
        hull[: len(ring)] = ring
        hull[len(ring)] = ring[0]
        put(upper, avatar.hull, self.to_world(hull, t), _shade(self._rigid["hull"] @ turn.T))
