"""Landmarks that do not favour one side of the face.

The landmark network answers a mirrored picture with other than the mirrored landmarks: on talk between real people by 3
to 7 % of face scale, which turns a fitted head by 2 degrees. The half difference of the two answers is the part of its
error that has a side. It depends on the person, the pose and the light, all of which change slowly.

So a face is seen mirrored five times a second, and as it is in the frames between: what a mirrored frame says other
than its two neighbours do is twice the error, which is taken off all frames. Heads of a mirrored video are then 0.64
degrees and 1.3 cm from the mirrored heads (ICT head, median of five real clips); with a second look at the same frame
three times a second, an eighth more runs of the network, they were 0.96 degrees and 1.4 cm. Where frames are far
apart, the second look is taken still.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32
from .face_mesh import CROP_PX, REGION_SCALE, MeshFace, Region, mirror_map, region_from_landmarks
from .planar import Pixels

LARGEST = (
    0.05  # mean difference over the region's side (face scale is about a fifth of it): beyond, one answer is wrong
)

CLOSE_S = 0.06  # a face moves evenly between frames that are no farther apart


class Mesher(Protocol):
    def measure(self, picture: Pixels, region: Region) -> MeshFace: ...


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
    return in_own_square((points - seen.landmarks) / 2, region_from_landmarks(seen.landmarks))


def errors_between(
    landmarks: Mapping[int, Float32], mirrored: Collection[int], times: npt.NDArray[np.float64]
) -> dict[int, Float32]:
    """Side errors of one track at its mirrored frames, each against the frames before and after it.

    Args:
        landmarks: frame -> [478, 3] pixels. mirrored: frames that were seen mirrored. times: [T] of all frames, s.

    Returns:
        frame -> side error as :func:`side_error` gives it; mirrored frames without close neighbours are left out.
    """
    found: dict[int, Float32] = {}
    for frame in sorted(mirrored):
        before, after = landmarks.get(frame - 1), landmarks.get(frame + 1)
        if frame not in landmarks or before is None or after is None:
            continue
        if frame - 1 in mirrored or frame + 1 in mirrored or times[frame + 1] - times[frame - 1] > 2 * CLOSE_S:
            continue
        share = float((times[frame] - times[frame - 1]) / (times[frame + 1] - times[frame - 1]))
        plain = (1 - share) * before.astype(np.float64) + share * after
        error = in_own_square((landmarks[frame] - plain) / 2, region_from_landmarks(plain))
        if error is not None:
            found[frame] = error
    return found


def in_own_square(error: npt.NDArray[np.float64], place: Region) -> Float32 | None:
    """A side error in pixels [478, 3] along the axes of a face's square in units of its side; None if too large."""
    error = error / place.side
    if float(np.linalg.norm(error[:, :2], axis=1).mean()) > LARGEST / 2:
        return None
    error[:, :2] = error[:, :2] @ _turn(place.angle)
    return np.asarray(error, dtype=np.float32)


def in_pixels(error: Float32, place: Region) -> Float32:
    """[478, 3] a side error along the frame's axes, in pixels."""
    moved = error * np.float32(place.side)
    moved[:, :2] = moved[:, :2] @ _turn(place.angle).T
    return np.asarray(moved, dtype=np.float32)


def without_side_error(
    landmarks: Mapping[int, Float32],
    errors: Mapping[int, Float32],
    times: npt.NDArray[np.float64],
    mirrored: Collection[int] = (),
) -> dict[int, Float32]:
    """One track's landmarks with the side error of each frame added, between its measurements linearly in time.

    Args:
        landmarks: frame -> [478, 3] pixels. errors: frame -> :func:`side_error`. times: [T] of all frames, seconds.
        mirrored: frames that were seen mirrored; of these it is taken off.
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
    seen_as = np.array([-1.0 if int(frame) in mirrored else 1.0 for frame in frames])
    shift *= (seen_as * side)[:, None, None]
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
