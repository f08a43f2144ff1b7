"""Measured face tracks: the arrays that the pixel stages hand to everything after them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .records import Focal

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

N_LANDMARKS = 478  # MediaPipe FaceMesh with irises: 0-467 skin, 468-472 subject's right iris, 473-477 left
LEFT_IRIS = (473, 474, 475, 476, 477)  # the subject's left; 473 is the centre
RIGHT_IRIS = (468, 469, 470, 471, 472)


@dataclass(frozen=True)
class FaceTrack:
    """One person's face over T source frames.

    Attributes:
        track_id: unique within the shot.
        landmarks: [T, 478, 3] pixels of the original upright image (x right, y down, pixel centres at integers); z is
            FaceMesh's relative depth in the same pixel scale (smaller is nearer). NaN where not ``valid``.
        box: [T, 4] x0, y0, x1, y1 pixels; NaN where nothing was seen.
        valid: [T] landmarks were measured on this very frame.
        confidence: [T] 0..1, an estimate of landmark reliability; 0 where not valid.
        sharpness: [T] variance of the Laplacian on the face crop at fixed crop size; NaN where not valid.
        identity: [D] appearance descriptor (L2-normalised, zeros where none), averaged over the track.
        crops: [T, 112, 112] uint8 grey crops of the mouth, zeros where not ``valid``; None unless they were asked for.
        gaze: [T, 3] unit vectors, camera frame, by an appearance model; NaN where none. None without such a model.
    """

    track_id: str
    landmarks: Float32
    box: Float32
    valid: Bool
    confidence: Float32
    sharpness: Float32
    identity: Float32
    crops: npt.NDArray[np.uint8] | None = None
    gaze: Float32 | None = None


@dataclass(frozen=True)
class ClipTracks:
    """Two tracks over the same T frame times of one clip (plus up to a second of context either side).

    Attributes:
        times: [T] float64, seconds on the video clock, strictly rising, the source's own times (<= 30 Hz).
        start_s, end_s: the clip itself.
        width, height: upright image size in pixels.
        focal: the video's known focal length, None where unknown.
    """

    video_id: str
    shot_index: int
    start_s: float
    end_s: float
    width: int
    height: int
    times: Float64
    a: FaceTrack
    b: FaceTrack
    focal: Focal | None = None


def face_scale_px(landmarks: Float32) -> Float32:
    """Projected size of a face with its rotation removed, in pixels per 63 mm (one inter-pupillary distance).

    Measured as the 3D distance (FaceMesh x, y, z share one pixel scale) between the outer eye corners
    (33, 263), which is 89.4 mm on the FLAME template, scaled by 63 / 89.4.

    Args:
        landmarks: [..., 478, 3] pixels.

    Returns:
        [...] pixels; NaN where the landmarks are NaN.
    """
    span = np.linalg.norm(landmarks[..., 33, :] - landmarks[..., 263, :], axis=-1)
    return np.asarray(span * (63.0 / 89.4), dtype=np.float32)
