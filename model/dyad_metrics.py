"""Measures of two people in one space: parameter errors by part, gaze, mutual gaze, distance, facing.

The parameter columns are those of Talking Together's tables (Shan et al., CVPR 2026). Its exact definitions are not
published, so figures of the same name are *not* comparable with its tables; the definitions here are written out.
Every measure uses only frames where prediction and truth are valid. Needs SciPy and scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..fitting.head_model import rotation_matrix
from ..schemas.heads import HeadTrack
from ..schemas.tracks import Bool, Float32
from .metrics import diversity_index, frechet_distance, paired_frechet_distance, residual_correlation
from .turns import unwrapped

Array = npt.NDArray[np.float64]
FLIP = np.diag([1.0, -1.0, -1.0])  # model axes to a facing camera's
CLUSTERS = 40
SPEAKS = 0.5
_LIP_WORDS = ("mouth", "lip", "jaw", "smile", "tongue", "pucker", "funnel")


def parts_of(head: HeadTrack) -> dict[str, Array]:
    """A head's motion by part, [T, D] each; NaN where not valid.

    ``expression`` (with the jaw), ``rotation`` (neck, then head, :func:`unwrapped` over the valid frames), ``eye``
    (both), ``translation`` in metres relative to the first valid frame.
    """
    frames = len(head.valid)
    first = int(np.argmax(head.valid))
    turns = unwrapped(np.where(head.valid[:, None], head.rotation, np.nan))
    moved = head.translation.astype(np.float64) - head.translation[first]
    return {
        "expression": np.concatenate([head.expression, head.jaw], axis=1).astype(np.float64),
        "rotation": np.concatenate([head.neck, turns], axis=1).astype(np.float64),
        "eye": head.eyes.reshape(frames, 6).astype(np.float64),
        "translation": moved,
    }


def lip_modes(names: Sequence[str]) -> list[int]:
    """Expression modes that move the mouth, by their names; none for a head model of unnamed modes."""
    return [index for index, name in enumerate(names) if any(word in name.lower() for word in _LIP_WORDS)]


def parameter_errors(
    predicted: HeadTrack, truth: HeadTrack, partner: HeadTrack, speaking: Float32, lips: Sequence[int] = ()
) -> dict[str, float]:
    """One person's columns of Talking Together's tables, unscaled.

    Args:
        partner: the other person's truth.
        speaking: [T] probability that the person speaks; frames at 0.5 and over count as speaking, NaN as neither.
        lips: expression modes that move the mouth (:func:`lip_modes`); the jaw always counts.

    Returns:
        ``mse_full, mse_expression, mse_rotation, mse_translation, mse_eye, mse_lip`` (squared units of the arrays),
        ``fd, pfd, rpcc`` of all numbers, ``sid_speaker, sid_listener`` (bits), and of the frames in which the person
        listens ``fd_listener, mse_listener`` of expression and jaw and ``fd_listener_rotation, mse_listener_rotation``
        of neck and head (the listener columns of ViCo's tables); NaN with under two such frames.

    Raises:
        ValueError: fewer than two frames where all three are valid.
    """
    keep = predicted.valid & truth.valid & partner.valid
    if keep.sum() < 2:
        raise ValueError("fewer than two frames in which prediction, truth and partner are valid")
    got, wanted, other = (_kept(parts_of(head), keep) for head in (predicted, truth, partner))
    for parts in (got, wanted, other):  # a prediction may move before the truth's first frame
        parts["translation"] = parts["translation"] - parts["translation"][0]
    got["rotation"][:, 3:] = unwrapped(got["rotation"][:, 3:], wanted["rotation"][0, 3:])
    out = {f"mse_{name}": float(np.mean((got[name] - wanted[name]) ** 2)) for name in got}
    lip = [*lips, *range(got["expression"].shape[1] - 3, got["expression"].shape[1])]
    out["mse_lip"] = float(np.mean((got["expression"][:, lip] - wanted["expression"][:, lip]) ** 2))
    x, y, z = (np.concatenate(list(parts.values()), axis=1) for parts in (got, wanted, other))
    out["mse_full"] = float(np.mean((x - y) ** 2))
    out["fd"], out["pfd"] = frechet_distance(x, y), paired_frechet_distance(x, y, z)
    out["rpcc"] = residual_correlation(x, y, z)
    listens = speaking[keep] < SPEAKS
    for tail, part in (("", "expression"), ("_rotation", "rotation")):
        x_part, y_part = got[part][listens], wanted[part][listens]
        enough = len(x_part) >= 2
        out[f"fd_listener{tail}"] = frechet_distance(x_part, y_part) if enough else math.nan
        out[f"mse_listener{tail}"] = float(np.mean((x_part - y_part) ** 2)) if enough else math.nan
    for name, mask in (("speaker", speaking[keep] >= SPEAKS), ("listener", listens)):
        out[f"sid_{name}"] = diversity_index(y[mask], x[mask], CLUSTERS) if mask.sum() >= 2 else math.nan
    return out


def _kept(parts: Mapping[str, Array], keep: Bool) -> dict[str, Array]:
    return {name: values[keep] for name, values in parts.items()}


def gaze_directions(rotation: npt.ArrayLike, eyes: npt.ArrayLike) -> Array:
    """[T, 3] unit mean of both eyes' axes in the camera frame, of head rotations [T, 3] and eyes [T, 2, 3]."""
    axes = rotation_matrix(eyes)[..., 2]  # each eyeball's +z, model frame
    mean = axes.mean(axis=-2)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    return np.asarray(np.einsum("tij,jk,tk->ti", rotation_matrix(rotation), FLIP, mean))


def forward_directions(rotation: npt.ArrayLike) -> Array:
    """[T, 3] where heads face, camera frame: -z for rotation zero."""
    return np.asarray(rotation_matrix(rotation) @ FLIP)[..., 2]


def angle_between(x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """[...] radians between vectors [..., 3]; exact for small angles."""
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.asarray(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))


def gaze_error_deg(predicted: HeadTrack, truth: HeadTrack) -> float:
    """Mean angle between both gazes over frames in which both are known; NaN where there is none."""
    angles = angle_between(predicted.gaze, truth.gaze)
    known = np.isfinite(angles)
    return float(np.degrees(angles[known].mean())) if known.any() else math.nan


@dataclass(frozen=True)
class SpaceErrors:
    """How far two generated people stand and face from the true arrangement, means over valid frames.

    Attributes:
        distance_m: of the distance between the head centres. distance_share: the same over the true distance.
        position_m: of b's place as seen from a.
        facing_deg: of the angle between where a head faces and where the partner is, both people.
    """

    distance_m: float
    distance_share: float
    position_m: float
    facing_deg: float


def space_errors(predicted: tuple[HeadTrack, HeadTrack], truth: tuple[HeadTrack, HeadTrack]) -> SpaceErrors:
    """Errors of the arrangement.

    Args:
        predicted, truth: (a, b), each pair in a camera frame of its own.

    Raises:
        ValueError: no frame in which all four are valid.
    """
    keep = np.logical_and.reduce([head.valid for head in (*predicted, *truth)])
    if not keep.any():
        raise ValueError("no frame in which both people are valid in prediction and truth")
    offsets, facings = [], []
    for a, b in (predicted, truth):
        offset = (b.head_centre.astype(np.float64) - a.head_centre)[keep]
        offsets.append(offset)
        facing = [
            angle_between(forward_directions(head.rotation[keep]), towards)
            for head, towards in ((a, offset), (b, -offset))
        ]
        facings.append(np.stack(facing))
    got, wanted = (np.linalg.norm(offset, axis=1) for offset in offsets)
    return SpaceErrors(
        distance_m=float(np.abs(got - wanted).mean()),
        distance_share=float((np.abs(got - wanted) / wanted).mean()),
        position_m=float(np.linalg.norm(offsets[0] - offsets[1], axis=1).mean()),
        facing_deg=float(np.degrees(np.abs(facings[0] - facings[1]).mean())),
    )


def mutual_gaze_ap(predicted: Sequence[npt.ArrayLike], truth: Sequence[npt.ArrayLike]) -> float:
    """Average precision of predicted mutual gaze over all frames of all clips.

    Args:
        predicted: per clip [T] scores, higher is surer. truth: per clip [T] probabilities; over 0.5 is mutual gaze.
            Frames where either is NaN are left out.

    Returns:
        0..1; NaN without a frame of mutual gaze. Its chance level is the share of mutual frames.
    """
    from sklearn.metrics import average_precision_score

    scores = np.concatenate([np.asarray(clip, np.float64) for clip in predicted])
    labels = np.concatenate([np.asarray(clip, np.float64) for clip in truth])
    known = np.isfinite(scores) & np.isfinite(labels)
    positive = labels[known] > 0.5
    return float(average_precision_score(positive, scores[known])) if positive.any() else math.nan


def mutual_gaze_chance(predicted: Sequence[npt.ArrayLike], truth: Sequence[npt.ArrayLike]) -> float:
    """What :func:`mutual_gaze_ap` has for a random order: the share of mutual frames among its own; NaN without any."""
    scores, labels = (np.concatenate([np.asarray(clip, np.float64) for clip in each]) for each in (predicted, truth))
    known = labels[np.isfinite(scores) & np.isfinite(labels)]
    return float((known > 0.5).mean()) if len(known) else math.nan
