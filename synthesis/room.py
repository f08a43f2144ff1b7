"""The room behind and before the two people: walls, shelf, pictures, lamp, table. Generated, seeded, out of focus."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .rasterize import Canvas, project
from .scenario import Camera

Array = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]

BACK, SIDE, FLOOR, CEILING = 1.7, 2.7, 1.15, -1.45  # metres from the heads (y down)
_PALETTES = (  # wall, floor, wood
    ((176, 168, 152), (112, 86, 64), (134, 92, 58)),
    ((140, 158, 170), (92, 88, 86), (160, 124, 84)),
    ((188, 176, 138), (96, 70, 52), (108, 72, 46)),
    ((150, 164, 146), (128, 104, 78), (120, 84, 56)),
)


def _cloud(rng: np.random.Generator, height: int, width: int, cells: int) -> Array:
    coarse = rng.normal(size=(max(2, cells * height // max(width, 1)), cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float64)


def _rgba(rgb: Array) -> UInt8:
    alpha = np.full((*rgb.shape[:2], 1), 255.0)
    return np.ascontiguousarray(np.clip(np.concatenate([rgb, alpha], -1), 0, 255).astype(np.uint8))


def _wood(rng: np.random.Generator, color: tuple[int, int, int], height: int, width: int) -> Array:
    streaks = _cloud(rng, height, width, 6) * 0.03 + cv2.blur(rng.normal(size=(height, width)), (61, 1)) * 0.25
    return np.asarray(np.asarray(color, dtype=np.float64) * (1.0 + streaks)[..., None])


def _wall(rng: np.random.Generator, color: tuple[int, int, int], height: int, width: int) -> Array:
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    light = 0.82 + 0.28 * np.exp(-(((x - 0.3) / 0.45) ** 2 + ((y - 0.25) / 0.5) ** 2)) - 0.12 * y
    return np.asarray(np.asarray(color, dtype=np.float64) * (light + 0.015 * _cloud(rng, height, width, 24))[..., None])


def _furnish(rng: np.random.Generator, wall: Array, wood: tuple[int, int, int], metre: float) -> None:
    """Draw shelf, books, pictures, lamp and window into the back wall; ``metre`` in texels."""
    middle, eye = wall.shape[1] / 2, -CEILING * metre

    def box(x0: float, y0: float, x1: float, y1: float, color: npt.ArrayLike) -> None:
        a, b = int(middle + x0 * metre), int(eye + y0 * metre)
        c, d = int(middle + x1 * metre), int(eye + y1 * metre)
        wall[max(b, 0) : max(d, 0), max(a, 0) : max(c, 0)] = np.asarray(color, dtype=np.float64)

    shelf_x = float(rng.uniform(0.95, 1.15))
    box(shelf_x, -0.85, shelf_x + 0.95, 1.1, np.array(wood) * 0.55)
    for level in range(5):
        top = -0.80 + level * 0.38
        box(shelf_x + 0.04, top, shelf_x + 0.91, top + 0.34, np.array(wood) * 0.32)
        x = shelf_x + 0.05
        while x < shelf_x + 0.85:
            thick, tall = float(rng.uniform(0.02, 0.05)), float(rng.uniform(0.2, 0.31))
            if rng.random() < 0.85:
                box(
                    x,
                    top + 0.34 - tall,
                    min(x + thick, shelf_x + 0.9),
                    top + 0.34,
                    rng.uniform(50, 150) + rng.uniform(-28, 28, 3),
                )
            x += thick + 0.003
    for x0, wide in ((-0.32, 0.42), (0.28, 0.34)):
        y0 = float(rng.uniform(-0.62, -0.5))
        box(x0, y0, x0 + wide, y0 + wide * 0.75, (48, 40, 34))
        a, b = int(middle + (x0 + 0.025) * metre), int(eye + (y0 + 0.025) * metre)
        c, d = int(middle + (x0 + wide - 0.025) * metre), int(eye + (y0 + wide * 0.75 - 0.025) * metre)
        art = (
            np.stack([_cloud(rng, d - b, c - a, 4) for _ in range(3)], -1) * 14
            + rng.uniform(120, 175)
            + rng.uniform(-18, 18, 3)
        )
        wall[b:d, a:c] = art
    wx = float(rng.uniform(-1.95, -1.75))
    box(wx, -0.9, wx + 0.95, 0.25, (206, 200, 190))
    for k in range(2):
        x0 = wx + 0.05 + k * 0.44
        box(x0, -0.85, x0 + 0.41, 0.20, (214, 226, 236))
    stem = float(rng.uniform(-0.75, -0.68))
    box(stem - 0.012, -0.15, stem + 0.012, 1.1, (60, 54, 48))
    box(stem - 0.14, -0.42, stem + 0.14, -0.14, (246, 224, 176))
    box(-SIDE, FLOOR - 0.1, SIDE, FLOOR, (212, 206, 196))


def _grid(corners: Array, texture: UInt8, cells: int) -> tuple[Array, npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """A quad [4, 3] (upper left, upper right, lower right, lower left) cut into cells, with its texture positions."""
    t = np.linspace(0.0, 1.0, cells + 1)
    u, v = np.meshgrid(t, t)
    weights = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], -1)
    points = weights.reshape(-1, 4) @ corners
    size = np.array([texture.shape[1], texture.shape[0]])
    uv = (np.stack([u, v], -1).reshape(-1, 2) * size).astype(np.float32)
    index = np.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)])
    return points, uv, np.ascontiguousarray(triangles, dtype=np.int32)


def virtual_picture(seed: int, width: int, height: int) -> UInt8:
    """[H, W, 3] RGB: a call's virtual background, hills under a sky, drawn anew from a seed."""
    rng = np.random.default_rng([seed, 67])
    down = np.linspace(0.0, 1.0, height)[:, None, None]
    sky, low = rng.uniform([70, 120, 190], [140, 180, 240]), rng.uniform([220, 190, 170], [250, 230, 215])
    image = sky + (low - sky) * down + 4.0 * _cloud(rng, height, width, 10)[..., None]
    rows = np.arange(height)[:, None]
    for depth in range(4):
        ridge = height * (0.45 + 0.13 * depth) + 0.06 * height * _cloud(rng, 2, width, 5)[:1]
        color = np.array([60, 110, 70]) * (1.5 - 0.28 * depth) + rng.uniform(-20, 20, 3)
        image = np.where((rows > ridge)[..., None], color * (1.1 - 0.3 * down), image)
    return np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))


class Room:
    """One room. Equal seeds make equal rooms.

    Args:
        unlike: a room of another colour: two people in a call do not sit before one and the same wall.
    """

    def __init__(self, seed: int, unlike: Room | None = None) -> None:
        rng = np.random.default_rng([seed, 31])
        self._palette = int(rng.integers(len(_PALETTES)))
        if unlike is not None and self._palette == unlike._palette:
            self._palette = (self._palette + 1) % len(_PALETTES)
        wall, floor, wood = _PALETTES[self._palette]
        metre = 240.0
        back = _wall(rng, wall, int((FLOOR - CEILING) * metre), int(2 * SIDE * metre))
        _furnish(rng, back, wood, metre)
        side = _wall(rng, wall, 400, 600) * 0.86
        near = -4.0

        def quad(corners: list[tuple[float, float, float]], texture: Array) -> tuple[Array, UInt8]:
            return np.array(corners), _rgba(texture)

        upper = [(-SIDE, CEILING, near), (-SIDE, CEILING, BACK), (SIDE, CEILING, BACK), (SIDE, CEILING, near)]
        lower = [(x, FLOOR, z) for x, _, z in upper]
        self._quads = [
            quad([upper[1], upper[2], lower[2], lower[1]], back),
            quad([upper[0], upper[1], lower[1], lower[0]], side),
            quad([upper[2], upper[3], lower[3], lower[2]], side),
            quad([lower[1], lower[2], lower[3], lower[0]], _wood(rng, floor, 400, 400)),
            quad([upper[0], upper[3], upper[2], upper[1]], np.full((8, 8, 3), 206.0)),
        ]
        top, near, far, half = 0.44, -0.72, -0.22, 1.35
        shine = _wood(rng, wood, 200, 500) * (1.05 - 0.2 * np.mgrid[0:1:200j, 0:1:500j][0])[..., None]
        edge = top + 0.06
        self._table = [
            quad([(-half, top, far), (half, top, far), (half, top, near), (-half, top, near)], shine),
            quad([(-half, top, near), (half, top, near), (half, edge, near), (-half, edge, near)],
                 _wood(rng, wood, 40, 500) * 0.62),
            quad([(-half, edge, near), (half, edge, near), (half, FLOOR, near), (-half, FLOOR, near)],
                 _wood(rng, wood, 40, 500) * 0.30),
        ]  # fmt: skip
        self._mugs = [
            (float(rng.uniform(-0.30, -0.20)), -0.30, rng.uniform(110, 200) + rng.uniform(-25, 25, 3)),
            (float(rng.uniform(0.18, 0.30)), -0.33, rng.uniform(110, 200) + rng.uniform(-25, 25, 3)),
        ]

    def _draw(self, quads: list[tuple[Array, UInt8]], canvas: Canvas, camera: Camera, focal_px: float) -> None:
        for corners, texture in quads:
            points, uv, triangles = _grid(corners, texture, 16)
            pixels = project(camera.to_camera(points), focal_px, canvas.width, canvas.height)
            canvas.draw(pixels, uv, np.ones(len(points), np.float32), triangles, texture, cull=False)

    def background(self, camera: Camera, width: int, height: int, focal_px: float) -> UInt8:
        """[H, W, 3] RGB behind the people, out of focus."""
        canvas = Canvas(width, height, 2)
        self._draw(self._quads, canvas, camera, focal_px)
        image = cv2.resize(canvas.color, (width, height), interpolation=cv2.INTER_AREA)[..., :3]
        blur = 2.6 * focal_px / 1150.0
        return np.ascontiguousarray(cv2.GaussianBlur(image, (0, 0), blur))

    def foreground(self, camera: Camera, width: int, height: int, focal_px: float) -> UInt8:
        """[H, W, 4] RGBA, premultiplied: the table and what stands on it, before the people."""
        canvas = Canvas(width, height, 2)
        self._draw(self._table, canvas, camera, focal_px)
        turn = np.linspace(-np.pi, np.pi, 25)
        for x, z, color in self._mugs:
            ring = np.stack([x + 0.04 * np.sin(turn), np.zeros_like(turn), z - 0.04 * np.cos(turn)], -1)
            points = np.concatenate([ring + np.array([0.0, y, 0.0]) for y in (0.345, 0.44)])
            k = np.arange(24)
            triangles = np.concatenate([np.stack([k, k + 25, k + 26], -1), np.stack([k, k + 26, k + 1], -1)])
            shade = np.tile(0.75 + 0.35 * np.sin(turn + 2.4), 2).astype(np.float32)
            texture = _rgba(np.broadcast_to(color, (4, 4, 3)).copy())
            pixels = project(camera.to_camera(points), focal_px, width, height)
            canvas.draw(pixels, np.ones((50, 2), np.float32), shade, triangles.astype(np.int32), texture, cull=False)
        layer = cv2.resize(canvas.color, (width, height), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(cv2.GaussianBlur(layer, (0, 0), 1.0 * focal_px / 1150.0))
