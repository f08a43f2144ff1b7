"""Axis-angle vectors over time: written without jumps, and of at most half a turn."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def unwrapped(turns: npt.ArrayLike, near: npt.ArrayLike = (0.0, 0.0, 0.0)) -> Array:
    """[T, 3] axis-angle without jumps: the same rotations, each written nearest to the one before.

    A rotation of angle t about an axis is also one of t - 2 pi about it. Where a head faces away from the camera, near
    half a turn, the two are equally long, and a hundredth of a degree makes a stored vector jump by a whole turn.

    Args:
        turns: radians; vectors that are NaN stay so and are passed over.
        near: [3] what the first is written nearest to.
    """
    out = np.array(turns, np.float64)
    angles = np.linalg.norm(out, axis=1)
    last = np.asarray(near, np.float64)
    for index in np.flatnonzero(angles > 1e-9):  # shorter ones have no axis to speak of
        axis = out[index] / angles[index]
        out[index] += axis * 2 * math.pi * np.round((axis @ last - angles[index]) / (2 * math.pi))
        last = out[index]
    return out


def wrapped(turns: npt.ArrayLike) -> Array:
    """[..., 3] the same rotations as axis-angle of at most half a turn."""
    vectors = np.asarray(turns, np.float64)
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    shorter = (angle + math.pi) % (2 * math.pi) - math.pi
    return np.where(angle > math.pi, vectors * shorter / np.maximum(angle, 1e-12), vectors)
