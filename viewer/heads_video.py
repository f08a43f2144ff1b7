"""Two shaded heads as the camera sees them, drawn in software: an mp4 with sound of a pair that has no pixels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..fitting.head_model import LEFT_EYEBALL, RIGHT_EYEBALL, HeadModel
from ..schemas.errors import UsageError
from ..schemas.heads import HeadTrack
from ..schemas.row import Pair
from .gltf import vertex_normals
from .overlay import COLOURS, draw_turns, head_vertices, put_text, write_mp4

UInt8 = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

SIZE = (1280, 720)
_LIGHT = np.array([-0.35, -0.55, -0.76])  # towards the lamp, camera frame
_SKIN = {"a": (222.0, 172.0, 142.0), "b": (178.0, 190.0, 220.0)}
_WHITE, _IRIS = (240.0, 240.0, 236.0), (40.0, 52.0, 70.0)
_GROUND = (34, 38, 44)
_ABOUT = np.array(
    [[0.20, 0.26], [0.20, 0.28]]
)  # metres left and above, right and below of a head's centre that are shown
_COARSE = 4000  # triangles; a mesh of fewer is drawn in quarters of them, so that its shading is smooth


def heads_frames(pair: Pair, model: HeadModel) -> Iterator[UInt8]:
    """[720, 1280, 3] RGB of every frame: heads of valid people, who speaks, the turns; the part of the picture of the
    row's own camera that holds both heads in all frames (:func:`framing`).

    Raises:
        UsageError: the pair refers to another head model.
    """
    if model.sha256 != pair.fitted.head_model_sha256:
        raise UsageError(f"pair {pair.pair_id} refers to head model {pair.fitted.head_model_id}, not {model.model_id}")
    people = [(who, head) for who, head in (("a", pair.fitted.a), ("b", pair.fitted.b)) if head.valid.any()]
    tones = {who: _tones(model, head, who) for who, head in people}
    frame_of = framing(pair)
    for frame in range(len(pair.fitted.times)):
        canvas = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
        canvas[:] = _GROUND
        draw_heads(canvas, pair, frame, model, tones, frame_of)
        draw_turns(canvas, pair, frame)
        yield canvas


def framing(pair: Pair) -> tuple[float, Array]:
    """Focal length in pixels of a :data:`SIZE` picture and [2] its principal point, such that both heads fill it.

    What is cut out of the camera's picture is the same in all frames: nobody moves because somebody else does.
    """
    fitted = pair.fitted
    low, high = np.full(2, np.inf), np.full(2, -np.inf)  # tangents of the angles from the optical axis
    for head in (fitted.a, fitted.b):
        seen = head.head_centre[head.valid & (head.head_centre[:, 2] > 0.05)].astype(np.float64)
        if len(seen):
            middle = seen[:, :2] / seen[:, 2:]
            low = np.minimum(low, (middle - _ABOUT[0] / seen[:, 2:]).min(0))
            high = np.maximum(high, (middle + _ABOUT[1] / seen[:, 2:]).max(0))
    size = np.array(SIZE, dtype=np.float64)
    if not np.isfinite(low).all():
        return fitted.focal_px * min(SIZE[0] / fitted.width, SIZE[1] / fitted.height), (size - 1) / 2
    focal = float((size / (high - low)).min())
    return focal, (size - 1) / 2 - focal * (low + high) / 2


def draw_heads(
    canvas: UInt8, pair: Pair, frame: int, model: HeadModel, tones: dict[str, Array], frame_of: tuple[float, Array]
) -> None:
    """Both heads' triangles, far ones first (painter's algorithm), shaded by the normals of their corners; names."""
    fitted = pair.fitted
    focal, principal = frame_of
    depths, polygons, colours, crowns = [], [], [], {}
    light = _LIGHT / np.linalg.norm(_LIGHT)
    for who, head in (("a", fitted.a), ("b", fitted.b)):
        if who not in tones or not head.valid[frame]:
            continue
        points = head_vertices(model, head, frame)
        if points[:, 2].min() < 0.05:
            continue  # behind the camera
        corner = points[model.triangles]
        flat = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        facing = np.einsum("fk,fk->f", flat, corner.mean(1)) < 0  # outward triangles that face the camera
        corner, tone = corner[facing], tones[who][facing]
        normals = vertex_normals(points, model.triangles)[model.triangles[facing]]
        if len(model.triangles) < _COARSE:
            corner, normals, tone = quartered(corner), quartered(normals), np.repeat(tone, 4, axis=0)
        normal = normals.mean(1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-15)
        shade = 0.45 + 0.55 * np.clip(normal @ light, 0.0, 1.0)
        depths.append(np.linalg.norm(corner.mean(1), axis=1))
        polygons.append(corner[..., :2] / corner[..., 2:] * focal + principal)
        colours.append(tone * shade[:, None])
        top = polygons[-1].reshape(-1, 2)
        crowns[who] = top[top[:, 1].argmin()]
    if not depths:
        return
    order = np.argsort(-np.concatenate(depths))
    shapes = np.round(np.concatenate(polygons)[order] * 16).astype(np.int32)
    paint = np.clip(np.concatenate(colours)[order], 0, 255)
    for shape, colour in zip(shapes, paint.tolist(), strict=True):
        cv2.fillConvexPoly(canvas, shape, colour, cv2.LINE_AA, 4)
    for who, (x, y) in crowns.items():
        speaking = pair.voices.speaking_a if who == "a" else pair.voices.speaking_b
        words = f"{who} speaks" if speaking[frame] > 0.5 else who
        put_text(canvas, words, (round(float(x)) - 6 * len(words), round(float(y)) - 14), COLOURS[who])


def quartered(corners: Array) -> Array:
    """[F, 3, K] values at the corners of triangles -> [4 F, 3, K] at those of their quarters, four to a triangle."""
    a, b, c = np.moveaxis(corners, 1, 0)
    ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
    parts = np.stack([[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]])  # [4, 3, F, K]
    return np.asarray(parts.transpose(2, 0, 1, 3).reshape(-1, *corners.shape[1:]))


def _tones(model: HeadModel, head: HeadTrack, who: str) -> Array:
    """[F, 3] colour of each triangle: skin, eyeballs with their irises."""
    shape = head.shape.astype(np.float64)
    rest, joints = model.neutral(shape), model.posed_joints(shape)
    tones = np.tile(np.asarray(_SKIN[who]), (len(model.triangles), 1))
    middle = rest[model.triangles].mean(1)
    limit = np.arcsin(min(model.iris_radius / model.eyeball_radius, 1.0))
    for part, joint in ((LEFT_EYEBALL, 3), (RIGHT_EYEBALL, 4)):
        ball = (model.parts[model.triangles] == part).all(1)
        axis = middle[ball] - joints[joint]
        angle = np.arctan2(np.linalg.norm(axis[:, :2], axis=1), axis[:, 2])
        tones[ball] = np.where((angle < limit)[:, None], _IRIS, _WHITE)
    return tones


def write_heads_video(pair: Pair, out: Path, model: HeadModel) -> Path:
    """An mp4 of both heads with the pair's sound.

    Raises:
        UsageError: another head model, or ffmpeg cannot write ``out``.
    """
    write_mp4(heads_frames(pair, model), SIZE, pair.fitted.fps, pair.voices.audio, out)
    return out
