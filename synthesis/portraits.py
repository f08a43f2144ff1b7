"""The two public-domain portraits inside installed packages, measured at run time: landmarks and silhouette.

Eileen Collins (NASA, in scikit-image) and Grace Hopper (US Navy, in matplotlib). Nothing of them is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..transforms.quiet import load_mediapipe, without_noise

UInt8 = npt.NDArray[np.uint8]
NAMES = ("collins", "hopper")
_SKIN = np.array([214.0, 162.0, 138.0])  # RGB of a cheek that both portraits are brought near to


@dataclass(frozen=True)
class Portrait:
    """One face, looking about straight at the camera.

    Attributes:
        image: [H, W, 3] RGB, enlarged so that texture samples are smooth.
        mask: [H, W] 0..255, the person (hair and clothes included).
        landmarks: [478, 3] FaceMesh, pixels of ``image`` (z in the same scale, smaller is nearer).
    """

    name: str
    image: UInt8
    mask: UInt8
    landmarks: npt.NDArray[np.float64]


def _read(name: str) -> UInt8:
    if name == "collins":
        import skimage.data

        return np.asarray(skimage.data.astronaut(), dtype=np.uint8)
    if name == "hopper":
        import matplotlib

        path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
        image = cv2.imread(str(path))
        if image is None:
            raise UsageError(f"matplotlib's sample portrait is missing: {path}")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    raise UsageError(f"no portrait named {name!r}: choose from {', '.join(NAMES)}")


def _landmarks(image: UInt8) -> npt.NDArray[np.float64]:
    mp = load_mediapipe()
    height, width = image.shape[:2]
    with (
        without_noise(),
        mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1) as mesh,
    ):
        found = mesh.process(image).multi_face_landmarks
    if not found:
        raise UsageError("FaceMesh found no face in a portrait: is mediapipe 0.10.21 installed?")
    return np.array([(p.x * width, p.y * height, p.z * width) for p in found[0].landmark], dtype=np.float64)


def _person_mask(image: UInt8, landmarks: npt.NDArray[np.float64]) -> UInt8:
    """Selfie segmentation, sharpened along colour edges (GrabCut at half size)."""
    mp = load_mediapipe()
    with without_noise(), mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as model:
        soft = np.asarray(model.process(image).segmentation_mask)
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    soft = cv2.resize(soft, (small.shape[1], small.shape[0]))
    labels = np.where(soft > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[soft > 0.95] = cv2.GC_FGD
    labels[soft < 0.03] = cv2.GC_BGD
    oval = cv2.convexHull((landmarks[:468, :2] * 0.5).astype(np.int32))
    cv2.fillConvexPoly(labels, oval, cv2.GC_FGD)
    cv2.setRNGSeed(0)
    cv2.grabCut(small, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    person = cv2.morphologyEx(person, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(person)
    if count > 1:
        person = (parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    outline, _ = cv2.findContours(person, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(person, outline, -1, 1, cv2.FILLED)  # no holes
    big = cv2.resize(person * 255, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(big, (0, 0), 2.0), dtype=np.uint8)


def _grade(image: UInt8, landmarks: npt.NDArray[np.float64]) -> UInt8:
    """Softer contrast, and skin under one lamp: two studio portraits become two people in one room."""
    patches = []
    for mark in (50, 280, 205, 425):
        x, y = landmarks[mark, :2].astype(int)
        patches.append(image[y - 8 : y + 9, x - 8 : x + 9].reshape(-1, 3))
    skin = np.median(np.concatenate(patches), axis=0)
    gain = (_SKIN / skin) ** 0.7
    flat = image.astype(np.float32) * gain.astype(np.float32)
    return np.ascontiguousarray(np.clip(10.0 + 0.88 * flat, 0, 255).astype(np.uint8))


@lru_cache(maxsize=4)
def load_portrait(name: str) -> Portrait:
    """Read, enlarge and measure a portrait.

    Raises:
        UsageError: unknown name, or the package that carries it is absent.
    """
    original = _read(name)
    scale = 2.0
    image = cv2.resize(original, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    landmarks = _landmarks(np.ascontiguousarray(image))
    eye_span = float(np.linalg.norm(landmarks[33, :2] - landmarks[263, :2]))
    if eye_span < 220.0:  # a small face: enlarge more, so that bilinear samples do not show its pixels
        more = 220.0 / eye_span
        image = cv2.resize(original, None, fx=scale * more, fy=scale * more, interpolation=cv2.INTER_LANCZOS4)
        soft = cv2.GaussianBlur(image, (0, 0), 2.0)
        image = cv2.addWeighted(image, 1.5, soft, -0.5, 0.0)
        landmarks = landmarks * more
    mask = _person_mask(np.ascontiguousarray(image), landmarks)
    return Portrait(name, _grade(image, landmarks), mask, landmarks)
