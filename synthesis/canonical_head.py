"""Makes the embedded canonical head from two public-domain portraits, and the second analytic head for tests.

    python -m duologue.synthesis.canonical_head [--task face_landmarker.task]

FaceMesh's 3D points on ``skimage.data.astronaut`` and matplotlib's ``grace_hopper.jpg`` (both NASA / US Navy, public
domain) and on their mirror images are made frontal, averaged, made symmetric and scaled to an inter-pupillary
distance of 63 mm and an adult's face length and breadth. The portraits smile, so mouth and lids are then brought to
rest. Triangles come from ``FACEMESH_TESSELATION``; eyeballs, inner mouth, back of head, joints and modes are analytic
(:mod:`.head_geometry`, :mod:`.head_modes`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fitting import canonical
from ..fitting.head_model import (
    BACK,
    INNER_MOUTH,
    IRIS_RADIUS,
    JAW,
    LEFT_EYE,
    LEFT_EYEBALL,
    NECK,
    RIGHT_EYE,
    RIGHT_EYEBALL,
    ROOT,
    SKIN,
)
from .head_geometry import SkinMesh, back_of_head, eyeball, mirror_map, orient, triangles_from_edges
from .head_modes import (
    CANTHI,
    CORNER,
    EDGE_LOWER,
    EDGE_UPPER,
    INNER_LOWER,
    INNER_UPPER,
    LID_CLEARANCE,
    LOWER_LID,
    MID_LOWER,
    MID_UPPER,
    OUT_LOWER,
    OUT_UPPER,
    UPPER_LID,
    ExpressionBuilder,
    identity_modes,
    smoothstep,
)

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

IPD = 63.0  # mm, adult mean (Dodgson 2004)
# adult means over men and women (Zhuang & Bradtmiller 2005, NIOSH survey): size is what depth is read from
SELLION_MENTON, BIZYGOMATIC = 118.0, 139.3  # mm
EYE_RADIUS = 12.0  # mm
LID_APERTURE = 9.0  # mm at the middle of the open eye
LIP_GAP = 0.5  # mm
MOUTH_WIDTH = 50.0  # mm between 61 and 291
# one standard deviation of each expression coefficient over frames of talk; blinks are sparse but full
EXPRESSION_SD = {"eyeBlink": 0.45, "browInnerUp": 0.35, "mouthClose": 0.3, "mouthPucker": 0.35, "mouthSmile": 0.4}
DEFAULT_SD = 0.3
# FaceMesh vertices (middle and subject's right) that go wholly with the jaw, or not at all
_CHIN = (18, 200, 199, 175, 152, 148, 176, 149, 83, 182, 194, 32, 208, 201, 140, 171)
_UPPER_FACE = (2, 164, 167, 165, 98, 64, 206, 205, 50, 123, 147, 234, 93, 127, 116, 117, 101, 36, 203)


def portrait_landmarks() -> list[Array]:
    """FaceMesh landmarks [478, 3] (pixels; x right, y up, z out) of both portraits and their mirror images."""
    import matplotlib.cbook
    import matplotlib.image
    import mediapipe
    import skimage.data

    hopper = matplotlib.image.imread(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    found = []
    for picture in (skimage.data.astronaut(), hopper):
        for image in (picture, picture[:, ::-1]):
            image = np.ascontiguousarray(image[..., :3])
            height, width = image.shape[:2]
            with mediapipe.solutions.face_mesh.FaceMesh(
                static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3
            ) as mesh:
                result = mesh.process(image)
            if not result.multi_face_landmarks:
                raise RuntimeError("FaceMesh found no face in a portrait")
            points = result.multi_face_landmarks[0].landmark
            found.append(np.array([[p.x * width, -p.y * height, -p.z * width] for p in points]))
    return found


def similarity(source: Array, target: Array) -> Array:
    """``source`` moved, turned and scaled onto ``target`` (least squares; Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    d = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = float((s * d).sum() / (a**2).sum())
    return np.asarray(scale * a @ (u * d @ vt).T + target.mean(0))


def upright(points: Array) -> Array:
    """Turn about x until forehead (10) and chin (152) are one above the other."""
    dy, dz = (points[10] - points[152])[1:]
    norm = np.hypot(dy, dz)
    c, s = dy / norm, dz / norm
    return np.asarray(points @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]).T)


def frontal_mean(faces: list[Array]) -> tuple[Array, Index]:
    """Generalised Procrustes mean of the faces and their reflections: symmetric about x = 0, upright, IPD 63 mm.

    Returns:
        Points [478, 3] mm (468 and 473: iris centres) and the mirror map [478].
    """
    mean = faces[0] - faces[0].mean(0)
    mean = mean / np.linalg.norm(mean)
    for _ in range(10):
        mean = np.mean([similarity(f, mean) for f in faces], axis=0)
        mean = (mean - mean.mean(0)) / np.linalg.norm(mean - mean.mean(0))
    # yaw and roll: best agreement with the own mirror image, whose correspondence sharpens as the face straightens
    mirror = mirror_map(mean)
    for _ in range(10):
        mean = 0.5 * (mean + similarity(mean[mirror] * [-1, 1, 1], mean))
        mean = similarity(mean, 0.5 * (mean + mean[mirror] * [-1, 1, 1]))
        mirror = mirror_map(mean)
    mean = upright(0.5 * (mean + mean[mirror] * [-1, 1, 1]))
    if not np.array_equal(mirror[mirror], np.arange(478)):
        raise RuntimeError("the mirror map of the landmarks is not an involution")
    mean *= IPD / (mean[473, 0] - mean[468, 0])
    return mean - [0.0, mean[468, 1], mean[468, 2]], mirror


def adult_size(points: Array) -> Array:
    """Give the face an adult's length and breadth at unchanged inter-pupillary distance.

    Two portraits are no population: at 63 mm between the pupils their faces come out small, and a fit would place
    heads that much too near. The face is scaled evenly, and each eye is then moved back toward the nose.
    """
    length, breadth = points[168, 1] - points[152, 1], np.ptp(points[:468, 0])
    growth = 0.5 * (SELLION_MENTON / length + BIZYGOMATIC / breadth)
    grown = points * growth
    for iris in (468, 473):
        eye = grown[iris].copy()
        near = np.exp(-0.5 * (((grown - eye) / [15.0, 13.0, 30.0]) ** 2).sum(1))
        grown[:, 0] += near * (points[iris, 0] - eye[0])
    grown[:, 0] *= IPD / (grown[473, 0] - grown[468, 0])
    return np.asarray(grown)


def neutralise(skin: Array, triangles: Index, mirror: Index, eye: Array) -> Array:
    """Bring mouth and lids to rest. ``skin`` [468, 3] mm, ``eye`` the right eyeball's centre; returns [468, 3]."""
    mesh = SkinMesh(skin, triangles)
    corner = skin[61]
    stomion = 0.5 * (skin[13] + skin[14])
    # mouth corners in, down and forward; the cheeks they had lifted follow
    pull = np.array([-0.5 * MOUTH_WIDTH - corner[0], stomion[1] - 0.6 - corner[1] - 1.4, 3.2])
    handles: dict[int, npt.ArrayLike] = {}
    rows = (INNER_UPPER, INNER_LOWER, MID_UPPER, MID_LOWER, OUT_UPPER, OUT_LOWER, EDGE_UPPER, EDGE_LOWER)
    for row, drop in zip(rows, (-1.4, 0, -1.4, 0, -1.4, 0, -1.4, 0), strict=True):
        for k, index in enumerate(row):
            s = (k / 4.6) ** 1.3
            handles[index] = (pull[0] * s, drop * (1 - s) + pull[1] * s, pull[2] * s)
    handles |= dict.fromkeys(CORNER, pull)
    handles |= {205: (0.6, -2.0, -1.0), 50: (0.2, -1.6, -0.8), 207: (0.6, -1.5, 0.0), 2: (0, 0, 0), 152: (0, 0, 0)}
    handles |= {int(mirror[i]): np.multiply(m, [-1, 1, 1]) for i, m in list(handles.items()) if mirror[i] != i}
    face = skin + mesh.spread(handles, 45)
    # lips meet: the inner edges to a hair's gap, the red of each lip follows
    handles = {}
    for side in (False, True):
        for k, (up, low) in enumerate(zip(INNER_UPPER, INNER_LOWER, strict=True)):
            up, low = (int(mirror[up]), int(mirror[low])) if side else (up, low)
            middle = 0.5 * (face[up] + face[low])
            half = np.array([0.0, 0.5 * LIP_GAP * (1 - (k / 5) ** 2), 0.0])
            handles[up], handles[low] = middle + half - face[up], middle - half - face[low]
    handles |= dict.fromkeys((*CORNER, *(int(mirror[i]) for i in CORNER)), np.zeros(3))
    face = face + mesh.spread(handles, 22)
    # lids: to the wanted aperture, on the eyeball
    ring = list(UPPER_LID + LOWER_LID)
    axis = 0.5 * (face[list(UPPER_LID)] + face[list(LOWER_LID)])
    gap = np.linalg.norm(face[list(UPPER_LID)] - face[list(LOWER_LID)], axis=1).max()
    target = np.concatenate([axis, axis]) + (face[ring] - np.concatenate([axis, axis])) * (LID_APERTURE / gap)
    handles = {i: t - face[i] for i, t in zip(ring, _clear_of(eye, target), strict=True)}
    handles |= {c: p - face[c] for c, p in zip(CANTHI, _clear_of(eye, face[list(CANTHI)]), strict=True)}
    handles |= {int(mirror[i]): np.multiply(m, [-1, 1, 1]) for i, m in list(handles.items())}
    face = face + mesh.spread(handles, 16)
    face = 0.5 * (face + face[mirror] * [-1, 1, 1])
    return np.where(face[:, :1] < 0, _clear_of(eye, face), _clear_of(eye * [-1, 1, 1], face))


def _clear_of(eye: Array, points: Array) -> Array:
    ray = points - eye
    distance = np.linalg.norm(ray, axis=-1, keepdims=True)
    return np.asarray(eye + ray * np.maximum(1.0, (EYE_RADIUS + LID_CLEARANCE) / distance))


def jaw_weights(skin: Array, mesh: SkinMesh, mirror: Index) -> Array:
    """[468] share of the jaw: 1 on lower lip and chin, 0 above, harmonic between; the lips are held at the corners."""
    rows_down = (INNER_LOWER, MID_LOWER, OUT_LOWER, EDGE_LOWER)
    rows_up = (INNER_UPPER, MID_UPPER, OUT_UPPER, EDGE_UPPER)
    ones = {i for row in rows_down for i in row[:4]} | set(_CHIN)
    zeros = {i for row in rows_up for i in row[:4]} | set(_UPPER_FACE)
    handles: dict[int, npt.ArrayLike] = dict.fromkeys(ones, (1.0,))
    handles |= dict.fromkeys(zeros, (0.0,))
    handles |= {i: [0.5] for i in CORNER}
    handles |= {150: [0.95], 136: [0.8], 172: [0.6], 58: [0.35], 132: [0.12], 61: [0.5]}
    handles |= {i: [0.25] for i in (191, 183, 184, 185)} | {i: [0.8] for i in (95, 96, 77, 146)}
    handles |= {int(mirror[i]): v for i, v in list(handles.items())}
    handles |= {int(i): [0.0] for i in np.flatnonzero(skin[:, 1] > skin[4, 1])}
    field = mesh.spread(handles, 1e9, harmonic=True)[:, 0]
    return np.clip(0.5 * (field + field[mirror]), 0.0, 1.0)


def oval_ring(edges: frozenset[tuple[int, int]]) -> Index:
    """FACEMESH_FACE_OVAL as a cycle from 10, counter-clockwise seen from the front."""
    following = dict(edges)
    ring = [10]
    while following[ring[-1]] != 10:
        ring.append(following[ring[-1]])
    return np.array(ring[::-1], dtype=np.int64)


def build(
    faces: list[Array], tessellation: frozenset[tuple[int, int]], oval: frozenset[tuple[int, int]]
) -> dict[str, npt.NDArray[Any]]:
    """All arrays of the canonical head, metres, as :func:`duologue.fitting.canonical.save_npz` takes them."""
    points, mirror478 = frontal_mean(faces)
    points = adult_size(points)
    mirror = mirror478[:468]
    triangles = triangles_from_edges(tessellation)
    eye_depth = 0.5 * (points[159] + points[145])[2] - np.sqrt(
        (EYE_RADIUS + LID_CLEARANCE) ** 2 - (0.5 * LID_APERTURE) ** 2
    )
    eye = np.array([-0.5 * IPD, 0.5 * (points[159] + points[145])[1], eye_depth])
    skin = points[:468] - [0.0, *eye[1:]]
    eye = eye * [1.0, 0.0, 0.0]
    nose = int(np.flatnonzero((triangles == 4).any(1))[0])
    a, b, c = skin[triangles[nose]]
    triangles = orient(triangles, nose, bool(np.cross(b - a, c - a)[2] > 0))
    skin = neutralise(skin, triangles, mirror, eye)
    eyes = np.stack([eye * [-1, 1, 1], eye])
    mesh = SkinMesh(skin, triangles)

    ball, ball_faces = eyeball(EYE_RADIUS, IRIS_RADIUS * 1e3)
    upper = [*(int(mirror[i]) for i in INNER_UPPER[:0:-1]), *INNER_UPPER]
    lower = [*(int(mirror[i]) for i in INNER_LOWER[:0:-1]), *INNER_LOWER]
    ring = np.array([int(mirror[78]), *upper, 78, *lower[::-1]], dtype=np.int64)
    bag = skin[ring] * [0.8, 1.0, 1.0] + [0.0, 0.0, -9.0]
    bag[:, 1] += np.r_[0, np.full(9, 5.0), 0, np.full(9, -5.0)]
    bag = np.concatenate([bag, (bag.mean(0) + np.array([0, 0, -28.0]))[None]])
    cycle = oval_ring(oval)
    n_ball, first_bag = len(ball), 468 + 2 * len(ball)
    first_back = first_bag + len(bag)
    back, back_faces = back_of_head(skin[cycle], first_back, cycle)
    ids = first_bag + np.arange(20)
    bag_faces = [(ring[k], ids[(k + 1) % 20], ids[k]) for k in range(20)] + [
        (ring[k], ring[(k + 1) % 20], ids[(k + 1) % 20]) for k in range(20)
    ]
    bag_faces += [(ids[k], ids[(k + 1) % 20], first_bag + 20) for k in range(20)]
    vertices = np.concatenate([skin, ball + eyes[0], ball + eyes[1], bag, back])
    faces_all = np.concatenate(
        [triangles, ball_faces + 468, ball_faces + 468 + n_ball, np.array(bag_faces), back_faces]
    )
    parts = np.repeat(
        [SKIN, LEFT_EYEBALL, RIGHT_EYEBALL, INNER_MOUTH, BACK], [468, n_ball, n_ball, len(bag), len(back)]
    )

    joints = np.zeros((5, 3))
    hinge = np.array([0.0, skin[234, 1] - 4.0, skin[234, 2] + 11.0])
    joints[ROOT], joints[NECK], joints[JAW] = [0, -115.0, -85.0], [0, -35.0, -80.0], hinge
    joints[LEFT_EYE], joints[RIGHT_EYE] = eyes
    weights = np.zeros((len(vertices), 5))
    jaw = jaw_weights(skin, mesh, mirror)
    weights[:468, JAW] = jaw
    weights[parts == LEFT_EYEBALL, LEFT_EYE] = 1.0
    weights[parts == RIGHT_EYEBALL, RIGHT_EYE] = 1.0
    weights[first_bag:first_back, JAW] = np.r_[jaw[ring], 0.5]
    n = len(cycle)
    for layer in range(11):  # the back takes the oval's jaw share, fading within two rings
        weights[first_back + layer * n : first_back + (layer + 1) * n, JAW] = jaw[cycle] * max(0.0, 1 - (layer + 1) / 3)
    weights[first_back:, ROOT] = smoothstep(vertices[first_back:, 1], -80.0, -125.0)
    weights[:, NECK] = 1.0 - weights.sum(1)

    shape_names, shape_dirs, joint_dirs = [], [], []
    ball_rows = [(parts == LEFT_EYEBALL, 0), (parts == RIGHT_EYEBALL, 1)]
    for name, field in identity_modes(skin, eyes).items():
        move = field(vertices)
        for rows, k in ball_rows:
            move[rows] = field(eyes[k : k + 1])
        shape_names.append(name)
        shape_dirs.append(move)
        joint_dirs.append(field(joints))
    expression_names, expression_dirs = [], []
    for name, moved in ExpressionBuilder(skin, mesh, mirror, eyes, EYE_RADIUS).build().items():
        move = np.zeros_like(vertices)
        move[:468] = moved
        move[first_bag : first_bag + 20] = moved[ring] * 0.7
        expression_names.append(name)
        expression_dirs.append(move)
    sd = [next((v for k, v in EXPRESSION_SD.items() if n.startswith(k)), DEFAULT_SD) for n in expression_names]
    return {
        "vertices": vertices * 1e-3,
        "triangles": faces_all,
        "weights": weights,
        "joints": joints * 1e-3,
        "shape_dirs": np.stack(shape_dirs, -1) * 1e-3,
        "joint_dirs": np.stack(joint_dirs, -1) * 1e-3,
        "expression_dirs": np.stack(expression_dirs, -1) * 1e-3,
        "shape_names": np.array(shape_names),
        "expression_names": np.array(expression_names),
        "expression_sd": np.array(sd),
        "jaw_limits": np.array([[-0.05, 0.6], [-0.2, 0.2], [-0.1, 0.1]]),
        "eye_radii": np.array([EYE_RADIUS * 1e-3, IRIS_RADIUS]),
        "parts": parts,
        "mirror": mirror,
    }


def main() -> None:
    """Write the head files beside the loader and report the figures that they must meet."""
    import mediapipe

    from ..fitting.embedding import face_measures

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--task", type=Path, help="a MediaPipe face_landmarker.task, to measure the distance to its mesh"
    )
    options = parser.parse_args()
    topology = mediapipe.solutions.face_mesh
    arrays = build(portrait_landmarks(), topology.FACEMESH_TESSELATION, topology.FACEMESH_FACE_OVAL)
    canonical.save_npz(canonical.FOLDER / "canonical_head.npz", "canonical-1", arrays)
    head = canonical.load_embedded("canonical")
    print(
        "vertices",
        len(head.vertices),
        "triangles",
        len(head.triangles),
        "file bytes",
        (canonical.FOLDER / "canonical_head.npz").stat().st_size,
    )
    for name, value in face_measures(head.vertices[:468]).items():
        print(f"{name} {1e3 * value:.2f} mm")
    if options.task:
        from ..fitting.task_mesh import read_task

        theirs = read_task(options.task)[0]
        distance = np.linalg.norm(similarity(head.vertices[:468], theirs) - theirs, axis=1)
        mean, worst = 1e3 * distance.mean(), 1e3 * distance.max()
        print(f"distance to MediaPipe's mesh, similarity-aligned: mean {mean:.2f} mm, max {worst:.2f} mm")


if __name__ == "__main__":
    main()
