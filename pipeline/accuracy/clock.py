"""Truth on a row's clock: the people of a conversation as they were at given times, and which of them is whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

from ...fitting.reduce import reduced_landmarks
from ...fitting.reduced import ReducedModel
from ...schemas.heads import FittedPair, HeadTrack
from ...schemas.tracks import face_scale_px
from ...synthesis.truth import PersonTruth, Truth

Array = npt.NDArray[np.float64]
FLIP = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class TruePerson:
    """One person at T times; frames and units of :class:`PersonTruth`.

    Attributes:
        rotation: [T, 3, 3]. head_centre, gaze: [T, 3]. box: [T, 4]. aperture: [T, 2]. lips: [T].
        scale_px: [T] face scale. speaking, visible: [T].
    """

    rotation: Array
    head_centre: Array
    gaze: Array
    box: Array
    aperture: Array
    lips: Array
    scale_px: Array
    speaking: npt.NDArray[np.bool_]
    visible: npt.NDArray[np.bool_]

    @property
    def turned_deg(self) -> Array:
        """[T] degrees between the face's forward axis and the line of sight to it."""
        sight = self.head_centre / np.linalg.norm(self.head_centre, axis=-1, keepdims=True)
        return np.asarray(np.degrees(np.arccos(np.clip(np.sum(self.rotation[:, :, 2] * sight, axis=-1), -1, 1))))

    @property
    def yaw_deg(self) -> Array:
        """[T] |yaw| as selection counts it: of the forward axis from the camera's axis, seen from above."""
        forward = self.rotation[:, :, 2]
        return np.asarray(np.degrees(np.abs(np.arctan2(forward[:, 0], forward[:, 2]))))


@dataclass(frozen=True)
class TrueClip:
    """Both people at T times of one shot, and what joins them."""

    times: Array
    focal_px: float
    people: tuple[TruePerson, TruePerson]
    mutual_gaze: npt.NDArray[np.bool_]

    @property
    def distance_m(self) -> Array:
        """[T] between the head centres."""
        a, b = self.people
        return np.asarray(np.linalg.norm(b.head_centre - a.head_centre, axis=-1))


def truth_at(truth: Truth, times: Array) -> TrueClip:
    """Truth interpolated inside the shot that holds the middle of ``times``; held still beyond its ends."""
    middle = int(np.argmin(np.abs(truth.times - np.median(times))))
    rows = np.flatnonzero(truth.shot_index == truth.shot_index[middle])
    known = truth.times[rows]
    at = np.clip(times, known[0], known[-1])
    nearest = rows[np.abs(known[:, None] - at[None]).argmin(0)]
    people = (_person(truth.a, rows, known, at, nearest), _person(truth.b, rows, known, at, nearest))
    return TrueClip(times, float(truth.focal_px[middle]), people, truth.mutual_gaze[nearest])


def _person(
    one: PersonTruth, rows: npt.NDArray[np.int64], known: Array, at: Array, nearest: npt.NDArray[np.int64]
) -> TruePerson:
    def linear(values: npt.NDArray[Any]) -> Array:
        flat = np.asarray(values[rows], np.float64).reshape(len(rows), -1)
        out = np.stack([np.interp(at, known, column) for column in flat.T], axis=-1)
        return out.reshape(len(at), *values.shape[1:])

    turned = Rotation.from_rotvec(np.asarray(one.rotation[rows], np.float64))
    rotation = Slerp(known, turned)(at).as_matrix() if len(rows) > 1 else np.repeat(turned.as_matrix(), len(at), 0)
    gaze = linear(one.gaze)
    return TruePerson(
        rotation=rotation,
        head_centre=linear(one.head_centre),
        gaze=gaze / np.linalg.norm(gaze, axis=-1, keepdims=True),
        box=linear(one.box),
        aperture=linear(one.aperture),
        lips=linear(one.lips),
        scale_px=np.asarray(face_scale_px(one.landmarks)[nearest], np.float64),
        speaking=one.speaking[nearest],
        visible=one.visible[nearest],
    )


def who_is_who(clip: TrueClip, box_a: Array, box_b: Array) -> tuple[int, int] | None:
    """Which true person (0 or 1) a row's a and b are, by overlap of face boxes; None where they are not both people.

    Args:
        box_a, box_b: [T, 4] measured boxes, NaN where nothing was seen.
    """
    shares = np.array([[overlap(box, p.box) for p in clip.people] for box in (box_a, box_b)])
    order = (0, 1) if shares[0, 0] + shares[1, 1] >= shares[0, 1] + shares[1, 0] else (1, 0)
    return order if min(shares[0, order[0]], shares[1, order[1]]) >= 0.9 else None


def overlap(measured: Array, true: Array, least: float = 0.3) -> float:
    """Share of the measured boxes whose intersection over union with the true ones is at least ``least``."""
    iou = box_iou(measured, true)
    known = np.isfinite(iou)
    return float(np.mean(iou[known] >= least)) if known.any() else 0.0


def box_iou(one: Array, other: Array) -> Array:
    """[...] intersection over union of boxes [..., 4]; NaN where one is."""
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    inside = np.prod(np.maximum(high - low, 0.0), axis=-1)
    areas = [np.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (one, other)]
    return np.asarray(inside / np.maximum(areas[0] + areas[1] - inside, 1e-9))


def alignment(source: ReducedModel, target: ReducedModel, shape: npt.NDArray[np.floating]) -> Array:
    """[3, 3] from the source head's axes to the target's, as rotations of both are written on disk.

    Every head model defines its own "straight ahead": least squares of the person's neutral face to the mean face.
    """
    common = np.intersect1d(source.landmarks, target.landmarks)
    a = reduced_landmarks(source, shape.astype(np.float64))[np.searchsorted(source.landmarks, common)]
    b = target.mean.sum(0)[np.searchsorted(target.landmarks, common)]
    turn, _ = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
    return np.asarray(FLIP @ turn.as_matrix().T @ FLIP)


def angles_deg(a: Array, b: Array) -> Array:
    """[N] geodesic degrees between rotation matrices [N, 3, 3]."""
    return np.asarray(np.degrees(np.arccos(np.clip((np.einsum("nij,nij->n", a, b) - 1) / 2, -1, 1))))


def between_deg(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Array:
    """[N] degrees between unit vectors [N, 3]."""
    return np.asarray(np.degrees(np.arccos(np.clip(np.sum(a.astype(np.float64) * b, axis=-1), -1, 1))))


def exact_pair(clip: TrueClip, order: tuple[int, int], fps: float, width: int, height: int) -> FittedPair:
    """The truth as a fit without error would have given it: what :func:`fitting.dyad.relate` reads of a pair."""
    heads = tuple(_exact_head(clip.people[k], name) for k, name in zip(order, "ab", strict=True))
    return FittedPair(clip.times, fps, width, height, clip.focal_px, "user", 0.0, "", "", "", heads[0], heads[1])


def _exact_head(person: TruePerson, name: str) -> HeadTrack:
    count = len(person.lips)
    single = np.float32
    none, still = np.zeros(count, single), np.zeros((count, 3), single)
    gaze, centre = person.gaze.astype(single), person.head_centre.astype(single)
    rotation = Rotation.from_matrix(person.rotation).as_rotvec().astype(single)
    small = np.full(count, 1e-4, single)
    return HeadTrack(
        track_id=name, shape=np.zeros(1, single), expression=np.zeros((count, 1), single), jaw=still, neck=still,
        rotation=rotation, translation=centre, eyes=np.zeros((count, 2, 3), single), gaze_raw=gaze, gaze=gaze,
        head_centre=centre, rotation_sd=small[:, None].repeat(3, 1), translation_sd=small, gaze_sd=small, residual=none,
        box=person.box.astype(single), confidence=np.ones(count, single), valid=person.visible, scale_log_sd=0.0,
    )  # fmt: skip
