"""Follow every prominent face through one piece of a shot, frame by frame, by its own landmarks.

The landmark network looks where the face is predicted to be; the detector, which costs more, looks only about once a
second, and sooner when a face is lost. A face that is hidden sleeps for a while and is taken up again by position
and appearance. State lives in one call: a piece's tracks depend on its own frames alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32
from .crossings import SURE_ERROR, check_crossings, part_doubles
from .decode import Frame
from .detect_faces import Detections
from .face_mesh import REGION_SCALE, MeshFace, Region, region_from_detection, region_from_landmarks
from .face_quality import disagreement, expected_error, implausible, rigid_change
from .face_search import CONFIRM_LOGIT, FaceSearch, Finder, awake, missing
from .followed_face import FollowedFace, Kept, Row, apart, owner_of, tracklet_of, without_doubles
from .identify import Identifier, similarity
from .mirror import region_without_side_error, side_error
from .mouth_crop import mouth_crop
from .planar import Pixels, keep
from .tracklet import PieceTracks

UInt8 = npt.NDArray[np.uint8]

_FIRST_LOGIT = 0.0  # of a face in the square of a detection; in its own square it is more by up to 10


class Mesher(Protocol):
    def measure(self, picture: Pixels, region: Region) -> MeshFace: ...

    def measure_all(self, picture: Pixels, regions: Sequence[Region]) -> list[MeshFace]: ...


@dataclass(frozen=True)
class TrackOptions:
    """How faces are followed.

    Attributes:
        detect_every_s: the detector looks this often while every face is followed, every third time for small faces
            too; every second such time it searches the whole frame for small faces while not.
        retry_every_s: it looks this often, where a face may be, while one was just lost; less often while it stays lost
            or fewer than two are followed.
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


Look = Callable[[Pixels, Float32], Float32]


def track_piece(
    frames: Iterable[Frame],
    options: TrackOptions,
    detector: Finder,
    mesh: Mesher,
    identifier: Identifier,
    keep_from_s: float = -math.inf,
    keep_to_s: float = math.inf,
    keep_crops: bool = False,
    look: Look | None = None,
) -> PieceTracks:
    """Tracks the faces of one piece.

    Args:
        frames: the piece's frames in time order, warm-up frames first.
        keep_from_s, keep_to_s: frames with keep_from_s <= time < keep_to_s are kept; earlier ones only warm up.
        keep_crops: also keep a grey crop of each face's mouth (:func:`mouth_crop`), for an active-speaker network.
        look: an appearance model of gaze: image and landmarks to a unit vector in the camera's frame.

    Returns:
        The kept frames' times and the tracklets over them, in order of first sighting (then from left to right).
    """
    tracker = _Tracker(options, detector, mesh, identifier, keep_crops, look)
    for frame in frames:
        if frame.time_s >= keep_to_s:
            break
        tracker.step(frame)
    return tracker.finish(keep_from_s)


class _Tracker:
    def __init__(
        self, options: TrackOptions, detector: Finder, mesh: Mesher, identifier: Identifier, keep_crops: bool = False,
        look: Look | None = None,
    ) -> None:  # fmt: skip
        self.options = options
        self.keep_crops = keep_crops
        self.look = look
        self.search = FaceSearch(
            detector, options.detect_every_s, options.retry_every_s, options.smallest_px, options.smallest_share
        )
        self.mesh = mesh
        self.identifier = identifier
        self.times: list[float] = []
        self.faces: list[FollowedFace] = []  # awake and asleep
        self.ended: list[FollowedFace] = []
        self.born = 0
        self.judged: dict[int, _Judged] = {}  # of this frame
        self.recent: deque[tuple[int, float, Pixels]] = deque()  # frames since a face was lost
        self.spare: list[Pixels] = []  # their memory: to ask for it anew costs more than to fill it

    # one frame

    def step(self, frame: Frame) -> None:
        time, picture = frame.time_s, frame.pixels
        self.times.append(time)
        index = len(self.times) - 1
        found: dict[int, MeshFace] = {}
        self.judged.clear()
        # The detector looks for those that are asleep.
        followed = [f for f in self.faces if f.landmarks is not None and time - f.mesh_time <= 0.3]
        looks = self.mesh.measure_all(picture, [face.predict(time) for face in followed])
        for face, seen in zip(followed, looks, strict=True):
            if seen.logit >= self.options.keep_logit and not implausible(seen):
                judged = self._judge(face, seen, time)
                self.judged[face.number] = judged
                if judged.error <= self.options.worst_error:
                    found[face.number] = seen
        part_doubles(self.faces, found, time)
        for face in self.faces:
            if face.number in found:
                face.lost_since = None
            elif face.lost_since is None:
                face.lost_since = time
        if self.search.due(time, self.faces):
            self._look(frame, index, found)
        for face in self.faces:
            if face.number in found:
                self._look_back(face, found[face.number], time, index)
                self._commit(face, found[face.number], time, picture, index)
        self._remember(index, time, picture)
        check_crossings(self.faces, found, picture, index, self.identifier)
        for face in [f for f in self.faces if time - f.seen_time > self.options.sleep_s]:
            self.faces.remove(face)
            self.ended.append(face)

    def _commit(self, face: FollowedFace, seen: MeshFace, time: float, picture: Pixels, index: int) -> None:
        judged = self.judged.get(face.number)
        if judged is None or judged.face is not seen:
            judged = self._judge(face, seen, time)
        crop = self._crop(picture, seen)
        row = face.rows[index] = Row(seen.box, seen.landmarks, judged.error, judged.sharp, crop)
        if self.look is not None:
            row.gaze = self.look(picture, seen.landmarks)
        if 0 < self.options.mirror_every_s <= time - face.mirror_time + 1e-6:
            row.side_error = face.side_error = side_error(self.mesh, seen, self.options.keep_logit)
            face.mirror_time = time
        face.landmarks = seen.landmarks
        face.mesh_time = face.seen_time = time
        face.lost_since = None
        # Where to look next must not favour a side either.
        place = region_without_side_error(seen.landmarks, face.side_error)
        face.move(place, time, judged.error < SURE_ERROR)
        unsure = judged.error >= SURE_ERROR or bool(face.with_other)
        if time - face.identity_time >= self.options.identify_every_s and not unsure:
            face.identities.append((index, self.identifier.describe(picture, seen.landmarks)))
            face.identity_time = time

    def _crop(self, picture: Pixels, seen: MeshFace) -> UInt8 | None:
        return mouth_crop(picture, seen.landmarks) if self.keep_crops else None

    def _remember(self, index: int, time: float, picture: Pixels) -> None:
        """Copies a frame in which somebody may be missing, for :meth:`_look_back`."""
        if not missing(self.faces) and awake(self.faces) >= 2:
            self.spare += [kept for _, _, kept in self.recent]
            self.recent.clear()
            return
        self.recent.append((index, time, keep(picture, self.spare.pop() if self.spare else None)))
        while self.recent[0][1] < time - self.options.look_back_s:
            self.spare.append(self.recent.popleft()[2])

    def _look_back(self, face: FollowedFace, seen: MeshFace, time: float, index: int) -> None:
        """Follows a face that was just found backwards through the frames since it was lost."""
        later, later_time = seen, time
        for k, at, picture in reversed(self.recent):
            known = face.rows.get(k)
            if k >= index or later_time - at > 0.1 or (known is not None and known.landmarks is not None):
                break
            earlier = self.mesh.measure(picture, region_from_landmarks(later.landmarks))
            change = rigid_change(later.landmarks, earlier.landmarks)
            sharp = earlier.sharpness
            error = expected_error(earlier.landmarks, earlier.logit, change, sharp)
            if earlier.logit < self.options.keep_logit or implausible(earlier) or error > self.options.worst_error:
                break
            box = earlier.box
            if any(k in f.rows and apart(box, f.rows[k].box) < 0.5 for f in self.faces if f is not face):
                break
            face.rows[k] = Row(box, earlier.landmarks, error, sharp, self._crop(picture, earlier))
            later, later_time = earlier, at

    def _judge(self, face: FollowedFace, seen: MeshFace, time: float) -> _Judged:
        change = math.nan
        if face.landmarks is not None and time - face.mesh_time < 0.1:
            change = rigid_change(face.landmarks, seen.landmarks)
        sharp = seen.sharpness
        return _Judged(seen, expected_error(seen.landmarks, seen.logit, change, sharp), sharp)

    # the detector

    def _look(self, frame: Frame, index: int, found: dict[int, MeshFace]) -> None:
        """Detects, checks followed faces against detections, wakes sleeping ones and starts new ones."""
        picture = frame.pixels
        detections, checked = self.search.look(frame.time_s, frame.rgb, self.faces, found)
        free: list[int] = []
        owned: set[int] = set()
        for d in range(len(detections)):
            owner = owner_of(detections.boxes[d], found)
            if owner is None:
                free.append(d)
            elif owner not in owned:
                owned.add(owner)
                if disagreement(found[owner].landmarks, detections.keypoints[d]) > 0.5:
                    again = self._measure_detection(picture, detections, d)
                    if again is not None and again.logit > found[owner].logit + 2:
                        found[owner] = again
        for number in [n for n in found if checked and n not in owned and found[n].logit < CONFIRM_LOGIT]:
            del found[number]  # neither network is sure of it
        measured = [(d, self._measure_detection(picture, detections, d)) for d in free]
        measured = [(d, m) for d, m in measured if m is None or owner_of(m.box, found) is None]
        self._claim(frame.time_s, picture, index, detections, measured, found)

    def _measure_detection(self, picture: Pixels, detections: Detections, d: int) -> MeshFace | None:
        """A mesh at a detection, or None where the two do not tell of the same face."""
        first = self.mesh.measure(picture, region_from_detection(detections.boxes[d], detections.keypoints[d]))
        if first.logit < _FIRST_LOGIT or implausible(first):
            return None
        second = self.mesh.measure(picture, region_from_landmarks(first.landmarks))
        if second.logit < self.options.new_logit or implausible(second):
            return None
        if expected_error(second.landmarks, second.logit, math.nan, second.sharpness) > self.options.worst_error:
            return None
        limit = 0.5 if second.logit > 10.0 else 0.35
        return second if disagreement(second.landmarks, detections.keypoints[d]) < limit else None

    def _claim(
        self,
        time: float,
        picture: Pixels,
        index: int,
        detections: Detections,
        measured: list[tuple[int, MeshFace | None]],
        found: dict[int, MeshFace],
    ) -> None:
        """Gives detections that nobody owns to sleeping faces (position, size, appearance), the rest to new ones."""
        if not measured:
            return
        from scipy.optimize import linear_sum_assignment  # a tenth of a second, for who tracks only

        asleep = [f for f in self.faces if f.number not in found and f.region is not None]
        far = 1e3
        cost = np.full((len(measured), len(asleep)), far)
        for i, (d, seen) in enumerate(measured):
            looks: Float32 | None = None
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
                if seen is not None and face.identities:
                    looks = self.identifier.describe(picture, seen.landmarks) if looks is None else looks
                    cost[i, j] += 4.0 * (1.0 - similarity(looks, face.identity))
        rows, columns = ([], []) if cost.size == 0 else linear_sum_assignment(cost)
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
