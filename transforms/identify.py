"""A descriptor of who a face is: cheap appearance by default, an identity network where the user has one."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32
from .face_mesh import Region, crop_region, region_from_landmarks

UInt8 = npt.NDArray[np.uint8]

_PATCH = 64  # side of the patch that covers head, hair and collar
_CELLS = (  # x0, y0, x1, y1 in 64ths of the patch: hair above, temples, brow, cheeks, mouth, below the chin
    (16, 2, 48, 14),
    (6, 14, 18, 36),
    (46, 14, 58, 36),
    (22, 18, 42, 28),
    (22, 30, 42, 40),
    (24, 38, 40, 46),
    (12, 52, 52, 64),
)
_EDGES_L, _EDGES_AB = np.linspace(0, 255, 6), np.linspace(98, 162, 7)


class Identifier(Protocol):
    """Describes one face in one frame."""

    name: str

    def describe(self, rgb: UInt8, landmarks: Float32) -> Float32: ...


def _soft_bins(values: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    step = centres[1] - centres[0]
    clipped = np.clip(values, centres[0], centres[-1])
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(clipped[..., None] - centres) / step))


class AppearanceIdentifier:
    """Colours of hair, skin and collar in fixed places of the upright head.

    It says "the same person in the same clothes and light", not who someone is. No network, no weights.
    """

    name = "appearance"

    def describe(self, rgb: UInt8, landmarks: Float32) -> Float32:
        """L2-normalised descriptor [D] of one face.

        Args:
            rgb: [H, W, 3] upright frame.
            landmarks: [478, 3] pixels.
        """
        region = region_from_landmarks(landmarks)
        wide = Region(region.x, region.y, region.side * 1.6, region.angle)
        patch, _ = crop_region(rgb, wide, _PATCH)
        lab = cv2.cvtColor(patch, cv2.COLOR_RGB2LAB).astype(np.float64)
        parts = []
        for x0, y0, x1, y1 in _CELLS:
            cell = lab[y0:y1, x0:x1].reshape(-1, 3)
            light = _soft_bins(cell[:, 0], _EDGES_L)
            green, blue = _soft_bins(cell[:, 1], _EDGES_AB), _soft_bins(cell[:, 2], _EDGES_AB)
            parts.append(np.einsum("ni,nj->ij", light, green).ravel() / len(cell))
            parts.append(np.einsum("ni,nj->ij", green, blue).ravel() / len(cell))
        vector = np.sqrt(np.concatenate(parts))
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), dtype=np.float32)


def similarity(one: Float32, other: Float32) -> float:
    """Cosine of two descriptors; NaN where either is absent (all zeros)."""
    if not one.any() or not other.any():
        return float("nan")
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))

