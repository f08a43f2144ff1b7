"""One face being followed, and the tracklet it becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import N_LANDMARKS, Float32
from .face_mesh import MeshFace, Region
from .face_quality import confidence_from_error
from .mirror import without_side_error
from .mouth_crop import CROP
from .tracklet import Tracklet

UInt8 = npt.NDArray[np.uint8]


@dataclass
class Row:
    """What one frame told of one face."""

    box: Float32
    landmarks: Float32 | None = None
    error: float = 1.0
    sharp: float = math.nan
    crop: UInt8 | None = None
    side_error: Float32 | None = None
    gaze: Float32 | None = None


@dataclass
class FollowedFace:
    """A face being followed."""

    number: int
    rows: dict[int, Row] = field(default_factory=dict)
    region: Region | None = None
    region_time: float = 0.0
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)  # px/s, px/s, log-size/s
    landmarks: Float32 | None = None
    seen_time: float = -math.inf  # last sighting of any kind
    mesh_time: float = -math.inf  # last measured landmarks
    lost_since: float | None = None
    identities: list[tuple[int, Float32]] = field(default_factory=list)
    identity_time: float = -math.inf
    mirror_time: float = -math.inf
    side_error: Float32 | None = None  # the last one measured
    with_other: dict[int, int] = field(default_factory=dict)  # face number -> frame at which they met

    @property
    def size(self) -> float:
        assert self.region is not None
        return self.region.side

    @property
    def identity(self) -> Float32:
        if not self.identities:
            return np.zeros(1, np.float32)
        mean = np.mean([vector for _, vector in self.identities], axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), dtype=np.float32)

    def predict(self, time: float, longest_s: float = 0.2) -> Region:
        """Where the face is expected: constant velocity for the first instants, then standing still."""
        assert self.region is not None
        ahead = min(time - self.region_time, longest_s)
        vx, vy, vs = self.velocity
        grow = math.exp(max(-0.1, min(0.1, vs * ahead)))
        return Region(
            self.region.x + vx * ahead, self.region.y + vy * ahead, self.region.side * grow, self.region.angle
        )

    def move(self, region: Region, time: float, sure: bool) -> None:
        """Takes a new position and, from one that is sure, the velocity (an occluder drags the mesh along)."""
        if not sure and self.region is not None and time - self.region_time < 0.1:
            vx, vy, vs = self.velocity
        elif self.region is not None and 0 < time - self.region_time < 0.3:
            dt = time - self.region_time
            now = (
                (region.x - self.region.x) / dt,
                (region.y - self.region.y) / dt,
                math.log(region.side / self.region.side) / dt,
            )
            vx, vy, vs = (0.5 * a + 0.5 * b for a, b in zip(self.velocity, now, strict=True))
        else:
            vx, vy, vs = 0.0, 0.0, 0.0
        self.velocity = (vx, vy, vs)
        self.region, self.region_time = region, time


Kept = tuple[int, float, FollowedFace, dict[int, Row], int]


def without_doubles(kept: list[Kept]) -> list[Kept]:
    """Of two tracklets that mostly lay on one head at the same time, keeps the one measured in more frames."""
    order = sorted(kept, key=lambda k: (-sum(r.landmarks is not None for r in k[3].values()), k[2].number))
    left: list[Kept] = []
    for one in order:
        for other in left:
            shared = [i for i in one[3] if i in other[3]]
            close = sum(apart(one[3][i].box, other[3][i].box) < 0.5 for i in shared)
            if shared and 2 * close > len(one[3]):
                break
        else:
            left.append(one)
    return left


def tracklet_of(
    name: str, face: FollowedFace, rows: dict[int, Row], all_times: npt.NDArray[np.float64], start: int, stop: int,
    keep_crops: bool,
) -> Tracklet:  # fmt: skip
    times = all_times[start:stop]
    n = len(times)
    measured = without_side_error(
        {index: row.landmarks for index, row in rows.items() if row.landmarks is not None},
        {index: row.side_error for index, row in face.rows.items() if row.side_error is not None},
        all_times,
    )
    landmarks = np.full((n, N_LANDMARKS, 3), np.nan, np.float32)
    box = np.full((n, 4), np.nan, np.float32)
    valid = np.zeros(n, np.bool_)
    confidence = np.zeros(n, np.float32)
    sharp = np.full(n, np.nan, np.float32)
    crops = np.zeros((n, CROP, CROP), np.uint8) if keep_crops else None
    gaze = np.full((n, 3), np.nan, np.float32) if any(row.gaze is not None for row in rows.values()) else None
    for index, row in rows.items():
        k = index - start
        box[k] = row.box
        if crops is not None and row.crop is not None:
            crops[k] = row.crop
        if gaze is not None and row.gaze is not None:
            gaze[k] = row.gaze
        if row.landmarks is not None:
            landmarks[k], valid[k], sharp[k] = measured[index], True, row.sharp
            confidence[k] = confidence_from_error(row.error)
    looks = len(face.identities)
    return Tracklet(name, times, landmarks, box, valid, confidence, sharp, face.identity, looks, crops, gaze)


def owner_of(box: Float32, found: Mapping[int, MeshFace]) -> int | None:
    """The face of ``found`` to which a box belongs: two heads are never nearer than half a head, but for instants."""
    best, best_apart = None, 0.5
    for number, seen in found.items():
        distance = apart(box, seen.box)
        if distance < best_apart:
            best, best_apart = number, distance
    return best


def apart(one: Float32, other: Float32) -> float:
    """Distance of two boxes' centres over their mean size."""
    sizes = float(max(one[2] - one[0], one[3] - one[1]) + max(other[2] - other[0], other[3] - other[1])) / 2
    return math.hypot(*(float(v) for v in (one[:2] + one[2:] - other[:2] - other[2:]) / 2)) / max(sizes, 1e-6)
