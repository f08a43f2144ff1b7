"""From face tracks to what the solver sees: usable frames, normalised coordinates, standard deviations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..schemas.errors import BadInput
from ..schemas.tracks import ClipTracks, FaceTrack, face_scale_px
from .camera import Camera
from .residuals import Observations


@dataclass(frozen=True)
class MeasuredTrack:
    """The N frames of one track that were measured, and their L landmarks.

    Attributes:
        frames: [N] indices into the clip's frames. times: [N] seconds.
        points: [N, 2, L] normalised image coordinates. scale: [N] face scale, likewise (px per 63 mm over focal).
        sigma: [N] landmark sd, likewise. enabled: [N, L] False for landmarks the fit must not see.
    """

    track: FaceTrack
    camera: Camera
    frames: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    sigma: npt.NDArray[np.float64]
    enabled: npt.NDArray[np.bool_]

    def only(self, rows: npt.NDArray[np.bool_]) -> MeasuredTrack:
        """With only those of its N frames."""
        names = ("frames", "times", "points", "scale", "sigma", "enabled")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def measure(
    clip: ClipTracks,
    track: FaceTrack,
    person: str,
    camera: Camera,
    index: npt.NDArray[np.int64],
    landmark_sd: float,
    min_frames: int,
    held_out: tuple[int, ...],
) -> MeasuredTrack:
    """Take what can be used from a track.

    Args:
        person: "a" or "b", for messages. index: [L] FaceMesh indices. landmark_sd: fraction of face scale.
        min_frames: fewer cannot be fitted. held_out: FaceMesh indices that the fit must not see.

    Raises:
        BadInput: "landmarks_lost" for too few measured frames, "fit_failed" for values that are no measurement.
    """
    landmarks = track.landmarks
    finite = np.isfinite(landmarks[:, index, :2]).all((1, 2))
    frames = np.nonzero(track.valid & finite & (track.confidence > 0))[0]
    if (track.valid & ~finite).any() and len(frames) < min_frames:
        raise BadInput(
            "fit_failed",
            f"person {person}: landmarks are not finite on {int((track.valid & ~finite).sum())} valid frames",
        )
    if len(frames) < min_frames:
        count = f"{len(frames)} of {len(landmarks)} frames have landmarks"
        raise BadInput("landmarks_lost", f"person {person}: {count}, needs {min_frames}")
    times = np.asarray(clip.times, dtype=np.float64)
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
        raise BadInput("fit_failed", "frame times are not strictly rising")
    seen = landmarks[frames]
    scale = _running_median(_face_scale(seen), 15)
    if not (scale > 1.0).all():
        raise BadInput("fit_failed", f"person {person}: the landmarks collapse to a point")
    scale = scale / camera.focal_px
    confidence = np.clip(track.confidence[frames].astype(np.float64), 0.05, 1.0)
    sigma = landmark_sd * scale / np.sqrt(confidence)
    enabled = np.ones((len(frames), len(index)), dtype=bool)
    enabled[:, np.isin(index, held_out)] = False
    points = camera.normalise(seen[:, index, :2].astype(np.float64)).transpose(0, 2, 1)
    return MeasuredTrack(track, camera, frames, times[frames], points, scale, sigma, enabled)


def observations(tracks: list[MeasuredTrack], device: str) -> Observations:
    """Pad tracks to one batch."""
    b, t, n = len(tracks), max(len(m.frames) for m in tracks), tracks[0].points.shape[-1]
    points = np.zeros((b, t, 2, n), dtype=np.float32)
    inv_sigma = np.zeros((b, t, n), dtype=np.float32)
    mask = np.zeros((b, t), dtype=bool)
    times = np.zeros((b, t))
    for k, chain in enumerate(tracks):
        m = len(chain.frames)
        points[k, :m] = chain.points
        inv_sigma[k, :m] = chain.enabled / chain.sigma[:, None]
        mask[k, :m] = True
        times[k, :m] = chain.times
        times[k, m:] = chain.times[-1]
    return Observations(
        torch.as_tensor(points, device=device),
        torch.as_tensor(inv_sigma, device=device),
        torch.as_tensor(mask, device=device),
        torch.as_tensor(times, device=device),
    )


def _face_scale(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """px per 63 mm [N]; from x and y alone where the landmarks carry no depth."""
    scale = face_scale_px(landmarks)
    flat = np.linalg.norm(landmarks[:, 33, :2] - landmarks[:, 263, :2], axis=-1) * (63.0 / 89.4)
    return np.where(np.isfinite(scale), scale, flat).astype(np.float64)


def _running_median(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    half = width // 2
    padded = np.pad(values, half, mode="reflect") if len(values) > half else np.pad(values, half, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=-1))
