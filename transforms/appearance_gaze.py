"""Gaze from pixels by a network that the user brings as an ONNX file, in the camera's frame.

Such networks are trained on *normalised* faces: a virtual camera is turned to look straight at the face, its x axis
level with the eyes, from a fixed distance (Zhang, Sugano & Bulling, Revisiting data normalization for appearance-based
gaze estimation, ETRA 2018: M = S R, image warp C_n M C^-1). What the network says holds in that camera; it is turned
back by R^-1 before anything else sees it. Only the rotation is undone: scaling moves the camera along its own axis.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..fitting.camera import Camera, choose_camera
from ..schemas.errors import UsageError
from ..schemas.records import Backend, Focal
from ..schemas.tracks import Float32, face_scale_px
from .onnx_session import open_session
from .planar import Pixels

Array = npt.NDArray[np.float64]

FOCAL_PER_SIDE = 960.0 / 448.0  # of the virtual camera, for a crop seen from 0.6 m: ETH-XGaze's normalisation
DISTANCE_M = 0.6
# Corners of eyes and mouth: their mean is the centre of the face that the virtual camera looks at.
_CENTRE = (33, 133, 362, 263, 61, 291)
_RIGHT_EYE, _LEFT_EYE = (33, 133), (362, 263)  # the subject's
_MEAN, _SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's, RGB


def normalisation(landmarks: Float32, camera: Camera, side: int) -> tuple[Array, Array] | None:
    """The virtual camera for one face.

    Args:
        landmarks: [478, 3] pixels, z FaceMesh's relative depth. side: pixels of the crop.

    Returns:
        R [3, 3], camera to virtual camera, and the homography [3, 3] from image to crop pixels; None for landmarks from
        which there is none (no finite face, eyes in line with the view).
    """
    scale = float(face_scale_px(landmarks))
    if not (np.isfinite(scale) and scale > 1 and np.isfinite(landmarks[list(_CENTRE)]).all()):
        return None
    depth = camera.focal_px * 0.063 / scale
    ray = np.append(camera.normalise(landmarks[list(_CENTRE), :2].mean(0)), 1.0)
    centre = depth * ray
    # Image-frame axis from the subject's right eye to the left one, which the image shows left to right.
    across = (landmarks[list(_LEFT_EYE)].mean(0) - landmarks[list(_RIGHT_EYE)].mean(0)).astype(np.float64)
    forward = centre / np.linalg.norm(centre)
    down = np.cross(forward, across)
    if np.linalg.norm(down) < 1e-6:
        return None
    down /= np.linalg.norm(down)
    right = np.cross(down, forward)
    rotation = np.stack([right, down, forward])
    zoom = np.diag([1.0, 1.0, DISTANCE_M / np.linalg.norm(centre)])
    focal, middle = FOCAL_PER_SIDE * side, side / 2
    virtual = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    real = np.array([[camera.focal_px, 0, camera.centre[0]], [0, camera.focal_px, camera.centre[1]], [0, 0, 1]])
    return rotation, virtual @ zoom @ rotation @ np.linalg.inv(real)


def direction(output: npt.NDArray[np.floating]) -> Array:
    """A network's answer as a unit vector in the virtual camera (x right, y down, z away from it).

    Two numbers are (pitch, yaw) in radians, zero into the camera, positive up and to the left of the image, as MPIIGaze
    and ETH-XGaze define them; three are the vector itself.
    """
    values = np.asarray(output, dtype=np.float64).reshape(-1)
    if len(values) == 2:
        pitch, yaw = values
        values = -np.array([np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)])
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9))


class AppearanceGaze:
    """The network, opened once per process.

    Args:
        path: ONNX file with one image input [N, 3, H, H] (RGB, ImageNet's mean and deviation) and one output of two or
            three numbers (see :func:`direction`).

    Raises:
        UsageError: onnxruntime is missing, the file does not load, or its shapes are others.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise UsageError(f"gaze backend 'onnx': no file {path!r}; give it as backends.gaze_path")
        self.session = open_session(Path(path), "gaze backend 'onnx'")
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        square = len(shape) == 4 and shape[1] == 3 and isinstance(shape[2], int) and shape[2] == shape[3]
        numbers = outputs[0].shape[-1] if len(outputs) == 1 and outputs[0].shape else None
        if not square or numbers not in (2, 3):
            raise UsageError(
                f"gaze backend 'onnx': {path} takes {shape} and gives {[list(o.shape) for o in outputs]}; expected one "
                "input [N, 3, H, H] and one output of 2 (pitch, yaw) or 3 numbers"
            )
        self.input, self.side = inputs[0].name, int(shape[2])
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self.backend = Backend("gaze", f"onnx:{Path(path).name}", digest, "as the file's owner states")

    def look(
        self, picture: Pixels, landmarks: Float32, user_focal_px: float | None = None, known: Focal | None = None
    ) -> Float32:
        """Gaze of one face, [3] unit vector in the camera's frame; NaN where the face cannot be normalised.

        Args:
            picture: upright image. landmarks: [478, 3] pixels. user_focal_px, known: as in ``choose_camera``.
        """
        height, width = picture.shape[:2]
        found = normalisation(landmarks, choose_camera(width, height, user_focal_px, known), self.side)
        if found is None:
            return np.full(3, np.nan, np.float32)
        rotation, homography = found
        # Only what the crop shows is turned into RGB.
        corners = np.array([[0, 0, 1], [self.side, 0, 1], [0, self.side, 1], [self.side, self.side, 1.0]])
        seen = corners @ np.linalg.inv(homography).T
        seen = seen[:, :2] / seen[:, 2:]
        x0, y0 = np.clip(np.floor(seen.min(0)).astype(int) - 2, 0, (width - 2, height - 2))
        x1, y1 = np.clip(np.ceil(seen.max(0)).astype(int) + 3, (x0 + 2, y0 + 2), (width, height))
        part = np.ascontiguousarray(picture[int(y0) : int(y1), int(x0) : int(x1)])
        # Pixel centres are at integers in the camera and in OpenCV, at integers + 0.5 in the virtual camera.
        to_camera = np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1.0]])
        to_opencv = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
        crop = cv2.warpPerspective(part, to_opencv @ homography @ to_camera, (self.side, self.side))
        image = ((crop / 255.0 - _MEAN) / _SD).astype(np.float32).transpose(2, 0, 1)[None]
        answer = self.session.run(None, {self.input: image})[0][0]
        return np.asarray(rotation.T @ direction(answer), dtype=np.float32)


def gaze_backend(name: str, path: str) -> AppearanceGaze | None:
    """The network, or None for the geometric gaze of the fit.

    Raises:
        UsageError: an unknown name, or a network that cannot be used.
    """
    if name == "geometric":
        return None
    if name == "onnx":
        return AppearanceGaze(path)
    raise UsageError(f"unknown gaze backend {name!r}; choose geometric or onnx")
