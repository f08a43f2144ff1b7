"""The project's own heads: small ``.npz`` files made by :mod:`duologue.synthesis.canonical_head`.

Pose, position, gaze, blink and mouth opening are usable with them; identity and lip detail need a statistical model.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from .head_model import Array, HeadModel, LandmarkEmbedding, Modes

FOLDER = Path(__file__).parent / "data"
EMBEDDED = {"canonical": "canonical_head.npz", "second": "second_head.npz"}
KEYS = frozenset({"model_id", "vertices_um", "triangles", "shape_modes_um", "expression_modes_um", "weights", "parts"})
LIMITS_NOTE = (
    "the canonical head gives pose, position, gaze, blink and mouth opening; identity and lip detail need a "
    "statistical head model (FLAME, GNM or ICT-FaceKit, by path)"
)
_UM = 1e-6  # vertices and modes are stored as whole micrometres


def save_npz(path: Path, model_id: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write a head with FaceMesh's 468 vertices first. ``arrays`` in metres, named as :class:`HeadModel`'s fields."""

    def micrometres(name: str, kind: type) -> npt.NDArray[Any]:
        return np.round(arrays[name] / _UM).astype(kind)

    np.savez_compressed(
        path,
        model_id=np.array(model_id),
        vertices_um=micrometres("vertices", np.int32),
        triangles=arrays["triangles"].astype(np.uint16),
        weights=np.round(arrays["weights"] * 65535).astype(np.uint16),
        joints_um=micrometres("joints", np.int32),
        shape_modes_um=micrometres("shape_dirs", np.int16),
        joint_modes_um=micrometres("joint_dirs", np.int16),
        expression_modes_um=micrometres("expression_dirs", np.int16),
        shape_names=arrays["shape_names"],
        expression_names=arrays["expression_names"],
        expression_sd=arrays["expression_sd"].astype(np.float32),
        jaw_limits=arrays["jaw_limits"].astype(np.float32),
        eye_radii=arrays["eye_radii"].astype(np.float64),
        parts=arrays["parts"].astype(np.uint8),
        mirror=arrays["mirror"].astype(np.uint16),
    )


@lru_cache(maxsize=4)
def load_embedded(name: str) -> HeadModel:
    """The committed head ``"canonical"`` or ``"second"``."""
    return load_npz(FOLDER / EMBEDDED[name])


def load_npz(path: Path) -> HeadModel:
    """Read a head that :func:`save_npz` wrote. Tier "canonical"; the first 468 vertices are FaceMesh's landmarks."""
    data = path.read_bytes()
    try:
        with np.load(path, allow_pickle=False) as archive:
            a = {name: archive[name] for name in archive.files}
        vertices = a["vertices_um"].astype(np.float64) * _UM
        weights = a["weights"].astype(np.float64)
        weights /= weights.sum(1, keepdims=True)
        triangles = a["triangles"].astype(np.int64)
        return HeadModel(
            model_id=str(a["model_id"]),
            sha256=hashlib.sha256(data).hexdigest(),
            tier="canonical",
            license="Apache-2.0",
            vertices=vertices,
            triangles=triangles,
            shape_dirs=_metres(a["shape_modes_um"]),
            expression_dirs=_metres(a["expression_modes_um"]),
            weights=weights,
            joints=a["joints_um"].astype(np.float64) * _UM,
            joint_dirs=a["joint_modes_um"].astype(np.float64) * _UM,
            joint_expression_dirs=None,
            pose_dirs=None,
            shape_names=tuple(str(n) for n in a["shape_names"]),
            expression_names=tuple(str(n) for n in a["expression_names"]),
            expression_sd=a["expression_sd"].astype(np.float64),
            jaw_limits=a["jaw_limits"].astype(np.float64),
            eyeball_radius=float(a["eye_radii"][0]),
            iris_radius=float(a["eye_radii"][1]),
            embedding=vertex_embedding(triangles, 468),
            parts=a["parts"],
            notes=(LIMITS_NOTE,),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise UsageError(f"head model {path}: not a head file of this package ({error})") from None


def vertex_embedding(triangles: npt.NDArray[np.int64], count: int) -> LandmarkEmbedding:
    """The exact embedding of a mesh whose first ``count`` vertices are the landmarks themselves."""
    faces = np.zeros(count, dtype=np.int64)
    barycentric: Array = np.zeros((count, 3))
    for f in range(len(triangles) - 1, -1, -1):
        for corner, vertex in enumerate(triangles[f]):
            if vertex < count:
                faces[vertex] = f
                barycentric[vertex] = np.eye(3)[corner]
    return LandmarkEmbedding(np.arange(count), faces, barycentric, "exact")


def _metres(modes: npt.NDArray[Any]) -> Modes:
    return np.asarray(modes.astype(np.float64) * _UM, dtype=np.float32)


@lru_cache(maxsize=1)
def canonical_skin() -> tuple[Array, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """FaceMesh's 468 points at rest [468, 3] metres, their 852 triangles and the mirror map [468]."""
    path = FOLDER / EMBEDDED["canonical"]
    head = load_embedded("canonical")
    with np.load(path, allow_pickle=False) as archive:
        mirror = archive["mirror"].astype(np.int64)
    triangles = head.triangles[(head.triangles < 468).all(1)]
    return head.vertices[:468], triangles, mirror
