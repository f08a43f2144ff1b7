"""FaceMesh's own mean error on turned faces, taken off its landmarks before they are fitted.

The network draws a turned face less turned than it is (docs/accuracy.md has the measurements and what is known of real
faces). The error is smooth in the direction in which the network itself sees the face, and much alike between faces;
``duologue.synthesis.landmark_bias`` learns it on rendered heads. What is constant for a person is left to the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32, face_scale_px
from .canonical import FOLDER, canonical_skin

Array = npt.NDArray[np.float64]
PATH = FOLDER / "face_mesh_bias.npz"
YAW_LIMIT, PITCH_LIMIT = np.radians(58.0), np.radians(35.0)  # of the directions seen; beyond them the edge's value
_TO_IMAGE = np.diag([1.0, -1.0, -1.0])  # model axes (y up, z out of the face) to the image's (y down, z away)
# fmt: off
_POWERS = ((0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (0, 1), (0, 2), (1, 1), (2, 1), (1, 2))  # of yaw, of pitch
# fmt: on


@dataclass(frozen=True)
class LandmarkBias:
    """``coefficients`` [478, 3, K]: correction of x, y (image, face upright) and z in units of face scale.

    The constant is zero for skin. Irises have nothing but a constant: the network draws the skin, and so the sockets,
    higher than it draws the irises, and gaze depends on the difference only.
    """

    coefficients: Array

    def correct(self, landmarks: Float32) -> Float32:
        """Landmarks [T, 478, 3] (pixels, relative depth) without the network's mean error.

        Frames without depth, or not finite, are returned as they are.
        """
        out = landmarks.copy()
        rows = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
        if not len(rows):
            return out
        seen = landmarks[rows].astype(np.float64)
        yaw, pitch, roll = apparent_direction(seen)
        move = np.einsum("tk,lak->tla", features(yaw, pitch), self.coefficients)
        out[rows] = (seen + face_scale_px(landmarks[rows])[:, None, None] * rolled(move, roll)).astype(np.float32)
        return out


@lru_cache(maxsize=1)
def load_bias() -> LandmarkBias:
    """The committed calibration of MediaPipe's network."""
    with np.load(PATH, allow_pickle=False) as archive:
        return LandmarkBias(archive["coefficients"].astype(np.float64))


def apparent_direction(landmarks: Array) -> tuple[Array, Array, Array]:
    """Where FaceMesh itself sees the face turned, from its own depth: the canonical face laid on its 468 skin points.

    Args:
        landmarks: [T, 478, 3] pixels with relative depth.

    Returns:
        yaw (positive towards image right), pitch (positive down) and roll (clockwise in the image), [T] radians each.
    """
    skin = canonical_skin()[0] @ _TO_IMAGE
    centred = skin - skin.mean(0)
    points = landmarks[:, :468] - landmarks[:, :468].mean(1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("tli,lj->tij", points, centred))
    flip = np.ones((len(points), 3))
    flip[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * flip[:, None]) @ vt
    face = -rotation[:, :, 2]  # towards the camera at rest
    yaw = np.arctan2(face[:, 0], -face[:, 2])
    pitch = np.arcsin(np.clip(face[:, 1], -1.0, 1.0))
    # Roll is what is left once the face is turned back: from the direction of the subject's left.
    cos, sin = np.cos(yaw), np.sin(yaw)
    level = np.stack([cos, np.zeros_like(cos), sin], -1)
    left = rotation[:, :, 0]
    across = np.cross(face, level)
    roll = np.arctan2((left * across).sum(-1), (left * level).sum(-1))
    return yaw, pitch, -roll


def features(yaw: Array, pitch: Array) -> Array:
    """[T, K] polynomials of the apparent direction, the constant first."""
    x = np.clip(yaw, -YAW_LIMIT, YAW_LIMIT) / np.radians(45.0)
    y = np.clip(pitch, -PITCH_LIMIT, PITCH_LIMIT) / np.radians(45.0)
    return np.stack([x**a * y**b for a, b in _POWERS], -1)


def rolled(move: Array, roll: Array) -> Array:
    """Displacements [T, L, 3] of an upright face, turned in the image by ``roll`` [T] radians, clockwise."""
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    x, y = move[..., 0] * cos - move[..., 1] * sin, move[..., 0] * sin + move[..., 1] * cos
    return np.stack([x, y, move[..., 2]], -1)
