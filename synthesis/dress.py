"""What surrounds the face: hair and skull, neck, teeth. Plausible, not measured."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .portraits import Portrait

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]

FLIP = np.diag([1.0, -1.0, -1.0])  # model frame (y up, z out of the face) to camera axes; schemas/heads.py calls it F

# FaceMesh points; the lips run from the subject's right to the left corner, above, and back below.
INNER_MOUTH = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
# fmt: off
OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
# fmt: on
CHIN, EAR_RIGHT, EAR_LEFT = 152, 234, 454

HULL_COLUMNS, HULL_ROWS = 720, 256  # atlas texels: around the face, from its edge to the back of the head
_HULL_RINGS = 16
_SILHOUETTE_RING = 7
BACK_DEPTH = 0.105  # metres from the ears to the back of the head


@dataclass(frozen=True)
class Mesh:
    """Textured triangles. ``points`` [V, 3] metres in the model frame, ``uv`` [V, 2] texture pixels."""

    points: Array
    uv: Float32
    triangles: Int32
    texture: UInt8


@dataclass(frozen=True)
class Placement:
    """Weak-perspective placement of the model on a portrait: pixels = scale * R F x + offset."""

    rotation: Array
    scale: float
    offset: Array

    def to_portrait(self, points: Array) -> Array:
        return np.asarray(self.scale * points @ (self.rotation @ FLIP).T + self.offset)

    def to_model(self, pixels: Array) -> Array:
        return np.asarray((pixels - self.offset) / self.scale @ (self.rotation @ FLIP))


def _silhouette(mask: UInt8, center: Array, angles: Array, reach: float) -> Array:
    """Distance from ``center`` to the mask's edge along each angle (0 is up, clockwise on the screen)."""
    steps = np.arange(0.0, reach, 2.0)
    x = center[0] + np.sin(angles)[:, None] * steps
    y = center[1] - np.cos(angles)[:, None] * steps
    inside = cv2.remap(mask, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR) > 127
    outside = np.argmin(inside, axis=1)
    outside[inside.all(axis=1)] = len(steps) - 1
    return np.asarray(steps[outside])


def smoothstep(x: Array | float, low: float, high: float) -> Array:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((np.asarray(x, dtype=np.float64) - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def hull(portrait: Portrait, oval: Array, place: Placement, rng: np.random.Generator) -> Mesh:
    """Hair and skull. Rings run from the face oval over the silhouette to the back of the head.

    Args:
        oval: [72, 3] the neutral face oval (see :func:`oval_points`) in the portrait's pixels.
    """
    marks = portrait.landmarks
    unit = place.scale  # portrait pixels in a metre
    ears = 0.5 * (marks[EAR_RIGHT] + marks[EAR_LEFT])
    center = np.array([0.5 * (oval[:, 0].min() + oval[:, 0].max()), ears[1]])
    offsets = oval[:, :2] - center
    angles = np.arctan2(offsets[:, 0], -offsets[:, 1])
    radius = np.linalg.norm(offsets, axis=1)
    thinner = int(0.004 * unit)
    mask = cv2.erode(portrait.mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thinner + 1, 2 * thinner + 1)))
    reach = _silhouette(mask, center, angles, 0.22 * unit)
    # Under the ears the silhouette is neck and shoulders: keep close to the jaw there.
    low = smoothstep((oval[:, 1] - center[1]) / unit, -0.002, 0.022)
    reach = np.maximum(reach, radius * 1.01)
    reach = np.minimum(reach, radius + 0.075 * unit)
    reach = reach * (1.0 - low) + radius * 0.97 * low
    for _ in range(2):
        reach = 0.25 * np.roll(reach, 1) + 0.5 * reach + 0.25 * np.roll(reach, -1)
    z_ears = float(oval[[16, 56], 2].mean())
    z_side = z_ears + 0.012 * unit
    rings = []
    path = np.zeros(_HULL_RINGS + 1)
    for m in range(_HULL_RINGS + 1):
        if m <= _SILHOUETTE_RING:
            a = 0.5 * np.pi * m / _SILHOUETTE_RING
            r = radius + (reach - radius) * np.sin(a)
            z = oval[:, 2] + (z_side - oval[:, 2]) * (1.0 - np.cos(a))
        else:
            a = 0.5 * np.pi * (m - _SILHOUETTE_RING) / (_HULL_RINGS - _SILHOUETTE_RING)
            r = reach * np.cos(a)
            z = z_side + BACK_DEPTH * unit * np.sin(a) * (1.0 - 0.25 * low)
        drop = 0.012 * unit * smoothstep(m, _SILHOUETTE_RING, _HULL_RINGS)  # the back of the head hangs over the nape
        x = center[0] + r * np.sin(angles)
        y = center[1] - r * np.cos(angles) + drop
        rings.append(np.stack([x, y, z], axis=-1))
        path[m] = m / _HULL_RINGS
    points = np.stack(rings)  # [M + 1, 36, 3]
    texture = _hull_atlas(
        portrait, center, angles, radius, reach, low, _hair_color(portrait, unit), _skin_color(portrait, unit), rng
    )
    n = len(oval)
    columns = (np.arange(n + 1) / n) * (HULL_COLUMNS - 1) + 0.5
    uv = np.zeros((_HULL_RINGS + 1, n + 1, 2), np.float32)
    uv[..., 0] = columns[None]
    uv[..., 1] = (path * (HULL_ROWS - 1) + 0.5)[:, None]
    closed = np.concatenate([points, points[:, :1]], axis=1)  # the seam's column twice: two texture positions
    index = np.arange((_HULL_RINGS + 1) * (n + 1)).reshape(_HULL_RINGS + 1, n + 1)
    p00, p01, p11, p10 = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    upper, lower = np.stack([p00, p11, p01], -1), np.stack([p00, p10, p11], -1)
    triangles = np.concatenate([upper.reshape(-1, 3), lower.reshape(-1, 3)])
    model_points = place.to_model(closed.reshape(-1, 3))
    inside = model_points.mean(0)
    t = model_points[triangles]
    outward = np.einsum("fd,fd->f", np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]), t.mean(1) - inside).sum() > 0.0
    if not outward:
        triangles = triangles[:, ::-1]
    return Mesh(model_points, uv.reshape(-1, 2), np.ascontiguousarray(triangles, dtype=np.int32), texture)


def _hair_color(portrait: Portrait, unit: float) -> Array:
    """[3] RGB beside the temples."""
    patches = []
    for mark, side in ((EAR_RIGHT, -1.0), (EAR_LEFT, 1.0)):
        x, y = portrait.landmarks[mark, :2] + np.array([side * 0.006, -0.034]) * unit
        r = int(0.007 * unit)
        patches.append(portrait.image[int(y) - r : int(y) + r, int(x) - r : int(x) + r].reshape(-1, 3))
    return np.asarray(np.median(np.concatenate(patches), axis=0), dtype=np.float64)


def _hull_atlas(
    portrait: Portrait,
    center: Array,
    angles: Array,
    radius: Array,
    reach: Array,
    low: Array,
    hair: Array,
    skin: Array,
    rng: np.random.Generator,
) -> UInt8:
    """Polar texture of hair and skull [HULL_ROWS, HULL_COLUMNS, 4].

    What is above the ears continues over the back as the mirror of what is seen; below it hair covers the nape, and
    skin lies under the jaw.
    """
    n = len(angles)
    column = np.linspace(0.0, n, HULL_COLUMNS)
    ring = np.arange(n + 1)

    def around(values: Array) -> Array:
        return np.asarray(np.interp(column, ring, np.append(values, values[0])))

    turned = np.unwrap(angles)
    closing = turned[0] + np.sign(turned[-1] - turned[0]) * 2.0 * np.pi
    angle = np.interp(column, ring, np.append(turned, closing))
    r0, r1, down = around(radius), around(reach), around(low)
    t = np.linspace(0.0, 1.0, HULL_ROWS)[:, None]
    front = _SILHOUETTE_RING / _HULL_RINGS
    inward = np.sin(0.5 * np.pi * np.clip(t / front, 0.0, 1.0))
    behind = np.clip((t - front) / (1.0 - front), 0.0, 1.0)
    share = np.where(t <= front, inward * 0.97, 0.97 - 0.75 * behind)  # mirrored over the back of the head
    r = r0 + (r1 - r0) * share
    r = np.where(down > 0.5, r0 * (0.965 - 0.10 * t), r)  # under the jaw: skin from just inside its edge
    x = center[0] + r * np.sin(angle)
    y = center[1] - r * np.cos(angle)
    atlas = cv2.remap(portrait.image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR).astype(np.float64)
    # Strands along the path keep the stretched back from looking smeared.
    strands = np.zeros(HULL_COLUMNS)
    for octave in (40, 90, 200, 400):
        knots = rng.normal(size=octave)
        knots[-1] = knots[0]
        strands += np.interp(np.linspace(0, octave - 1, HULL_COLUMNS), np.arange(octave), knots) * 0.5
    pattern = 1.0 + 0.09 * strands[None] * behind * (1.0 - down)
    shadow = 1.0 - 0.18 * behind - down * 0.40 * np.clip(t / 0.30, 0.0, 1.0) * (1.0 - behind)
    from_top = np.abs(np.angle(np.exp(1j * angle)))
    bare = (down[None] * smoothstep(t, 0.0, 0.15))[..., None]
    atlas = atlas * (1.0 - bare) + skin * bare
    sideways = smoothstep(from_top, np.radians(58.0), np.radians(78.0)) * (
        1.0 - smoothstep(from_top, np.radians(108.0), np.radians(132.0))
    )
    covered = (sideways[None] * smoothstep(t, front - 0.06, front + 0.06))[..., None]
    atlas = atlas * (1.0 - covered) + hair * (1.0 + 0.16 * strands[None, :, None]) * covered
    atlas *= (pattern * shadow)[..., None]
    pole = atlas[int(HULL_ROWS * 0.8)].mean(0)
    fade = smoothstep(t, 0.85, 1.0)[..., None]
    atlas = atlas * (1.0 - fade) + pole * fade
    alpha = np.full((HULL_ROWS, HULL_COLUMNS, 1), 255.0)
    return np.ascontiguousarray(np.clip(np.concatenate([atlas, alpha], axis=-1), 0, 255).astype(np.uint8))


def _skin_color(portrait: Portrait, unit: float) -> Array:
    """[3] RGB of the lower cheeks."""
    patches = []
    for mark in (192, 416):
        x, y = portrait.landmarks[mark, :2]
        r = int(0.006 * unit)
        patches.append(portrait.image[int(y) - r : int(y) + r, int(x) - r : int(x) + r].reshape(-1, 3))
    return np.asarray(np.median(np.concatenate(patches), axis=0), dtype=np.float64)


def skin_color(portrait: Portrait, unit: float) -> tuple[float, float, float]:
    """RGB of the lower cheeks; ``unit``: portrait pixels in a metre."""
    r, g, b = _skin_color(portrait, unit).tolist()
    return (r, g, b)


def neck(portrait: Portrait, place: Placement) -> tuple[Mesh, Float32]:
    marks, unit = portrait.landmarks, place.scale
    chin = marks[CHIN]
    jaw = 0.5 * (marks[EAR_RIGHT] + marks[EAR_LEFT])
    rows, columns = 8, 24
    half = 0.058 * unit
    z = jaw[2] + 0.026 * unit
    turn = np.linspace(-np.pi, np.pi, columns + 1)  # 0 is the front
    t = np.linspace(0.0, 1.0, rows)[:, None]
    top, bottom = chin[1] - 0.075 * unit, chin[1] + 0.085 * unit
    flare = 1.0 + 0.35 * smoothstep(t, 0.6, 1.0)
    x = chin[0] + half * np.sin(turn)[None] * flare
    y = np.broadcast_to(top + (bottom - top) * t, x.shape)
    zz = z - 0.064 * unit * np.cos(turn)[None] * flare + 0.0 * t
    points = place.to_model(np.stack([x, y, zz], axis=-1).reshape(-1, 3))
    height, width = 128, 192
    v = np.linspace(0.0, 1.0, height)[:, None]
    across = np.abs(((np.linspace(-1.0, 1.0, width) + 1.5) % 2.0) - 1.0) * 2.0 - 1.0  # front half direct, back mirrored
    px = chin[0] + 0.8 * half * across[None] + 0.0 * v
    py = np.maximum(top + (bottom - top) * v, chin[1] + 0.012 * unit) + 0.0 * across[None]
    texture = cv2.remap(portrait.image, px.astype(np.float32), py.astype(np.float32), cv2.INTER_LINEAR).astype(
        np.float64
    )
    # What the chin hid is skin; so are the sides, where the portrait shows background or hair instead.
    away = smoothstep(np.abs(np.linspace(-np.pi, np.pi, width)), np.radians(48.0), np.radians(80.0))[None]
    bare = (away * (1.0 - smoothstep(v, 0.55, 0.75)))[..., None]
    texture = texture * (1.0 - bare) + _skin_color(portrait, unit) * bare
    shadow = 0.55 + 0.45 * smoothstep(v, 0.42, 0.85)
    texture = (texture * shadow[..., None]).astype(np.uint8)
    rgba = np.dstack([texture, np.full((height, width), 255, np.uint8)])
    uv = np.zeros((rows, columns + 1, 2), np.float32)
    uv[..., 0] = (np.arange(columns + 1) / columns * (width - 1) + 0.5)[None]
    uv[..., 1] = t * (height - 1) + 0.5
    index = np.arange(rows * (columns + 1)).reshape(rows, columns + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)])
    follow = np.repeat(1.0 - smoothstep(t[:, 0], 0.25, 0.95), columns + 1).astype(np.float32)
    mesh = Mesh(points, uv.reshape(-1, 2), np.ascontiguousarray(triangles, dtype=np.int32), np.ascontiguousarray(rgba))
    return mesh, follow


def mouth(face: Array) -> tuple[Mesh, Mesh, Mesh]:
    """Upper teeth, lower teeth and the dark behind them, along the neutral inner lips (model frame)."""
    middle = 0.5 * (face[13] + face[14])
    half = 0.5 * float(np.linalg.norm(face[78] - face[308]))
    lip = face[list(INNER_MOUTH[:11])]
    order = np.argsort(lip[:, 0])
    columns = 13

    def arc(y_top: float, y_bottom: float, depth: float, texture: UInt8, reach: float) -> Mesh:
        x = middle[0] + np.linspace(-reach * half, reach * half, columns)
        z = np.interp(x, lip[order, 0], lip[order, 2]) - depth - 8.0 * (x - middle[0]) ** 2
        top = np.stack([x, np.full(columns, middle[1] + y_top), z], -1)
        rise = 0.6 * (y_top - y_bottom) * np.linspace(-1.0, 1.0, columns) ** 2  # short at the corners of the mouth
        bottom = np.stack([x, middle[1] + y_bottom + rise, z], -1)
        u = np.linspace(0.5, texture.shape[1] - 0.5, columns)
        rows = [np.stack([u, np.full(columns, v)], -1) for v in (0.5, texture.shape[0] - 0.5)]
        k = np.arange(columns - 1)
        triangles = np.concatenate(
            [np.stack([k, k + columns, k + columns + 1], -1), np.stack([k, k + columns + 1, k + 1], -1)]
        ).astype(np.int32)
        return Mesh(np.concatenate([top, bottom]), np.concatenate(rows).astype(np.float32), triangles, texture)

    upper = arc(0.010, -0.0022, 0.0045, _teeth(10, gum_below=False), 0.80)
    lower = arc(-0.0030, -0.0110, 0.0065, _teeth(12, gum_below=True), 0.70)
    dark = np.zeros((8, 8, 4), np.uint8)
    dark[..., :3] = (46, 16, 16)
    dark[5:, :, :3] = (112, 48, 50)  # the tongue
    dark[..., 3] = 255
    cavity = arc(0.014, -0.045, 0.015, dark, 0.95)
    return upper, lower, cavity


def _teeth(count: int, gum_below: bool) -> UInt8:
    texture = np.zeros((24, 16 * count, 4), np.float64)
    texture[..., :3] = (216, 206, 188)
    x = np.arange(texture.shape[1])
    gap = np.abs((x % 16) - 7.5) > 6.6
    texture[:, gap, :3] *= 0.72
    side = 1.0 - 0.7 * np.abs(np.linspace(-1.0, 1.0, texture.shape[1])) ** 2
    texture[..., :3] *= side[None, :, None]
    rows = slice(16, None) if gum_below else slice(0, 7)
    texture[rows, :, :3] = np.array((150.0, 78.0, 76.0)) * side[:, None]
    texture[..., 3] = 255
    return np.ascontiguousarray(texture.astype(np.uint8))
