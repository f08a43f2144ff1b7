"""Where both eyes look together, from where their irises lie on the fitted eyeballs.

An eye turned far from the camera tells little by its angle: its iris stands at the eyeball's rim, and 0.3 mm are
5 degrees. Taken eye by eye, an angle at the rim is nearly worthless, and the other eye, half hidden by the nose and
guessed as looking at the camera, is believed instead. In millimetres across the line of sight both eyes are equally
good measurements, and an iris at the rim rules the guess out. The posterior of the common direction is therefore
computed from the places, on a grid.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .camera import Camera

Array = npt.NDArray[np.float64]

IRIS_SD_PX = 0.5
IRIS_SD_SCALE = 0.006  # of face scale, in addition: the detector's error grows with the face
PLACE_SD = 0.0005  # metres: what is wrong with one eyeball's place, or one iris' reading, in frame after frame
SIDE = 0.5  # cosine of the angle, 60 degrees, from which on less than the whole iris of a turned eye is seen
LEAST_FACING = 0.1  # an eye whose socket faces away is not less sure than by this factor
RANGE_SD = np.radians((60.0, 40.0))  # weak: eyes are not turned further in the head, whatever the rim says (yaw, pitch)
RIM, RIM_SD = -0.05, 0.1  # cosine of the angle to the camera at which, and how suddenly, irises are lost from sight
NOISE_SHARE = 0.7  # of the sd, what is not the same frame after frame
_STEP = np.radians(4.0)  # finer than half the spread that PLACE_SD leaves
_YAW, _PITCH = np.arange(-15, 16) * _STEP, np.arange(-10, 11) * _STEP
_GRID = np.stack([g.ravel() for g in np.meshgrid(_YAW, _PITCH, indexing="ij")], -1)  # [K, 2]
_DIRECTIONS = np.stack(
    [np.sin(_GRID[:, 0]) * np.cos(_GRID[:, 1]), np.sin(_GRID[:, 1]), np.cos(_GRID[:, 0]) * np.cos(_GRID[:, 1])]
)  # [3, K]
OUTWARD = np.array([[0.5, 0.0, np.sqrt(0.75)], [-0.5, 0.0, np.sqrt(0.75)]])  # sockets look 30 degrees outward
CHUNK = 128  # frames at once


def common_gaze(
    irises: npt.NDArray[np.floating],
    rotation: Array,
    eyeballs: Array,
    radius: float,
    camera: Camera,
    usable: npt.NDArray[np.bool_],
) -> tuple[Array, Array]:
    """Direction that both eyes share, in the head's frame.

    Args:
        irises: [N, 2, 2] pixels, iris centres (left, right). rotation: [N, 3, 3] model to camera.
        eyeballs: [N, 2, 3] metres, centres, camera frame. radius: metres, eyeball centre to iris centre.
        usable: [N, 2] the iris can be read.

    Returns:
        Yaw toward +x and pitch toward +y [N, 2], radians, and their sd per axis [N]; NaN sd where no iris can be read.
    """
    mean, sd = np.zeros((len(irises), 2)), np.full(len(irises), np.nan)
    for start in range(0, len(irises), CHUNK):
        part = slice(start, start + CHUNK)
        mean[part], sd[part] = _posterior(irises[part], rotation[part], eyeballs[part], radius, camera, usable[part])
    return mean, sd


def _posterior(
    irises: npt.NDArray[np.floating], rotation: Array, eyeballs: Array, radius: float, camera: Camera,
    usable: npt.NDArray[np.bool_],
) -> tuple[Array, Array]:  # fmt: skip
    away = np.linalg.norm(eyeballs, axis=-1, keepdims=True)
    sight = eyeballs / away  # from the camera
    right = np.stack([sight[..., 2], np.zeros(sight.shape[:-1]), -sight[..., 0]], -1)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(sight, right)
    # Irises on the plane through the eyeball's centre, across the line of sight.
    ray = np.concatenate([camera.normalise(irises), np.ones((*irises.shape[:-1], 1))], -1)
    place = ray * (away / (ray * sight).sum(-1, keepdims=True)) - eyeballs
    depth = eyeballs[..., 2]
    pixel_sd = np.hypot(IRIS_SD_PX, IRIS_SD_SCALE * camera.focal_px * 0.063 / depth)
    facing = -(np.einsum("nij,ej->nei", rotation, OUTWARD) * sight).sum(-1)
    sd = np.hypot(pixel_sd * depth / camera.focal_px, PLACE_SD) / np.clip(facing / SIDE, LEAST_FACING, 1.0)
    log = np.zeros((len(irises), len(_GRID)))
    for axis in (right, down):
        expected = radius * (np.einsum("nij,nei->nej", rotation, axis) @ _DIRECTIONS)  # [N, 2, K]
        off = ((place * axis).sum(-1)[..., None] - expected) / sd[..., None]
        log -= 0.5 * np.where(usable[..., None], off * off, 0.0).sum(1)
    # Beyond the rim an iris comes back to where it was: such a direction would not be seen.
    towards = -np.einsum("nij,nei->nej", rotation, sight) @ _DIRECTIONS
    hidden = np.minimum(towards - RIM, 0.0) / RIM_SD
    log -= 0.5 * np.where(usable[..., None], hidden * hidden, 0.0).sum(1)
    log -= 0.5 * ((_GRID / RANGE_SD) ** 2).sum(-1)
    weight = np.exp(log - log.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    mean = weight @ _GRID
    variance = np.maximum(weight @ (_GRID**2) - mean**2, 0.0).mean(-1) + (0.3 * _STEP) ** 2
    return mean, np.where(usable.any(-1), np.sqrt(variance), np.nan)
