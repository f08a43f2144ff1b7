"""Mirroring a scene left to right, so that what is learned does not depend on the side that people sit on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..fitting.head_model import HeadModel
from ..schemas.errors import UsageError
from ..schemas.tracks import Bool, Float32

WORST_RESIDUAL = 0.1  # of the modes' size that the mirrored modes may leave unexplained
_VECTORS = ("translation", "gaze", "head_centre")  # x changes sign
_ROTATIONS = ("rotation", "neck", "jaw", "eyes")  # axis-angle is a pseudovector: y and z change sign


@dataclass(frozen=True)
class MirrorMaps:
    """How coefficients change when a face is reflected in its midplane.

    Attributes:
        head_model_id: whose.
        expression: [E, E], shape: [S, S]; the mirrored face has coefficients ``map @ c``.
        residual: share of the mirrored modes that the modes cannot express (0 for symmetric modes).
    """

    head_model_id: str
    expression: Float32
    shape: Float32
    residual: float


def mirror_maps(head: HeadModel) -> MirrorMaps:
    """Least-squares maps, from the mesh itself: reflect each mode, and write it in the modes again.

    Raises:
        UsageError: the modes are so asymmetric that more than a tenth of them would be lost.
    """
    partner = _reflected_vertex(head.vertices)
    maps, lost, size = [], 0.0, 0.0
    for modes in (head.expression_dirs, head.shape_dirs):
        basis = modes.reshape(-1, modes.shape[2]).astype(np.float64)
        turned = (modes[partner] * np.array([-1.0, 1.0, 1.0])[:, None]).reshape(basis.shape).astype(np.float64)
        solution = np.linalg.lstsq(basis, turned, rcond=None)[0] if basis.shape[1] else np.zeros((0, 0))
        lost += float(((basis @ solution - turned) ** 2).sum())
        size += float((turned**2).sum())
        maps.append(solution.astype(np.float32))
    residual = float(np.sqrt(lost / max(size, 1e-30)))
    if residual > WORST_RESIDUAL:
        raise UsageError(f"head model {head.model_id} cannot be mirrored: {residual:.0%} of its modes would be lost")
    return MirrorMaps(head.model_id, maps[0], maps[1], residual)


def _reflected_vertex(vertices: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """[V] for each vertex, the one nearest to its reflection in x = 0."""
    target = vertices * np.array([-1.0, 1.0, 1.0])
    squares = (vertices**2).sum(1)
    nearest = [
        (squares[None] - 2 * target[start : start + 512] @ vertices.T).argmin(axis=1)
        for start in range(0, len(vertices), 512)
    ]
    return np.concatenate(nearest).astype(np.int64)


def reflect(arrays: Mapping[str, Float32], shape: Float32, valid: Bool, chosen: Bool, maps: MirrorMaps) -> None:
    """Mirror the chosen samples of a batch, in place, in the camera's vertical midplane.

    With ``X = R F (x - J) + t`` and the reflection M = diag(-1, 1, 1), M X is again such a placement, of the mirrored
    face, with rotation M R M and translation M t. Who was left is then right, so both people also change places.

    Args:
        arrays: [B, 2, W, ...] by name. shape: [B, 2, S]. valid: [B, 2, W]. chosen: [B] bool.
    """
    index = np.flatnonzero(chosen)
    if not len(index):
        return
    for name, array in arrays.items():
        part = array[index][:, ::-1]
        if name in _VECTORS:
            part = part * np.array([-1, 1, 1], np.float32)
        elif name in _ROTATIONS:
            part = part * np.array([1, -1, -1], np.float32)
        if name == "eyes":
            part = part[..., ::-1, :]  # the left eye becomes the right one
        elif name == "expression":
            part = part @ maps.expression.T
        array[index] = part
    shape[index] = shape[index][:, ::-1] @ maps.shape.T
    valid[index] = valid[index][:, ::-1]
