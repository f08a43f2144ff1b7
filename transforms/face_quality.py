"""How far a measured face mesh can be trusted: is it a face at all, and how large is its likely error."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32, face_scale_px
from .face_mesh import REGION_SCALE, MeshFace

# Points on bone and the eye corners: they move with the head, little with speech.
RIGID = np.array(
    [33, 133, 263, 362, 168, 6, 197, 195, 5, 4, 10, 151, 9, 8, 67, 297, 109, 338, 127, 356, 234, 454, 93, 323, 132, 361]
)


def implausible(face: MeshFace) -> str:
    """Why this mesh cannot be a face in its region, or "" where it can.

    The network always draws a face; on background, a hand or the back of a head it draws a small, flat, turned-over
    or off-centre one.
    """
    points = face.landmarks
    if not math.isfinite(float(points.sum())):
        return "not finite"
    (ax, ay, az), (dx, dy, dz) = (points[263] - points[33]).tolist(), (points[152] - points[10]).tolist()
    width, height = math.sqrt(ax * ax + ay * ay + az * az), math.sqrt(dx * dx + dy * dy + dz * dz)
    if ax * dy - ay * dx < -0.1 * width * height:
        return "seen from behind"
    if not 0.3 < width / max(height, 1e-9) < 1.1:
        return "shape"
    x0, y0, x1, y1 = face.box.tolist()
    fill = max(x1 - x0, y1 - y0) * REGION_SCALE / face.region.side
    if not 0.5 < fill < 1.7:
        return "size"
    if math.hypot((x0 + x1) / 2 - face.region.x, (y0 + y1) / 2 - face.region.y) > 0.3 * face.region.side:
        return "off centre"
    return ""


def rigid_change(before: Float32, after: Float32) -> float:
    """How much a mesh changed beyond a 2D similarity, as a fraction of face scale.

    Noise, blur and occlusion make consecutive meshes of one face disagree; so does fast turning, less.

    Args:
        before, after: [478, 3] pixels.

    Returns:
        Median distance over the rigid points after the best translation, turn and zoom (least squares).
    """
    p, q = (points[RIGID, :2].astype(np.float64, order="C").view(np.complex128)[:, 0] for points in (before, after))
    p, q = p - p.sum() / len(p), q - q.sum() / len(q)
    turn = np.vdot(p, q) / max(float(np.vdot(p, p).real), 1e-9)
    apart = np.abs(q - turn * p)
    apart.sort()
    return float(apart[len(RIGID) // 2]) / max(_scale(after), 1e-6)


def disagreement(landmarks: Float32, keypoints: Float32) -> float:
    """Median distance of a detector's eyes, nose and mouth from the mesh's, as a fraction of face scale.

    Args:
        landmarks: [478, 3] pixels.
        keypoints: [6, 2] pixels, BlazeFace order; NaN where unknown.

    Returns:
        0 where the detector has no keypoints.
    """
    mine = np.stack(
        [landmarks[[33, 133], :2].mean(0), landmarks[[362, 263], :2].mean(0), landmarks[4, :2], landmarks[13, :2]]
    )
    apart = np.linalg.norm(mine - keypoints[:4], axis=1)
    apart = apart[np.isfinite(apart)]
    return float(np.median(apart)) / max(float(face_scale_px(landmarks)), 1e-6) if len(apart) else 0.0


def _scale(landmarks: Float32) -> float:
    """``face_scale_px`` of one face, at a quarter of its cost."""
    return math.dist(landmarks[33].tolist(), landmarks[263].tolist()) * (63.0 / 89.4)


def mesh_yaw(landmarks: Float32) -> float:
    """Degrees by which the mesh itself is turned from the camera, 0..90 (its depth is flat: 45 is nearly profile)."""
    across = landmarks[263] - landmarks[33]
    return math.degrees(math.atan2(abs(float(across[2])), math.hypot(float(across[0]), float(across[1]))))


def expected_error(landmarks: Float32, logit: float, change: float, sharp: float) -> float:
    """Expected mean landmark error as a fraction of face scale, from what is seen of one frame.

    Fitted to known errors of two portraits under blur, noise, cover and shrinking (``bench/track.py --confidence``).
    What tells most is how far the network's score lies below what it usually gives at this turn of the head (27 until
    25 degrees, about 14 at the far end, on real clips). A second term doubts that this is the face at all: where the
    network is unsure of a large face that it drew nearly frontal, it has drawn a frontal face over a profile and the
    background beside it.

    Args:
        landmarks: [478, 3] pixels.
        logit: the network's face score.
        change: :func:`rigid_change` against a neighbouring frame (NaN where there is none).
        sharp: variance of the Laplacian of the crop (:func:`duologue.transforms.face_mesh.sharpness`).
    """
    yaw = mesh_yaw(landmarks)
    below = max(27.0 - 0.55 * min(max(yaw - 27.0, 0.0), 27.0) - logit, 0.0) / 15.0
    error = 0.013 + 0.27 * (0.02 if math.isnan(change) else change)
    error += 0.05 / (1.0 + sharp / 15.0) + 0.016 * below + 0.035 * below**2
    scale = max(_scale(landmarks), 1.0)
    needed = 9.0 - 0.25 * min(max(yaw - 30.0, 0.0), 16.0)
    needed *= min(max((scale - 15.0) / 25.0, 0.3), 1.0)
    return error + 0.12 / (1.0 + math.exp(min(logit - needed, 50.0)))


def confidence_from_error(error: float) -> float:
    """0..1, falling in the expected error: 1 / (1 + (error / 8 % of face scale)^2)."""
    return 1.0 / (1.0 + (error / 0.08) ** 2)


def box_iou(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """Intersection over union of two boxes."""
    size = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    if size[0] <= 0 or size[1] <= 0:
        return 0.0
    shared = float(size[0] * size[1])
    both = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]))
    return shared / max(both - shared, 1e-9)
