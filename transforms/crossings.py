"""Two followed faces that met: which track has run onto the other's face, and whether they changed owners."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .face_mesh import MeshFace, Region, region_from_landmarks
from .face_quality import box_iou
from .followed_face import FollowedFace
from .identify import Identifier, similarity
from .planar import Pixels

SURE_ERROR = 0.06  # expected error (fraction of face scale) under which a frame tells how a face moves, and whose it is


def part_doubles(faces: Sequence[FollowedFace], found: dict[int, MeshFace], time: float) -> None:
    """Where two tracks have run onto one face, takes from ``found`` the one that had to jump further."""
    awake = [f for f in faces if f.number in found]
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


def check_crossings(
    faces: Sequence[FollowedFace],
    found: dict[int, MeshFace],
    picture: Pixels,
    index: int,
    identifier: Identifier,
) -> None:
    """After two faces met and parted, exchanges them if their looks say that the tracks changed owners.

    Args:
        index: of the frame, which ``picture`` is; ``found`` was measured in it.
    """
    awake = [f for f in faces if f.number in found and f.region is not None]
    for i, one in enumerate(awake):
        for other in awake[i + 1 :]:
            iou = box_iou(one.rows[index].box, other.rows[index].box)
            met = one.with_other.get(other.number)
            if iou > 0.05 and met is None:
                one.with_other[other.number] = other.with_other[one.number] = index
            elif iou == 0.0 and met is not None and _sure(one, index) and _sure(other, index):
                one.with_other.pop(other.number, None)
                other.with_other.pop(one.number, None)
                _maybe_exchange(one, other, met, picture, identifier)
    numbers = {f.number for f in faces}
    for face in awake:
        if face.with_other:
            face.with_other = {n: at for n, at in face.with_other.items() if n in numbers}


def _sure(face: FollowedFace, index: int) -> bool:
    return index in face.rows and face.rows[index].error < SURE_ERROR


def _maybe_exchange(one: FollowedFace, other: FollowedFace, met: int, picture: Pixels, identifier: Identifier) -> None:
    if one.landmarks is None or other.landmarks is None:
        return
    first = identifier.describe(picture, one.landmarks)
    second = identifier.describe(picture, other.landmarks)
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


def _same_place(region: Region, one: MeshFace, other: MeshFace) -> bool:
    """Two meshes lie on one face: their points agree within half a face scale (median)."""
    between = np.linalg.norm(one.landmarks[:468, :2] - other.landmarks[:468, :2], axis=1)
    return float(np.median(between)) < 0.18 * min(region.side, other.region.side)


def _jump(predicted: Region, seen: MeshFace) -> float:
    region = region_from_landmarks(seen.landmarks)
    return math.hypot(region.x - predicted.x, region.y - predicted.y) / predicted.side
