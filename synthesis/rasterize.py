"""A small software renderer: z-buffered, perspective-correct, textured triangles, and eyeballs seen through lids.

Buffers are RGBA uint8, cleared to zero, usually at twice the output resolution: averaging them down gives colours
premultiplied by coverage, so that :func:`composite` draws antialiased silhouettes. The depth buffer holds 1/z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import cv2
import numba
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

_jit = cast(
    "Callable[[Callable[..., Any]], Callable[..., Any]]",
    numba.njit(cache=True, nogil=True, fastmath={"contract", "arcp", "nsz"}),
)


@_jit
def _edges(  # type: ignore[no-untyped-def]
    x0, y0, x1, y1, x2, y2, area, px, py
):
    w0 = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) / area
    w1 = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) / area
    return w0, w1, np.float32(1.0) - w0 - w1


@_jit
def _clip_span(w, step, first, last):  # type: ignore[no-untyped-def]
    """The part of first..last (float offsets) in which ``w + step * x >= 0``."""
    if step > 0.0:
        first = max(first, -w / step)
    elif step < 0.0:
        last = min(last, -w / step)
    elif w < 0.0:
        last = np.float32(-1.0)
    return first, last


@_jit
def _draw_textured(color, depth, points, uv, shade, triangles, texture, cull):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    tex_h, tex_w = texture.shape[0], texture.shape[1]
    one, half = np.float32(1.0), np.float32(0.5)
    u_last, v_last = np.float32(tex_w - 1.001), np.float32(tex_h - 1.001)
    for f in range(triangles.shape[0]):
        i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        zi, zj, zk = points[i, 2], points[j, 2], points[k, 2]
        if zi < 0.05 or zj < 0.05 or zk < 0.05:
            continue
        x0, y0, x1, y1, x2, y2 = points[i, 0], points[i, 1], points[j, 0], points[j, 1], points[k, 0], points[k, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0 or (cull and area > 0.0):
            continue
        left = max(0, int(np.ceil(min(x0, x1, x2) - half)))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - half)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - half)))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - half)))
        if left > right or top > bottom:
            continue
        # Everything that is linear on the screen: barycentrics, 1/z, u/z, v/z, shade/z.
        q0, q1, q2 = one / zi, one / zj, one / zk
        u0, u1, u2 = uv[i, 0] * q0, uv[j, 0] * q1, uv[k, 0] * q2
        v0, v1, v2 = uv[i, 1] * q0, uv[j, 1] * q1, uv[k, 1] * q2
        s0, s1, s2 = shade[i] * q0, shade[j] * q1, shade[k] * q2
        inv = one / area
        w0x, w1x = (y1 - y2) * inv, (y2 - y0) * inv
        w2x = -w0x - w1x
        qx = q0 * w0x + q1 * w1x + q2 * w2x
        ux = u0 * w0x + u1 * w1x + u2 * w2x
        vx = v0 * w0x + v1 * w1x + v2 * w2x
        sx = s0 * w0x + s1 * w1x + s2 * w2x
        for y in range(top, bottom + 1):
            w0, w1, w2 = _edges(x0, y0, x1, y1, x2, y2, area, np.float32(left) + half, np.float32(y) + half)
            first, last = np.float32(0.0), np.float32(right - left)
            first, last = _clip_span(w0, w0x, first, last)
            first, last = _clip_span(w1, w1x, first, last)
            first, last = _clip_span(w2, w2x, first, last)
            if last < first:
                continue
            start, stop = int(np.ceil(first)), int(np.floor(last))
            q = q0 * w0 + q1 * w1 + q2 * w2
            u = u0 * w0 + u1 * w1 + u2 * w2
            v = v0 * w0 + v1 * w1 + v2 * w2
            s = s0 * w0 + s1 * w1 + s2 * w2
            for step in range(start, stop + 1):
                x = left + step
                along = np.float32(step)
                qq = q + qx * along
                if qq <= depth[y, x]:
                    continue
                z = one / qq
                tu = min(max((u + ux * along) * z - half, np.float32(0.0)), u_last)
                tv = min(max((v + vx * along) * z - half, np.float32(0.0)), v_last)
                iu, iv = np.int32(tu), np.int32(tv)
                au, av = tu - np.float32(iu), tv - np.float32(iv)
                c11 = au * av
                c01, c10 = au - c11, av - c11
                c00 = one - au - c10
                light = (s + sx * along) * z
                t00, t01, t10, t11 = texture[iv, iu], texture[iv, iu + 1], texture[iv + 1, iu], texture[iv + 1, iu + 1]
                depth[y, x] = qq
                for c in range(3):
                    value = (t00[c] * c00 + t01[c] * c01 + t10[c] * c10 + t11[c] * c11) * light + half
                    color[y, x, c] = np.uint8(min(value, np.float32(255.0)))
                color[y, x, 3] = 255


@_jit
def _draw_eye(color, depth, points, triangles, camera, ball, axis, radii, colors, light):  # type: ignore[no-untyped-def]
    """Fill the lid opening: each pixel's ray meets the eyeball, and the angle to ``axis`` picks its colour."""
    height, width = depth.shape
    focal, cx, cy = camera[0], camera[1], camera[2]
    radius, iris, pupil = radii[0], radii[1], radii[2]
    one = np.float32(1.0)
    for f in range(triangles.shape[0]):
        i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        zi, zj, zk = points[i, 2], points[j, 2], points[k, 2]
        x0, y0, x1, y1, x2, y2 = points[i, 0], points[i, 1], points[j, 0], points[j, 1], points[k, 0], points[k, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0.0 or area > 0.0 or zi < 0.05:
            continue
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                px, py = np.float32(x + 0.5), np.float32(y + 0.5)
                w0, w1, w2 = _edges(x0, y0, x1, y1, x2, y2, area, px, py)
                q = w0 / zi + w1 / zj + w2 / zk
                if w0 < 0.0 or w1 < 0.0 or w2 < 0.0 or q <= depth[y, x]:
                    continue
                dx, dy = (px - cx) / focal, (py - cy) / focal
                norm = one / np.sqrt(dx * dx + dy * dy + one)
                dx, dy, dz = dx * norm, dy * norm, norm
                along = dx * ball[0] + dy * ball[1] + dz * ball[2]
                gap = ball[0] ** 2 + ball[1] ** 2 + ball[2] ** 2 - along * along
                inside = radius * radius - gap
                if inside > 0.0:
                    t = along - np.sqrt(inside)
                    nx = (t * dx - ball[0]) / radius
                    ny = (t * dy - ball[1]) / radius
                    nz = (t * dz - ball[2]) / radius
                    cosine = nx * axis[0] + ny * axis[1] + nz * axis[2]
                    sine = np.sqrt(max(one - cosine * cosine, np.float32(0.0))) * radius
                    shading = max(-nz, np.float32(0.0)) * np.float32(0.35) + np.float32(0.65)
                    shading *= np.float32(0.86) + np.float32(0.14) * ny  # the upper lid's shadow (y is down)
                    row = 0  # sclera
                    if cosine > 0.0 and sine < iris:
                        row = 1 if sine > np.float32(0.86) * iris else 2  # limbus, iris
                        if sine < pupil:
                            row = 3
                else:
                    shading = np.float32(0.5)
                    row = 4  # the corner tissue
                depth[y, x] = q
                for c in range(3):
                    value = colors[row, c] * shading * light
                    color[y, x, c] = np.uint8(min(value, np.float32(255.0)))
                color[y, x, 3] = 255


def project(points: npt.NDArray[np.float64], focal_px: float, width: int, height: int) -> npt.NDArray[np.float64]:
    """Pinhole projection with the principal point at the image centre.

    Args:
        points: [..., 3] metres, camera frame (x right, y down, z forward).

    Returns:
        [..., 3]: x, y in pixels, and z in metres.
    """
    z = points[..., 2]
    x = points[..., 0] / z * focal_px + width / 2.0
    y = points[..., 1] / z * focal_px + height / 2.0
    return np.stack([x, y, z], axis=-1)


class Canvas:
    """A supersampled RGBA layer with depth. Only the touched rectangle costs time.

    Args:
        width, height: output pixels. supersample: samples per pixel and axis.
    """

    def __init__(self, width: int, height: int, supersample: int = 2) -> None:
        self.width, self.height, self.supersample = width, height, supersample
        self.color: UInt8 = np.zeros((height * supersample, width * supersample, 4), np.uint8)
        self.depth: Float32 = np.zeros(self.color.shape[:2], np.float32)
        self._touched: tuple[int, int, int, int] | None = None

    @property
    def touched(self) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 in output pixels that may have been drawn on; None for a clear canvas."""
        return self._touched

    def clear(self) -> None:
        if self._touched is not None:
            x0, y0, x1, y1 = (c * self.supersample for c in self._touched)
            self.color[y0:y1, x0:x1] = 0
            self.depth[y0:y1, x0:x1] = 0.0
        self._touched = None

    def _scaled(self, points: npt.NDArray[np.float64]) -> Float32:
        front = points[points[:, 2] > 0.05]
        if len(front):
            low, high = front[:, :2].min(0), front[:, :2].max(0)
            x0, y0 = int(np.clip(low[0], 0, self.width)), int(np.clip(low[1], 0, self.height))
            x1 = int(np.clip(np.ceil(high[0]), 0, self.width))
            y1 = int(np.clip(np.ceil(high[1]), 0, self.height))
            if x1 > x0 and y1 > y0:
                old = self._touched or (x0, y0, x1, y1)
                self._touched = (min(old[0], x0), min(old[1], y0), max(old[2], x1), max(old[3], y1))
        scale = np.array([self.supersample, self.supersample, 1.0])
        return np.ascontiguousarray(points * scale, dtype=np.float32)

    def draw(
        self,
        points: npt.NDArray[np.float64],
        uv: Float32,
        shade: Float32,
        triangles: Int32,
        texture: UInt8,
        cull: bool = True,
    ) -> None:
        """Draw triangles.

        Args:
            points: [V, 3] output pixels x, y and depth z in metres (see :func:`project`).
            uv: [V, 2] texture pixels. shade: [V] brightness factor. triangles: [F, 3], counter-clockwise as seen
                from outside with y up (so the other winding on the y-down screen is the back, dropped if ``cull``).
            texture: [H, W, 4] RGBA; its alpha is ignored.
        """
        _draw_textured(self.color, self.depth, self._scaled(points), uv, shade, triangles, texture, cull)

    def draw_eye(
        self,
        points: npt.NDArray[np.float64],
        triangles: Int32,
        focal_px: float,
        ball: npt.NDArray[np.float64],
        axis: npt.NDArray[np.float64],
        radii: tuple[float, float, float],
        colors: Float32,
        light: float = 1.0,
    ) -> None:
        """Draw one eye inside its lid opening.

        Args:
            points: [V, 3] as in :meth:`draw`; triangles: the opening.
            ball: [3] eyeball centre, camera frame, metres. axis: [3] unit optical axis, camera frame.
            radii: eyeball, iris, pupil, metres. colors: [5, 3] RGB of sclera, limbus, iris, pupil, corner.
        """
        s = self.supersample
        camera = np.array([focal_px * s, self.width * s / 2.0, self.height * s / 2.0], np.float32)
        _draw_eye(
            self.color,
            self.depth,
            self._scaled(points),
            triangles,
            camera,
            ball.astype(np.float32),
            axis.astype(np.float32),
            np.array(radii, np.float32),
            colors,
            np.float32(light),
        )


def lay_over(image: UInt8, layer: UInt8, x: int = 0, y: int = 0) -> None:
    """Blend a premultiplied RGBA ``layer`` into RGB ``image`` at (x, y), in place."""
    height, width = layer.shape[:2]
    part = image[y : y + height, x : x + width]
    uncovered = cv2.cvtColor(255 - layer[..., 3], cv2.COLOR_GRAY2RGB)
    below = cv2.multiply(part, uncovered, scale=1.0 / 255.0)
    part[:] = cv2.add(below, cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB))


def layer_of(canvas: Canvas, margin: int = 0) -> tuple[UInt8, int, int] | None:
    """What was drawn, averaged down: premultiplied RGBA and the place (x, y) of its corner; None for nothing.

    Args:
        margin: empty pixels kept on each side, where the picture has them, for a blur to spread into.
    """
    if canvas.touched is None:
        return None
    x0, y0, x1, y1 = canvas.touched
    x0, y0 = max(x0 - margin, 0), max(y0 - margin, 0)
    x1, y1 = min(x1 + margin, canvas.width), min(y1 + margin, canvas.height)
    s = canvas.supersample
    layer = canvas.color[y0 * s : y1 * s, x0 * s : x1 * s]
    if s > 1:
        layer = cv2.resize(layer, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    else:
        layer = cv2.GaussianBlur(layer, (3, 3), 0.6)  # no stairs at edges
    return np.ascontiguousarray(layer, dtype=np.uint8), x0, y0


def composite(canvas: Canvas, image: UInt8) -> None:
    """Lay what was drawn on ``canvas``, averaged down, over ``image`` [H, W, 3], in place."""
    found = layer_of(canvas)
    if found is not None:
        lay_over(image, *found)
