"""A descriptor of who a face is: cheap appearance by default, an identity network where the user has one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import Float32
from .face_mesh import Region, crop_region, region_from_landmarks
from .onnx_pack import open_from_pack
from .planar import Pixels

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


class Identifier(Protocol):
    """Describes one face in one frame.

    Attributes:
        threshold: cosine of two descriptors from which they are taken for one person.
        between_shots: the same for track means of two shots of a video.
    """

    backend: Backend
    threshold: float
    between_shots: float

    def describe(self, picture: Pixels, landmarks: Float32) -> Float32: ...


def _soft_bins(centres: npt.NDArray[np.float64]) -> Float32:
    """[256, bins] how much each grey level lies in each bin."""
    step = centres[1] - centres[0]
    clipped = np.clip(np.arange(256.0), centres[0], centres[-1])
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(clipped[:, None] - centres) / step), np.float32)


_BINS_L, _BINS_AB = _soft_bins(np.linspace(0, 255, 6)), _soft_bins(np.linspace(98, 162, 7))


class AppearanceIdentifier:
    """Colours of hair, skin and collar in fixed places of the upright head. No network, no weights.

    It says "the same person in the same clothes and light", not who someone is: it serves to keep people apart within
    a shot and to find them again in other shots of one scene, never across videos. Measured on track means of one
    television scene (six people, six shots): the same person in another shot 0.96 to 0.99, different people 0.75 to
    0.86. Single frames of one person, front against profile, reach down to 0.93.
    """

    backend = Backend("identity", "appearance")
    threshold = 0.9
    between_shots = 0.94  # light changes little within a scene, and strangers may dress alike

    def describe(self, picture: Pixels, landmarks: Float32) -> Float32:
        """L2-normalised descriptor [D] of one face.

        Args:
            picture: upright frame.
            landmarks: [478, 3] pixels.
        """
        region = region_from_landmarks(landmarks)
        wide = Region(region.x, region.y, region.side * 1.6, region.angle)
        patch, _ = crop_region(picture, wide, _PATCH)
        lab = cv2.cvtColor(patch, cv2.COLOR_RGB2LAB)
        parts = []
        for x0, y0, x1, y1 in _CELLS:
            cell = lab[y0:y1, x0:x1].reshape(-1, 3)
            light, green, blue = _BINS_L[cell[:, 0]], _BINS_AB[cell[:, 1]], _BINS_AB[cell[:, 2]]
            parts.append((light.T @ green).ravel() / len(cell))
            parts.append((green.T @ blue).ravel() / len(cell))
        vector = np.sqrt(np.concatenate(parts))
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), dtype=np.float32)


def similarity(one: Float32, other: Float32) -> float:
    """Cosine of two descriptors; NaN where either is absent (all zeros)."""
    if not one.any() or not other.any():
        return float("nan")
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


def _is_recognition(session: Any) -> bool:
    """One output, one square crop of 112 or 128 pixels in."""
    shape = session.get_inputs()[0].shape
    return len(session.get_outputs()) == 1 and len(shape) == 4 and shape[2] == shape[3] and shape[3] in (112, 128)


class InsightFaceIdentifier:
    """A face recognition network (ArcFace and its kin) from an InsightFace model pack, through ``insightface``.

    InsightFace's own pretrained packs are for non-commercial research only; none is bundled or downloaded.

    Args:
        path: folder with the pack's ``.onnx`` files (the one recognition model among them is used), or the file.
        threshold: cosine from which two descriptors are one person, in one shot or two; it depends on the network.

    Raises:
        UsageError: the package, the folder or a recognition model in it is missing.
    """

    def __init__(self, path: str | Path, threshold: float = 0.35) -> None:
        file, session = open_from_pack(path, "identity", "recognition", _is_recognition)
        try:
            from insightface.model_zoo.arcface_onnx import ArcFaceONNX
            from insightface.utils.face_align import norm_crop
        except ImportError as error:
            raise UsageError(f"identity backend 'insightface' needs insightface and onnxruntime: {error}") from error
        self._model: Any = ArcFaceONNX(model_file=str(file), session=session)
        self._crop = norm_crop
        self.threshold = self.between_shots = threshold
        self.backend = Backend(
            "identity",
            f"insightface-{file.stem}",
            hashlib.sha256(file.read_bytes()).hexdigest(),
            "see the model pack's licence",
        )

    def describe(self, picture: Pixels, landmarks: Float32) -> Float32:
        """L2-normalised descriptor [D] of one face, on the network's usual five-point alignment."""
        five = np.stack(
            [
                landmarks[[33, 133], :2].mean(axis=0),
                landmarks[[362, 263], :2].mean(axis=0),
                landmarks[4, :2],
                landmarks[61, :2],
                landmarks[291, :2],
            ]
        )
        margin = int(np.ceil(np.ptp(landmarks[:468, :2], axis=0).max()))
        x0, y0 = np.maximum(np.floor(landmarks[:468, :2].min(axis=0)).astype(int) - margin, 0)
        x1, y1 = np.ceil(landmarks[:468, :2].max(axis=0)).astype(int) + margin
        bgr = np.ascontiguousarray(picture[y0:y1, x0:x1][..., ::-1])
        crop = self._crop(bgr, five - [x0, y0], image_size=int(self._model.input_size[0]))
        vector = np.asarray(self._model.get_feat(crop), dtype=np.float32).ravel()
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), dtype=np.float32)


def face_identifier(name: str, path: str = "") -> Identifier:
    """The identifier called ``name``: "appearance", or "insightface" with the model's folder or file as ``path``.

    Raises:
        UsageError: unknown name, or the backend cannot be had.
    """
    if name == "appearance":
        return AppearanceIdentifier()
    if name == "insightface":
        if not path:
            raise UsageError("identity backend 'insightface' needs the path of a model pack")
        return InsightFaceIdentifier(path)
    raise UsageError(f"unknown identity backend '{name}': choose appearance or insightface")
