"""From what the scan saw to what is worth tracking: shots, the people in them, and which windows hold two.

Decides generously: see ``scan``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.records import Shot, Video
from ..schemas.tracks import Bool, Float32, Float64
from .detect_faces import SURE
from .scan import BOX_PER_SCALE, ScanOptions, ScanPiece
from .shots import black_runs, find_cuts, join_traces
from .split_screen import split_detail

HALF_DISSOLVE_S = 0.5  # either side of a dissolve's middle two pictures are seen at once
CERTAIN = 0.8  # a bystander counts only if he was found twice with this score
CROWD = 5  # unless so many people were each found twice at least: so many patterns do not pass for faces at once


@dataclass(frozen=True)
class ShotScan:
    """One shot and the face samples in it; fields as in :class:`ScanPiece`."""

    shot: Shot
    sample_times: Float64
    owner: npt.NDArray[np.int64]
    boxes: Float32
    scores: Float32
    seams: Float32


@dataclass(frozen=True)
class DroppedSpan:
    """A part of a shot that goes no further, and why (``reason`` is one of ``records.REASONS``)."""

    start_s: float
    end_s: float
    reason: str
    detail: str


@dataclass(frozen=True)
class ShotVerdict:
    """What the scan decided about a shot.

    Attributes:
        spans: (start_s, end_s) of the parts worth tracking, in time order, on the shot's clip grid.
        dropped: the other parts with their reasons. A rest shorter than a clip after other windows is in neither.
        split_colour: median Bhattacharyya distance across the seam candidate; NaN without one.
        split_seam: median share of the picture that the seam candidate covers; NaN without one.
    """

    spans: tuple[tuple[float, float], ...]
    dropped: tuple[DroppedSpan, ...]
    split_colour: float
    split_seam: float


def merge_scan(pieces: Sequence[ScanPiece], video: Video, options: ScanOptions | None = None) -> list[ShotScan]:
    """The shots of a video from its scanned pieces, in time order. Black parts and dissolves belong to no shot.

    A video that is black throughout is one shot; one without any frame has none.

    Args:
        pieces: all pieces, in time order.
    """
    options = options or ScanOptions()
    trace = join_traces([p.trace for p in pieces])
    if not len(trace.times):
        return []
    step = 1.0 / video.mean_fps if video.mean_fps > 0 else 0.0
    first = max(video.start_s, float(trace.times[0]))
    last = min(video.end_s, float(trace.times[-1]) + step)
    black = black_runs(trace, options.shots)
    if len(black) == 1 and black[0][0] <= trace.times[0] and math.isinf(black[0][1]):
        black = []
    cuts = [c for c in find_cuts(trace, options.shots) if first < c.time_s < last]
    clear = [HALF_DISSOLVE_S if c.kind == "dissolve" else 0.0 for c in cuts]
    begins = [first, *(c.time_s + gap for c, gap in zip(cuts, clear, strict=True))]
    ends = [*(c.time_s - gap for c, gap in zip(cuts, clear, strict=True)), last]
    times = np.concatenate([p.sample_times for p in pieces])
    seams = np.concatenate([p.seams for p in pieces])
    starts = np.cumsum([0, *(len(p.sample_times) for p in pieces)])
    owner = np.concatenate([p.owner + n for p, n in zip(pieces, starts, strict=False)])
    boxes = np.concatenate([p.boxes for p in pieces])
    scores = np.concatenate([p.scores for p in pieces])
    shots: list[ShotScan] = []
    for start, end in zip(begins, ends, strict=True):
        middle = (start + end) / 2
        if end <= start or any(b <= middle < e for b, e, _ in black):
            continue
        lo, hi = np.searchsorted(times, [start, end], side="left")
        mine = (owner >= lo) & (owner < hi)
        shot = Shot(video.video_id, len(shots), start, end)
        shots.append(ShotScan(shot, times[lo:hi], owner[mine] - lo, boxes[mine], scores[mine], seams[lo:hi]))
    return shots


def judge_shot(scan: ShotScan, video: Video, options: ScanOptions | None = None) -> ShotVerdict:
    """Which parts of a shot hold exactly two prominent people, generously, per window of the clip grid."""
    options = options or ScanOptions()
    shot = scan.shot
    rows = scan.seams[np.isfinite(scan.seams).all(axis=1)]
    seen = rows[rows[:, 2] > 0]
    colour = float(np.median(seen[:, 5])) if len(seen) else math.nan
    seam = float(np.median(seen[:, 2])) if len(seen) else math.nan

    def whole(reason: str, detail: str) -> ShotVerdict:
        return ShotVerdict((), (DroppedSpan(shot.start_s, shot.end_s, reason, detail),), colour, seam)

    length = shot.end_s - shot.start_s
    if length < options.shortest_s - 1e-6:
        return whole("too_short", f"{length:.2f} s, {options.shortest_s:g} s are needed")
    people = link_people(scan, options)
    kept: list[tuple[float, float]] = []
    dropped: list[DroppedSpan] = []
    for k in range(math.ceil(length / options.clip_s - 1e-9)):
        start = shot.start_s + k * options.clip_s
        end = min(shot.end_s, start + options.clip_s)
        if end - start < options.shortest_s - 1e-6:
            break
        reason, detail = _judge_window(people, start, end, options)
        if not reason:
            if kept and abs(kept[-1][1] - start) < 1e-9:
                kept[-1] = (kept[-1][0], end)
            else:
                kept.append((start, end))
        elif dropped and dropped[-1].reason == reason and abs(dropped[-1].end_s - start) < 1e-9:
            dropped[-1] = DroppedSpan(dropped[-1].start_s, end, reason, dropped[-1].detail)
        else:
            dropped.append(DroppedSpan(start, end, reason, detail))
    if kept:
        split = split_detail(rows, options.split)
        if split:
            return whole("split_screen", split)
    return ShotVerdict(tuple(kept), tuple(dropped), colour, seam)


@dataclass(frozen=True)
class Person:
    """One face followed from sample to sample.

    Attributes:
        times: [K] sightings.
        widths: [K] box widths, original pixels.
        scores: [K].
    """

    times: Float64
    widths: Float32
    scores: Float32

    def certain(self) -> bool:
        """Whether this is no pattern that passes for a face: those score so well once in a while, not twice."""
        return int((self.scores >= CERTAIN).sum()) >= 2

    def present(self, options: ScanOptions) -> tuple[float, float]:
        """First and last moment, margins included."""
        return float(self.times[0]) - options.edge_s, float(self.times[-1]) + options.edge_s


def link_people(scan: ShotScan, options: ScanOptions) -> list[Person]:
    """Link the detections of a shot's samples into people by place and size (nearest first).

    A link spans at most ``absence_s``. What never scored well is dropped as false, unless it is seen again beside
    somebody.
    """
    open_: list[dict[str, list[Any]]] = []
    done: list[dict[str, list[Any]]] = []
    for s, time_s in enumerate(scan.sample_times):
        rows = [int(r) for r in np.flatnonzero(scan.owner == s)]
        done += [p for p in open_ if time_s - p["times"][-1] > options.absence_s]
        open_ = [p for p in open_ if time_s - p["times"][-1] <= options.absence_s]
        pairs = []
        for i, person in enumerate(open_):
            last = person["boxes"][-1]
            for r in rows:
                box = scan.boxes[r]
                w0, w1 = float(last[2] - last[0]), float(box[2] - box[0])
                away = float(np.hypot(*((box[:2] + box[2:] - last[:2] - last[2:]) / 2))) / max(w0, w1)
                if away < 1.2 and 0.4 < w0 / max(w1, 1e-6) < 2.5:
                    pairs.append((away, i, r))
        taken_people: set[int] = set()
        taken_rows: set[int] = set()
        for _, i, r in sorted(pairs):
            if i not in taken_people and r not in taken_rows:
                taken_people.add(i)
                taken_rows.add(r)
                _sight(open_[i], time_s, scan.boxes[r], scan.scores[r])
        for r in rows:
            if r not in taken_rows:
                open_.append({"times": [], "boxes": [], "scores": []})
                _sight(open_[-1], time_s, scan.boxes[r], scan.scores[r])
    people: list[Person] = []
    doubtful: list[Person] = []
    for track in done + open_:
        scores = np.array(track["scores"], np.float32)
        boxes = np.stack(track["boxes"])
        one = Person(np.array(track["times"]), boxes[:, 2] - boxes[:, 0], scores)
        # Real faces are seen well at least once, or nearly always; what is not is a cup or a pattern.
        if scores.max() >= (SURE if len(scores) > 1 else 0.7) or (len(scores) >= 4 and scores.mean() >= 0.52):
            people.append(one)
        # Beside somebody, a small face that only the few close looks see need not be seen so well.
        elif (len(scores) > 1 and scores.max() >= 0.55) or (len(scores) > 2 and scores.mean() >= 0.48):
            doubtful.append(one)
    return people + doubtful if people else []


def _sight(person: dict[str, list[Any]], time_s: float, box: Float32, score: float) -> None:
    person["times"].append(float(time_s))
    person["boxes"].append(box)
    person["scores"].append(float(score))


def _judge_window(people: Sequence[Person], start: float, end: float, options: ScanOptions) -> tuple[str, str]:
    """("", "") where the window may hold two people, else a reason and what decided."""
    step = options.sample_s
    bins = start + step * (np.arange(max(1, math.floor((end - start) / step + 1e-9))) + 0.5)
    here = []
    for p in people:
        first, last = p.present(options)
        there = (bins >= first) & (bins < last)
        near = (p.times >= start - options.absence_s) & (p.times < end + options.absence_s)
        if there.any() and near.any():
            inside = (p.times >= start) & (p.times < end)
            here.append((there, float(np.median(p.widths[near])), p, inside))
    if not here:
        return "no_face", "no face in any sample"
    sizes = np.array([size for _, size, _, _ in here])
    present = np.stack([there for there, _, _, _ in here]) * sizes[:, None]  # [P, B] width where present
    ordered = -np.sort(-np.pad(present, ((0, 2), (0, 0))), axis=0)
    if options.people == 1:
        return _judge_alone(here, present, ordered, start, end, options)
    first_, second = ordered[0], ordered[1]
    both = (second > 0) & (second >= options.least_second * first_)
    together = _longest_run(both) * step
    if together < options.shortest_s - step - 1e-6:
        if both.any():
            return "not_two_people", f"two faces together for {together:.1f} s at most"
        return "one_face", f"one face, {sizes.max():.0f} px wide"
    limit = options.bystander * float(np.median(second[both]))
    crowd = step * _samples_with(3, here, limit)
    if crowd >= min(options.bystander_s, 0.5 * (end - start)):
        return "many_faces", f"three or more faces for {crowd:.1f} s"
    scale = float(np.median(second[both])) / BOX_PER_SCALE
    if scale < options.reject_scale_px:
        return "faces_too_small", f"second face {scale:.0f} px per 63 mm, {options.reject_scale_px:g} are needed"
    return "", ""


_Here = Sequence[tuple[Bool, float, Person, Bool]]  # where present, width, who, which sightings lie in the window


def _samples_with(count: int, here: _Here, least_px: float) -> int:
    """Samples of the window in which at least so many people of at least that width are surely seen."""
    large = [(person, inside) for _, width, person, inside in here if width >= least_px]
    crowd = sum(int((person.scores >= SURE).sum()) >= 2 for person, _ in large) >= CROWD
    sightings = Counter(
        float(t)
        for person, inside in large
        if crowd or person.certain()
        for t in person.times[inside & (person.scores >= SURE)]
    )
    return sum(n >= count for n in sightings.values())


def _judge_alone(
    here: _Here, present: Float64, ordered: Float64, start: float, end: float,
    options: ScanOptions,
) -> tuple[str, str]:  # fmt: skip
    """The same for a window that may hold one person: a second prominent face that stays is one too many."""
    size = float(np.median(ordered[0][ordered[0] > 0])) if (ordered[0] > 0).any() else 0.0
    alone = _longest_run(ordered[0] > 0) * options.sample_s
    if alone < options.shortest_s - options.sample_s - 1e-6:
        return "no_face", f"one face for {alone:.1f} s at most"
    crowd = options.sample_s * _samples_with(2, here, options.bystander * size)
    if crowd >= min(options.bystander_s, 0.5 * (end - start)):
        return "many_faces", f"two or more faces for {crowd:.1f} s"
    if size / BOX_PER_SCALE < options.reject_scale_px:
        return (
            "faces_too_small",
            f"face {size / BOX_PER_SCALE:.0f} px per 63 mm, {options.reject_scale_px:g} are needed",
        )
    return "", ""


def _longest_run(there: npt.NDArray[np.bool_]) -> int:
    best = run = 0
    for x in there:
        run = run + 1 if x else 0
        best = max(best, run)
    return best
