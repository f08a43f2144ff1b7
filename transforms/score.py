"""Numbers about a clip, stored with every row: selection applies thresholds to them later, without pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.spatial.transform import Rotation

from ..schemas.heads import FittedPair, HeadTrack, Relation
from ..schemas.tracks import ClipTracks, FaceTrack, Float32, face_scale_px


def clip_scores(
    tracks: ClipTracks, fitted: FittedPair, relation: Relation, sound: Mapping[str, float], split: Mapping[str, float]
) -> dict[str, float]:
    """Scores of one clip by the names of ``schemas.pair.SCORES``; what cannot be measured is NaN.

    Args:
        sound: the audio and binding scores, empty without audio.
        split: the split-screen evidence of the clip's shot.
    """
    inside = (tracks.times >= tracks.start_s - 1e-6) & (tracks.times < tracks.end_s - 1e-6)
    scores: dict[str, float] = {}
    for who, track, head in (("a", tracks.a, fitted.a), ("b", tracks.b, fitted.b)):
        scores |= {f"{name}_{who}": value for name, value in person_scores(track, inside, head).items()}
    both = fitted.a.valid & fitted.b.valid
    scores["mutual_gaze_share"] = mean(relation.mutual_gaze[both])
    scores["distance_sd"] = median(relation.relative_position_sd[both])
    return {**scores, **split, **sound}


def person_scores(track: FaceTrack, inside: np.ndarray, head: HeadTrack) -> dict[str, float]:
    """Scores of one person. ``inside``: [T source frames] those of the clip itself, without its context."""
    measured = track.valid & inside
    valid = head.valid
    yaw = np.degrees(np.abs(yaw_of(head.rotation[valid])))
    bound = yaw + np.degrees(yaw_sd(head.rotation[valid], head.rotation_sd[valid]))
    return {
        "valid": float(valid.mean()) if len(valid) else 0.0,
        "face_scale": median(face_scale_px(track.landmarks[measured])),
        "yaw95": float(np.percentile(yaw, 95)) if len(yaw) else math.nan,
        "yaw_bound": float(np.percentile(bound, 95)) if len(yaw) else math.nan,
        "rotation_range": rotation_range_deg(head.rotation[valid]),
        "residual": median(head.residual[valid]),
        "confidence": median(head.confidence[valid]),
        "sharpness": median(track.sharpness[measured]),
        "gaze_sd": math.degrees(median(head.gaze_sd[valid])),
        "expressiveness": mean(head.expression[valid].std(axis=0)) if valid.sum() > 1 else math.nan,
    }


def yaw_of(rotation: Float32) -> np.ndarray:
    """[...] radians: angle of the face's forward direction from the camera's axis, seen from above; 0 facing it.

    Args:
        rotation: [..., 3] axis-angle, camera frame, zero when facing the camera.
    """
    if not len(rotation):
        return np.zeros(0)
    # The face looks along R F z = -R z; the angle of R z from the axis is the same.
    forward = Rotation.from_rotvec(np.asarray(rotation, np.float64)).as_matrix()[..., :, 2]
    return np.asarray(np.arctan2(forward[..., 0], forward[..., 2]))


def yaw_sd(rotation: Float32, rotation_sd: Float32) -> np.ndarray:
    """[T] radians: standard deviation of :func:`yaw_of`, to first order.

    Args:
        rotation: [T, 3] axis-angle. rotation_sd: [T, 3] radians about the camera's x, y and z axes.
    """
    if not len(rotation):
        return np.zeros(0)
    forward = Rotation.from_rotvec(np.asarray(rotation, np.float64)).as_matrix()[..., :, 2]
    x, y, z = np.moveaxis(forward, -1, 0)
    level = np.maximum(x * x + z * z, 1e-6)  # a turn w moves the yaw atan2(x, z) by w_y - y (x w_x + z w_z) / level
    by_axis = np.stack([x * y / level, np.ones_like(x), y * z / level], axis=-1)
    return np.asarray(np.linalg.norm(by_axis * rotation_sd, axis=-1))


def rotation_range_deg(rotation: Float32) -> float:
    """95th percentile, over frames, of the angle to the median-most frame's rotation, doubled: a robust range."""
    if len(rotation) < 2:
        return math.nan
    matrices = Rotation.from_rotvec(np.asarray(rotation, np.float64)).as_matrix()
    centre = matrices[int(np.argmin(np.linalg.norm(rotation - np.median(rotation, axis=0), axis=-1)))]
    cosine = (np.einsum("nij,ij->n", matrices, centre) - 1) / 2
    return float(2 * np.degrees(np.percentile(np.arccos(np.clip(cosine, -1, 1)), 95)))


def median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan
