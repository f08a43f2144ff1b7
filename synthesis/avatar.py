"""A person who can be drawn: a head model's face wearing a portrait, with hair, neck and clothes around it.

The face is exact (the head model's 468 landmark points, posed by its own parameters). What lies around it is plausible
only: a hull inflated from the portrait's silhouette, tubes for neck, body and arms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..fitting.head_model import HeadModel
from ..schemas.errors import UsageError
from . import dress
from .dress import EAR_LEFT, EAR_RIGHT, FLIP, OVAL, Mesh, Placement
from .head_geometry import orient, triangles_from_edges
from .identities import IDENTITIES, shape_of
from .portraits import Portrait
from .torso import torso

Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]

# FaceMesh's lids, from the outer to the inner corner.
RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
EAR_LOBES, JAW_EDGE = (93, 132, 58, 323, 361, 288), (172, 136, 397, 365, 177, 401, 215, 435, 137, 366)
TEMPLES = (234, 454, 127, 356)
NOSE_TIP = 1


@dataclass(frozen=True)
class Avatar:
    """Everything that is drawn of one person.

    Attributes:
        shape: [S] the head model's identity coefficients, fitted to the portrait.
        face_uv, face_triangles: the 468-point face on ``texture``, the portrait [H, W, 4].
        hull: hair and skull; its first 73 points are the closed face oval (they follow the face), the rest are rigid.
        neck: tube; ``neck_follow`` [V] is how far each point follows the head (1) or the body (0).
        body: shoulders, chest, back and arms.
        teeth_upper, teeth_lower, cavity: inside of the mouth (lower teeth follow the jaw).
        iris_color, skin_color: [3] RGB.
    """

    name: str
    model: HeadModel
    shape: Array
    face_uv: Float32
    face_triangles: Int32
    eye_triangles: tuple[Int32, Int32]
    texture: UInt8
    hull: Mesh
    neck: Mesh
    neck_follow: Float32
    body: Mesh
    teeth_upper: Mesh
    teeth_lower: Mesh
    cavity: Mesh
    iris_color: tuple[float, float, float]
    skin_color: tuple[float, float, float]


@lru_cache(maxsize=1)
def face_triangles() -> Int32:
    """FaceMesh's 852 skin triangles, counter-clockwise from outside."""
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    triangles = triangles_from_edges(FACEMESH_TESSELATION)
    return np.ascontiguousarray(triangles, dtype=np.int32)


def _oriented(points: Array, triangles: Int32) -> Int32:
    """One winding for the whole face, outward judged at the nose tip (+z)."""
    seed = int(np.flatnonzero((triangles == NOSE_TIP).any(axis=1))[0])
    a, b, c = points[triangles[seed]]
    outward = bool(np.cross(b - a, c - a)[2] > 0.0)
    return orient(triangles.astype(np.int64), seed, outward).astype(np.int32)


def _strip(upper: tuple[int, ...], lower: tuple[int, ...]) -> Int32:
    quads = []
    for k in range(len(upper) - 1):
        a, b, c, d = upper[k], upper[k + 1], lower[k + 1], lower[k]
        quads += [t for t in ((a, d, c), (a, c, b)) if len(set(t)) == 3]
    return np.array(quads, np.int32)


def _facing_front(points: Array, triangles: Int32) -> Int32:
    """Wind an opening so that its whole faces +z."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    if np.cross(b - a, c - a)[:, 2].sum() < 0.0:
        return np.ascontiguousarray(triangles[:, ::-1])
    return triangles


def face_points(model: HeadModel, vertices: Array) -> Array:
    """The 468 FaceMesh points [..., 468, 3] on posed ``vertices``.

    Raises:
        UsageError: the head model does not carry all 468.
    """
    if len(model.embedding.landmarks) != 468:
        raise UsageError(f"synthesis needs a head model with all 468 landmarks; {model.model_id} has "
                         f"{len(model.embedding.landmarks)}")  # fmt: skip
    return model.landmarks(vertices)


def oval_points(face: Array) -> Array:
    """[72, 3] the face's border: the 36 oval landmarks with the midpoints of the edges between them."""
    ring = face[list(OVAL)]
    middle = 0.5 * (ring + np.roll(ring, -1, axis=0))
    return np.stack([ring, middle], axis=1).reshape(-1, 3)


def _procrustes(source: Array, target: Array) -> tuple[Array, float, Array]:
    """Similarity (Umeyama 1991) that takes ``source`` to ``target``, both [N, 3]."""
    mean_s, mean_t = source.mean(0), target.mean(0)
    u, d, vt = np.linalg.svd((target - mean_t).T @ (source - mean_s))
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = float((d * np.diag(sign)).sum() / ((source - mean_s) ** 2).sum())
    return rotation, scale, mean_t - scale * rotation @ mean_s


def fit_portrait(model: HeadModel, landmarks: Array) -> tuple[Array, Placement]:
    """Identity coefficients and placement of the model on a portrait (alternating, ridge prior on coefficients)."""
    dirs = np.stack([face_points(model, d) for d in np.moveaxis(model.shape_dirs.astype(np.float64), 2, 0)], axis=-1)
    moves = [face_points(model, d) for d in np.moveaxis(model.expression_dirs.astype(np.float64), 2, 0)]
    modes = np.concatenate([dirs, np.stack(moves, axis=-1)], axis=-1) if moves else dirs
    sd = np.concatenate([np.ones(dirs.shape[2]), model.expression_sd])
    mean = face_points(model, model.vertices)
    coefficients: Array = np.zeros(modes.shape[2])
    target = landmarks[:468]
    place = Placement(np.eye(3), 1.0, np.zeros(3))
    sigma = 0.002  # metres: landmark noise, and what the modes cannot express
    for _ in range(6):
        points = mean + modes @ coefficients
        rotation, scale, offset = _procrustes(points @ FLIP.T, target)
        place = Placement(rotation, scale, offset)
        wanted = place.to_model(target) - mean
        weight = np.array([1.0, 1.0, 0.3]) / sigma  # FaceMesh's depth is the weakest
        a = (modes * weight[None, :, None]).reshape(-1, modes.shape[2])
        b = (wanted * weight).reshape(-1)
        coefficients = np.asarray(np.linalg.solve(a.T @ a + np.diag(1.0 / sd**2) * 4.0, a.T @ b), dtype=np.float64)
    shape = np.clip(coefficients[: dirs.shape[2]], -2.5, 2.5)
    return shape, place


def _face_uv(landmarks: Array) -> Float32:
    """[468, 2] where each landmark's colour is taken; at the jaw's edge a little inside, off ears and background."""
    uv = landmarks[:468, :2].copy()
    middle = 0.5 * (landmarks[EAR_RIGHT, :2] + landmarks[EAR_LEFT, :2])[0]
    for marks, share in ((list(EAR_LOBES), 0.26), (list(JAW_EDGE), 0.13), (list(TEMPLES), 0.10)):
        uv[marks, 0] += share * (middle - uv[marks, 0])
    return uv.astype(np.float32)


def build_avatar(portrait: Portrait, model: HeadModel, seed: int = 0) -> Avatar:
    """Dress ``model`` as ``portrait``.

    Args:
        seed: of the hair's texture.
    """
    rng = np.random.default_rng([seed, 7])
    fitted, place = fit_portrait(model, portrait.landmarks)
    shape = shape_of(portrait.name, model, fitted)
    face = face_points(model, model.neutral(shape))
    triangles = _oriented(face, face_triangles())
    rgba = np.dstack([portrait.image, np.full(portrait.image.shape[:2], 255, np.uint8)])
    oval_neutral = place.to_portrait(oval_points(face))
    # Hair and clothes are measured on the portrait; the hull starts at the model's own oval.
    hull = dress.hull(portrait, oval_neutral, place, rng)
    neck, follow = dress.neck(portrait, place)
    skin = dress.skin_color(portrait, place.scale)
    upper, lower, cavity = dress.mouth(face)
    eyes = (
        _facing_front(face, _strip(LEFT_UPPER_LID, LEFT_LOWER_LID)),
        _facing_front(face, _strip(RIGHT_UPPER_LID, RIGHT_LOWER_LID)),
    )
    return Avatar(
        name=portrait.name,
        model=model,
        shape=shape,
        face_uv=_face_uv(portrait.landmarks),
        face_triangles=triangles,
        eye_triangles=eyes,
        texture=np.ascontiguousarray(rgba),
        hull=hull,
        neck=neck,
        neck_follow=follow,
        body=torso(portrait, place, skin, rng),
        teeth_upper=upper,
        teeth_lower=lower,
        cavity=cavity,
        iris_color=(92.0, 70.0, 48.0) if IDENTITIES[portrait.name].base == "collins" else (84.0, 98.0, 108.0),
        skin_color=skin,
    )
