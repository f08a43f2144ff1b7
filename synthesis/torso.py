"""Shoulders, chest, back and arms: elliptic tubes in the portrait's clothes where it shows them, in cloth elsewhere.

Heights are metres below the chin, depths metres behind the ears; proportions are an adult's (shoulders 43 cm over the
arms). Plausible, not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .dress import CHIN, EAR_LEFT, EAR_RIGHT, OVAL, Mesh, Placement, smoothstep
from .portraits import Portrait

Array = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]

_BELOW = np.array([0.020, 0.040, 0.062, 0.084, 0.108, 0.140, 0.190, 0.25, 0.35, 0.50, 0.75, 1.25])
_HALF_WIDTH = np.array([0.050, 0.070, 0.098, 0.134, 0.162, 0.176, 0.176, 0.168, 0.162, 0.155, 0.165, 0.165])
_HALF_DEPTH = np.array([0.052, 0.066, 0.076, 0.086, 0.096, 0.106, 0.115, 0.120, 0.118, 0.112, 0.120, 0.120])
_SQUARE = 0.85  # exponent of the cross-section: below 1 it is fuller than an ellipse
# Of an arm and its hand: below the chin, out from the middle, forward of the body's axis, radius.
_ARM = np.array([[0.104, 0.150, 0.0, 0.030], [0.118, 0.166, 0.0, 0.048], [0.150, 0.172, 0.0, 0.056],
                 [0.22, 0.186, -0.005, 0.056], [0.32, 0.204, -0.01, 0.050], [0.44, 0.222, -0.01, 0.046],
                 [0.55, 0.232, 0.010, 0.040], [0.66, 0.236, 0.045, 0.030], [0.75, 0.235, 0.075, 0.032],
                 [0.825, 0.228, 0.098, 0.006]])  # fmt: skip
_ARM_ROWS = 22
_SLEEVE = 0.668  # below the chin, where the hand begins
_AXIS_DEPTH = 0.052  # of the body's axis behind the ears
_PORTRAIT_MARGIN = 0.05  # metres over which the picture's lower edge fades into plain cloth


@dataclass(frozen=True)
class _Cloth:
    """Clothes as a portrait shows them: ``image``, blurred ``near`` [H, W, 3]; ``sure`` [H, W] 0..1; ``plain`` [3]."""

    image: npt.NDArray[np.float32]
    sure: npt.NDArray[np.float32]
    near: npt.NDArray[np.float32]
    plain: Array


def _cloth(portrait: Portrait, unit: float) -> _Cloth:
    marks = portrait.landmarks
    height, width = portrait.mask.shape
    face = np.zeros_like(portrait.mask)
    cv2.fillConvexPoly(face, cv2.convexHull(marks[list(OVAL), :2].astype(np.int32)), 255)
    # At an eighth of the size; hair and ears beside the face, and the chin's edge, are no clothes.
    size = (width // 8, height // 8)
    small = cv2.resize(portrait.mask, size, interpolation=cv2.INTER_AREA)
    wide, tall = (2 * int(margin * unit / 8.0) + 1 for margin in (0.045, 0.012))
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, tall))
    head = cv2.dilate(cv2.resize(face, size, interpolation=cv2.INTER_AREA), element)
    rim = 2 * int(0.008 * unit / 8.0) + 1
    small = cv2.erode(small, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim)))
    sure = np.where(head > 127, 0, small).astype(np.float32) / 255.0
    rows = np.arange(size[1])[:, None] * 8.0
    sure *= smoothstep((height - rows) / unit, 0.0, _PORTRAIT_MARGIN).astype(np.float32)
    image = portrait.image.astype(np.float32)
    little = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    below = (rows - marks[CHIN, 1]) / unit
    across = np.abs(np.arange(size[0])[None] * 8.0 - marks[CHIN, 0]) / unit
    chest = (sure > 0.9) & (below > 0.10) & (below < 0.40) & (across < 0.20)
    plain = np.median(little[chest], axis=0).astype(np.float64)
    sigma = 0.03 * unit / 8.0
    weight = cv2.GaussianBlur(sure, (0, 0), sigma)[..., None]
    near = (cv2.GaussianBlur(little * sure[..., None], (0, 0), sigma) + 0.02 * plain) / (weight + 0.02)
    full = (width, height)
    return _Cloth(
        image,
        cv2.resize(cv2.GaussianBlur(sure, (0, 0), 1.5), full, interpolation=cv2.INTER_LINEAR),
        cv2.resize(near.astype(np.float32), full, interpolation=cv2.INTER_LINEAR),
        plain,
    )


def _ring(axis: Array, wide: Array, deep: Array, columns: int) -> Array:
    """[R, columns + 1, 3] closed cross-sections; 0 is the front, the seam lies behind. Units of the arguments."""
    turn = np.linspace(-np.pi, np.pi, columns + 1)

    def full(wave: Array) -> Array:
        return np.asarray(np.sign(wave) * np.abs(wave) ** _SQUARE)

    x = axis[:, None, 0] + wide[:, None] * full(np.sin(turn))
    z = axis[:, None, 2] - deep[:, None] * full(np.cos(turn))
    return np.stack([x, np.broadcast_to(axis[:, None, 1], x.shape), z], axis=-1)


def _noise(rng: np.random.Generator, rows: int, columns: int, cells: tuple[int, int]) -> Array:
    """[rows, columns + 1] smooth noise of unit deviation that closes around."""
    coarse = rng.normal(size=cells).astype(np.float32)
    coarse = np.concatenate([coarse, coarse[:, :1]], axis=1)
    fine = cv2.resize(coarse, (columns + 1, rows), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    fine[:, -1] = fine[:, 0]
    return np.asarray(fine / max(float(fine.std()), 1e-9))


def _painted(cloth: _Cloth, points: Array, size: tuple[int, int], shadow: Array, rng: np.random.Generator) -> Array:
    """[h, w, 3] colours of a tube's texels; points [R, C + 1, 3] and shadow [R, C + 1] are its grid."""
    grid = cv2.resize(points.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    dark = cv2.resize(shadow.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)[..., None]
    down, around = np.gradient(grid, axis=0), np.gradient(grid, axis=1)
    normal = np.cross(around, down)
    steep = np.abs(normal[..., 2]) / np.maximum(np.linalg.norm(normal, axis=-1), 1e-9)
    ahead = np.sign(np.cos(np.linspace(-np.pi, np.pi, size[0])))  # 1 on the half of the tube before its axis
    front = smoothstep(steep * ahead, 0.12, 0.45)
    x, y = grid[..., 0].copy(), grid[..., 1].copy()
    seen = cv2.remap(cloth.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    sure = cv2.remap(cloth.sure, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    near = cv2.remap(cloth.near, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    height, width = size[1], size[0]
    folds = _noise(rng, height, width - 1, (14, 6)) + 0.7 * _noise(rng, height, width - 1, (34, 18))
    weave = rng.normal(size=(height, width))
    share = 0.25 * front[..., None]
    other = (cloth.plain * (1.0 - share) + near * share) * (1.0 + 0.05 * folds + 0.025 * weave)[..., None]
    weight = (front * sure)[..., None]
    return np.asarray((other * (1.0 - weight) + seen * weight) * dark)


def _triangles(rows: int, columns: int) -> Int32:
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)]).astype(
        np.int32
    )


def torso(portrait: Portrait, place: Placement, skin: tuple[float, float, float], rng: np.random.Generator) -> Mesh:
    """The body under the neck, in the model frame of a head that looks straight ahead; ``skin`` RGB of the hands."""
    marks, unit = portrait.landmarks, place.scale
    cloth = _cloth(portrait, unit)
    origin = np.array([marks[CHIN, 0], marks[CHIN, 1], 0.5 * (marks[EAR_RIGHT, 2] + marks[EAR_LEFT, 2])])
    rows, columns = 44, 56
    below = np.interp(np.linspace(0.0, 1.0, rows) ** 1.5, [0.0, 1.0], [_BELOW[0], _BELOW[-1]])
    wide, deep = (np.interp(below, _BELOW, values) for values in (_HALF_WIDTH, _HALF_DEPTH))
    lean = _AXIS_DEPTH + 0.022 * smoothstep(below, 0.05, 0.25)  # the chest lies a little behind the neck
    crumple = 0.0035 * smoothstep(below, 0.08, 0.2)[:, None]
    turn = np.abs(np.linspace(-np.pi, np.pi, columns + 1))
    body = _ring(np.stack([np.zeros(rows), below, lean], -1), wide, deep, columns)
    # The nape is higher than the throat: shoulders rise to it.
    body[..., 1] -= 0.060 * (0.5 - 0.5 * np.cos(turn)) * (1.0 - smoothstep(below, 0.03, 0.26))[:, None]
    swell = crumple * (_noise(rng, rows, columns, (12, 7)) + 0.6 * _noise(rng, rows, columns, (22, 15)))
    body[..., 0] += swell * np.sin(np.linspace(-np.pi, np.pi, columns + 1))
    body[..., 2] -= swell * np.cos(turn)
    side = smoothstep(np.sin(turn), 0.72, 0.98)
    under_chin = 1.0 - (0.50 - 0.15 * turn / np.pi)[None] * np.exp(-((below[:, None] - 0.02) / 0.05))
    shadow = under_chin * (1.0 - 0.35 * side[None] * smoothstep(below, 0.15, 0.21)[:, None])
    sizes = [(384, 384)]
    parts, shadows = [body], [shadow]
    down = np.linspace(0.0, 1.0, _ARM_ROWS) ** 0.8 * (len(_ARM) - 1)
    arm = np.stack([np.interp(down, np.arange(len(_ARM)), column) for column in _ARM.T], -1)
    for sign in (-1.0, 1.0):
        axis = np.stack([sign * arm[:, 1], arm[:, 0], _AXIS_DEPTH + 0.022 - arm[:, 2]], -1)
        one = _ring(axis, arm[:, 3], arm[:, 3], 20)
        around = np.linspace(-np.pi, np.pi, 21)
        swell = 0.0035 * smoothstep(arm[:, 0], 0.15, 0.25)[:, None] * _noise(rng, _ARM_ROWS, 20, (11, 4))
        one[..., 0] += swell * np.sin(around)
        one[..., 2] -= swell * np.cos(around)
        inner = smoothstep(-sign * np.sin(around), 0.2, 0.9)[None] * smoothstep(arm[:, 0], 0.14, 0.2)[:, None]
        parts.append(one)
        shadows.append(1.0 - 0.4 * inner)
        sizes.append((128, 192))
    atlas = np.zeros((384, 384 + 256, 3))
    points, uv, triangles = [], [], []
    corner, count = 0, 0
    for part, dark, size in zip(parts, shadows, sizes, strict=True):
        pixels = origin + part * unit
        colours = _painted(cloth, pixels, size, dark, rng)
        if part is not body:
            hand = np.interp(np.linspace(0.0, _ARM_ROWS - 1, size[1]), np.arange(_ARM_ROWS), arm[:, 0]) > _SLEEVE
            colours[hand] = np.array(skin) * np.linspace(0.95, 0.8, int(hand.sum()))[:, None, None]
        atlas[: size[1], corner : corner + size[0]] = colours
        r, c = part.shape[:2]
        u, v = np.meshgrid(np.linspace(corner + 0.5, corner + size[0] - 0.5, c), np.linspace(0.5, size[1] - 0.5, r))
        points.append(place.to_model(pixels.reshape(-1, 3)))
        uv.append(np.stack([u, v], -1).reshape(-1, 2))
        triangles.append(_triangles(r, c) + count)
        corner, count = corner + size[0], count + r * c
    alpha = np.full((*atlas.shape[:2], 1), 255.0)
    texture = np.clip(np.concatenate([atlas, alpha], -1), 0, 255).astype(np.uint8)
    return Mesh(
        np.concatenate(points),
        np.concatenate(uv).astype(np.float32),
        np.ascontiguousarray(np.concatenate(triangles)),
        np.ascontiguousarray(texture),
    )
