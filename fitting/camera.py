"""One pinhole camera per shot: where its focal length comes from and how sure it is.

Landmarks of a talking head do not determine the focal length (a free focal drifts by 4-25 %), so it is taken from the
video's line of the manifest, else from what the user says of all videos, else from the file, else from a prior, and
held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.records import USER_LOG_SD, Focal

PRIOR_FIELD_OF_VIEW_DEG = 40.0  # horizontal, of the longer image side: f = 1.37 x its pixels
PRIOR_LOG_SD = 0.3


@dataclass(frozen=True)
class Camera:
    """Pinhole with square pixels and the principal point at the image centre.

    Pixel centres are at integers, as landmarks count (and OpenCV): the centre of W pixels is (W - 1) / 2.

    Attributes:
        focal_px: focal length in pixels. source: "user", "metadata" or "prior". log_sd: sd of log focal.
    """

    width: int
    height: int
    focal_px: float
    source: str
    log_sd: float

    @property
    def centre(self) -> tuple[float, float]:
        """Principal point, pixels."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    def normalise(self, pixels: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Pixels [..., 2] to (x / z, y / z)."""
        return np.asarray((pixels[..., :2] - np.asarray(self.centre)) / self.focal_px, dtype=np.float64)

    def project(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Camera-frame points [..., 3] metres to pixels [..., 2]."""
        return np.asarray(points[..., :2] / points[..., 2:] * self.focal_px + np.asarray(self.centre), dtype=np.float64)


def choose_camera(width: int, height: int, user_focal_px: float | None = None, known: Focal | None = None) -> Camera:
    """The video's own from the manifest > the user's for all videos > the file's metadata > prior (40 degrees over the
    longer side).

    Raises:
        ValueError: a given focal length or its deviation is not a positive number.
    """
    if user_focal_px is not None and (known is None or known.source != "user"):
        known = Focal(float(user_focal_px), "user", USER_LOG_SD)
    if known is None:
        focal = 0.5 * max(width, height) / math.tan(math.radians(PRIOR_FIELD_OF_VIEW_DEG) / 2)
        return Camera(width, height, focal, "prior", PRIOR_LOG_SD)
    if not (math.isfinite(known.px) and known.px > 0):
        raise ValueError(f"focal length must be a positive number of pixels, not {known.px}")
    if not (math.isfinite(known.log_sd) and known.log_sd > 0):
        raise ValueError(f"the deviation of a focal length must be a positive number, not {known.log_sd}")
    return Camera(width, height, known.px, known.source, known.log_sd)
