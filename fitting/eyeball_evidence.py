"""Where the eyeballs are, and how large, as fixations seen from moving heads say it.

While an eye holds a place in the head, its iris is a point of the head: as the head turns, parallax gives that point's
depth, and with it how far the eyeball's centre lies behind it. While it holds a place in the world, the head turns
about a gaze that stands still, and the iris moves as the eyeball's centre does. Neither needs to know where anybody
looks. A ball that is too shallow or too small shows itself as a gaze that errs more the further the head is turned;
what lies across the line of sight all the while stays hidden, and is left to :mod:`duologue.fitting.gaze_offset`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .common_gaze import IrisEvidence
from .fixations import Fixations

Array = npt.NDArray[np.float64]

_LEAST_SHARE = 1e-3  # less probable fixations are left out
# Metres of anatomy beyond the head model at which a turned head's eyeballs err as much by the pose as by their irises.
FOREIGN = 0.0006
_FREE = 1e-6  # information on a fixation's direction beside the irises', so that none is singular


@dataclass(frozen=True)
class EyeballEvidence:
    """Log likelihood -o.H o / 2 + h.o of what is common to both eyeballs: their shift in the head's frame over the
    radius, and the change of the log of that radius (see :func:`duologue.fitting.gaze_offset.moved_eyeball`).

    Attributes:
        information: [4, 4] H. pull: [4] h.
    """

    information: Array
    pull: Array


def eyeball_evidence(
    irises: IrisEvidence, fixations: Fixations, rotation: Array, directions: Array, foreign: float
) -> EyeballEvidence:
    """Sum over all ways to cut a track into fixations, each with its own unknown direction eliminated.

    Args:
        irises: of the N frames each by itself. rotation: [N, 3, 3] head to camera.
        directions: [N, 3] unit, the smoothed gaze in the head's frame: where the geometry is linearised.
        foreign: metres of anatomy beyond the head model. Such a head's eyeballs wander in it as it turns.
    """
    information, pull = irises.information.sum(1), irises.pull.sum(1)
    turned = rotation @ information
    sums = [
        _cumulative(v)
        for v in (information, pull, turned, turned @ rotation.transpose(0, 2, 1), _rotate(rotation, pull))
    ]
    total, slope = np.zeros((4, 4)), np.zeros(4)
    for held, (shares, around) in enumerate(
        zip(fixations.shares, (directions, _rotate(rotation, directions)), strict=True)
    ):
        last, length = np.nonzero(shares > _LEAST_SHARE)
        start, end = last - length, last + 1
        own, own_pull, mixed, world, world_pull = (s[end] - s[start] for s in sums)
        direction = around[(start + last) // 2]
        if held == 0:  # in the head: the ball and the gaze are seen in the same frame
            mixed, world, world_pull = own, own, own_pull
        h, g = _eliminated(world, mixed, own, world_pull, own_pull, direction)
        share = shares[last, length]
        total += np.einsum("k,kij->ij", share, h)
        slope += share @ g
    trust = 1 / (1 + (foreign / FOREIGN) ** 2)
    return EyeballEvidence(trust * total, trust * slope)


def _eliminated(
    gaze: Array, mixed: Array, ball: Array, gaze_pull: Array, ball_pull: Array, direction: Array
) -> tuple[Array, Array]:
    """Information [K, 4, 4] and pull [K, 4] on the eyeballs, of K fixations whose direction is anything.

    Args:
        gaze, mixed, ball: [K, 3, 3] information on the direction, on both, and on the shift, each in its own frame.
        gaze_pull, ball_pull: [K, 3] likewise. direction: [K, 3] unit, about which the direction is free.
    """
    residual = gaze_pull - _rotate(gaze, direction)
    along = (mixed * direction[:, :, None]).sum(1)  # of the ball's size, which moves the iris along the gaze
    ball_slope = np.concatenate([ball_pull - along, (direction * residual).sum(1, keepdims=True)], 1)
    both = np.zeros((len(gaze), 4, 4))
    both[:, :3, :3], both[:, :3, 3], both[:, 3, :3] = ball, along, along
    both[:, 3, 3] = (direction * _rotate(gaze, direction)).sum(1)
    tangent = _tangent(direction)
    across = tangent.transpose(0, 2, 1)
    free = across @ gaze @ tangent + _FREE * np.eye(2)
    cross = np.concatenate([across @ mixed, _rotate(across @ gaze, direction)[..., None]], -1)
    gain = np.linalg.solve(free, cross).transpose(0, 2, 1)  # [K, 4, 2]
    return both - gain @ cross, ball_slope - _rotate(gain, _rotate(across, residual))


def _tangent(direction: Array) -> Array:
    """Two unit vectors across each direction [K, 3], none of them straight up or down: [K, 3, 2]."""
    aside = np.stack([direction[:, 2], np.zeros(len(direction)), -direction[:, 0]], -1)
    aside /= np.maximum(np.linalg.norm(aside, axis=-1, keepdims=True), 1e-9)
    return np.stack([aside, np.cross(direction, aside)], -1)


def _rotate(matrix: Array, vector: Array) -> Array:
    return np.asarray((matrix @ vector[..., None])[..., 0])


def _cumulative(values: Array) -> Array:
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, 0)])
