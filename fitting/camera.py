"""One pinhole camera per shot: where its focal length comes from and how sure it is.

Landmarks of a talking head do not determine the focal length (a free focal drifts by 4-25 %), so it is taken from the
user, else from the file, else from a prior, and held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PRIOR_FIELD_OF_VIEW_DEG = 40.0  # horizontal, of the longer image side: f = 1.37 x its pixels
PRIOR_LOG_SD = 0.3
METADATA_LOG_SD = 0.1  # 35-mm equivalents are rounded, and of stills: video is cropped for its shape and to hold still
USER_LOG_SD = 0.01


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


def choose_camera(
    width: int, height: int, user_focal_px: float | None = None, metadata_focal_px: float | None = None
) -> Camera:
    """User > metadata > prior (40 degrees over the longer side).

    Raises:
        ValueError: a given focal length is not a positive number.
    """
    for value, source, log_sd in (
        (user_focal_px, "user", USER_LOG_SD),
        (metadata_focal_px, "metadata", METADATA_LOG_SD),
    ):
        if value is not None:
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"focal length must be a positive number of pixels, not {value}")
            return Camera(width, height, float(value), source, log_sd)
    focal = 0.5 * max(width, height) / math.tan(math.radians(PRIOR_FIELD_OF_VIEW_DEG) / 2)
    return Camera(width, height, focal, "prior", PRIOR_LOG_SD)
