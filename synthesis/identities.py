"""The people who can be worn: the two portraits, and four more made from them.

Another person is another face texture (one portrait warped onto the other's landmarks and mixed in, region by region),
another skin, hair and cloth colour, and another head shape: moves of the canonical head's named identity modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from ..fitting.head_model import HeadModel
from .head_geometry import triangles_from_edges
from .portraits import Portrait, load_portrait
from .rasterize import Canvas

Array = npt.NDArray[np.float64]
UInt8 = npt.NDArray[np.uint8]

_EYES = (33, 133, 263, 362, 168, 6, 70, 300, 105, 334, 117, 346, 234, 454, 50, 280)  # the band that glasses may cover
_OVAL_INSIDE = 0.92  # of the face's outline: mixing ends here, softly


@dataclass(frozen=True)
class Identity:
    """How a person is made.

    Attributes:
        base: the portrait whose hair, clothes and outline are worn.
        mix: share of the other portrait's face. eyes: the same for the band of the eyes (glasses belong to it).
        skin, hair, cloth: factors on R, G, B. shape: canonical identity mode -> standard deviations on top.
    """

    base: str
    mix: float = 0.0
    eyes: float = 0.0
    skin: tuple[float, float, float] = (1.0, 1.0, 1.0)
    hair: tuple[float, float, float] = (1.0, 1.0, 1.0)
    cloth: tuple[float, float, float] = (1.0, 1.0, 1.0)
    shape: Mapping[str, float] = field(default_factory=dict)


IDENTITIES: dict[str, Identity] = {
    "collins": Identity("collins"),
    "hopper": Identity("hopper"),
    "arden": Identity(
        "collins", 0.0, 0.0, (0.74, 0.64, 0.57), (0.42, 0.36, 0.36), (0.35, 0.75, 1.3),
        {"jawWidth": 1.8, "noseWidth": 2.2, "lipFullness": 1.8, "cheekboneWidth": 1.5, "eyeSpacing": 1.3,
         "noseProjection": -1.5, "width": 1.0},
    ),
    "blake": Identity(
        "hopper", 0.35, 1.0, (0.86, 0.78, 0.70), (1.12, 0.98, 0.9), (1.6, 1.2, 0.9),
        {"lowerFaceLength": 1.8, "jawWidth": -1.5, "noseLength": 1.6, "noseProjection": 1.6, "chinProjection": 1.4,
         "eyeSpacing": -1.3, "width": -1.2},
    ),
    "casey": Identity(
        "collins", 0.75, 0.0, (1.04, 0.95, 0.90), (0.85, 0.90, 1.05), (0.5, 1.0, 0.75),
        {"mouthWidth": -1.6, "cheekFullness": 2.0, "lowerCheekFullness": 2.0, "chinLength": -1.6, "browHeight": 1.6,
         "noseBridge": -1.5, "foreheadHeight": 1.5},
    ),
    "devon": Identity(
        "hopper", 0.80, 0.0, (0.72, 0.60, 0.52), (0.9, 0.75, 0.8), (1.9, 0.95, 0.95),
        {"jawWidth": 2.2, "chinWidth": 2.0, "browRidge": 2.0, "eyeDepth": -1.5, "mouthWidth": 1.8,
         "noseDeviation": 0.5, "templeWidth": 1.2, "height": 1.0},
    ),
}  # fmt: skip
NAMES = tuple(IDENTITIES)
MOST_SD = 2.8


def shape_of(name: str, model: HeadModel, fitted: Array) -> Array:
    """[S] the identity's coefficients: the portrait's ``fitted`` ones and the identity's own moves.

    A head model whose modes have other names takes the same number of its first modes instead.
    """
    moves = IDENTITIES[name].shape
    known = {mode: k for k, mode in enumerate(model.shape_names)}
    out = fitted.copy()
    for number, (mode, amount) in enumerate(moves.items()):
        at = known.get(mode, number)
        if at < len(out):
            out[at] += amount
    return np.asarray(np.clip(out, -MOST_SD, MOST_SD))


def _face_mask(portrait: Portrait, marks: npt.NDArray[np.intp] | list[int], shrink: float, soft: float) -> Array:
    """[H, W] 0..1: inside of the convex hull of landmarks, with a soft edge."""
    points = portrait.landmarks[marks, :2]
    middle = points.mean(0)
    hull = cv2.convexHull((middle + shrink * (points - middle)).astype(np.int32))
    mask = np.zeros(portrait.mask.shape, np.uint8)
    cv2.fillConvexPoly(mask, hull, 255)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), soft), dtype=np.float64) / 255.0


def _warped(other: Portrait, onto: Portrait) -> Array:
    """[H, W, 3] the other's face on ``onto``'s landmarks, brought to its mean colour."""
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    triangles = np.ascontiguousarray(triangles_from_edges(FACEMESH_TESSELATION), dtype=np.int32)
    height, width = onto.mask.shape
    canvas = Canvas(width, height, 1)
    points = onto.landmarks[:468].copy()
    points[:, 2] = 1.0
    rgba = np.dstack([other.image, np.full(other.mask.shape, 255, np.uint8)])
    uv = other.landmarks[:468, :2].astype(np.float32)
    canvas.draw(points, uv, np.ones(468, np.float32), triangles, np.ascontiguousarray(rgba), cull=False)
    drawn = canvas.color[..., :3].astype(np.float64)
    inside = canvas.color[..., 3] > 0
    mean_a, mean_b = onto.image[inside].mean(0), drawn[inside].mean(0)
    drawn *= mean_a / mean_b
    return np.where(inside[..., None], drawn, onto.image)


@lru_cache(maxsize=8)
def load_identity(name: str) -> Portrait:
    """The portrait of a person, measured or made.

    Raises:
        UsageError: the package that carries a portrait is absent.
    """
    identity = IDENTITIES[name]
    base = load_portrait(identity.base)
    if len(identity.shape) == 0:
        return base
    image = base.image.astype(np.float64)
    unit = float(np.linalg.norm(base.landmarks[33, :2] - base.landmarks[263, :2]))
    oval = _face_mask(base, list(range(468)), _OVAL_INSIDE, 0.05 * unit)
    band = _face_mask(base, list(_EYES), 1.04, 0.04 * unit)
    share = oval * (identity.mix * (1.0 - band) + identity.eyes * band)
    if share.max() > 0.0:
        other = load_portrait("hopper" if identity.base == "collins" else "collins")
        image += share[..., None] * (_warped(other, base) - image)
    # Skin is the face's outline and what lies close under it; hair above, clothes below.
    height = base.mask.shape[0]
    face = np.clip(_face_mask(base, list(range(468)), 1.0, 0.02 * unit) * 1.2, 0.0, 1.0)
    chin = base.landmarks[152, 1]
    rows = np.arange(height)[:, None]
    below = np.clip((rows - chin) / (0.12 * unit), 0.0, 1.0)
    luma = image.mean(-1)
    reddish = (image[..., 0] - image[..., 2]) / np.maximum(luma, 1.0)
    bare = np.clip((reddish - 0.25) / 0.1, 0, 1) * np.clip((luma - 30) / 20, 0, 1)  # neck and ears, shaded too
    near = np.exp(-(((np.arange(base.mask.shape[1])[None] - base.landmarks[152, 0]) / (0.8 * unit)) ** 2)) * np.exp(
        -np.maximum(rows - chin - 0.6 * unit, 0.0) / (0.1 * unit)
    )
    skin = np.maximum(face, bare * near * (rows > base.landmarks[234, 1]))[..., None]
    factor = np.array(identity.hair) * (1.0 - below[..., None]) + np.array(identity.cloth) * below[..., None]
    factor = factor * (1.0 - skin) + np.array(identity.skin) * skin
    image = np.clip(image * factor, 0.0, 255.0)
    return Portrait(name, np.ascontiguousarray(image.astype(np.uint8)), base.mask, base.landmarks)
