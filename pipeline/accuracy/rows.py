"""Scores of one pair against truth: heads, distance, lids, lips, gaze, speaking, binding, layout, uncertainties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from ...fitting.dyad import relate, relative_covariance
from ...fitting.fit import HeadFitter
from ...fitting.head_model import HeadModel, rotation_matrix
from ...fitting.layout import codes_of
from ...fitting.reduce import reduce, reduced_landmarks
from ...schemas.errors import BadInput
from ...schemas.records import METADATA_LOG_SD, Focal
from ...schemas.row import Row, pair_from_row
from ...schemas.tracks import ClipTracks
from ...synthesis.truth import PersonTruth, Truth
from .clock import TrueClip, TruePerson, alignment, angles_deg, between_deg, exact_pair, truth_at, who_is_who
from .stages import Parts, clock_of

Array = npt.NDArray[np.float64]
LIPS, LIDS = (13, 14), ((386, 374), (159, 145))  # FaceMesh: inner lips; left and right lids
YAW_BANDS = ((0, 30), (30, 60), (60, 75))
SCALE_BANDS = ((0, 32), (32, 48), (48, 80), (80, 1000))
LEVELS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # standard deviations
LEAST_FRAMES = 10  # fewer frames in a band say nothing


@dataclass
class RowScore:
    """One pair's scores by name, ready for :mod:`figures`.

    Attributes:
        values: one number a clip, NaN where not measured. parts: numerators and denominators.
        ranked: (scores, labels) of frames.
        bands: "yaw 0-30" and the like -> name -> one number.
        inside: name -> for each of :data:`LEVELS`, (errors below that many stored standard deviations, errors).
    """

    values: dict[str, float] = field(default_factory=dict)
    parts: dict[str, Parts] = field(default_factory=dict)
    ranked: dict[str, tuple[Array, npt.NDArray[np.bool_]]] = field(default_factory=dict)
    bands: dict[str, dict[str, float]] = field(default_factory=dict)
    inside: dict[str, list[Parts]] = field(default_factory=dict)


@dataclass(frozen=True)
class Heads:
    """The head models that a comparison needs.

    Attributes:
        fitted: of the rows. by_id: of the films, by model id. fitter: fits again where the focal length is given.
    """

    fitted: HeadModel
    by_id: Mapping[str, HeadModel]
    fitter: HeadFitter


def in_fitted_axes(truth: Truth, heads: Heads) -> Truth:
    """The truth with rotations in the fitted head's axes where the film wears another head (see ``alignment``)."""
    source = heads.by_id[truth.head_model_id]
    if source.model_id == heads.fitted.model_id:
        return truth
    filmed, fitted = reduce(source), reduce(heads.fitted)

    def turned(person: PersonTruth) -> PersonTruth:
        axes = Rotation.from_matrix(alignment(filmed, fitted, person.shape))
        own = Rotation.from_rotvec(person.rotation.astype(np.float64))
        return replace(person, rotation=(own * axes).as_rotvec().astype(np.float32))

    return replace(truth, a=turned(truth.a), b=turned(truth.b))


def score_row(truth: Truth, row: Row, tracks: ClipTracks | None, heads: Heads) -> RowScore | None:
    """Everything about one pair; None where its tracks are not the two people of the truth.

    Args:
        truth: in the fitted head's axes.
        tracks: the pair's stored landmarks, for the fit with the focal length given.
    """
    clip = truth_at(truth, clock_of(row))
    order = who_is_who(clip, row["a.box"], row["b.box"])
    if order is None:
        return None
    score = RowScore()
    rotations = []
    for name, k in zip("ab", order, strict=True):
        rotations.append(_person(score, row, name, clip.people[k], heads))
    _both(score, row, clip, order, rotations)
    _speech(score, row, clip, order)
    _layout(score, row, clip, order)
    if tracks is not None:
        _known_focal(score, clip, tracks, order, heads)
    for name in ("rotation_deg", "gaze_deg", "lids", "lips", "rotation_known_focal_deg", "gaze_known_focal_deg"):
        pair = [score.values.pop(f"{name}.{who}", float("nan")) for who in "ab"]
        known = [value for value in pair if np.isfinite(value)]
        score.values[name] = float(np.mean(known)) if known else float("nan")
    return score


def _person(score: RowScore, row: Row, who: str, true: TruePerson, heads: Heads) -> tuple[Array, Array]:
    """Scores of one person; returns measured and true rotations [T, 3, 3]."""
    valid, exact = row[f"{who}.valid"], true.rotation
    measured = np.tile(np.eye(3), (len(valid), 1, 1))
    measured[valid] = rotation_matrix(row[f"{who}.rotation"][valid].astype(np.float64))
    error = np.where(valid, angles_deg(measured, exact), np.nan)
    score.values[f"rotation_deg.{who}"] = _mean(error)
    vector = _small(measured[valid] @ exact[valid].transpose(0, 2, 1))
    _calibrated(score, "rotation", vector, row[f"{who}.rotation_sd"][valid])
    places = (row[f"{who}.head_centre"][valid], true.head_centre[valid])
    off_range = np.subtract(*(np.linalg.norm(place, axis=-1) for place in places))
    _calibrated(score, "depth", off_range, row[f"{who}.translation_sd"][valid])
    gaze = row[f"{who}.gaze"].astype(np.float64)
    seen = valid & np.isfinite(gaze).all(-1)
    off = np.full(len(valid), np.nan)
    off[seen] = between_deg(gaze[seen], true.gaze[seen])
    score.values[f"gaze_deg.{who}"] = _mean(off)
    aside = _aside(gaze[seen], true.gaze[seen])
    _calibrated(score, "gaze", aside, row[f"{who}.gaze_sd"][seen, None].astype(np.float64))
    lips, lids = _apertures(row, who, heads.fitted)
    score.values[f"lips.{who}"] = _correlation(lips[valid], true.lips[valid])
    score.values[f"lids.{who}"] = _correlation(lids[valid].mean(-1), true.aperture[valid].mean(-1))
    for title, amount, bands in (("yaw", true.turned_deg, YAW_BANDS), ("scale", true.scale_px, SCALE_BANDS)):
        for low, high in bands:
            rows = (amount >= low) & (amount < high)
            band = score.bands.setdefault(f"{title} {low}-{high}", {})
            for name, values in (("rotation_deg", error), ("gaze_deg", off)):
                if (rows & np.isfinite(values)).sum() >= LEAST_FRAMES:
                    band[f"{name}.{who}"] = _mean(values[rows])
    return measured, exact


def _both(
    score: RowScore, row: Row, clip: TrueClip, order: tuple[int, int], rotations: list[tuple[Array, Array]]
) -> None:
    both = row["a.valid"] & row["b.valid"]
    (ra, ta), (rb, tb) = rotations
    relative = angles_deg((ra.transpose(0, 2, 1) @ rb)[both], (ta.transpose(0, 2, 1) @ tb)[both])
    score.values["relative_rotation_deg"] = _mean(relative)
    turn = _small((ra @ rb.transpose(0, 2, 1) @ (ta @ tb.transpose(0, 2, 1)).transpose(0, 2, 1))[both])
    sd_both = np.hypot(row["a.rotation_sd"], row["b.rotation_sd"])[both]
    _calibrated(score, "relative_rotation", turn, sd_both)
    one, other = (clip.people[k] for k in order)
    exact = other.head_centre - one.head_centre
    miss = np.linalg.norm(row["b.head_centre"] - row["a.head_centre"] - exact, axis=-1)
    score.values["relative_position_cm"] = 100 * _mean(miss[both])
    distance = clip.distance_m
    away = np.abs(row["distance_m"] - distance)
    score.values["distance_unknown_focal_pct"] = 100 * _mean((away / distance)[both])
    between = (row["b.head_centre"] - row["a.head_centre"])[both].astype(np.float64)
    along = between / np.linalg.norm(between, axis=-1, keepdims=True)
    covariance = relative_covariance(pair_from_row(row).fitted)[both]
    distance_sd = np.sqrt(np.einsum("ti,tij,tj->t", along, covariance, along))
    _calibrated(score, "distance", away[both], distance_sd)
    _calibrated(score, "position", miss[both], row["relative_position_sd"][both])
    known = both & np.isfinite(row["mutual_gaze"])
    chance, mutual = row["mutual_gaze"][known].astype(np.float64), clip.mutual_gaze[known]
    score.ranked["mutual_gaze_ap"] = (chance, mutual)
    score.parts["mutual_gaze_brier"] = (float(((chance - mutual) ** 2).sum()), float(known.sum()))
    score.parts["mutual_gaze_found"] = (float((chance[mutual] > 0.5).sum()), float(mutual.sum()))


def _speech(score: RowScore, row: Row, clip: TrueClip, order: tuple[int, int]) -> None:
    labels, chances = [], []
    for who, k in zip("ab", order, strict=True):
        known = np.isfinite(row[f"{who}.speaking"])
        chances.append(row[f"{who}.speaking"][known].astype(np.float64))
        labels.append(clip.people[k].speaking[known])
    score.ranked["speaking_ap"] = (np.concatenate(chances), np.concatenate(labels))
    times = clip.times
    said = {who: np.zeros(len(times), bool) for who in "ab"}
    anyone = np.zeros(len(times), bool)
    for turn in row["turns"]:
        inside = (times >= turn["start_s"]) & (times < turn["end_s"])
        anyone |= inside
        if turn["face"] in said:
            said[turn["face"]] |= inside
    true = {who: clip.people[k].speaking for who, k in zip("ab", order, strict=True)}
    alone = anyone & (true["a"] ^ true["b"])
    right = (said["a"] & ~said["b"] & true["a"]) | (said["b"] & ~said["a"] & true["b"])
    score.parts["binding"] = (float((right & alone).sum()), float(alone.sum()))


def _layout(score: RowScore, row: Row, clip: TrueClip, order: tuple[int, int]) -> None:
    """Claimed codes that are true, and true codes that were claimed; groups without a true code do not count."""
    exact = relate(exact_pair(clip, order, row["fps"], row["width"], row["height"]))
    true = dict(code.split(":", 1) for code in codes_of(exact.layout))
    claimed = dict(code.split(":", 1) for code in row["layout.codes"])
    shared = [group for group in claimed if group in true]
    right = sum(claimed[group] == true[group] for group in shared)
    score.parts["layout_accuracy"] = (float(right), float(len(shared)))
    score.parts["layout_claimed"] = (float(len(shared)), float(len(true)))


def _known_focal(score: RowScore, clip: TrueClip, tracks: ClipTracks, order: tuple[int, int], heads: Heads) -> None:
    """Places, rotations and gaze again with the true focal length given: what is left is head size and landmarks.

    A wrong focal length turns every head that is off the optical axis: its line of sight is bent by as much.
    """
    fitted = heads.fitter.fit([replace(tracks, focal=Focal(clip.focal_px, "metadata", METADATA_LOG_SD))])[0]
    if isinstance(fitted, BadInput):
        return
    both = fitted.a.valid & fitted.b.valid
    measured = np.linalg.norm(fitted.b.head_centre - fitted.a.head_centre, axis=-1)
    count = min(len(measured), len(clip.times))
    true = clip.distance_m[:count]
    score.values["distance_pct"] = 100 * _mean((np.abs(measured[:count] - true) / true)[both[:count]])
    exact = (clip.people[order[1]].head_centre - clip.people[order[0]].head_centre)[:count]
    miss = np.linalg.norm((fitted.b.head_centre - fitted.a.head_centre)[:count] - exact, axis=-1)
    score.values["relative_position_known_focal_cm"] = 100 * _mean(miss[both[:count]])
    for who, k in zip("ab", order, strict=True):
        head, person = getattr(fitted, who), clip.people[k]
        rows = np.flatnonzero(head.valid[:count])
        turned = angles_deg(rotation_matrix(head.rotation[rows].astype(np.float64)), person.rotation[rows])
        score.values[f"rotation_known_focal_deg.{who}"] = _mean(turned)
        looks = rows[np.isfinite(head.gaze[rows]).all(-1)]
        off = between_deg(head.gaze[looks].astype(np.float64), person.gaze[looks])
        score.values[f"gaze_known_focal_deg.{who}"] = _mean(off)


def _apertures(row: Row, who: str, head: HeadModel) -> tuple[Array, Array]:
    """[T] inner-lip gap and [T, 2] lid gaps of a row's own head, metres; NaN where not valid."""
    wanted = (*LIPS, *(point for pair in LIDS for point in pair))
    model, valid = reduce(head, wanted), row[f"{who}.valid"]
    lips, lids = np.full(len(valid), np.nan), np.full((len(valid), 2), np.nan)
    if valid.any():
        points = reduced_landmarks(
            model, row[f"{who}.shape"], row[f"{who}.expression"][valid], row[f"{who}.jaw"][valid].astype(np.float64)
        )
        gaps = np.linalg.norm(points[:, 0::2] - points[:, 1::2], axis=-1)
        lips[valid], lids[valid] = gaps[:, 0], gaps[:, 1:]
    return lips, lids


def _calibrated(score: RowScore, name: str, errors: Array, sd: Array) -> None:
    """Count signed errors inside each of :data:`LEVELS` stored standard deviations; 2 is ``coverage_*``.

    Args:
        errors: one number each (an angle about one axis, a length), so that normal ones are inside 1, 2, 3 deviations
            in 68, 95 and 99.7 % of the frames.
        sd: broadcasts to ``errors``.
    """
    within = [(float((np.abs(errors) < level * sd).sum()), float(errors.size)) for level in LEVELS]
    before = score.inside.get(name, [(0.0, 0.0)] * len(LEVELS))
    score.inside[name] = [(a + c, b + d) for (a, b), (c, d) in zip(before, within, strict=True)]
    score.parts[f"coverage_{name}"] = score.inside[name][LEVELS.index(2.0)]


def _aside(one: Array, true: Array) -> Array:
    """[N, 2] radians by which directions [N, 3] lie off the true ones, across and down as the camera sees it."""
    down = np.cross(true, [1.0, 0.0, 0.0])
    down /= np.linalg.norm(down, axis=-1, keepdims=True)
    across = np.cross(down, true)
    return np.stack(
        [np.arctan2(np.sum(one * axis, axis=-1), np.sum(one * true, axis=-1)) for axis in (across, down)], axis=-1
    )


def _small(turns: Array) -> Array:
    """[N, 3] radians: the vectors of small rotation matrices."""
    return np.stack([turns[:, 2, 1] - turns[:, 1, 2], turns[:, 0, 2] - turns[:, 2, 0], turns[:, 1, 0] - turns[:, 0, 1]],
                    axis=-1) / 2  # fmt: skip


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _correlation(one: Array, other: Array) -> float:
    """Pearson's; NaN where either does not move."""
    if len(one) < LEAST_FRAMES or np.std(one) < 1e-7 or np.std(other) < 1e-7:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])
