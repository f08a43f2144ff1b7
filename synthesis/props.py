"""Third people and things: who walks through the room, and what is held before a face."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..fitting.head_model import HeadModel
from .actor import Actor, shade_of
from .avatar import build_avatar
from .dress import FLIP, Mesh
from .identities import load_identity
from .motion import HeadMotion, head_rotation
from .rasterize import Canvas, project
from .scenario import Camera, Occlusion, PasserBy

Array = npt.NDArray[np.float64]
BEHIND_M, BEFORE_M = 0.95, -0.72  # metres behind and before the two
REACH_BEHIND_M, REACH_BEFORE_M = 2.1, 0.95  # half of the way walked


def walker(one: PasserBy, model: HeadModel, times: Array, seed: int) -> Actor:
    """The passer-by over all of ``times``: walks a straight line with a step's bob, and looks about."""
    avatar = build_avatar(load_identity(one.portrait), model, seed)
    side = 1.0 if one.rightward else -1.0
    share = (times - one.start_s) / one.seconds
    reach, depth, height = (REACH_BEHIND_M, BEHIND_M, -0.22) if one.behind else (REACH_BEFORE_M, BEFORE_M, -0.10)
    phase = 2 * np.pi * (times - one.start_s) * 1.8
    place = np.stack(
        [side * reach * (2.0 * share - 1.0), height + 0.015 * np.abs(np.sin(phase)), np.full(len(times), depth)], -1
    )
    turn = np.full(len(times), side * np.radians(62.0))
    look = side * np.radians(58.0 - 45.0 * np.clip(np.sin(np.pi * np.clip(share, 0, 1)), 0.0, 1.0) ** 2)
    rotation = head_rotation(look, np.full(len(times), 0.03), 0.02 * np.sin(phase))
    joints = model.posed_joints(avatar.shape)
    middle = 0.5 * (joints[3] + joints[4]) - joints[0]
    motion = HeadMotion(
        rotation=rotation,
        root=place - rotation @ (FLIP @ middle),
        body_rotation=head_rotation(turn, np.zeros(len(times)), np.zeros(len(times))),
        expression=np.zeros((len(times), len(model.expression_names))),
        jaw=np.zeros((len(times), 3)),
        eyes=np.zeros((len(times), 2, 3)),
        target=np.ones(len(times), dtype=np.int64),
    )
    return Actor(avatar, motion)


def present(one: PasserBy | Occlusion, time_s: float) -> bool:
    return one.start_s <= time_s < one.start_s + one.seconds


def _tube(path: Array, radii: Array, color: tuple[float, float, float], sides: int = 12) -> Mesh:
    """A closed tube of round rings along ``path`` [N, 3]; colour in one texel."""
    turn = np.arange(sides) * (2 * np.pi / sides)
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    first = np.cross(along, np.where(np.abs(along[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    ring = np.cos(turn)[None, :, None] * first[:, None] + np.sin(turn)[None, :, None] * second[:, None]
    points = (path[:, None] + radii[:, None, None] * ring).reshape(-1, 3)
    k, j = np.meshgrid(np.arange(len(path) - 1), np.arange(sides), indexing="ij")
    a, b = k * sides + j, k * sides + (j + 1) % sides
    c, d = a + sides, b + sides
    triangles = np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, b, d], -1).reshape(-1, 3)])
    texture = np.full((4, 4, 4), 255, np.uint8)
    texture[..., :3] = np.array(color)
    return Mesh(points, np.full((len(points), 2), 2.0, np.float32), triangles.astype(np.int32), texture)


def _capsule(start: Array, end: Array, r0: float, r1: float, color: tuple[float, float, float]) -> Mesh:
    t = np.linspace(0.0, 1.0, 9)[:, None]
    path = start + (end - start) * t
    radii = r0 + (r1 - r0) * t[:, 0]
    cap = np.sin(np.arccos(np.array([1.0, 0.8, 0.4])))
    radii[:3] *= np.maximum(cap, 0.05)
    radii[-3:] *= np.maximum(cap[::-1], 0.05)
    return _tube(path, radii, color)


@lru_cache(maxsize=16)
def thing(what: str, skin: tuple[float, float, float]) -> tuple[Mesh, ...]:
    """The parts of an object [metres; x right, y down, z away from the camera; origin at its middle]."""
    v = np.array
    if what == "microphone":
        return (
            _capsule(v([0.0, -0.036, 0.0]), v([0.0, 0.036, 0.0]), 0.030, 0.030, (34.0, 34.0, 36.0)),
            _capsule(v([0.0, 0.03, 0.0]), v([0.015, 0.26, 0.01]), 0.016, 0.012, (60.0, 60.0, 64.0)),
        )
    if what == "mug":
        return (
            _tube(v([[0.0, y, 0.0] for y in (-0.05, -0.049, 0.0, 0.045, 0.05)]), v([0.036, 0.041, 0.041, 0.04, 0.03]),
                  (196.0, 204.0, 210.0), 20),
            *thing("hand", skin)[1:],
        )  # fmt: skip
    if what == "paper":
        return (
            _tube(v([[0.0, y, 0.0] for y in np.linspace(-0.09, 0.13, 5)]), np.full(5, 0.115), (236.0, 234.0, 226.0), 4),
        )
    palm = _capsule(v([0.0, 0.055, 0.0]), v([0.0, -0.035, 0.0]), 0.034, 0.042, skin)
    fingers = [
        _capsule(v([x, -0.03, 0.0]), v([1.35 * x, -0.03 - length, 0.018]), 0.0105, 0.0085, skin)
        for x, length in ((-0.031, 0.066), (-0.011, 0.083), (0.011, 0.078), (0.031, 0.060))
    ]
    thumb = _capsule(v([0.028, 0.02, -0.005]), v([0.066, -0.022, 0.0]), 0.0135, 0.0105, skin)
    arm = _capsule(v([0.0, 0.05, 0.0]), v([0.09, 0.62, -0.06]), 0.030, 0.055, (58.0, 62.0, 78.0))
    return (palm, *fingers, thumb, arm)


def draw_thing(
    canvas: Canvas, one: Occlusion, head: Array, skin: tuple[float, float, float], camera: Camera, time_s: float
) -> None:
    """Draw what is held before the head centred at ``head`` [3] (world), on the line to the camera."""
    share = (time_s - one.start_s) / one.seconds
    up = float(np.clip(min(share, 1.0 - share) / 0.25, 0.0, 1.0))
    up = up * up * (3.0 - 2.0 * up)
    toward = np.asarray(camera.position) - head
    toward /= np.linalg.norm(toward)
    rest, held = 0.36, 0.10 - 0.13 * one.share
    middle = head + 0.125 * toward + np.array([0.0, rest + (held - rest) * up, 0.0])
    across = np.cross([0.0, 1.0, 0.0], -toward)
    across /= np.linalg.norm(across)
    frame = np.stack([across, np.cross(-toward, across), -toward])
    for mesh in thing(one.what, skin):
        world = mesh.points @ frame + middle
        shade = shade_of(world, mesh.triangles)
        pixels = project(camera.to_camera(world), camera.focal_px, canvas.width, canvas.height)
        canvas.draw(pixels, mesh.uv, shade, mesh.triangles, mesh.texture, cull=False)
