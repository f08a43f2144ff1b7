"""Landmarks that do not favour one side of the face.

The landmark network answers a mirrored picture with other than the mirrored landmarks: on talk between real people by 3
to 7 % of face scale, which turns a fitted head by 2 degrees. The half difference of the two answers is the part of its
error that has a side. It depends on the person, the pose and the light, all of which change slowly: it is measured
three times a second, on the crop that the network saw anyway, and taken off the frames between. (Twice a second,
heads of a mirrored video are 1.5 degrees and 5.8 cm from the mirrored heads, median of five real clips, instead of 1.1
and 2.3.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..fitting.canonical import load_embedded
from ..schemas.tracks import N_LANDMARKS, Float32
from .face_mesh import CROP_PX, REGION_SCALE, MeshFace, Region, region_from_landmarks
from .planar import Pixels

LARGEST = (
    0.05  # mean difference over the region's side (face scale is about a fifth of it): beyond, one answer is wrong
)
# Centre, then a ring that runs from the image's right by the top in the subject's right eye, and mirrored in the left.
_IRISES = (473, 476, 475, 474, 477, 468, 471, 470, 469, 472)


class Mesher(Protocol):
    def measure(self, picture: Pixels, region: Region) -> MeshFace: ...


@cache
def mirror_map() -> npt.NDArray[np.intp]:
    """[478] the landmark on the other side of the face, from the symmetry of the embedded head."""
    skin = load_embedded("canonical").vertices[:468]
    apart = np.linalg.norm(skin[:, None] * [-1.0, 1.0, 1.0] - skin[None], axis=-1)
    other = np.concatenate([apart.argmin(1), _IRISES])
    if not np.array_equal(other[other], np.arange(N_LANDMARKS)):
        raise RuntimeError("the embedded head is not symmetric")
    return np.asarray(other, dtype=np.intp)


def side_error(mesh: Mesher, seen: MeshFace, least_logit: float) -> Float32 | None:
    """Half of what the mirrored picture says otherwise: what to add to the landmarks, in the face's own square.

    Args:
        seen: what the network said of a face; its crop is mirrored and measured again.
        least_logit: below, the second answer counts for nothing.

    Returns:
        [478, 3] along the axes of ``region_from_landmarks(seen.landmarks)``, in units of its side; None where one of
        the answers is no face or they do not belong together.
    """
    whole = Region((CROP_PX - 1) / 2, (CROP_PX - 1) / 2, CROP_PX)
    again = mesh.measure(np.asarray(cv2.flip(seen.crop, 1), np.uint8), whole)
    if again.logit < least_logit:
        return None
    points = again.landmarks[mirror_map()].astype(np.float64)
    points[:, 0] = CROP_PX - 1 - points[:, 0]
    half, step = (CROP_PX - 1) / 2, seen.region.side / CROP_PX
    points[:, :2] = (points[:, :2] - half) * step @ _turn(seen.region.angle).T + (seen.region.x, seen.region.y)
    points[:, 2] *= step
    place = region_from_landmarks(seen.landmarks)
    difference = (points - seen.landmarks) / (2 * place.side)
    if float(np.linalg.norm(difference[:, :2], axis=1).mean()) > LARGEST / 2:
        return None
    difference[:, :2] = difference[:, :2] @ _turn(place.angle)
    return np.asarray(difference, dtype=np.float32)


def without_side_error(
    landmarks: Mapping[int, Float32], errors: Mapping[int, Float32], times: npt.NDArray[np.float64]
) -> dict[int, Float32]:
    """One track's landmarks with the side error of each frame added, between its measurements linearly in time.

    Args:
        landmarks: frame -> [478, 3] pixels. errors: frame -> :func:`side_error`. times: [T] of all frames, seconds.
    """
    if not errors or not landmarks:
        return dict(landmarks)
    frames, measured = np.array(sorted(landmarks)), np.array(sorted(errors))
    now, known = times[frames], times[measured]
    after = np.searchsorted(known, now)
    high = np.minimum(after, len(known) - 1)
    low = np.maximum(high - (after < len(known)), 0)
    span = known[high] - known[low]
    share = np.clip((now - known[low]) / np.where(span > 0, span, 1.0), 0.0, 1.0)[:, None, None]
    found = np.stack([errors[int(frame)] for frame in measured]).astype(np.float64)
    shift = (1 - share) * found[low] + share * found[high]
    points = np.stack([landmarks[int(frame)] for frame in frames])
    angle, side = _angles_and_sides(points)
    shift *= side[:, None, None]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    u, v = shift[..., 0].copy(), shift[..., 1].copy()
    shift[..., 0], shift[..., 1] = u * cos - v * sin, u * sin + v * cos
    corrected = (points + shift).astype(np.float32)
    return {int(frame): corrected[k] for k, frame in enumerate(frames)}


def _angles_and_sides(points: Float32) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """[N] angle and side of ``region_from_landmarks`` for each of [N, 478, 3] landmarks."""
    x, y = points[..., 0].astype(np.float64), points[..., 1].astype(np.float64)
    across = x[:, 263] - x[:, 33] + y[:, 152] - y[:, 10]
    angle = np.arctan2(y[:, 263] - y[:, 33] - x[:, 152] + x[:, 10], across)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    wide, high = np.ptp(x * cos + y * sin, axis=1), np.ptp(y * cos - x * sin, axis=1)
    return angle, np.maximum(wide, high) * REGION_SCALE


def region_without_side_error(landmarks: Float32, error: Float32 | None) -> Region:
    """``region_from_landmarks`` of the landmarks with a :func:`side_error` added."""
    if error is None:
        return region_from_landmarks(landmarks)
    x, y = landmarks[:, 0], landmarks[:, 1]
    eyes, down = landmarks[263, :2] - landmarks[33, :2], landmarks[152, :2] - landmarks[10, :2]
    angle = math.atan2(float(eyes[1] - down[0]), float(eyes[0] + down[1]))
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = x * cos + y * sin, y * cos - x * sin
    side = max(float(u.max() - u.min()), float(v.max() - v.min())) * REGION_SCALE
    u, v = u + error[:, 0] * side, v + error[:, 1] * side
    u0, u1, v0, v1 = float(u.min()), float(u.max()), float(v.min()), float(v.max())
    cu, cv = (u0 + u1) / 2, (v0 + v1) / 2
    turn = math.atan2(
        float(v[263] - v[33] - u[152] + u[10]),
        float(u[263] - u[33] + v[152] - v[10]),
    )
    return Region(cu * cos - cv * sin, cu * sin + cv * cos, max(u1 - u0, v1 - v0) * REGION_SCALE, angle + turn)


def _turn(angle: float) -> npt.NDArray[np.float64]:
    """[2, 2] from a region's own axes to the frame's."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
