"""The cheap first look: one low-resolution pass that finds shots, and in them the spans with two people.

Every frame feeds the shot detector; about twice a second faces are counted and a seam between the two largest is
looked for. The scan decides generously, because what it drops is never seen again and what it keeps is measured by
the track pass: a face lost in some samples or seen in profile does not reject a shot, nor does a passer-by.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.records import Shot, Video
from ..schemas.tracks import Bool, Float32, Float64
from .detect_faces import SURE, FaceFinder, no_detections
from .shots import ShotDetector, ShotOptions, ShotTrace, black_runs, find_cuts, join_traces
from .split_screen import EVIDENCE, SplitOptions, seam_evidence, split_detail

UInt8 = npt.NDArray[np.uint8]

BOX_PER_SCALE = 2.3  # width of a detector's face box over the face scale
FACE_PX = 20.0  # the smallest wanted face box has this width on a scan frame
SEAM_S = 1.0  # seconds between two looks for a seam
CERTAIN = 0.8  # a bystander counts only if he was once found with this score
CHANGED = 12.0  # mean absolute difference (0..255) of tiny pictures that makes the next sample a thorough one


@dataclass(frozen=True)
class ScanOptions:
    """Attributes:
    smallest_scale_px: faces down to this face scale (original pixels per 63 mm) are looked for.
    reject_scale_px: a span whose second face is smaller than this is dropped.
    sample_s: seconds between two face counts.
    thorough_s: seconds between searches for small faces while they bring something; twice that while they do not.
    min_score: detections under this are ignored.
    clip_s, shortest_s: the windows in which people are counted, and the shortest piece of use, seconds.
    absence_s: a person counts as present through a gap this long, seconds.
    edge_s: and this long before the first and after the last sighting.
    bystander: a third face counts when it is at least this share of the second's size ...
    bystander_s: ... and is seen for this long in the window, seconds.
    least_second: the second face is at least this share of the first's size.
    people: 2 keeps spans with two people, 1 those with one.
    """

    smallest_scale_px: float = 24.0
    reject_scale_px: float = 16.0
    sample_s: float = 0.5
    thorough_s: float = 1.0
    min_score: float = 0.45
    clip_s: float = 10.0
    shortest_s: float = 3.0
    absence_s: float = 5.0
    edge_s: float = 1.0
    bystander: float = 0.6
    bystander_s: float = 2.5
    least_second: float = 0.2
    people: int = 2
    shots: ShotOptions = field(default_factory=ShotOptions)
    split: SplitOptions = field(default_factory=SplitOptions)


class Frame(Protocol):
    """A decoded frame: ``time_s`` on the video clock, ``rgb`` [H, W, 3] uint8, upright."""

    @property
    def time_s(self) -> float: ...

    @property
    def rgb(self) -> UInt8: ...


@dataclass(frozen=True)
class ScanPiece:
    """What the scan keeps of a piece of a video (start_s <= t < end_s).

    Attributes:
        trace: brightness of every frame and hard cuts.
        sample_times: [S] float64 seconds.
        thorough: [S] small faces were searched too.
        owner: [N] int64, the sample that each detection belongs to, rising.
        boxes: [N, 4] x0, y0, x1, y1 in pixels of the original upright image.
        scores: [N].
        seams: [S, 8] seam evidence between the two largest faces in the order of ``split_screen.EVIDENCE``; NaN
            where it was not looked for, 0 where the two faces leave no room for one.
    """

    trace: ShotTrace
    sample_times: Float64
    thorough: Bool
    owner: npt.NDArray[np.int64]
    boxes: Float32
    scores: Float32
    seams: Float32

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All values as named arrays, for a work file."""
        return {
            "frame_times": self.trace.times,
            "luma": self.trace.luma,
            "cut_times": self.trace.cut_times,
            "cut_scores": self.trace.cut_scores,
            "sample_times": self.sample_times,
            "thorough": self.thorough,
            "owner": self.owner,
            "boxes": self.boxes,
            "scores": self.scores,
            "seams": self.seams,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> ScanPiece:
        """The inverse of :meth:`to_arrays`."""
        trace = ShotTrace(arrays["frame_times"], arrays["luma"], arrays["cut_times"], arrays["cut_scores"])
        names = ("sample_times", "thorough", "owner", "boxes", "scores", "seams")
        return cls(trace, *(np.asarray(arrays[name]) for name in names))


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


def scan_longest_side(video: Video, options: ScanOptions | None = None) -> int:
    """Longer side in pixels to which scan frames should be decoded: small, but with the smallest wanted face visible.

    Not under 480, where seams blur, nor over 1280; never over the original.
    """
    options = options or ScanOptions()
    longest = max(video.width, video.height)
    wanted = longest * FACE_PX / (options.smallest_scale_px * BOX_PER_SCALE)
    return min(longest, max(480, min(1280, 16 * math.ceil(wanted / 16))))


def scan_piece(
    frames: Iterable[Frame],
    video: Video,
    start_s: float,
    end_s: float,
    options: ScanOptions,
    detector: FaceFinder,
    shot_detector: ShotDetector,
) -> ScanPiece:
    """Scan one piece of a video in one pass.

    Args:
        frames: upright frames in time order, at about ``scan_longest_side``; decoded from ``shots.WARM_UP_S`` before
            the piece to as much after it (where there is any), so that cuts at its edges are the whole video's.
        video: the probed file; gives the original size.
        start_s, end_s: the piece; samples and cuts outside it are left to its neighbours.
        detector, shot_detector: built once per process.

    Returns:
        The piece's numbers; the same for the same frames, whatever was scanned before.
    """
    sampler = _FaceSampler(video, options, detector)
    for frame in frames:
        shot_detector.push(frame.time_s, frame.rgb)
        if start_s <= frame.time_s < end_s:
            sampler.push(frame.time_s, frame.rgb)
    return sampler.finish(shot_detector.finish().between(start_s, end_s))


class _FaceSampler:
    """Counts faces on the first frame of every ``sample_s`` of the video clock."""

    def __init__(self, video: Video, options: ScanOptions, detector: FaceFinder) -> None:
        self.video, self.options, self.detector = video, options, detector
        self._bin = -1
        self._times: list[float] = []
        self._thorough: list[bool] = []
        self._owner: list[int] = []
        self._boxes: list[Float32] = []
        self._scores: list[Float32] = []
        self._seams: list[list[float]] = []
        self._picture: npt.NDArray[np.int16] | None = None
        self._next_thorough = -math.inf
        self._next_seam = -math.inf
        self._quick_count = 0
        self._clear = False  # the last look at the whole frame said it all

    def push(self, time_s: float, rgb: UInt8) -> None:
        bin_ = math.floor(time_s / self.options.sample_s + 1e-6)
        if bin_ == self._bin:
            return
        self._bin = bin_
        scale = self.video.width / rgb.shape[1]
        smallest = self.options.smallest_scale_px * BOX_PER_SCALE / scale
        picture = np.asarray(cv2.resize(rgb, (16, 9), interpolation=cv2.INTER_AREA), np.int16)
        changed = self._picture is None or float(np.abs(picture - self._picture).mean()) > CHANGED
        self._picture = picture
        found, thorough = no_detections(), not (self._clear or changed) and time_s >= self._next_thorough
        if not thorough:
            found = self.detector.detect(rgb, float(max(rgb.shape[:2])), enough=2)
            sure = found.widths[found.scores >= SURE]
            # Two faces so large that a bystander worth counting shows at first sight need no second look.
            self._clear = len(sure) > 2 or (
                len(sure) == 2 and self.options.bystander * float(sure.min()) > self._sight_px(rgb)
            )
            due = changed or len(sure) != self._quick_count or time_s >= self._next_thorough
            thorough = due and not self._clear
            self._quick_count = len(sure)
        if thorough:
            found = self.detector.detect(rgb, smallest, enough=3)
            useful = bool((found.widths < self._sight_px(rgb)).any())
            self._next_thorough = time_s - 1e-6 + self.options.thorough_s * (1 if useful else 2)
        keep = found.scores >= self.options.min_score
        found = found.take(keep) if len(found) else no_detections()
        index = len(self._times)
        self._times.append(time_s)
        self._thorough.append(thorough)
        self._owner += [index] * len(found)
        self._boxes.append(found.boxes * np.float32(scale))
        self._scores.append(found.scores)
        self._seams.append([math.nan] * len(EVIDENCE))
        if len(found) >= 2 and (changed or time_s >= self._next_seam):
            self._next_seam = time_s - 1e-6 + SEAM_S
            largest = np.argsort(-found.widths, kind="stable")[:2]
            seam = seam_evidence(rgb, found.boxes[largest[0]], found.boxes[largest[1]])
            self._seams[-1] = seam.to_row() if seam else [0.0] * len(EVIDENCE)

    def _sight_px(self, rgb: UInt8) -> float:
        """Width of the smallest face that one look at the whole frame finds."""
        return float(max(rgb.shape[:2]) * self.detector.least_px / self.detector.input_px)

    def finish(self, trace: ShotTrace) -> ScanPiece:
        return ScanPiece(
            trace,
            np.array(self._times, np.float64),
            np.array(self._thorough, np.bool_),
            np.array(self._owner, np.int64),
            np.concatenate(self._boxes).reshape(-1, 4) if self._boxes else np.zeros((0, 4), np.float32),
            np.concatenate(self._scores) if self._scores else np.zeros(0, np.float32),
            np.array(self._seams, np.float32).reshape(-1, len(EVIDENCE)),
        )


def merge_scan(pieces: Sequence[ScanPiece], video: Video, options: ScanOptions | None = None) -> list[ShotScan]:
    """The shots of a video from its scanned pieces, in time order. Black parts belong to no shot.

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
    edges = [first, *(c.time_s for c in find_cuts(trace, options.shots) if first < c.time_s < last), last]
    times = np.concatenate([p.sample_times for p in pieces])
    seams = np.concatenate([p.seams for p in pieces])
    starts = np.cumsum([0, *(len(p.sample_times) for p in pieces)])
    owner = np.concatenate([p.owner + n for p, n in zip(pieces, starts, strict=False)])
    boxes = np.concatenate([p.boxes for p in pieces])
    scores = np.concatenate([p.scores for p in pieces])
    shots: list[ShotScan] = []
    for start, end in itertools.pairwise(edges):
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

    def present(self, options: ScanOptions) -> tuple[float, float]:
        """First and last moment, margins included."""
        return float(self.times[0]) - options.edge_s, float(self.times[-1]) + options.edge_s


def link_people(scan: ShotScan, options: ScanOptions) -> list[Person]:
    """Link the detections of a shot's samples into people by place and size (nearest first).

    A link spans at most ``absence_s``. What never scored well is dropped as false.
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
    people = []
    for p in done + open_:
        scores = np.array(p["scores"])
        # Real faces are seen well at least once, or nearly always; what is not is a cup or a pattern.
        if not (scores.max() >= (SURE if len(scores) > 1 else 0.7) or (len(scores) >= 4 and scores.mean() >= 0.52)):
            continue
        boxes = np.stack(p["boxes"])
        people.append(Person(np.array(p["times"]), boxes[:, 2] - boxes[:, 0], np.array(p["scores"], np.float32)))
    return people


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
    sightings: dict[float, int] = {}
    for _, size, p, inside in here:
        if size >= limit and p.scores.max() >= CERTAIN:  # patterns that pass for faces never score so well
            for t in p.times[inside & (p.scores >= SURE)]:
                sightings[float(t)] = sightings.get(float(t), 0) + 1
    crowd = step * sum(1 for n in sightings.values() if n >= 3)
    if crowd >= min(options.bystander_s, 0.5 * (end - start)):
        return "many_faces", f"three or more faces for {crowd:.1f} s"
    scale = float(np.median(second[both])) / BOX_PER_SCALE
    if scale < options.reject_scale_px:
        return "faces_too_small", f"second face {scale:.0f} px per 63 mm, {options.reject_scale_px:g} are needed"
    return "", ""


def _judge_alone(
    here: Sequence[tuple[Bool, float, Person, Bool]], present: Float64, ordered: Float64, start: float, end: float,
    options: ScanOptions,
) -> tuple[str, str]:  # fmt: skip
    """The same for a window that may hold one person: a second prominent face that stays is one too many."""
    size = float(np.median(ordered[0][ordered[0] > 0])) if (ordered[0] > 0).any() else 0.0
    alone = _longest_run(ordered[0] > 0) * options.sample_s
    if alone < options.shortest_s - options.sample_s - 1e-6:
        return "no_face", f"one face for {alone:.1f} s at most"
    sightings: dict[float, int] = {}
    for _, width, person, inside in here:
        if width >= options.bystander * size and person.scores.max() >= CERTAIN:
            for t in person.times[inside & (person.scores >= SURE)]:
                sightings[float(t)] = sightings.get(float(t), 0) + 1
    crowd = options.sample_s * sum(1 for n in sightings.values() if n >= 2)
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
