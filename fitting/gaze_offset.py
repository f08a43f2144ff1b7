"""A person's constant gaze error: kappa, and an eyeball that is not quite where the head model has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..schemas.heads import HeadTrack
from .gaze import CENTRE_SD, PARTNER_SD, PARTNER_SHARE, REACH, GazeTrack, angles_of, direction_of

Array = npt.NDArray[np.float64]

BASE_SD = np.radians(2.5)  # kappa, and the eyeball's place in a head that the model can express
SD_PER_METRE = np.radians(3000.0)  # 1 mm of eyeball is 5.4 degrees; eyes move about half as far as the skin
FIXATION_S = 1.0  # frames closer than this say the same
MOST_FIXATIONS = (5.0, 12.0)  # that count, at most, with the partner out of reach and within: a person's mean gaze is
# not straight ahead, however long one looks
_GRID = np.radians(np.arange(-20.0, 20.5, 1.0))


def prior_sd(foreign: float) -> float:
    """Radians per axis, of the constant error before anything is seen, given metres of anatomy beyond the model."""
    return float(np.hypot(BASE_SD, SD_PER_METRE * foreign))


def personal_offset(
    track: HeadTrack,
    gaze: GazeTrack,
    partner: npt.NDArray[np.floating],
    sd: float,
    fps: float,
    iris_error: float = 0.0,
) -> HeadTrack:
    """Estimate and remove a person's constant gaze error; fills ``gaze`` and ``gaze_sd``.

    Args:
        partner: [T, 3] metres, the partner's head centre, camera frame; NaN where unknown.
        sd: radians per axis, of the offset before anything is seen.
        iris_error: radians per axis, of what is neither constant nor noise (see ``FitOptions``).
    """
    target = partner.astype(np.float64) - track.head_centre
    target /= np.linalg.norm(target, axis=-1, keepdims=True)
    seen = np.isfinite(gaze.direction).all(-1)
    own = angles_of(np.nan_to_num(np.einsum("tij,ti->tj", gaze.head, gaze.direction.astype(np.float64))))
    toward = np.einsum("tij,ti->tj", gaze.head, target)
    offset, left = offset_posterior(own[seen], toward[seen], sd, fps)
    corrected = np.einsum("tij,tj->ti", gaze.head, direction_of(own - offset))
    corrected[~seen] = np.nan
    measured = gaze.noise_sd.astype(np.float64) ** 2 + track.rotation_sd.astype(np.float64) ** 2
    total = np.sqrt(measured + left**2 + iris_error**2)
    return replace(track, gaze=corrected.astype(np.float32), gaze_sd=total.astype(np.float32))


def offset_posterior(own: Array, toward: Array, sd: float, fps: float) -> tuple[Array, float]:
    """Posterior mean of the offset (yaw, pitch), and its sd per axis, radians; on a grid.

    Gaze without the offset is a mixture: on the partner, as far as the eyes reach, or centred in the head.

    Args:
        own: [N, 2] measured gaze in the head's frame (yaw, pitch), radians.
        toward: [N, 3] direction to the partner in the head's frame, NaN where unknown.
        sd: radians per axis, of the Gaussian prior.
    """
    step = max(round(fps * FIXATION_S / 4), 1)
    own, toward = own[::step], toward[::step]
    yaw, pitch = np.meshgrid(_GRID, _GRID, indexing="ij")
    grid = np.stack([yaw.ravel(), pitch.ravel()], -1)  # [G, 2]
    log_posterior = -0.5 * (grid**2).sum(-1) / sd**2
    if len(own):
        left = own[None] - grid[:, None]  # [G, N, 2]
        centred = np.exp(-0.5 * ((left / CENTRE_SD) ** 2).sum(-1)) / CENTRE_SD.prod()
        known = np.isfinite(toward).all(-1)
        there = angles_of(np.nan_to_num(toward))
        reach = known & (toward[:, 2] > np.cos(REACH))
        at_partner = np.exp(-0.5 * ((left - there) ** 2).sum(-1) / PARTNER_SD**2) / PARTNER_SD**2
        share = np.where(reach, PARTNER_SHARE, 0.0)
        evidence = np.log(share * at_partner + (1 - share) * centred + 1e-12).sum(-1)
        most = float(np.interp(reach.mean(), (0, 1), MOST_FIXATIONS))
        fixations = min(len(own) * step / (fps * FIXATION_S), most)
        log_posterior = log_posterior + evidence * fixations / len(own)
    weight = np.exp(log_posterior - log_posterior.max())
    weight /= weight.sum()
    mean = weight @ grid
    variance = weight @ ((grid - mean) ** 2).sum(-1) / 2
    return mean, float(np.sqrt(variance))
