"""Placing FaceMesh's landmarks on any head mesh, and telling when that went wrong."""

from __future__ import annotations

import numpy as np

from .head_model import Array


def face_measures(points: Array) -> dict[str, float]:
    """Anatomical distances of 468 landmark points [468, 3]: the self-check of an embedding (same unit as the points).

    ``lid_aperture`` is the larger of both eyes' largest gaps; ``eye_distance`` is between the canthi's midpoints.
    """

    def gap(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return float(np.linalg.norm(points[list(a)] - points[list(b)], axis=-1).max())

    right = gap((160, 159, 158), (144, 145, 153))
    left = gap((387, 386, 385), (373, 374, 380))
    middle = 0.5 * (points[[33, 263]] + points[[133, 362]])
    return {
        "lid_aperture": max(right, left),
        "inner_lip_gap": gap((82, 13, 312), (87, 14, 317)),
        "mouth_width": gap((61,), (291,)),
        "eye_distance": float(np.linalg.norm(middle[0] - middle[1])),
        "outer_eye_distance": gap((33,), (263,)),
        "face_height": gap((10,), (152,)),
        "face_width": gap((234,), (454,)),
    }
