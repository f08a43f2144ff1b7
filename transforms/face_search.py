"""When the face detector looks, and where: seldom, because one look costs what two or more landmark calls cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .detect_faces import SURE, Detections, merge_detections, no_detections
from .face_mesh import REGION_SCALE, MeshFace, Region
from .followed_face import FollowedFace, owner_of

EAGER_S = 0.45  # a face lost for less is looked for at every retry, then at every PATIENCE-th
PATIENCE = 2.5
CONFIRM_LOGIT = 6.0  # a followed face under this score of the landmark network must be seen by the detector too

UInt8 = npt.NDArray[np.uint8]


class Finder(Protocol):
    def detect(self, rgb: UInt8, smallest_px: float, enough: int = 0, seen: Detections | None = None) -> Detections: ...


class FaceSearch:
    """Remembers when the detector last looked.

    Args:
        detect_every_s, retry_every_s, smallest_px, smallest_share: as in ``TrackOptions``.
    """

    def __init__(
        self, detector: Finder, detect_every_s: float, retry_every_s: float, smallest_px: float, smallest_share: float
    ) -> None:
        self.detector = detector
        self.detect_every_s = detect_every_s
        self.retry_every_s = retry_every_s
        self.smallest_px = smallest_px
        self.smallest_share = smallest_share
        self._looked = self._searched = -math.inf  # anywhere; the whole frame for small faces

    def due(self, time: float, faces: Sequence[FollowedFace]) -> bool:
        """Whether to look at this frame."""
        since = time - self._looked
        if since >= self.detect_every_s - 1e-6:
            return True
        lost = missing(faces)
        if not lost and awake(faces) >= 2:
            return False
        # A back of the head stays unmeasurable for long. What a rarer look misses is made up for backwards.
        waited = min((time - (f.lost_since or time) for f in lost), default=math.inf)
        return since >= self.retry_every_s * (1.0 if waited < EAGER_S else PATIENCE) - 1e-6

    def look(
        self, time: float, rgb: UInt8, faces: Sequence[FollowedFace], found: Mapping[int, MeshFace]
    ) -> tuple[Detections, bool]:
        """What the detector sees, largest first, passers-by left out, and whether it would have seen every followed
        face.

        A search of the whole frame for small faces takes many looks. Between two of them one look at the whole frame
        does, and where somebody is missing, one look at the place.

        Args:
            found: what the landmark network has measured in this frame, by face number.
        """
        self._looked = time
        detections, checked = self._search(time, rgb, faces, found)
        sizes = sorted([float(w) for w in detections.widths], reverse=True)
        floor = max(self.smallest_px, self.smallest_share * sizes[1] if len(sizes) > 1 else 0.0)
        order = [int(i) for i in np.argsort(-detections.widths, kind="stable") if detections.widths[i] >= floor]
        return detections.take(order), checked

    def _search(
        self, time: float, rgb: UInt8, faces: Sequence[FollowedFace], found: Mapping[int, MeshFace]
    ) -> tuple[Detections, bool]:
        lost = missing(faces)
        well = not lost and awake(faces) >= 2
        if time - self._searched >= self.detect_every_s * (3 if well else 2) - 1e-6:
            self._searched = time
            seen = None
            sizes = [f.size / REGION_SCALE for f in faces if f.landmarks is not None]
            if not sizes:  # one look says how small a face can matter
                seen = self._whole(rgb)
                sizes = [float(w) for w, score in zip(seen.widths, seen.scores, strict=True) if score >= SURE]
            return self.detector.detect(rgb, self._least(sizes), seen=seen), True
        if lost:
            # As far as a lost face may be claimed again, and half a head more.
            reaches = [(f.predict(time), 1.2 + 0.8 * min(time - f.seen_time, 1.5)) for f in lost]
            return _merged([self._look_at(rgb, place, reach) for place, reach in reaches]), False
        parts = [self._whole(rgb)]
        owners = {owner_of(box, found) for box in parts[0].boxes}
        unsure = [seen.region for n, seen in found.items() if n not in owners and seen.logit < CONFIRM_LOGIT]
        return _merged(parts + [self._look_at(rgb, place, 1.2) for place in unsure]), True

    def _least(self, sizes: Sequence[float]) -> float:
        """Width of the smallest face worth searching for beside faces of these sizes."""
        known = sorted(sizes, reverse=True)[:2]
        second = 0.0 if not known else known[1] if len(known) > 1 else 0.5 * known[0]
        return max(self.smallest_px, self.smallest_share * second)

    def _whole(self, rgb: UInt8) -> Detections:
        return self.detector.detect(rgb, float(max(rgb.shape[:2])))

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


def missing(faces: Sequence[FollowedFace]) -> list[FollowedFace]:
    """Faces that were measured and are lost now."""
    return [f for f in faces if f.lost_since is not None and f.landmarks is not None]


def awake(faces: Sequence[FollowedFace]) -> int:
    return sum(f.lost_since is None for f in faces)


def _merged(parts: list[Detections]) -> Detections:
    boxes, scores, points = (np.concatenate([getattr(p, k) for p in parts]) for k in ("boxes", "scores", "keypoints"))
    return merge_detections(Detections(boxes, scores, points))
