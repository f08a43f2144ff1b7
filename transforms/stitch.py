"""Join the tracklets of a shot's pieces, and those before and after an occlusion, into one track per person.

Only summaries meet here, a few kilobytes each: where and when a face was, how large, and what it looked like.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..schemas.tracks import Float32, Float64, face_scale_px
from .identify import AppearanceIdentifier, similarity
from .tracklet import PieceTracks, Tracklet

BIN_S = 0.5  # length of a presence bin; bins lie on multiples of it on the video clock
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class StitchOptions:
    """How far two tracklets may lie apart and still be one person.

    Attributes:
        gap_s: a face hidden for longer is joined again only by place, size and looks together.
        long_gap_s: beyond this time it is not joined at all.
        reach: distance between the predicted and the found place, in face widths, that is possible in a second; half
            of it in no time, and once in the long gap.
        zoom: largest change of size, as a ratio.
        looks: smallest cosine of the two descriptors, where both are known, for the long gap. None: the identifier's
            ``threshold``.
    """

    gap_s: float = 1.5
    long_gap_s: float = 10.0
    reach: float = 1.5
    zoom: float = 1.6
    looks: float | None = None


@dataclass(frozen=True)
class TrackletSummary:
    """What is known of a tracklet without its arrays; JSON-able, under 10 KB for a minute.

    Attributes:
        video_id, shot_index: the shot.
        piece: number of the piece within the shot, in time order.
        piece_uri: work file that holds the arrays.
        tracklet_id: within that piece.
        first_s, last_s: times of the first and last sighting, seconds.
        first_box, last_box: x0, y0, x1, y1 pixels.
        first_velocity, last_velocity: of the box centre, pixels per second.
        size_px: median box height.
        scale_px: median face scale, pixels per 63 mm; 0 where no landmarks were measured.
        bin0: index of the first presence bin (its start is bin0 * 0.5 s).
        frames: source frames in each bin, whether or not the face was seen.
        valid: frames in each bin with measured landmarks.
        seen: frames in each bin in which the face counts as present: measured, or between two detections
            at most a second apart.
        centre_x: mean x of the box centre in each bin, pixels; -1 where it was not seen.
        identity: L2-normalised descriptor, empty where none.
        identity_count: descriptors averaged in it.
    """

    video_id: str
    shot_index: int
    piece: int
    piece_uri: str
    tracklet_id: str
    first_s: float
    last_s: float
    first_box: Box
    last_box: Box
    first_velocity: tuple[float, float]
    last_velocity: tuple[float, float]
    size_px: float
    scale_px: float
    bin0: int
    frames: tuple[int, ...]
    valid: tuple[int, ...]
    seen: tuple[int, ...]
    centre_x: tuple[int, ...]
    identity: tuple[float, ...]
    identity_count: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> TrackletSummary:
        values: dict[str, Any] = json.loads(text)
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return TrackletSummary(**given)


@dataclass(frozen=True)
class PersonTrack:
    """One person through one shot: tracklets in time order, never two at once.

    Attributes:
        track_id: unique within the shot, "p0", "p1", ... in order of first sighting.
    """

    track_id: str
    parts: tuple[TrackletSummary, ...]

    @property
    def identity(self) -> Float32:
        """[D] mean descriptor over the parts (L2-normalised), or zeros."""
        known = [(p.identity_count, np.array(p.identity)) for p in self.parts if p.identity_count]
        if not known:
            return np.zeros(1, np.float32)
        mean = sum(n * v for n, v in known)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), dtype=np.float32)


def summarise(piece: PieceTracks, video_id: str, shot_index: int, number: int, uri: str) -> list[TrackletSummary]:
    """The summaries of a piece's tracklets, in their order."""
    all_bins = np.floor(piece.times / BIN_S + 1e-9).astype(np.int64)
    return [_summary(t, piece.times, all_bins, video_id, shot_index, number, uri) for t in piece.tracklets]


def _summary(
    t: Tracklet, all_times: Float64, all_bins: Any, video_id: str, shot_index: int, number: int, uri: str
) -> TrackletSummary:
    boxed = np.flatnonzero(np.isfinite(t.box[:, 0]))
    seen = np.zeros(len(t.times), np.bool_)
    seen[boxed] = True
    for a, b in itertools.pairwise(boxed):
        if t.times[b] - t.times[a] <= 1.0 + 1e-6:
            seen[a:b] = True
    centre = (t.box[:, 0] + t.box[:, 2]) / 2
    bins = np.floor(t.times / BIN_S + 1e-9).astype(np.int64)
    bin0, n = int(bins[0]), int(bins[-1] - bins[0] + 1)
    frames = np.bincount(all_bins[(all_bins >= bin0) & (all_bins < bin0 + n)] - bin0, minlength=n)
    place = np.full(n, -1, np.int64)
    for k in range(n):
        here = boxed[bins[boxed] - bin0 == k]
        if len(here):
            place[k] = max(0, round(float(centre[here].mean())))
    scale = face_scale_px(t.landmarks[t.valid])
    return TrackletSummary(
        video_id,
        shot_index,
        number,
        uri,
        t.tracklet_id,
        float(t.times[boxed[0]]),
        float(t.times[boxed[-1]]),
        _box(t, boxed[0]),
        _box(t, boxed[-1]),
        _velocity(t, boxed[:8]),
        _velocity(t, boxed[-8:]),
        round(float(np.median(t.box[boxed, 3] - t.box[boxed, 1])), 2),
        round(float(np.median(scale)), 2) if len(scale) else 0.0,
        bin0,
        tuple(int(x) for x in frames),
        tuple(int(x) for x in np.bincount(bins[t.valid] - bin0, minlength=n)),
        tuple(int(x) for x in np.bincount(bins[seen] - bin0, minlength=n)),
        tuple(int(x) for x in place),
        tuple(round(float(x), 4) for x in t.identity) if t.identity_count else (),
        t.identity_count,
    )


def _box(t: Tracklet, k: int) -> Box:
    x0, y0, x1, y1 = (round(float(v), 2) for v in t.box[k])
    return x0, y0, x1, y1


def _velocity(t: Tracklet, rows: Any) -> tuple[float, float]:
    """Pixels per second of the box centre over a few frames within 0.4 s (zero where there are too few)."""
    rows = rows[np.abs(t.times[rows] - t.times[rows].mean()) <= 0.2]
    if len(rows) < 4:
        return 0.0, 0.0
    time = t.times[rows] - t.times[rows].mean()
    centre = (t.box[rows, :2] + t.box[rows, 2:]) / 2
    slope = (time[:, None] * (centre - centre.mean(axis=0))).sum(axis=0) / (time**2).sum()
    return round(float(slope[0]), 1), round(float(slope[1]), 1)


def stitch(summaries: Iterable[TrackletSummary], options: StitchOptions | None = None) -> list[PersonTrack]:
    """Joins one shot's tracklets into person tracks.

    Tracklets are taken in time order, those of one piece that begin together at once; each group is matched to the
    open tracks by the assignment of least cost (place after constant velocity, size, looks).

    Returns:
        Person tracks in order of first sighting, then from left to right. The result does not depend on the order
        in which the summaries came.
    """
    options = options or StitchOptions()
    left = sorted(summaries, key=lambda s: (s.first_s, s.first_box, s.piece, s.tracklet_id))
    tracks: list[list[TrackletSummary]] = []
    for group in _groups(left):
        open_tracks = [i for i, t in enumerate(tracks) if group[0].first_s - t[-1].last_s <= options.long_gap_s]
        cost = np.full((len(group), len(open_tracks)), 1e3)
        for i, new in enumerate(group):
            for j, k in enumerate(open_tracks):
                value = _join_cost(tracks[k], new, options)
                if value is not None:
                    cost[i, j] = value
        rows, columns = linear_sum_assignment(cost) if cost.size else ([], [])
        taken = {int(r): open_tracks[int(c)] for r, c in zip(rows, columns, strict=True) if cost[r, c] < 1e3}
        for i, new in enumerate(group):
            if i in taken:
                tracks[taken[i]].append(new)
            else:
                tracks.append([new])
    return [PersonTrack(f"p{i}", tuple(parts)) for i, parts in enumerate(tracks)]


def _groups(ordered: Sequence[TrackletSummary]) -> list[list[TrackletSummary]]:
    groups: list[list[TrackletSummary]] = []
    for s in ordered:
        if groups and s.first_s - groups[-1][0].first_s < 0.1:
            groups[-1].append(s)
        else:
            groups.append([s])
    return groups


def _join_cost(track: Sequence[TrackletSummary], new: TrackletSummary, options: StitchOptions) -> float | None:
    """Cost of continuing a track with a tracklet; None where that cannot be."""
    last = track[-1]
    gap = new.first_s - last.last_s
    if gap < -0.2 or gap > options.long_gap_s or (last.piece == new.piece and gap <= 0):
        return None
    size = max(last.last_box[2] - last.last_box[0], new.first_box[2] - new.first_box[0], 1e-6)
    ahead = min(max(gap, 0.0), 0.2)
    x = (last.last_box[0] + last.last_box[2]) / 2 + last.last_velocity[0] * ahead
    y = (last.last_box[1] + last.last_box[3]) / 2 + last.last_velocity[1] * ahead
    apart = math.hypot((new.first_box[0] + new.first_box[2]) / 2 - x, (new.first_box[1] + new.first_box[3]) / 2 - y)
    apart /= size
    zoom = abs(
        math.log(max(new.first_box[3] - new.first_box[1], 1e-6) / max(last.last_box[3] - last.last_box[1], 1e-6))
    )
    if zoom > math.log(options.zoom):
        return None
    alike = float("nan")
    if new.identity_count:
        person = PersonTrack("", tuple(track)).identity
        alike = similarity(person, np.array(new.identity, np.float32)) if person.any() else alike
    if gap <= options.gap_s:
        if apart > options.reach * (0.5 + max(gap, 0.0)):
            return None
    else:
        least = AppearanceIdentifier.threshold if options.looks is None else options.looks
        if apart > options.reach or not (math.isnan(alike) or alike >= least):
            return None
    return apart + zoom + (0.0 if math.isnan(alike) else 4.0 * (1.0 - alike)) + 0.1 * max(gap, 0.0)
