"""Scores of the stages that see whole videos: cuts, tracks, split screens, turns, A/V offset, usable pairs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from ...schemas.row import Row
from ...schemas.selection import SelectionOptions
from ...synthesis.truth import PersonTruth, Truth
from ...transforms.clips import ClipOptions
from .clock import TrueClip, box_iou, truth_at, who_is_who
from .found import FoundVideo

Array = npt.NDArray[np.float64]
Parts = tuple[float, float]  # a numerator and a denominator, summed over clips

FRAME_TOLERANCE = 1  # frames that a cut may lie off
LEAST_IOU = 0.3  # of a tracked box with the true one; a box is of the skin, and of what a detector calls a face
LEAST_SHOWING = 0.3  # a face of which less can be seen need not be found; what is found of it is not wrong
WINDOW_S, SHORTEST_S = 10.0, 3.0
USABLE_YAW_DEG = 75.0  # of a face that is worth training on; selection measures, and asks for less to be sure of it


def cuts(truth: Truth, found: FoundVideo) -> Parts:
    """F1 of shot changes as (2 tp, 2 tp + fp + fn).

    A hard cut is found by one cut within ``FRAME_TOLERANCE``, a fade or a dissolve by any inside it, that tolerance
    added (the rule of ClipShots, Tang et al. 2018); further ones inside the same fade (the picture goes dark and
    comes back) are not false. A film that fades in begins with no change.
    """
    slack = (FRAME_TOLERANCE + 0.5) / truth.fps
    changes = [(one.start_s - slack, one.end_s + slack, one.kind) for one in truth.transitions if one.shot > 0]
    opening = [one.end_s + slack for one in truth.transitions if one.shot == 0]
    left = [cut for cut in found.cuts if not opening or cut > opening[0]]
    right = 0
    for start, end, kind in changes:
        inside = sorted((cut for cut in left if start <= cut <= end), key=lambda c: abs(c - (start + end) / 2))
        right += bool(inside)
        for cut in inside if kind == "fade" else inside[:1]:
            left.remove(cut)
    return 2.0 * right, float(2 * right + len(left) + len(changes) - right)


@dataclass(frozen=True)
class TrackScore:
    """IDF1 (Ristani et al. 2016) as parts, and how often a true face's track changed its name."""

    idf1: Parts
    switches: int


def tracks(truth: Truth, found: FoundVideo) -> TrackScore:
    """Tracks against true boxes on the frames that were tracked; a person is one identity within a shot.

    Only the two have identities. A passer-by, or a face of which under ``LEAST_SHOWING`` can be seen, may be followed
    by a track of its own; the track of one of the two must never be on anybody else.
    """
    right = faces = boxes = 0.0
    switches = 0
    for shot in sorted({shot for _, shot, _ in found.tracks}):
        pieces = [(times, boxes_) for times, index, boxes_ in found.tracks if index == shot]
        names = sorted({name for _, by_name in pieces for name in by_name})
        hits, held = np.zeros((2, len(names))), np.zeros((2, len(names)))
        seen, excused = np.zeros(len(names)), np.zeros(len(names))
        last: list[int | None] = [None, None]
        for times, by_name in pieces:
            at = np.abs(truth.times[:, None] - times[None]).argmin(0)
            there = [showing(person)[at] for person in (truth.a, truth.b)]
            faces += float(sum(here.sum() for here in there))
            measured = [by_name.get(name, np.full((len(times), 4), np.nan)) for name in names]
            faces_at = [person.box[at].astype(np.float64) for person in (truth.a, truth.b)]
            excusable = [*faces_at, *(one.box[at].astype(np.float64) for one in truth.bystanders)]
            for n, box in enumerate(measured):
                on = [_on(box, face) for face in excusable]
                nobody = np.isfinite(box[:, 0]) & ~(on[0] & there[0]) & ~(on[1] & there[1])
                seen[n] += np.isfinite(box[:, 0]).sum()
                excused[n] += (nobody & np.any(on, axis=0)).sum()
                held[:, n] += [(on[k] & ~there[k]).sum() for k in (0, 1)]
            for k in (0, 1):
                share = (
                    np.stack([np.nan_to_num(box_iou(box, faces_at[k])) for box in measured], axis=1) * there[k][:, None]
                )
                hits[k] += (share >= LEAST_IOU).sum(0)
                for row in share[share.max(1, initial=0.0) >= LEAST_IOU]:
                    now = int(row.argmax())
                    switches += last[k] is not None and last[k] != now
                    last[k] = now
        one, other = linear_sum_assignment(-hits)
        right += float(hits[one, other].sum())
        chosen = np.isin(np.arange(len(names)), other)
        boxes += float(seen.sum() - excused[~chosen].sum() - held[one, other].sum())
    return TrackScore((2.0 * right, faces + boxes), switches)


def showing(person: PersonTruth) -> npt.NDArray[np.bool_]:
    """[T] the face is in the picture, and enough of it can be seen to be measured."""
    return np.asarray(person.visible & (person.visible_share >= LEAST_SHOWING))


def _on(box: Array, true: Array) -> npt.NDArray[np.bool_]:
    return np.asarray(np.nan_to_num(box_iou(box, true)) >= LEAST_IOU)


@dataclass(frozen=True)
class TurnScore:
    """Diarization error as (seconds of error, seconds of speech): without and with pyannote's collar of 0.5 s."""

    strict: Parts
    collar: Parts


def turns(truth: Truth, found: FoundVideo) -> TurnScore:
    """Turns of all pairs of a video against truth, on the sound's clock, overlap scored, inside the pairs' bounds."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    from pyannote.core import Annotation, Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    if not found.rows:
        return TurnScore((0.0, 0.0), (0.0, 0.0))
    right, heard = Annotation(), Annotation()
    for i, turn in enumerate(truth.turns):
        right[Segment(turn.start_s, turn.end_s), i] = turn.face
    shift = found.shift_s
    for row in found.rows:
        for i, turn in enumerate(row["turns"]):
            name = turn["face"] or turn["speaker"]
            heard[Segment(turn["start_s"] + shift, turn["end_s"] + shift), f"{row['pair_id']} {i}"] = (
                _swapped(name) if _order(truth, row) == (1, 0) else name
            )
    within = Timeline([Segment(row["start_s"] + shift, row["end_s"] + shift) for row in found.rows])
    parts = []
    for collar in (0.0, 0.5):
        metric = DiarizationErrorRate(collar=collar, skip_overlap=False)
        detail = metric(right, heard, uem=within, detailed=True)
        wrong = detail["false alarm"] + detail["missed detection"] + detail["confusion"]
        parts.append((float(wrong), float(detail["total"])))
    return TurnScore(*parts)


def _swapped(face: str) -> str:
    return {"a": "b", "b": "a"}.get(face, face)


def clock_of(row: Row) -> Array:
    """[T] times of a row's frames."""
    return np.asarray(row["start_s"] + np.arange(row["n_frames"]) / row["fps"])


def _order(truth: Truth, row: Row) -> tuple[int, int] | None:
    return who_is_who(truth_at(truth, clock_of(row)), row["a.box"], row["b.box"])


def usable(
    truth: Truth,
    start_s: float,
    end_s: float,
    snr_db: float | None,
    options: SelectionOptions,
    clips: ClipOptions | None = None,
) -> tuple[bool, str]:
    """Whether a stretch of a video is worth training on, by its truth: the thresholds of selection on true values, and
    ``USABLE_YAW_DEG``.

    Args:
        snr_db: of the sound, None without noise. options: thresholds. clips: when a third person is one too many; None
            where a third person does not matter.

    Returns:
        (yes or no, why not).
    """
    rows = np.flatnonzero((truth.times >= start_s - 1e-6) & (truth.times < end_s - 1e-6))
    if truth.split_screen:
        return False, "two rooms"
    if end_s - start_s < options.min_duration_s - 1e-6 or not len(rows):
        return False, "too short"
    if len(set(truth.shot_index[rows].tolist())) > 1:
        return False, "a cut inside"
    for person in (truth.a, truth.b):
        if showing(person)[rows].mean() < options.valid_share:
            return False, "out of sight"
    here = truth_at(truth, truth.times[rows])
    for true in here.people:
        if np.median(true.scale_px) < options.face_scale_px:
            return False, "too small"
        if np.percentile(true.yaw_deg, 95) > USABLE_YAW_DEG:
            return False, "turned away"
    if clips is not None and _crowded(truth, rows, here, clips):
        return False, "a third person"
    if np.mean(here.people[0].speaking | here.people[1].speaking) < options.speech_share:
        return False, "silent"
    if snr_db is not None and snr_db < options.snr_db:
        return False, "noisy"
    return True, ""


def _crowded(truth: Truth, rows: npt.NDArray[np.int64], here: TrueClip, clips: ClipOptions) -> bool:
    """Whether a third person is prominent in these frames, by the rule of the clips."""
    smaller = min(float(np.median(true.box[:, 3] - true.box[:, 1])) for true in here.people)
    for third in truth.bystanders:
        big = third.box[rows, 3] - third.box[rows, 1] >= clips.passer_by_size * smaller
        if (big & (third.visible_share[rows] >= LEAST_SHOWING)).sum() / truth.fps >= clips.passer_by_s:
            return True
    return False


@dataclass(frozen=True)
class UsableScore:
    """Seconds: (selected and usable, selected), (usable and selected, usable)."""

    precision: Parts
    recall: Parts


def selection(
    truth: Truth, found: FoundVideo, snr_db: float | None, options: SelectionOptions, clips: ClipOptions
) -> UsableScore:
    """Selected pairs against truth. A selected pair is right where its stretch is usable *and* its labels follow the
    two people and the true sound: boxes on both in 90 % of the frames, sound within a frame after correction. A
    passer-by does no harm to a pair that was kept; stretches with one who is prominent need not be kept."""
    right = chosen = 0.0
    covered: list[tuple[float, float]] = []
    for row in found.rows:
        if row["pair_id"] not in found.selected:
            continue
        start, end = row["start_s"], row["end_s"]
        chosen += end - start
        good = usable(truth, start + 0.05, end - 0.05, snr_db, replace(options, min_duration_s=0.0))[0]
        in_sync = abs(truth.av_offset_s - found.shift_s) <= options.av_offset_s + 0.01
        if good and in_sync and _order(truth, row) is not None:
            right += end - start
            covered.append((start, end))
    wanted = hit = 0.0
    for start, end in windows(whole_shots(truth)):
        if usable(truth, start, end, snr_db, options, clips)[0]:
            wanted += end - start
            hit += sum(max(0.0, min(end, e) - max(start, s)) for s, e in covered)
    return UsableScore((right, chosen), (hit, wanted))


def whole_shots(truth: Truth) -> list[tuple[float, float]]:
    """The shots less their dissolves, where two pictures are seen at once."""
    shots = list(truth.shots)
    for change in truth.transitions:
        if change.kind == "dissolve":
            before, after = shots[change.shot - 1], shots[change.shot]
            shots[change.shot - 1] = (before[0], min(before[1], change.start_s))
            shots[change.shot] = (max(after[0], change.end_s), after[1])
    return shots


def windows(shots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The clips that a perfect scan would cut shots into: 10 s each, the rest where it is at least 3 s."""
    out = []
    for start, end in shots:
        at = start
        while end - at >= SHORTEST_S - 1e-6:
            out.append((at, min(end, at + WINDOW_S)))
            at += WINDOW_S
    return out


def calls(truth: Truth, found: FoundVideo) -> tuple[Parts, Parts]:
    """(split-screen shots stopped as such, split-screen shots), (two-shots stopped as split screens, two-shots)."""
    middles = [(s + e) / 2 for k, (s, e) in enumerate(truth.shots) if e - s >= SHORTEST_S and _two(truth, k)]
    stopped = [(r.start_s, r.end_s) for r in found.rejects if r.reason == "split_screen"]
    hit = sum(any(s < middle < e for s, e in stopped) for middle in middles)
    both = (float(hit), float(len(middles)))
    return (both, (0.0, 0.0)) if truth.split_screen else ((0.0, 0.0), both)


def _two(truth: Truth, shot: int) -> bool:
    """Both people can be seen through most of a shot: no close-up."""
    rows = truth.shot_index == shot
    return bool((showing(truth.a) & showing(truth.b))[rows].mean() > 0.5)
