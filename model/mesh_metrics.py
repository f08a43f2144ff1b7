"""Measures on a head mesh, as the speech-driven animation boards use them: LVE, MHD, FDD, PDD, JDD.

Definitions follow UniLS (arXiv 2512.09327): vertices without head pose, in millimetres. Its vertex lists belong to
FLAME's mesh; here the lips and the upper face are found through the landmarks of any head model, so figures are
comparable between systems on one head model, and with published ones only as far as the regions agree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..fitting.head_model import HeadModel
from ..schemas.heads import HeadTrack
from ..schemas.tracks import Float32
from .dyad_metrics import SPEAKS
from .turns import unwrapped

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
# FaceMesh rings of the outer and inner lips; a landmark under both eyes' lower lids bounds the upper face.
LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)  # fmt: skip
_LOWER_LIDS = (145, 374)
_INNER_MIDDLES = (13, 14)


@dataclass(frozen=True)
class Regions:
    """Vertex indices of a head model, ascending."""

    lips: Index
    upper: Index


def regions(head: HeadModel) -> Regions:
    """Lips: the vertex nearest to each lip landmark. Upper face: those nearest to landmarks above the lower lids.

    Raises:
        ValueError: the head model's embedding lacks them.
    """
    order = {int(landmark): row for row, landmark in enumerate(head.embedding.landmarks)}
    missing = [landmark for landmark in (*LIPS, *_LOWER_LIDS) if landmark not in order]
    if missing:
        raise ValueError(f"head model {head.model_id} has no landmarks {missing}")
    corners = head.triangles[head.embedding.faces]  # [L, 3]
    nearest = corners[np.arange(len(corners)), head.embedding.barycentric.argmax(axis=1)]
    height = head.landmarks(head.vertices)[:, 1]
    lids = max(height[order[landmark]] for landmark in _LOWER_LIDS)
    lips = np.unique(nearest[[order[landmark] for landmark in LIPS]])
    return Regions(lips.astype(np.int64), np.unique(nearest[height > lids]).astype(np.int64))


def inner_lips(head: HeadModel) -> tuple[int, int]:
    """Vertices nearest to the middles of the inner upper and lower lip, both among :func:`regions`' lips."""
    order = {int(landmark): row for row, landmark in enumerate(head.embedding.landmarks)}
    rows = [order[landmark] for landmark in _INNER_MIDDLES]
    corners = head.triangles[head.embedding.faces[rows]]
    upper, lower = corners[np.arange(2), head.embedding.barycentric[rows].argmax(axis=1)]
    return int(upper), int(lower)


def face_vertices_mm(head: HeadModel, track: HeadTrack, vertices: Index | None = None) -> Array:
    """[T, V, 3] millimetres: expression, jaw and eyes of a track, without head pose; NaN where not valid.

    Args:
        vertices: only these.
    """
    out = []
    for start in range(0, len(track.valid), 64):  # 64 frames of FLAME are 8 MB
        part = slice(start, start + 64)
        posed = head.pose(track.shape, track.expression[part], track.jaw[part], eyes=track.eyes[part])
        out.append(1e3 * (posed if vertices is None else posed[:, vertices]))
    return np.concatenate(out)


def lip_vertex_error(predicted: Array, truth: Array) -> float:
    """LVE, mm: root of the mean over frames of the largest squared error of a lip vertex ([T, lips, 3])."""
    return float(np.sqrt(((predicted - truth) ** 2).sum(-1).max(axis=1).mean()))


def mean_head_distance(predicted: Array, truth: Array) -> float:
    """MHD, mm: root of the mean squared distance over frames and vertices ([T, V, 3])."""
    return float(np.sqrt(((predicted - truth) ** 2).sum(-1).mean()))


def vertex_mse(predicted: Array, truth: Array) -> float:
    """vMSE, mm^2: mean squared difference over frames, vertices and axes."""
    return float(((predicted - truth) ** 2).mean())


def upper_face_dynamics_deviation(predicted: Array, truth: Array) -> float:
    """FDD: 100 x mean over upper-face vertices of |std over time of x + y + z|, prediction against truth (mm)."""
    return dynamics_deviation(predicted.sum(-1), truth.sum(-1))


def dynamics_deviation(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """PDD (head rotation [T, 3]) and JDD (jaw [T, 3]): 100 x mean of |std over time|, prediction against truth."""
    spread = [np.asarray(values, np.float64).std(axis=0) for values in (predicted, truth)]
    return float(100 * np.abs(spread[0] - spread[1]).mean())


def mesh_errors(
    head: HeadModel, predicted: HeadTrack, truth: HeadTrack, speaking: Float32 | None = None
) -> dict[str, float]:
    """Errors over frames in which both are valid; the prediction wears the true identity.

    Args:
        speaking: [T] probability that the person speaks; adds the three deviations of speaking and of listening frames
            apart, as UniLS's tables do (NaN with under two such frames).

    Returns:
        ``lve, mhd, vmse, fdd, pdd, jdd`` and, with ``speaking``, ``fdd_speaking``, ``fdd_listening`` and so on.

    Raises:
        ValueError: no such frame.
    """
    keep = predicted.valid & truth.valid
    if not keep.any():
        raise ValueError("no frame in which prediction and truth are valid")
    parts = regions(head)
    got, wanted = (_only(track, keep, truth) for track in (predicted, truth))
    x, y = face_vertices_mm(head, got), face_vertices_mm(head, wanted)
    turns = unwrapped(got.rotation), unwrapped(wanted.rotation)
    lips, upper = (x[:, parts.lips], y[:, parts.lips]), (x[:, parts.upper], y[:, parts.upper])

    def deviations(frames: npt.NDArray[np.bool_], tail: str) -> dict[str, float]:
        enough = frames.sum() >= 2
        return {
            f"fdd{tail}": upper_face_dynamics_deviation(upper[0][frames], upper[1][frames]) if enough else np.nan,
            f"pdd{tail}": dynamics_deviation(turns[0][frames], turns[1][frames]) if enough else np.nan,
            f"jdd{tail}": dynamics_deviation(got.jaw[frames], wanted.jaw[frames]) if enough else np.nan,
        }

    out = {"lve": lip_vertex_error(*lips), "mhd": mean_head_distance(x, y), "vmse": vertex_mse(x, y)}
    out |= deviations(np.ones(len(x), np.bool_), "")
    if speaking is not None:
        out |= deviations(speaking[keep] >= SPEAKS, "_speaking") | deviations(speaking[keep] < SPEAKS, "_listening")
    return out


def _only(track: HeadTrack, keep: npt.NDArray[np.bool_], truth: HeadTrack) -> HeadTrack:
    return replace(
        track,
        shape=truth.shape,
        expression=track.expression[keep],
        jaw=track.jaw[keep],
        eyes=track.eyes[keep],
        rotation=track.rotation[keep],
        valid=track.valid[keep],
    )
