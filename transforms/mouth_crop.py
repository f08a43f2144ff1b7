"""Grey crops of the lower face, as active-speaker networks are trained on: pixels that may outlive the track pass."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32, face_scale_px
from .planar import Pixels

CROP = 112  # px, side of a crop
UInt8 = npt.NDArray[np.uint8]

_HALF_HEIGHT = 1.4  # half a face's height, hairline to chin, in face scales: what a face detector's box spans


def mouth_crop(picture: Pixels, landmarks: Float32) -> UInt8:
    """[112, 112] grey crop around nose, mouth and chin.

    With s half the face's height and c the centre of its box: rows c - 0.3 s to c + 1.1 s, columns c +- 0.7 s,
    upright. The size comes from the face scale, which neither the head's turning nor the jaw changes.

    Args:
        picture: upright image. landmarks: [478, 3] pixels. Outside the image the crop is mid-grey.
    """
    points = landmarks[:468, :2]
    x, y = (float(v) for v in (points.min(axis=0) + points.max(axis=0)) / 2)
    half = _HALF_HEIGHT * float(face_scale_px(landmarks))
    side = max(1.4 * half, 2.0)
    left, top = x - 0.7 * half, y - 0.3 * half
    height, width = picture.shape[:2]
    x0, y0 = max(0, int(left) - 2), max(0, int(top) - 2)
    x1, y1 = min(width, int(left + side) + 3), min(height, int(top + side) + 3)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return np.full((CROP, CROP), 110, np.uint8)
    grey = cv2.cvtColor(np.ascontiguousarray(picture[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    scale = CROP / side
    if scale < 0.5:  # shrink in two steps, without aliasing
        grey = cv2.resize(grey, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        shrunk = 2 * scale
    else:
        shrunk = 1.0
    zoom = scale / shrunk
    matrix = np.array([[zoom, 0.0, (x0 - left) * scale], [0.0, zoom, (y0 - top) * scale]])
    crop = cv2.warpAffine(grey, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR, borderValue=110)
    return np.asarray(crop, np.uint8)
