"""Metric size: a prior on head size, iris evidence that a head is a child's, and what both mean for uncertainty.

depth = focal x size / pixels, and neither focal nor size can be read from landmarks: their uncertainty is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import LEFT_IRIS, RIGHT_IRIS
from .camera import Camera

HEAD_SIZE_LOG_SD = 0.048  # between adults: ICT-FaceKit's scans; inter-pupillary distance alone varies by 6 %
IRIS_DIAMETER = 0.0117  # metres, sd 0.0005 in adults, nearly full-grown in infancy
CHILD_IPD = 0.054  # metres; 40 mm at age 5, adults 63 +- 3.9
_IRIS_MIN_SCALE_PX = 80.0  # px per 63 mm: below it half a pixel on the limbus outweighs the prior
_IRIS_MAX_ANGLE = np.radians(25.0)
_IRIS_MIN_FRAMES = 12

Float = npt.NDArray[np.floating]


@dataclass(frozen=True)
class HeadSize:
    """What is known of a head's size relative to the model's.

    Attributes:
        log_sd: sd of log size. child: the irises say that it is smaller than an adult's.
        iris_ratio: measured size / model size from the irises; NaN where they cannot tell.
    """

    log_sd: float
    child: bool
    iris_ratio: float


def head_size(landmarks: Float, rotation: Float, depth: Float, camera: Camera, model_ipd: float) -> HeadSize:
    """Compare the irises, whose size hardly varies, with the fitted head.

    Args:
        landmarks: [N, 478, >=2] pixels of measured frames.
        rotation: [N, 3, 3], identity for a head that faces the camera.
        depth: [N] metres, of the eyes, for a head of the model's size.
        model_ipd: metres between the model's eyeball centres.
    """
    facing = np.arccos(np.clip(rotation[:, 2, 2], -1, 1)) < _IRIS_MAX_ANGLE
    close = camera.focal_px * 0.063 / depth >= _IRIS_MIN_SCALE_PX
    usable = facing & close
    if usable.sum() < _IRIS_MIN_FRAMES:
        return HeadSize(HEAD_SIZE_LOG_SD, False, float("nan"))
    widths = []
    for iris in (LEFT_IRIS, RIGHT_IRIS):
        # Points 1 and 3 of the ring are its horizontal ends: lids hide the vertical ones.
        span = np.linalg.norm(landmarks[usable, iris[1], :2] - landmarks[usable, iris[3], :2], axis=-1)
        cosine = np.sqrt(np.clip(1 - rotation[usable, 0, 2] ** 2, 0.25, 1.0))
        widths.append(span / cosine)
    measured = np.mean(widths, axis=0) * depth[usable] / camera.focal_px
    ratio = float(IRIS_DIAMETER / np.median(measured))
    child = model_ipd * ratio < CHILD_IPD
    # A child's head is nearer than the adult prior says: the stored uncertainty has to cover that.
    log_sd = float(np.hypot(HEAD_SIZE_LOG_SD, np.log(ratio))) if child else HEAD_SIZE_LOG_SD
    return HeadSize(log_sd, child, ratio)
