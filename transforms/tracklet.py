"""The arrays of one piece of a shot: every face that was followed in it, on the piece's own frame times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import N_LANDMARKS, Bool, Float32, Float64

AnyArray = npt.NDArray[np.generic]

_FIELDS = ("landmarks", "box", "valid", "confidence", "sharpness", "identity")


@dataclass(frozen=True)
class Tracklet:
    """One face over consecutive frames of one piece, from its first to its last sighting.

    Attributes:
        tracklet_id: unique within the piece ("t0", "t1", ...), in order of first sighting.
        times: [T] seconds on the video clock.
        landmarks, box, valid, confidence, sharpness: as in :class:`duologue.schemas.tracks.FaceTrack`. A box without
            landmarks is a detection on which no plausible mesh could be measured (a head seen from behind).
        identity: [D] L2-normalised mean descriptor, zeros where none was measured.
        identity_count: number of descriptors in that mean.
        crops: [T, 112, 112] grey crops of the mouth, zeros where not valid; None where they were not asked for.
        gaze: [T, 3] by an appearance model, NaN where none; None without such a model.
    """

    tracklet_id: str
    times: Float64
    landmarks: Float32
    box: Float32
    valid: Bool
    confidence: Float32
    sharpness: Float32
    identity: Float32
    identity_count: int = 0
    crops: npt.NDArray[np.uint8] | None = None
    gaze: Float32 | None = None

    def __post_init__(self) -> None:
        n = len(self.times)
        shapes = (self.landmarks.shape, self.box.shape, self.valid.shape, self.confidence.shape, self.sharpness.shape)
        if shapes != ((n, N_LANDMARKS, 3), (n, 4), (n,), (n,), (n,)):
            raise ValueError(f"tracklet {self.tracklet_id}: arrays of shapes {shapes} over {n} times")


@dataclass(frozen=True)
class PieceTracks:
    """All tracklets of one piece, and all of its frame times (also those without a face).

    Attributes:
        times: [F] seconds on the video clock, strictly rising.
        tracklets: each one's ``times`` is a run of ``times``.
    """

    times: Float64
    tracklets: tuple[Tracklet, ...]

    def to_arrays(self) -> dict[str, AnyArray]:
        """Flat arrays for a piece file: ``times``, ``ids``, ``starts``, ``identity_counts``, and ``t0.landmarks`` ...

        Landmarks and crops are stored for valid frames only; crops only where they were asked for.
        """
        arrays: dict[str, AnyArray] = {
            "times": self.times,
            "ids": np.array([t.tracklet_id for t in self.tracklets], dtype="U16"),
            "starts": np.array([np.searchsorted(self.times, t.times[0]) for t in self.tracklets], dtype=np.int64),
            "identity_counts": np.array([t.identity_count for t in self.tracklets], dtype=np.int64),
        }
        for t in self.tracklets:
            for name in _FIELDS:
                arrays[f"{t.tracklet_id}.{name}"] = getattr(t, name)
            arrays[f"{t.tracklet_id}.landmarks"] = t.landmarks[t.valid]
            if t.crops is not None:
                arrays[f"{t.tracklet_id}.crops"] = t.crops[t.valid]
            if t.gaze is not None:
                arrays[f"{t.tracklet_id}.gaze"] = t.gaze
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, AnyArray]) -> PieceTracks:
        """Inverse of :meth:`to_arrays`."""
        times = np.asarray(arrays["times"], dtype=np.float64)
        tracklets = []
        for i, name in enumerate(str(x) for x in arrays["ids"]):
            values = {field: np.asarray(arrays[f"{name}.{field}"]) for field in _FIELDS}
            valid = values["valid"].astype(np.bool_)
            landmarks = np.full((len(valid), N_LANDMARKS, 3), np.nan, dtype=np.float32)
            landmarks[valid] = values["landmarks"]
            start = int(np.asarray(arrays["starts"])[i])
            stored = arrays.get(f"{name}.crops")
            crops = None
            if stored is not None:
                crops = np.zeros((len(valid), *stored.shape[1:]), np.uint8)
                crops[valid] = stored
            gaze = arrays.get(f"{name}.gaze")
            tracklets.append(
                Tracklet(
                    name,
                    times[start : start + len(valid)],
                    landmarks,
                    values["box"].astype(np.float32),
                    valid,
                    values["confidence"].astype(np.float32),
                    values["sharpness"].astype(np.float32),
                    values["identity"].astype(np.float32),
                    int(np.asarray(arrays["identity_counts"])[i]),
                    crops,
                    None if gaze is None else np.asarray(gaze, dtype=np.float32),
                )
            )
        return PieceTracks(times, tuple(tracklets))
