"""Follow every prominent face through one piece of a shot, frame by frame, by its own landmarks.

The landmark network looks where the face is predicted to be; the detector, which costs more, looks only about once a
second, and sooner when a face is lost. A face that is hidden sleeps for a while and is taken up again by position
and appearance. State lives in one call: a piece's tracks depend on its own frames alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from ..schemas.tracks import Float32
from .detect_faces import Detections, merge_detections, no_detections
from .face_mesh import REGION_SCALE, MeshFace, Region, region_from_detection, region_from_landmarks, sharpness
from .face_quality import (
    box_iou,
    disagreement,
    expected_error,
    implausible,
    rigid_change,
)
from .followed_face import FollowedFace, Kept, Row, apart, tracklet_of, without_doubles
from .identify import Identifier, similarity
from .mirror import shifted, side_error
from .mouth_crop import mouth_crop
from .tracklet import PieceTracks

CONFIRM_LOGIT = 6.0  # a followed face under this score of the landmark network must be seen by the detector too
SURE_ERROR = 0.06  # expected error (fraction of face scale) under which a frame tells how a face moves

UInt8 = npt.NDArray[np.uint8]


class Frame(Protocol):
    """A decoded frame: time on the video clock in seconds, upright pixels [H, W, 3] uint8."""

    @property
    def time_s(self) -> float: ...
    @property
    def rgb(self) -> UInt8: ...


class Finder(Protocol):
    def detect(self, rgb: UInt8, smallest_px: float, enough: int = 0) -> Detections: ...


class Mesher(Protocol):
    def measure(self, rgb: UInt8, region: Region) -> MeshFace: ...


@dataclass(frozen=True)
class TrackOptions:
    """How faces are followed.

    Attributes:
        detect_every_s: the detector looks this often while every face is followed, every third time for small faces
            too; it searches the whole frame for small faces this often while not.
        retry_every_s: it looks this often, where a face may be, while a face is lost or fewer than two are followed.
        max_faces: at most this many faces are followed, the largest first.
        smallest_px: width of the smallest face box, in pixels.
        smallest_share: faces smaller than this share of the second largest are passers-by and are not followed.
        keep_logit: a followed face is lost under this score of the landmark network (log odds).
        new_logit: a newly found face must reach this score.
        worst_error: a followed face is lost where its expected error is larger (fraction of face scale).
        sleep_s: a lost face is taken up again within this time.
        identify_every_s: time between appearance descriptors of one face.
        look_back_s: when a face is found again, the frames since it was lost are searched backwards this far.
        shortest_s: tracks seen for less are dropped.
        mirror_every_s: so often the landmark network also sees the mirrored face, and what it answers differently on
            the two sides is taken off all frames; 0 for never.
    """

    detect_every_s: float = 1.0
    retry_every_s: float = 0.2
    max_faces: int = 4
    smallest_px: float = 40.0
    smallest_share: float = 0.5
    keep_logit: float = 1.5
    new_logit: float = 4.0
    worst_error: float = 0.15
    sleep_s: float = 1.5
    identify_every_s: float = 1.0
    look_back_s: float = 0.5
    shortest_s: float = 0.3
    mirror_every_s: float = 0.33


@dataclass(frozen=True)
class _Judged:
    """A mesh, its expected error (fraction of face scale) and its sharpness."""

    face: MeshFace
    error: float
    sharp: float


def track_piece(
    frames: Iterable[Frame],
    options: TrackOptions,
    detector: Finder,
    mesh: Mesher,
    identifier: Identifier,
    keep_from_s: float = -math.inf,
    keep_to_s: float = math.inf,
    keep_crops: bool = False,
) -> PieceTracks:
    """Tracks the faces of one piece.

    Args:
        frames: the piece's frames in time order, warm-up frames first.
        keep_from_s, keep_to_s: frames with keep_from_s <= time < keep_to_s are kept; earlier ones only warm up.
        keep_crops: also keep a grey crop of each face's mouth (:func:`mouth_crop`), for an active-speaker network.

    Returns:
        The kept frames' times and the tracklets over them, in order of first sighting (then from left to right).
    """
    tracker = _Tracker(options, detector, mesh, identifier, keep_crops)
    for frame in frames:
        if frame.time_s >= keep_to_s:
            break
        tracker.step(frame.time_s, frame.rgb)
    return tracker.finish(keep_from_s)


class _Tracker:
    def __init__(
        self, options: TrackOptions, detector: Finder, mesh: Mesher, identifier: Identifier, keep_crops: bool = False
    ) -> None:
        self.options = options
        self.keep_crops = keep_crops
        self.detector = detector
        self.mesh = mesh
        self.identifier = identifier
        self.times: list[float] = []
        self.faces: list[FollowedFace] = []  # awake and asleep
        self.ended: list[FollowedFace] = []
        self.born = 0
        self.detect_time = self.search_time = -math.inf
        self.judged: dict[int, _Judged] = {}  # of this frame
        self.recent: deque[tuple[int, float, UInt8]] = deque()  # frames since a face was lost
        self.spare: list[UInt8] = []  # their memory: to ask for it anew costs more than to fill it

    # one frame

    def step(self, time: float, rgb: UInt8) -> None:
        self.times.append(time)
        index = len(self.times) - 1
        found: dict[int, MeshFace] = {}
        self.judged.clear()
        for face in self.faces:
            if face.landmarks is None or time - face.mesh_time > 0.3:
                continue  # asleep: the detector looks for it
            seen = self.mesh.measure(rgb, face.predict(time))
            if seen.logit >= self.options.keep_logit and not implausible(seen):
                judged = self._judge(face, seen, time)
                self.judged[face.number] = judged
                if judged.error <= self.options.worst_error:
                    found[face.number] = seen
        self._part_doubles(found, time)
        for face in self.faces:
            if face.number in found:
                face.lost_since = None
            elif face.lost_since is None:
                face.lost_since = time
        if self._detector_is_due(time):
            self.detect_time = time
            self._look(time, rgb, index, found)
        for face in self.faces:
            if face.number in found:
                self._look_back(face, found[face.number], time, index)
                self._commit(face, found[face.number], time, rgb, index)
        self._remember(index, time, rgb)
        self._check_crossings(rgb, index, found)
        for face in [f for f in self.faces if time - f.seen_time > self.options.sleep_s]:
            self.faces.remove(face)
            self.ended.append(face)

    def _commit(self, face: FollowedFace, seen: MeshFace, time: float, rgb: UInt8, index: int) -> None:
        judged = self.judged.get(face.number)
        if judged is None or judged.face is not seen:
            judged = self._judge(face, seen, time)
        crop = self._crop(rgb, seen)
        row = face.rows[index] = Row(seen.box, seen.landmarks, judged.error, judged.sharp, crop)
        if 0 < self.options.mirror_every_s <= time - face.mirror_time + 1e-6:
            row.side_error = face.side_error = side_error(self.mesh, seen, self.options.keep_logit)
            face.mirror_time = time
        face.landmarks = seen.landmarks
        face.mesh_time = face.seen_time = time
        face.lost_since = None
        # Where to look next must not favour a side either.
        place = region_from_landmarks(shifted(seen.landmarks, face.side_error))
        face.move(place, time, judged.error < SURE_ERROR)
        unsure = judged.error >= SURE_ERROR or bool(face.with_other)
        if time - face.identity_time >= self.options.identify_every_s and not unsure:
            face.identities.append((index, self.identifier.describe(rgb, seen.landmarks)))
            face.identity_time = time

    def _crop(self, rgb: UInt8, seen: MeshFace) -> UInt8 | None:
        return mouth_crop(rgb, seen.landmarks) if self.keep_crops else None

    def _remember(self, index: int, time: float, rgb: UInt8) -> None:
        """Copies a frame in which somebody may be missing, for :meth:`_look_back`."""
        if not self._missing() and self._awake() >= 2:
            self.spare += [kept for _, _, kept in self.recent]
            self.recent.clear()
            return
        copy = self.spare.pop() if self.spare and self.spare[-1].shape == rgb.shape else np.empty_like(rgb, order="C")
        np.copyto(copy, rgb)
        self.recent.append((index, time, copy))
        while self.recent[0][1] < time - self.options.look_back_s:
            self.spare.append(self.recent.popleft()[2])

    def _look_back(self, face: FollowedFace, seen: MeshFace, time: float, index: int) -> None:
        """Follows a face that was just found backwards through the frames since it was lost."""
        later, later_time = seen, time
        for k, at, rgb in reversed(self.recent):
            known = face.rows.get(k)
            if k >= index or later_time - at > 0.1 or (known is not None and known.landmarks is not None):
                break
            earlier = self.mesh.measure(rgb, region_from_landmarks(later.landmarks))
            change = rigid_change(later.landmarks, earlier.landmarks)
            sharp = sharpness(earlier.crop)
            error = expected_error(earlier.landmarks, earlier.logit, change, sharp)
            if earlier.logit < self.options.keep_logit or implausible(earlier) or error > self.options.worst_error:
                break
            box = earlier.box
            if any(k in f.rows and apart(box, f.rows[k].box) < 0.5 for f in self.faces if f is not face):
                break
            face.rows[k] = Row(box, earlier.landmarks, error, sharp, self._crop(rgb, earlier))
            later, later_time = earlier, at

    def _judge(self, face: FollowedFace, seen: MeshFace, time: float) -> _Judged:
        change = math.nan
        if face.landmarks is not None and time - face.mesh_time < 0.1:
            change = rigid_change(face.landmarks, seen.landmarks)
        sharp = sharpness(seen.crop)
        return _Judged(seen, expected_error(seen.landmarks, seen.logit, change, sharp), sharp)

    # two tracks on one face

    def _part_doubles(self, found: dict[int, MeshFace], time: float) -> None:
        """Where two tracks have run onto one face, the one that had to jump further lets go."""
        awake = [f for f in self.faces if f.number in found]
        for i, one in enumerate(awake):
            for other in awake[i + 1 :]:
                if one.number in found and other.number in found:
                    p, q = found[one.number].region, found[other.number].region
                    if math.hypot(p.x - q.x, p.y - q.y) > 0.5 * max(p.side, q.side):
                        continue
                    if not _same_place(found[one.number].region, found[one.number], found[other.number]):
                        continue
                    jumps = [_jump(f.predict(time), found[f.number]) for f in (one, other)]
                    ages = [len(f.rows) for f in (one, other)]
                    if abs(jumps[0] - jumps[1]) > 0.05:
                        loser = one if jumps[0] > jumps[1] else other
                    else:
                        loser = one if ages[0] < ages[1] else other
                    del found[loser.number]

    # the detector

    def _detector_is_due(self, time: float) -> bool:
        since = time - self.detect_time
        if since >= self.options.detect_every_s - 1e-6:
            return True
        lost = self._missing()
        if not lost and self._awake() >= 2:
            return False
        # A back of the head stays unmeasurable for long: look again less and less eagerly.
        waited = min((time - (f.lost_since or time) for f in lost), default=math.inf)
        return since >= self.options.retry_every_s * (1.0 if waited < 1.0 else 2.5) - 1e-6

    def _missing(self) -> list[FollowedFace]:
        """Faces that were measured and are lost now."""
        return [f for f in self.faces if f.lost_since is not None and f.landmarks is not None]

    def _awake(self) -> int:
        return sum(f.lost_since is None for f in self.faces)

    def _search(self, time: float, rgb: UInt8, smallest: float, found: dict[int, MeshFace]) -> tuple[Detections, bool]:
        """What the detector sees, and whether it would have seen each followed face.

        A search of the whole frame for small faces takes many looks. Between two of them one look at the whole frame
        does, and where somebody is missing, one look at the place.
        """
        missing = self._missing()
        well = not missing and self._awake() >= 2
        if time - self.search_time >= self.options.detect_every_s * (3 if well else 1) - 1e-6:
            self.search_time = time
            return self.detector.detect(rgb, smallest), True
        if missing:
            # As far as _claim may reach, and half a head more.
            reaches = [(f.predict(time), 1.2 + 0.8 * min(time - f.seen_time, 1.5)) for f in missing]
            return _merged([self._look_at(rgb, place, reach) for place, reach in reaches]), False
        parts = [self.detector.detect(rgb, float(max(rgb.shape[:2])))]
        owners = {self._owner(box, found) for box in parts[0].boxes}
        unsure = [seen.region for n, seen in found.items() if n not in owners and seen.logit < CONFIRM_LOGIT]
        return _merged(parts + [self._look_at(rgb, place, 1.2) for place in unsure]), True

    def _look_at(self, rgb: UInt8, place: Region, reach: float) -> Detections:
        """One look at the part of a frame within ``reach`` sides of a place; faces that its edge cuts are left out."""
        height, width = rgb.shape[:2]
        far = reach * place.side
        x0, y0 = max(0, int(place.x - far)), max(0, int(place.y - far))
        x1, y1 = min(width, int(place.x + far) + 1), min(height, int(place.y + far) + 1)
        if x1 - x0 < 8 or y1 - y0 < 8:
            return no_detections()
        seen = self.detector.detect(rgb[y0:y1, x0:x1], float(max(x1 - x0, y1 - y0)))
        shift = np.array([x0, y0], np.float32)
        boxes = seen.boxes + np.tile(shift, 2)
        inside = np.ones(len(seen), np.bool_)
        for side, edge, cut in ((0, x0, x0 > 0), (1, y0, y0 > 0)):
            inside &= boxes[:, side] >= edge if cut else True
        for side, edge, cut in ((2, x1, x1 < width), (3, y1, y1 < height)):
            inside &= boxes[:, side] <= edge if cut else True
        return Detections(boxes, seen.scores, seen.keypoints + shift).take(inside)

    def _look(self, time: float, rgb: UInt8, index: int, found: dict[int, MeshFace]) -> None:
        """Detects, checks followed faces against detections, wakes sleeping ones and starts new ones."""
        known = sorted((f.size / REGION_SCALE for f in self.faces if f.landmarks is not None), reverse=True)
        smallest = self.options.smallest_px
        if known:
            smallest = max(smallest, self.options.smallest_share * (known[1] if len(known) > 1 else 0.5 * known[0]))
        detections, checked = self._search(time, rgb, smallest, found)
        sizes = sorted([float(w) for w in detections.widths], reverse=True)
        floor = max(self.options.smallest_px, self.options.smallest_share * sizes[1] if len(sizes) > 1 else 0.0)
        order = [int(i) for i in np.argsort(-detections.widths, kind="stable") if detections.widths[i] >= floor]
        free: list[tuple[int, MeshFace | None]] = []
        owned: set[int] = set()
        for d in order:
            owner = self._owner(detections.boxes[d], found)
            if owner is None:
                free.append((d, None))
            elif owner not in owned:
                owned.add(owner)
                if disagreement(found[owner].landmarks, detections.keypoints[d]) > 0.5:
                    again = self._measure_detection(rgb, detections, d)
                    if again is not None and again.logit > found[owner].logit + 2:
                        found[owner] = again
        for number in [n for n in found if checked and n not in owned and found[n].logit < CONFIRM_LOGIT]:
            del found[number]  # neither network is sure of it
        free = [(d, self._measure_detection(rgb, detections, d)) for d, _ in free]
        free = [(d, m) for d, m in free if m is None or self._owner(m.box, found) is None]
        self._claim(time, rgb, index, detections, free, found)

    def _owner(self, box: Float32, found: dict[int, MeshFace]) -> int | None:
        """The followed face to which a box belongs: two heads are never nearer than half a head, but for instants."""
        best, best_apart = None, 0.5
        for number, seen in found.items():
            distance = apart(box, seen.box)
            if distance < best_apart:
                best, best_apart = number, distance
        return best

    def _measure_detection(self, rgb: UInt8, detections: Detections, d: int) -> MeshFace | None:
        """A mesh at a detection, or None where the two do not tell of the same face."""
        first = self.mesh.measure(rgb, region_from_detection(detections.boxes[d], detections.keypoints[d]))
        if first.logit < -4.0 or implausible(first):
            return None
        second = self.mesh.measure(rgb, region_from_landmarks(first.landmarks))
        if second.logit < self.options.new_logit or implausible(second):
            return None
        if expected_error(second.landmarks, second.logit, math.nan, sharpness(second.crop)) > self.options.worst_error:
            return None
        limit = 0.5 if second.logit > 10.0 else 0.35
        return second if disagreement(second.landmarks, detections.keypoints[d]) < limit else None

    def _claim(
        self,
        time: float,
        rgb: UInt8,
        index: int,
        detections: Detections,
        measured: list[tuple[int, MeshFace | None]],
        found: dict[int, MeshFace],
    ) -> None:
        """Gives detections that nobody owns to sleeping faces (position, size, appearance), the rest to new ones."""
        asleep = [f for f in self.faces if f.number not in found and f.region is not None]
        far = 1e3
        cost = np.full((len(measured), len(asleep)), far)
        for i, (d, seen) in enumerate(measured):
            looks = None if seen is None else self.identifier.describe(rgb, seen.landmarks)
            box = detections.boxes[d] if seen is None else seen.box
            side = REGION_SCALE * float(max(box[2] - box[0], box[3] - box[1]))
            for j, face in enumerate(asleep):
                here = face.predict(time)
                gap = time - face.seen_time
                # It may have stopped behind what hid it, or gone on.
                places = [face.predict(time, ahead) for ahead in (0.0, 0.2, 0.5 * gap, gap)]
                x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
                away = min(math.hypot(x - r.x, y - r.y) for r in places) * REGION_SCALE / max(side, here.side)
                reach = 0.6 + 0.8 * min(gap, 1.5)
                zoom = abs(math.log(side / here.side))
                if away > reach or zoom > (0.5 if away > 0.5 else 0.9):
                    continue
                cost[i, j] = away / reach + zoom
                if looks is not None and face.identities:
                    cost[i, j] += 4.0 * (1.0 - similarity(looks, face.identity))
        rows, columns = linear_sum_assignment(cost) if cost.size else ([], [])
        claimed = {int(r): asleep[int(c)] for r, c in zip(rows, columns, strict=True) if cost[r, c] < far}
        for i, (d, seen) in enumerate(measured):
            owner = claimed.get(i)
            if owner is None:
                box = detections.boxes[d]
                near = [f for f in self.faces if f.rows and f.number not in found]
                if any(apart(box, f.rows[max(f.rows)].box) < 0.5 for f in near):
                    continue  # a second look at a head that is already known
                if len(self.faces) >= self.options.max_faces:
                    continue
                owner = FollowedFace(self.born, lost_since=time)
                self.born += 1
                self.faces.append(owner)
            for other in asleep:
                if other is not owner and i in claimed:  # both were away: either may be the other
                    owner.with_other.setdefault(other.number, index)
                    other.with_other.setdefault(owner.number, index)
            if seen is not None:
                found[owner.number] = seen
                continue
            box = detections.boxes[d].astype(np.float32)
            owner.rows[index] = Row(box)
            owner.seen_time = time
            owner.move(region_from_detection(box, detections.keypoints[d]), time, False)

    # crossings

    def _check_crossings(self, rgb: UInt8, index: int, found: dict[int, MeshFace]) -> None:
        """After two faces met and parted, exchanges them if their looks say that the tracks changed owners."""
        awake = [f for f in self.faces if f.number in found and f.region is not None]
        for i, one in enumerate(awake):
            for other in awake[i + 1 :]:
                iou = box_iou(one.rows[index].box, other.rows[index].box)
                met = one.with_other.get(other.number)
                if iou > 0.05 and met is None:
                    one.with_other[other.number] = other.with_other[one.number] = index
                elif iou == 0.0 and met is not None and self._sure(one, index) and self._sure(other, index):
                    one.with_other.pop(other.number, None)
                    other.with_other.pop(one.number, None)
                    self._maybe_exchange(one, other, met, rgb)
        numbers = {f.number for f in self.faces}
        for face in awake:
            face.with_other = {n: at for n, at in face.with_other.items() if n in numbers}

    @staticmethod
    def _sure(face: FollowedFace, index: int) -> bool:
        return index in face.rows and face.rows[index].error < SURE_ERROR

    def _maybe_exchange(self, one: FollowedFace, other: FollowedFace, met: int, rgb: UInt8) -> None:
        if one.landmarks is None or other.landmarks is None:
            return
        first = self.identifier.describe(rgb, one.landmarks)
        second = self.identifier.describe(rgb, other.landmarks)
        gain = 0.0  # by how much the looks fit better the other way round
        if one.identities:
            gain += similarity(second, one.identity) - similarity(first, one.identity)
        if other.identities:
            gain += similarity(first, other.identity) - similarity(second, other.identity)
        if gain <= 0.05:
            return
        for index in [k for k in set(one.rows) | set(other.rows) if k >= met]:
            mine, theirs = one.rows.pop(index, None), other.rows.pop(index, None)
            if theirs is not None:
                one.rows[index] = theirs
            if mine is not None:
                other.rows[index] = mine
        for name in ("region", "region_time", "velocity", "landmarks", "seen_time", "mesh_time"):
            mine_value, their_value = getattr(one, name), getattr(other, name)
            setattr(one, name, their_value)
            setattr(other, name, mine_value)

    # the end

    def finish(self, keep_from_s: float) -> PieceTracks:
        times = np.array(self.times, dtype=np.float64)
        first = int(np.searchsorted(times, keep_from_s))
        kept: list[Kept] = []
        for face in [*self.ended, *self.faces]:
            rows = {i: face.rows[i] for i in sorted(face.rows) if i >= first}
            if not rows:
                continue
            start, stop = min(rows), max(rows) + 1
            if len(rows) >= 2 and times[stop - 1] - times[start] >= self.options.shortest_s:
                kept.append((start, float(rows[start].box[0]), face, rows, stop))
        kept = without_doubles(kept)
        kept.sort(key=lambda k: (k[0], k[1], k[2].number))
        tracklets = [
            tracklet_of(f"t{n}", face, rows, times, start, stop, self.keep_crops)
            for n, (start, _, face, rows, stop) in enumerate(kept)
        ]
        return PieceTracks(times[first:], tuple(tracklets))


def _merged(parts: list[Detections]) -> Detections:
    boxes, scores, points = (np.concatenate([getattr(p, k) for p in parts]) for k in ("boxes", "scores", "keypoints"))
    return merge_detections(Detections(boxes, scores, points))


def _same_place(region: Region, one: MeshFace, other: MeshFace) -> bool:
    """Two meshes lie on one face: their points agree within half a face scale (median)."""
    between = np.linalg.norm(one.landmarks[:468, :2] - other.landmarks[:468, :2], axis=1)
    return float(np.median(between)) < 0.18 * min(region.side, other.region.side)


def _jump(predicted: Region, seen: MeshFace) -> float:
    region = region_from_landmarks(seen.landmarks)
    return math.hypot(region.x - predicted.x, region.y - predicted.y) / predicted.side
