"""A portrait's face made fit to be lit and turned: its own lamp taken off; no hair, ear or wall at the jaw's edge."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..transforms.mirror import mirror_map
from .head_geometry import face_triangles
from .rasterize import Canvas

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_EVEN_GAIN = (0.70, 1.45)  # no part of a face is darkened or brightened by more
_SHEEN = 0.45  # of what is brighter than its surroundings stays
_KEPT = 0.66  # of the half width of a face: inside, colours are taken where they are
_PRESSED = 0.50  # outside, places are pressed together: the face's edge takes what lies at 0.66 + 0.5 * 0.34 of it
EAR_RIGHT, EAR_LEFT, CHIN = 234, 454, 152


def _across(x: Array, y: Array, landmarks: Array) -> tuple[Array, Array, Array]:
    """How far places lie from the middle of a face, in half widths at their height; middle and half width, pixels."""
    axis = landmarks[[10, 168, 1, CHIN]]  # forehead, nose bridge, nose tip, chin
    line = np.polyfit(axis[:, 1], axis[:, 0], 1)
    middle = np.polyval(line, y)
    left, right = (float(abs(landmarks[k, 0] - np.polyval(line, landmarks[k, 1]))) for k in (EAR_LEFT, EAR_RIGHT))
    # The outline narrows towards the chin: an ellipse that ends below it.
    height = (y - landmarks[EAR_LEFT, 1]) / (landmarks[CHIN, 1] - landmarks[EAR_LEFT, 1])
    narrow = np.sqrt(np.clip(1.0 - np.clip(height, 0.0, 1.05) ** 2 / 1.3, 0.05, 1.0))
    half = np.where(x > middle, left, right) * narrow
    return np.asarray(np.abs(x - middle) / half), np.asarray(middle), np.asarray(half)


def _below_brows(y: Array, landmarks: Array) -> Array:
    """0 at the brows, 1 at the eyes and below."""
    brow, eyes = landmarks[[105, 334], 1].mean(), landmarks[[33, 263], 1].mean()
    return np.asarray(np.clip((y - brow) / (eyes - brow), 0.0, 1.0))


def face_uv(landmarks: Array) -> Float32:
    """[468, 2] where each landmark's colour is taken: beside and under the eyes, nearer to the middle than it is.

    A landmark at the edge of a face lies on its outline, where a portrait shows hair, ears, shadow and background.
    """
    uv = landmarks[:468, :2].astype(np.float64)
    share, middle, half = _across(uv[:, 0], uv[:, 1], landmarks)
    pressed = np.where(share > _KEPT, _KEPT + (share - _KEPT) * _PRESSED, share)
    # Above the brows the forehead's edge is hair in the portrait and hair on the head: little is pressed.
    wanted = share + (pressed - share) * np.maximum(_below_brows(uv[:, 1], landmarks), 0.25)
    uv[:, 0] = middle + np.sign(uv[:, 0] - middle) * wanted * half
    return uv.astype(np.float32)


def _drawn(source: Array, at: Array, onto: Array, size: tuple[int, int]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """``source`` [H, W, 3] 0..255 taken at ``at`` [468, 2], drawn at ``onto`` [468, 2]; where something was drawn."""
    canvas = Canvas(size[0], size[1], 1)
    points = np.concatenate([onto, np.ones((468, 1))], axis=1)
    rgba = np.ascontiguousarray(np.dstack([np.clip(source, 0, 255), np.full(source.shape[:2], 255)]).astype(np.uint8))
    canvas.draw(points, at.astype(np.float32), np.ones(468, np.float32), face_triangles(), rgba, cull=False)
    return canvas.color[..., :3].astype(np.float64), canvas.color[..., 3] > 0


def even_light(image: UInt8, landmarks: Array) -> UInt8:
    """The portrait [H, W, 3] with a face as bright on its left as on its right, and with less sheen.

    Light varies slowly over a face, its features quickly: what is slow and not symmetric is taken for light.
    """
    size = (image.shape[1], image.shape[0])
    unit = float(np.linalg.norm(landmarks[33, :2] - landmarks[263, :2]))
    at = face_uv(landmarks).astype(np.float64)
    colour = image.astype(np.float64)
    face, inside = _drawn(colour, at, landmarks[:468, :2], size)
    weight = cv2.GaussianBlur(inside.astype(np.float64), (0, 0), 0.16 * unit)
    luma = face @ np.array([0.299, 0.587, 0.114])
    slow = cv2.GaussianBlur(luma * inside, (0, 0), 0.16 * unit) / np.maximum(weight, 1e-3)
    marks = landmarks[:468, :2]
    other, _ = _drawn(np.repeat(slow[..., None], 3, -1), marks[mirror_map()[:468]], marks, size)
    target = 0.5 * (slow + other[..., 0])
    gain = np.where(inside, np.clip(target / np.maximum(slow, 1.0), *_EVEN_GAIN), 1.0)
    # Soft at the face's edge, so that neck and hair do not show a seam.
    soft = cv2.GaussianBlur(cv2.erode(inside.astype(np.float64), np.ones((9, 9))), (0, 0), 0.04 * unit)
    gain = 1.0 + (cv2.GaussianBlur(gain, (0, 0), 0.03 * unit) - 1.0) * soft
    lit = colour * gain[..., None]
    sheen = np.maximum(lit.min(-1) - cv2.GaussianBlur(lit.min(-1), (0, 0), 0.06 * unit), 0.0)
    lit -= (1.0 - _SHEEN) * (sheen * soft)[..., None]
    # What is pressed together is stretched on the face: fine lines would become streaks there.
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float64)
    share, _, _ = _across(x, y, landmarks)
    blend = np.clip((share - _KEPT + 0.10) / 0.12, 0.0, 1.0) * _below_brows(y - 0.18 * unit, landmarks) * soft
    smooth = cv2.GaussianBlur(lit, (0, 0), 0.035 * unit)
    lit += (smooth - lit) * blend[..., None]
    return np.ascontiguousarray(np.clip(lit, 0, 255).astype(np.uint8))
