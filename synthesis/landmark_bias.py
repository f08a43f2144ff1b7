"""Learns what FaceMesh gets wrong on turned faces, on rendered heads: ``fitting/data/face_mesh_bias.npz``.

    python -m duologue.synthesis.landmark_bias [--out FILE] [--stills N]

Single heads in a room, at random turns, expressions and gazes, compressed as JPEG, are measured as tracks are (the
region follows the landmarks, the mirrored crop is averaged in). The difference to the exact landmarks is regressed on
the direction in which the network itself sees the face; what is constant for a person is taken off first, because the
fit's identity takes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..fitting.canonical import canonical_skin
from ..fitting.head_model import HeadModel
from ..fitting.landmark_bias import PATH, LandmarkBias, apparent_direction, features, rolled
from ..fitting.load_head import load_head_model
from ..schemas.tracks import LEFT_IRIS, RIGHT_IRIS, face_scale_px
from ..transforms.face_mesh import FaceMesh, region_from_landmarks
from ..transforms.mirror import mirror_map, side_error, without_side_error
from .actor import Actor
from .avatar import build_avatar
from .dress import FLIP
from .identities import MOST_SD, NAMES, load_identity
from .motion import HeadMotion, head_rotation
from .rasterize import Canvas, composite
from .room import Room
from .scenario import Camera

Array = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 640, 480
FOCALS_PX = (600.0, 1000.0)  # face scales of about 32 and 53 px
CAMERA = Camera(position=(0.0, 0.0, -1.2), look_at=(0.0, 0.04, 0.0))
LARGEST_YAW = np.radians(78.0)
LEAST_LOGIT = 4.0  # FaceMesh's score: below, a track would not take the face
RIDGE = 3e-4  # of the trace of the features' normal matrix
ROBUST_STEPS = 4
HIDDEN_WEIGHT = 0.1  # of a landmark on the far side: the network guesses it
N_SKIN = 468
FRONTAL = np.radians(25.0)
_IRIS_CENTRES = (LEFT_IRIS[0], RIGHT_IRIS[0])
REAL_SHARE = 0.75  # of what rendered heads show: real faces show a part that differs (docs/accuracy.md)
PERSON_SHAPE_SD = 1.0  # of identity coefficients about each portrait's own


@dataclass(frozen=True)
class Stills:
    """N measured pictures of rendered heads.

    Attributes:
        seen, true: [N, 478, 3] landmarks, pixels with relative depth.
        rotation: [N, 3, 3] of the head, camera frame (zero faces the camera). focal_px: [N].
        person: [N] number of the face. portrait: [N] name of its texture. shape: [N, S].
        gaze: [N, 3] camera frame.
    """

    seen: npt.NDArray[np.float32]
    true: Array
    rotation: Array
    focal_px: Array
    person: npt.NDArray[np.int64]
    portrait: npt.NDArray[np.str_]
    shape: Array
    gaze: Array

    def only(self, rows: npt.NDArray[np.bool_]) -> Stills:
        return Stills(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def poses(model: HeadModel, shape: Array, rng: np.random.Generator, count: int) -> HeadMotion:
    """``count`` unrelated moments of a head whose eyes rest at the world's origin."""
    azimuth = rng.uniform(-LARGEST_YAW, LARGEST_YAW, count)
    rotation = head_rotation(azimuth, np.radians(rng.normal(0.0, 10.0, count)), np.radians(rng.normal(0.0, 7.0, count)))
    joints = model.posed_joints(shape)
    middle = 0.5 * (joints[3] + joints[4]) - joints[0]
    jaw = np.zeros((count, 3))
    jaw[:, 0] = np.abs(rng.normal(0.0, 0.06, count))
    expression = 0.4 * rng.normal(size=(count, len(model.expression_names))) * model.expression_sd
    lids = ["blink" in name.lower() or "squint" in name.lower() for name in model.expression_names]
    expression[:, lids] = 0.3 * np.abs(expression[:, lids])
    eyes = np.zeros((count, 2, 3))
    eyes[..., 1] = rng.uniform(-0.5, 0.5, (count, 1))
    eyes[..., 0] = rng.normal(0.0, 0.12, (count, 1))
    body = head_rotation(azimuth * rng.uniform(0.2, 0.9, count), np.zeros(count), np.zeros(count))
    root = -np.einsum("tij,j->ti", rotation @ FLIP, middle)
    return HeadMotion(rotation, root, body, expression, jaw, eyes, np.zeros(count, dtype=np.int64))


def picture(actor: Actor, t: int, camera: Camera, room: UInt8) -> UInt8:
    """One frame as a camera file holds it: rendered, with noise, through JPEG."""
    lower, upper = Canvas(WIDTH, HEIGHT, 1), Canvas(WIDTH, HEIGHT, 2)
    image = room.copy()
    actor.draw(lower, upper, t, camera, camera.focal_px)
    composite(lower, image)
    composite(upper, image)
    noisy = np.clip(image + np.random.default_rng(t).normal(0.0, 2.0, image.shape), 0, 255).astype(np.uint8)
    _, coded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 75])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)


def sample(model: HeadModel, names: Sequence[str], per_person: int, seed: int, varied: bool = True) -> Stills:
    """Render and measure ``per_person`` stills of every name.

    Args:
        varied: give each name a second face of random identity coefficients.
    """
    mesh = FaceMesh()
    rows: dict[str, list[Array]] = {f.name: [] for f in fields(Stills)}
    person = 0
    for name in names:
        for extra in range(2 if varied else 1):
            rng = np.random.default_rng([seed, NAMES.index(name), extra])
            avatar = build_avatar(load_identity(name), model, seed)
            if extra:
                shape = avatar.shape + PERSON_SHAPE_SD * rng.normal(size=len(avatar.shape))
                avatar = replace(avatar, shape=np.clip(shape, -MOST_SD, MOST_SD))
            actor = Actor(avatar, poses(model, avatar.shape, rng, per_person))
            for number, focal in enumerate(FOCALS_PX):
                camera = replace(CAMERA, focal_px=focal)
                room = Room(seed + person).background(camera, WIDTH, HEIGHT, focal)
                for t in range(number, per_person, len(FOCALS_PX)):
                    true = actor.landmarks(t, camera, focal, WIDTH, HEIGHT)
                    true[:, :2] -= 0.5  # tracks count from pixel centres, the renderer from the picture's edge
                    seen = _measured(mesh, picture(actor, t, camera, room), true)
                    if seen is None:
                        continue
                    turn = camera.world_to_camera @ actor.motion.rotation[t]
                    gaze = turn @ FLIP @ actor.eye_axes(t).mean(0)
                    values = (seen, true, turn, focal, person, name, avatar.shape, gaze / np.linalg.norm(gaze))
                    for key, value in zip(rows, values, strict=True):
                        rows[key].append(np.asarray(value))
            person += 1
    mesh.close()
    found: dict[str, Any] = {key: np.array(value) for key, value in rows.items()}
    return Stills(**found)


def _measured(mesh: FaceMesh, image: UInt8, start: Array) -> npt.NDArray[np.float32] | None:
    landmarks = start.astype(np.float32)
    for _ in range(3):  # as a followed face settles
        face = mesh.measure(image, region_from_landmarks(landmarks))
        landmarks = face.landmarks
    if face.logit < LEAST_LOGIT:
        return None
    error = side_error(mesh, face, LEAST_LOGIT)
    return landmarks if error is None else without_side_error({0: landmarks}, {0: error}, np.zeros(1))[0]


def learn(stills: Stills) -> LandmarkBias:
    """Robust ridge regression of the correction on the apparent direction, symmetric between the sides of the face.

    A person's own constants (of x they turn with the face) are unknowns beside it, and are dropped. The irises' error
    on eyes that can be seen does not depend on the turn: they get the constant that brings them to the skin's height.
    """
    seen = stills.seen.astype(np.float64)
    yaw, pitch, roll = apparent_direction(seen)
    scale = face_scale_px(stills.seen)[:, None, None]
    move = rolled((stills.true - seen) / scale, -roll)
    frontal = np.abs(yaw) < FRONTAL
    lift = move[:, list(_IRIS_CENTRES), 1].mean(1) - move[:, :N_SKIN, 1].mean(1)
    move = move[:, :N_SKIN]
    trust = np.where(_facing(stills.true[:, :N_SKIN]), 1.0, HIDDEN_WEIGHT)
    mirror = mirror_map()[:N_SKIN]
    wanted = np.concatenate([move, move[:, mirror] * np.array([-1.0, 1.0, 1.0])])
    trust = np.concatenate([trust, trust[:, mirror]])
    people = int(stills.person.max()) + 1
    member = np.eye(2 * people)[np.concatenate([stills.person, stills.person + people])]
    yaw, pitch = np.concatenate([yaw, -yaw]), np.concatenate([pitch, pitch])
    shared = features(yaw, pitch)[:, 1:]
    count = shared.shape[1]
    turned = np.concatenate([shared, member * np.cos(yaw)[:, None]], axis=1)
    still = np.concatenate([shared, member], axis=1)
    out = np.zeros((seen.shape[1], 3, 1 + count))
    for point in range(N_SKIN):
        for axis, rows in enumerate((turned, still, still)):
            weight = trust[:, point]
            for _ in range(ROBUST_STEPS):
                normal = rows.T @ (rows * weight[:, None])
                normal[:count, :count] += RIDGE * float(np.trace(normal[:count, :count])) * np.eye(count)
                normal += 1e-6 * np.eye(len(normal))
                answer = np.linalg.solve(normal, rows.T @ (weight * wanted[:, point, axis]))
                rest = wanted[:, point, axis] - rows @ answer
                spread = 1.4826 * float(np.median(np.abs(rest[trust[:, point] == 1.0]))) + 1e-6
                weight = trust[:, point] / (1.0 + (rest / (2.0 * spread)) ** 2)
            out[point, axis, 1:] = answer[:count]
    out[N_SKIN:, 1, 0] = np.median(lift[frontal])
    return LandmarkBias(out)


def shared_with_real(bias: LandmarkBias) -> LandmarkBias:
    """What is applied: :data:`REAL_SHARE` of what was learned of the skin."""
    coefficients = bias.coefficients.copy()
    coefficients[:N_SKIN] *= REAL_SHARE
    return LandmarkBias(coefficients)


def _facing(points: Array) -> npt.NDArray[np.bool_]:
    """[N, 468] whose skin faces the camera, by exact landmarks in pixels with relative depth."""
    triangles = canonical_skin()[1]
    out = np.zeros(points.shape[:2], dtype=bool)
    for k, face in enumerate(points):
        a, b, c = (face[triangles[:, corner]] for corner in range(3))
        depth = np.cross(b - a, c - a)[:, 2]
        total = np.zeros(len(face))
        np.add.at(total, triangles.reshape(-1), np.repeat(depth, 3))
        out[k] = total < 0.0
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=PATH)
    parser.add_argument("--stills", type=int, default=60, help="of each of twelve faces")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    stills = sample(load_head_model("canonical"), NAMES, options.stills, options.seed)
    bias = shared_with_real(learn(stills))
    np.savez_compressed(options.out, coefficients=bias.coefficients.astype(np.float32))
    print(f"{len(stills.seen)} stills, {options.out.stat().st_size} bytes: {options.out}")


if __name__ == "__main__":
    main()
