"""Cut shots into clips in which exactly two prominent people are measured, and read a clip's tracks back.

"Exactly two" is judged per window of the clip grid by size and presence, so that a passer-by costs nothing and a
third participant costs his own windows, not the shot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.errors import BadInput
from ..schemas.records import Clip, Reject, Shot, Video
from ..schemas.tracks import N_LANDMARKS, ClipTracks, FaceTrack, Float32
from .stitch import BIN_S, PersonTrack
from .tracklet import PieceTracks, Tracklet

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClipOptions:
    """How shots become clips.

    Attributes:
        clip_s: length of a clip; the grid starts at each surviving span's start. The last one may be shorter.
        shortest_s: never shorter than this.
        passer_by_size: a further person smaller than this share of the second person's height is ignored.
        passer_by_s: so is one who is there for less than this in the window, seconds.
        absence_s: two people still count as there through a gap this long (a turned or hidden head), seconds.
        least_valid: share of a clip's frames in which both faces must have landmarks.
        smallest_scale_px: smallest median face scale, pixels per 63 mm.
        people: 2, or 1 for single-speaker clips: ``b`` is then nobody, with the track id "".
        context_s: frames read before and after the clip, never across the shot's edges.
    """

    clip_s: float = 10.0
    shortest_s: float = 3.0
    passer_by_size: float = 0.5
    passer_by_s: float = 1.0
    absence_s: float = 1.5
    least_valid: float = 0.5
    smallest_scale_px: float = 12.0
    context_s: float = 1.0
    people: int = 2


@dataclass(frozen=True)
class _Presence:
    """One person on the bins of one window."""

    person: PersonTrack
    seen: FloatArray  # [B] share of the bin's frames
    valid: FloatArray  # [B]
    x: FloatArray  # [B] pixels, NaN where unseen
    size: float
    scale: float


def choose_clips(
    persons: Sequence[PersonTrack],
    video: Video,
    shot: Shot,
    spans: Sequence[tuple[float, float]],
    options: ClipOptions,
) -> tuple[list[Clip], list[Reject]]:
    """The clips of one shot, and a reason for every window without one.

    Args:
        persons: the shot's stitched tracks.
        spans: parts of the shot that survived the scan, seconds (start, end), in time order.

    Returns:
        Clips and rejects in time order. Person ``a`` is the one further left where both are first seen.
    """
    clips: list[Clip] = []
    rejects: list[Reject] = []
    for start, end in spans:
        for k, (t0, t1) in enumerate(clip_windows(start, end, options)):
            try:
                if t1 - t0 < options.shortest_s - 1e-6:
                    if k:
                        continue  # the rest of a longer span
                    raise BadInput("too_short", f"{t1 - t0:.2f} s of the shot, {options.shortest_s:g} s are needed")
                clips.append(_window(persons, video, shot, t0, t1, options))
            except BadInput as bad:
                where = (t0, t1, shot.index, video.source_id)
                rejects.append(Reject(video.video_id, video.uri, "clips", bad.reason, bad.detail, *where))
    return clips, rejects


def clip_windows(start_s: float, end_s: float, options: ClipOptions) -> list[tuple[float, float]]:
    """The clip grid of a span, (start, end) each; the last may be shorter than ``shortest_s``."""
    n = max(1, math.ceil((end_s - start_s) / options.clip_s - 1e-9))
    edges = [start_s + k * options.clip_s for k in range(n)]
    return list(zip(edges, [*edges[1:], end_s], strict=True))


def _window(
    persons: Sequence[PersonTrack], video: Video, shot: Shot, t0: float, t1: float, options: ClipOptions
) -> Clip:
    first, last = math.floor(t0 / BIN_S + 1e-9), math.ceil(t1 / BIN_S - 1e-9)
    there = [p for p in (_presence(person, first, last) for person in persons) if p.seen.sum() * BIN_S >= 0.25]
    if not there:
        raise BadInput("no_face", "no face was followed in this window")
    there.sort(key=lambda p: (-p.size * float(p.seen.sum()), p.person.track_id))
    if options.people == 1:
        return _alone(there, video, shot, t0, t1, first, options)
    if len(there) < 2:
        raise BadInput("one_face", f"one face, {there[0].size:.0f} px high")
    one, other = there[0], there[1]
    smaller = min(one.size, other.size)
    for third in there[2:]:
        seconds = float(third.seen.sum()) * BIN_S
        if third.scale == 0.0 and seconds < 0.5 * (t1 - t0):
            continue  # now and then a detection, never a measured face
        if third.size >= options.passer_by_size * smaller and seconds >= options.passer_by_s:
            raise BadInput("many_faces", f"a third face, {third.size:.0f} px high, for {seconds:.1f} s")
    if float(other.seen.sum()) * BIN_S < options.passer_by_s or other.size < 0.25 * one.size:
        raise BadInput(
            "one_face", f"the second face is {other.size:.0f} px high, seen {other.seen.sum() * BIN_S:.1f} s"
        )
    both = np.minimum(one.seen, other.seen) >= 0.5
    begin, stop = longest_run(both, max(0, round(options.absence_s / BIN_S)))
    start, end = max(t0, (first + begin) * BIN_S), min(t1, (first + stop) * BIN_S)
    if end - start < options.shortest_s - 1e-6:
        raise BadInput("not_two_people", f"two people together for {max(0.0, end - start):.1f} s at most")
    share = float(np.minimum(one.valid, other.valid)[begin:stop].mean())
    if share < options.least_valid:
        raise BadInput("landmarks_lost", f"both faces measured in {share:.0%} of the frames")
    if min(one.scale, other.scale) < options.smallest_scale_px:
        raise BadInput("faces_too_small", f"face scale {min(one.scale, other.scale):.1f} px per 63 mm")
    together = np.flatnonzero(np.isfinite(one.x[begin:stop]) & np.isfinite(other.x[begin:stop]))
    k = begin + int(together[0])
    a, b = (one, other) if one.x[k] <= other.x[k] else (other, one)
    return _clip(video, shot, start, end, {"a": a, "b": b}, options)


def _alone(
    there: Sequence[_Presence], video: Video, shot: Shot, t0: float, t1: float, first: int, options: ClipOptions
) -> Clip:
    """The part of a window where one person is there and nobody else is prominent."""
    one = there[0]
    for second in there[1:]:
        seconds = float(second.seen.sum()) * BIN_S
        if second.scale == 0.0 and seconds < 0.5 * (t1 - t0):
            continue
        if second.size >= options.passer_by_size * one.size and seconds >= options.passer_by_s:
            raise BadInput("many_faces", f"a second face, {second.size:.0f} px high, for {seconds:.1f} s")
    begin, stop = longest_run(one.seen >= 0.5, max(0, round(options.absence_s / BIN_S)))
    start, end = max(t0, (first + begin) * BIN_S), min(t1, (first + stop) * BIN_S)
    if end - start < options.shortest_s - 1e-6:
        raise BadInput("no_face", f"one person for {max(0.0, end - start):.1f} s at most")
    share = float(one.valid[begin:stop].mean())
    if share < options.least_valid:
        raise BadInput("landmarks_lost", f"the face is measured in {share:.0%} of the frames")
    if one.scale < options.smallest_scale_px:
        raise BadInput("faces_too_small", f"face scale {one.scale:.1f} px per 63 mm")
    return _clip(video, shot, start, end, {"a": one}, options)


def _clip(
    video: Video, shot: Shot, start: float, end: float, people: Mapping[str, _Presence], options: ClipOptions
) -> Clip:
    lead, trail = start - options.context_s, end + options.context_s
    parts = {name: [s for s in p.person.parts if s.last_s >= lead and s.first_s < trail] for name, p in people.items()}
    pieces = sorted({(s.piece, s.piece_uri) for side in parts.values() for s in side})
    position = {piece: i for i, piece in enumerate(pieces)}
    keys = {
        name: tuple(f"{position[s.piece, s.piece_uri]}:{s.tracklet_id}" for s in side) for name, side in parts.items()
    }
    return Clip(
        video,
        shot.index,
        start,
        end,
        people["a"].person.track_id,
        people["b"].person.track_id if "b" in people else "",
        tuple(uri for _, uri in pieces),
        keys["a"],
        keys.get("b", ()),
    )


def _presence(person: PersonTrack, first: int, last: int) -> _Presence:
    n = last - first
    frames, seen, valid = np.zeros(n), np.zeros(n), np.zeros(n)
    x = np.full(n, np.nan)
    weights, sizes, scales = [], [], []
    for s in person.parts:
        inside = 0
        for k, total in enumerate(s.frames):
            b = s.bin0 + k - first
            if 0 <= b < n:
                frames[b] = max(frames[b], total)
                seen[b] += s.seen[k]
                valid[b] += s.valid[k]
                inside += s.seen[k]
                if s.centre_x[k] >= 0 and math.isnan(x[b]):
                    x[b] = s.centre_x[k]
        if inside:
            weights.append(inside)
            sizes.append(s.size_px)
            scales.append(s.scale_px)
    total_frames = np.maximum(frames, 1)
    mean = float(np.average(sizes, weights=weights)) if weights else 0.0
    scale = float(np.average(scales, weights=weights)) if weights else 0.0
    return _Presence(person, np.minimum(seen / total_frames, 1), np.minimum(valid / total_frames, 1), x, mean, scale)


def longest_run(there: npt.NDArray[np.bool_], bridge: int) -> tuple[int, int]:
    """Bounds of the longest run of True, where runs of at most ``bridge`` False inside it do not end it."""
    best, start, previous = (0, 0), -1, -1
    for k in np.flatnonzero(there):
        if start < 0 or k - previous - 1 > bridge:
            start = int(k)
        previous = int(k)
        if previous + 1 - start > best[1] - best[0]:
            best = (start, previous + 1)
    return best


def load_clip_tracks(
    clip: Clip, read: Callable[[str], Mapping[str, npt.NDArray[np.generic]]], options: ClipOptions
) -> ClipTracks:
    """Both tracks of a clip over the source's own frame times, with context either side.

    Args:
        read: gives the arrays of a piece file (:meth:`PieceTracks.to_arrays`) by its URI.

    Raises:
        BadInput: "landmarks_lost" where too few frames have landmarks on both faces.
    """
    pieces = [PieceTracks.from_arrays(read(uri)) for uri in clip.pieces]
    times = np.unique(np.concatenate([p.times for p in pieces]))
    times = times[(times >= clip.start_s - options.context_s - 1e-9) & (times < clip.end_s + options.context_s - 1e-9)]
    a = _assemble(clip.a, clip.a_tracklets, pieces, times)
    b = _assemble(clip.b, clip.b_tracklets, pieces, times)
    inside = (times >= clip.start_s - 1e-9) & (times < clip.end_s - 1e-9)
    measured = a.valid & b.valid if clip.b else a.valid
    share = float(measured[inside].mean()) if inside.any() else 0.0
    if share < options.least_valid:
        who = "both faces" if clip.b else "the face"
        raise BadInput("landmarks_lost", f"{who} measured in {share:.0%} of the frames")
    return ClipTracks(
        clip.video.video_id,
        clip.shot_index,
        clip.start_s,
        clip.end_s,
        clip.video.width,
        clip.video.height,
        times,
        a,
        b,
        clip.video.focal,
    )


def _assemble(name: str, keys: Sequence[str], pieces: Sequence[PieceTracks], times: FloatArray) -> FaceTrack:
    n = len(times)
    landmarks = np.full((n, N_LANDMARKS, 3), np.nan, np.float32)
    box = np.full((n, 4), np.nan, np.float32)
    valid = np.zeros(n, np.bool_)
    confidence = np.zeros(n, np.float32)
    sharp = np.full(n, np.nan, np.float32)
    looks: list[tuple[int, Float32]] = []
    crops: npt.NDArray[np.uint8] | None = None
    gaze: Float32 | None = None
    for key in keys:
        position, tracklet_id = key.split(":")
        t = _find(pieces[int(position)], tracklet_id)
        at = np.searchsorted(times, t.times - 1e-9)
        ok = (at < n) & (np.abs(times[np.minimum(at, n - 1)] - t.times) < 1e-6)
        better = ok & np.isfinite(t.box[:, 0])
        better[better] &= ~valid[at[better]]
        rows = at[better]
        landmarks[rows], box[rows], valid[rows] = t.landmarks[better], t.box[better], t.valid[better]
        confidence[rows], sharp[rows] = t.confidence[better], t.sharpness[better]
        if t.crops is not None:
            crops = np.zeros((n, *t.crops.shape[1:]), np.uint8) if crops is None else crops
            crops[rows] = t.crops[better]
        if t.gaze is not None:
            gaze = np.full((n, 3), np.nan, np.float32) if gaze is None else gaze
            gaze[rows] = t.gaze[better]
        if t.identity_count:
            looks.append((t.identity_count, t.identity))
    mean = sum((k * v for k, v in looks), np.zeros(len(looks[0][1]) if looks else 1, np.float32))
    identity = np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), dtype=np.float32)
    return FaceTrack(name, landmarks, box, valid, confidence, sharp, identity, crops, gaze)


def _find(piece: PieceTracks, tracklet_id: str) -> Tracklet:
    for t in piece.tracklets:
        if t.tracklet_id == tracklet_id:
            return t
    raise KeyError(f"tracklet {tracklet_id} is not in its piece file")
