"""Metric size: a prior on head size, fused with the size of the irises, and what is left of the uncertainty.

depth = focal x size / pixels, and neither focal nor size can be read from landmarks. The visible iris is the one thing
in a face whose size hardly varies between people (11.7 +- 0.5 mm), so it measures the head it sits in; its own errors
are systematic (half a pixel on its rim does not average out), and are weighed against the prior in log space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import LEFT_IRIS, RIGHT_IRIS
from .camera import Camera

HEAD_SIZE_LOG_SD = 0.048  # between adults: ICT-FaceKit's scans; inter-pupillary distance alone varies by 6 %
IRIS_DIAMETER = 0.0117  # metres, nearly full-grown in infancy
IRIS_LOG_SD = 0.043  # between people: 0.5 mm
LIMBUS_BIAS_PX = 0.5  # sd of the measured diameter's constant error, which no number of frames removes
CHILD_IPD = 0.054  # metres; 40 mm at age 5, adults 63 +- 3.9
_SMALLEST = 0.55  # of an adult's head; below it the irises were not measured
_IRIS_MIN_SCALE_PX = 40.0  # px per 63 mm: below it the iris adds nearly nothing to the prior
_IRIS_MAX_ANGLE = np.radians(25.0)
_IRIS_MIN_FRAMES = 6
_RIM_NOISE_PX = (
    2.0  # of a frame's diameter, neighbours alike: few frames are worth less, with no threshold to fall over
)
_CREDIBLE = 3.0  # sd: a further departure from every head size is a failed measurement, not a head
# Children, as a broad second component of the prior: a face at five years is about 0.84 of an adult's.
_CHILD_LOG_MEAN, _CHILD_LOG_SD, _CHILD_SHARE = float(np.log(0.84)), 0.10, 0.05

Float = npt.NDArray[np.floating]


@dataclass(frozen=True)
class HeadSize:
    """What is known of a head's size relative to the model's.

    Attributes:
        scale: posterior median of size / model size. log_sd: sd of its log.
        child: the irises say that the head is smaller than an adult's.
        iris_ratio: measured size / model size from the irises; NaN where they cannot tell.
    """

    scale: float
    log_sd: float
    child: bool
    iris_ratio: float


UNKNOWN = HeadSize(1.0, HEAD_SIZE_LOG_SD, False, float("nan"))


def head_size(
    landmarks: Float,
    rotation: Float,
    rays: Float,
    depth: Float,
    openness: npt.NDArray[np.bool_],
    camera: Camera,
    model_ipd: float,
) -> HeadSize:
    """Compare the irises, whose size hardly varies, with the fitted head.

    A visible iris is a disc perpendicular to the optical axis: seen under an angle it is an ellipse whose *longest*
    diameter keeps its true size. The horizontal one is foreshortened by the turn of the gaze about the vertical; it is
    put back, and the median over near-frontal frames with open eyes is taken.

    Args:
        landmarks: [N, 478, >=2] pixels of measured frames.
        rotation: [N, 3, 3], identity for a head that faces the camera.
        rays: [N, 2, 3] optical axes of (left, right) eye, camera frame. depth: [N, 2] metres of the irises, for a
            head of the model's size. openness: [N, 2] True where the lids are open.
        model_ipd: metres between the eyeball centres of the fitted head at the model's size.
    """
    frontal = np.arccos(np.clip(rotation[:, 2, 2], -1, 1)) < _IRIS_MAX_ANGLE
    close = camera.focal_px * 0.063 / depth >= _IRIS_MIN_SCALE_PX  # False where the iris was not read
    usable = frontal[:, None] & close & openness & np.isfinite(rays).all(-1)
    sizes, pixels = [], []
    for eye, iris in enumerate((LEFT_IRIS, RIGHT_IRIS)):
        rows = usable[:, eye]
        # Points 1 and 3 of the ring are its horizontal ends: lids hide the vertical ones.
        axis = (landmarks[rows, iris[1], :2] - landmarks[rows, iris[3], :2]).astype(np.float64)
        span = np.linalg.norm(axis, axis=-1)
        along = axis / np.maximum(span, 1e-9)[:, None]
        # The disc's diameter that is seen along the image direction ``along`` leans in depth as being perpendicular to
        # the optical axis g asks; where it lies off the middle of the picture, the line of sight leans as well.
        g, sight = rays[rows, eye], camera.normalise(landmarks[rows, iris[0], :2])
        slope = -(along * g[:, :2]).sum(-1) / np.minimum(g[:, 2] + (sight * g[:, :2]).sum(-1), -0.5)
        full = span * np.sqrt(((along + slope[:, None] * sight) ** 2).sum(-1) + slope**2)
        sizes.append(full * depth[rows, eye] / camera.focal_px)
        pixels.append(full)
    measured, across = np.concatenate(sizes), np.concatenate(pixels)
    good = np.isfinite(measured) & (measured > 0)
    if int(usable.any(1).sum()) < _IRIS_MIN_FRAMES or good.sum() < _IRIS_MIN_FRAMES:
        return UNKNOWN
    ratio = float(IRIS_DIAMETER / np.median(measured[good]))
    return fuse(ratio, float(np.median(across[good])), model_ipd, int(good.sum()))


def fuse(iris_ratio: float, iris_px: float, model_ipd: float, measured: int = 1000) -> HeadSize:
    """Posterior of a head's size from the prior and its irises, both log-normal.

    The prior has two parts, adults and (few) children, so that an adult whose irises look large is not suddenly placed
    by them alone. The result is the mixture's mean and standard deviation.

    Args:
        iris_ratio: size / model size that the irises say. iris_px: their diameter in pixels.
        model_ipd: metres between the eyeball centres at the model's size. measured: irises, eyes times frames.
    """
    seen = float(np.log(iris_ratio))
    limbus = float(np.hypot(LIMBUS_BIAS_PX, _RIM_NOISE_PX / np.sqrt(measured))) / iris_px
    sd = float(np.hypot(IRIS_LOG_SD, limbus))
    if iris_ratio < _SMALLEST or seen > _CREDIBLE * np.hypot(sd, HEAD_SIZE_LOG_SD):
        return HeadSize(1.0, HEAD_SIZE_LOG_SD, False, iris_ratio)
    mean, spread = np.array([0.0, _CHILD_LOG_MEAN]), np.array([HEAD_SIZE_LOG_SD, _CHILD_LOG_SD])
    total = np.hypot(spread, sd)
    weight = np.array([1 - _CHILD_SHARE, _CHILD_SHARE]) * np.exp(-0.5 * ((seen - mean) / total) ** 2) / total
    weight /= weight.sum()
    gain = (spread / total) ** 2
    centre, variance = mean + gain * (seen - mean), gain * sd**2
    middle = float((weight * centre).sum())
    log_sd = float(np.sqrt((weight * (variance + (centre - middle) ** 2)).sum()))
    # Flagged only where a rim that is off by two sd does not explain it.
    small = bool(model_ipd * iris_ratio * np.exp(2 * limbus) < CHILD_IPD)
    return HeadSize(float(np.exp(middle)), log_sd, small and bool(weight[1] > 0.5), iris_ratio)
