"""A person's constant gaze error (an eyeball that is not quite where, or as large as, the head model has it; kappa),
and the gaze of every frame given what people look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from ..schemas.heads import HeadTrack
from .eyeball_evidence import EyeballEvidence
from .gaze import (
    CENTRE_SD,
    PARTNER_SD,
    PARTNER_SHARE,
    REACH,
    REACH_SD,
    GazeTrack,
    across_variance,
    angles_of,
    direction_of,
)
from .uncertainty import PROFILE, PROFILE_WIDTH

Array = npt.NDArray[np.float64]

# Of frames whose irises a detector read, how many say nothing of them: of any head, and how many more of one in
# profile, where the far eye is a guess and the near one a few pixels. Between what films with other seeds can tell.
MISREAD, MISREAD_IN_PROFILE = 0.01, 0.2
# Metres in the head's frame (aside, up, forward), of what is common to both eyes: on synthetic people with other seeds
# than the benchmark's a fit with their own head model is off by 0.16, 0.42 and 0.44 mm (rms). 0.5 mm also stands for
# kappa (2.5 degrees up or down; aside it is opposite in the two eyes and cancels).
BASE_SD = np.array([0.0002, 0.0005, 0.00045])
SHARE_OF_FOREIGN = 0.4  # eyes move less than half as far as the skin where anatomy is beyond the head model
RADIUS_LOG_SD = 0.03  # of eyeballs between adults
FIXATION_S = 1.0  # frames closer than this say the same
MOST_FIXATIONS = (5.0, 12.0)  # that count, at most, with the partner out of reach and within: a person's mean gaze is
# not straight ahead, however long one looks
_LIMB = 0.98  # largest squared share of the eyeball's radius at which an iris is seen off its centre
_POINTS = 1024


def prior_sd(foreign: float, radius: float, scale_log_sd: float) -> Array:
    """[4]: sd of the eyeballs' shift over their ``radius`` (aside, up, forward) and of the log of that radius.

    Args:
        foreign: metres of anatomy beyond the head model. scale_log_sd: of the head's size.
    """
    shift = np.hypot(BASE_SD, SHARE_OF_FOREIGN * foreign) / radius
    return np.append(shift, np.hypot(RADIUS_LOG_SD, scale_log_sd))


def personal_offset(
    track: HeadTrack,
    gaze: GazeTrack,
    partner: npt.NDArray[np.floating],
    sd: Array,
    fps: float,
    iris_error: float = 0.0,
    angular: bool = False,
) -> HeadTrack:
    """Estimate and remove a person's constant gaze error; fills ``gaze`` and ``gaze_sd``, and mends the head's size.

    What a frame's own measurement leaves open is filled by the same mixture that finds the constant error: a gaze that
    may be on the partner is drawn towards the partner, by as much as the measurement is unsure. A detector's irises
    (``iris_error`` above 0) may be none at all, most of all in profile: a gaze that nobody has is not believed.

    Args:
        partner: [T, 3] metres, the partner's head centre, camera frame; NaN where unknown.
        sd: [4], see `prior_sd`. iris_error: radians per axis, of what is neither constant nor noise (see
            ``FitOptions``).
        angular: its error is a constant angle, not an eyeball out of place: of an appearance model, and of a detector's
            irises, whose own errors at the rim an eyeball would have to move far to explain.
    """
    centre = track.head_centre.astype(np.float64)
    target = partner.astype(np.float64) - centre
    target /= np.linalg.norm(target, axis=-1, keepdims=True)
    seen = np.asarray(np.isfinite(gaze.direction).all(-1))
    direction, head = gaze.direction[seen].astype(np.float64), gaze.head[seen]
    ray = -direction if angular else centre[seen] / np.linalg.norm(centre[seen], axis=-1, keepdims=True)
    toward = np.einsum("tij,ti->tj", head, target[seen])
    noise = np.hypot(gaze.noise_sd[seen].astype(np.float64), iris_error)
    balls = None if angular else gaze.eyeballs
    if angular:  # no eyeball, and no size of it
        sd = np.append(sd[:3], 0.0)
    misread = misread_share(head, centre[seen]) if iris_error > 0 else np.zeros(len(head))
    mean, covariance = offset_posterior(direction, head, ray, toward, noise, sd, fps, balls, misread)
    measured = moved_eyeball(direction, head, ray, mean)
    variance = noise**2 + _left(measured, head, ray, covariance)
    own, left = _given_partner(angles_of(np.einsum("tij,ti->tj", head, measured)), toward, variance, misread)
    corrected = np.full(gaze.direction.shape, np.nan)
    corrected[seen] = np.einsum("tij,tj->ti", head, direction_of(own))
    total = np.full(len(seen), np.nan)
    total[seen] = np.sqrt(left + across_variance(track.rotation_sd[seen], corrected[seen]))
    track = replace(track, gaze=corrected.astype(np.float32), gaze_sd=total.astype(np.float32))
    return track if balls is None else resized(track, float(mean[3]), float(covariance[3, 3]))


def misread_share(head: Array, centre: Array) -> Array:
    """[N] probability that a detector's irises say nothing.

    Args:
        head: [N, 3, 3] model to camera. centre: [N, 3] of the head, camera frame.
    """
    ray = centre / np.linalg.norm(centre, axis=-1, keepdims=True)
    turned = np.arccos(np.clip(-(head[:, :, 2] * ray).sum(-1), -1.0, 1.0))
    return np.asarray(MISREAD + MISREAD_IN_PROFILE / (1 + np.exp((PROFILE - turned) / (PROFILE_WIDTH / 2))))


def resized(track: HeadTrack, growth: float, variance: float) -> HeadTrack:
    """The head as large as its eyeballs ask for, which hardly differ between adults: nearer or farther, and surer.

    Args:
        growth: log of the eyeballs' size over what they have in a head of the size so far. variance: of it.
    """
    size = track.scale_log_sd**2
    share = size / (size + RADIUS_LOG_SD**2)  # of the eyeballs' size, what is a head of another size
    left = size - share**2 * (size + RADIUS_LOG_SD**2 - variance)
    factor = np.float32(np.exp(-share * growth))
    away = np.linalg.norm(track.head_centre, axis=-1)
    spread = np.sqrt(np.maximum(track.translation_sd**2 + away**2 * (left - size), 0.0))
    return replace(
        track,
        translation=track.translation * factor,
        head_centre=track.head_centre * factor,
        translation_sd=(spread * factor).astype(np.float32),
        scale=track.scale * float(factor),
        scale_log_sd=float(np.sqrt(left)),
    )


def _given_partner(measured: Array, toward: Array, variance: Array, misread: Array) -> tuple[Array, Array]:
    """Posterior mean [T, 2] of directions that were measured with ``variance`` [T] per axis, and its variance [T].

    Towards the partner the prior is narrow and draws; of all other directions the measurement is kept as it is. What
    was ``misread`` [T] leaves the prior of both.
    """
    there, share = _partner(toward)
    at_partner, elsewhere = _densities(measured, there, variance)
    drawn = PARTNER_SD**2 / (PARTNER_SD**2 + variance)  # what is left of the measured angle to the partner
    ahead, wide = np.zeros_like(there), np.full(len(variance), np.square(CENTRE_SD).mean())
    parts = (  # weight, mean and variance of each
        ((1 - misread) * share * at_partner, there + drawn[:, None] * (measured - there), drawn * variance),
        ((1 - misread) * (1 - share) * elsewhere, measured, variance),
        (misread * share, there, np.full(len(variance), PARTNER_SD**2)),
        (misread * (1 - share), ahead, wide),
    )
    weights = np.stack([weight for weight, _, _ in parts])
    weights = weights / np.maximum(weights.sum(0), 1e-300)
    mean = np.einsum("kt,kti->ti", weights, np.stack([place for _, place, _ in parts]))
    spread = sum(
        w * (left + ((place - mean) ** 2).mean(-1)) for w, (_, place, left) in zip(weights, parts, strict=True)
    )
    return mean, np.asarray(spread)


def _partner(toward: Array) -> tuple[Array, Array]:
    """Direction to the partner as angles [N, 2], and the prior share of gaze that is there [N] (0 where unknown)."""
    known = np.isfinite(toward).all(-1)
    ahead = np.nan_to_num(toward)
    turn = np.arccos(np.clip(ahead[:, 2], -1.0, 1.0))
    share = np.where(known, PARTNER_SHARE / (1 + np.exp((turn - REACH) / REACH_SD)), 0.0)
    return angles_of(ahead), share


def _densities(measured: Array, there: Array, variance: Array) -> tuple[Array, Array]:
    """Of a measured direction [..., N, 2], if the partner at ``there`` is looked at, and if something else is.

    Over the density of a direction of which nothing is known but that it lies before the head: one in 2 pi.
    """
    near = PARTNER_SD**2 + variance
    at_partner = np.exp(-0.5 * ((measured - there) ** 2).sum(-1) / near) / near
    wide = CENTRE_SD**2 + variance[:, None]
    return at_partner, np.exp(-0.5 * (measured**2 / wide).sum(-1)) / np.sqrt(wide.prod(-1))


def moved_eyeball(direction: Array, head: Array, ray: Array, offset: Array) -> Array:
    """Where an eye looks whose ball is elsewhere and whose iris is seen at the same place.

    Args:
        direction: [N, 3] unit, for the ball as it was; camera frame. head: [N, 3, 3] model to camera.
        ray: [N, 3] unit, from the camera to the eye. offset: [..., 4] shift in the head's frame over the ball's radius,
            and the change of the log of that radius.

    Returns:
        [..., N, 3] unit vectors.
    """
    shift = np.einsum("nij,...j->...ni", head, offset[..., :3])
    aside = direction - shift
    aside = (aside - (aside * ray).sum(-1, keepdims=True) * ray) / np.exp(offset[..., 3])[..., None, None]
    square = (aside**2).sum(-1, keepdims=True)
    aside = aside * np.sqrt(np.minimum(1.0, _LIMB / np.maximum(square, 1e-12)))
    return np.asarray(aside - ray * np.sqrt(1 - np.minimum(square, _LIMB)))


def offset_posterior(
    direction: Array,
    head: Array,
    ray: Array,
    toward: Array,
    noise: Array,
    sd: Array,
    fps: float,
    balls: EyeballEvidence | None = None,
    misread: Array | None = None,
) -> tuple[Array, Array]:
    """Posterior mean [4] and covariance [4, 4] of the offset (see `moved_eyeball`).

    The Gaussian prior and what fixations say of the eyeballs make a Gaussian; a fixed sample of it is weighed by where
    people look. Gaze without the offset is a mixture: on the partner, as far as the eyes reach, or centred in the head.

    Args:
        direction, head, ray: of the N frames seen. toward: [N, 3] direction to the partner in the head's frame, NaN
            where unknown. noise: [N] radians per axis, of what is measured. sd: [4], of the Gaussian prior.
        misread: [N] probability that a measurement says nothing; None for never.
    """
    offsets = _SAMPLE * sd
    if balls is not None:
        spread = np.linalg.inv(np.eye(4) + balls.information * np.outer(sd, sd))  # in units of the prior
        offsets = (spread @ (balls.pull * sd) + _SAMPLE @ np.linalg.cholesky(spread).T) * sd
    step = max(round(fps * FIXATION_S / 4), 1)
    direction, head, ray = direction[::step], head[::step], ray[::step]
    toward, noise = toward[::step], noise[::step]
    lost = np.zeros(len(noise)) if misread is None else misread[::step]
    weight = np.full(len(offsets), 1 / len(offsets))
    if len(direction):
        moved = moved_eyeball(direction, head, ray, offsets)
        there, share = _partner(toward)
        at_partner, centred = _densities(angles_of(np.einsum("nij,gni->gnj", head, moved)), there, noise**2)
        either = (1 - lost) * (share * at_partner + (1 - share) * centred) + lost
        # Irises are measured in the plane across the line of sight: that is where densities are compared.
        evidence = np.log(either + 1e-12) - np.log(-(moved * ray).sum(-1))
        most = float(np.interp(share.mean() / PARTNER_SHARE, (0, 1), MOST_FIXATIONS))
        fixations = min(len(direction) * step / (fps * FIXATION_S), most)
        log_weight = (evidence.mean(-1) - 2 * offsets[:, 3]) * fixations
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
    mean = weight @ offsets
    return mean, np.einsum("g,gi,gj->ij", weight, offsets - mean, offsets - mean)


def _left(direction: Array, head: Array, ray: Array, covariance: Array) -> Array:
    """Variance per axis [N] of the direction, for the offset's covariance [4, 4] to first order."""
    cosine = -(direction * ray).sum(-1, keepdims=True)
    aside = direction + cosine * ray
    sine = np.linalg.norm(aside, axis=-1, keepdims=True)
    # Straight at the camera any axis across is as good: the head's, which is never along the line of sight as well.
    up = head[:, :, 1] - (head[:, :, 1] * ray).sum(-1, keepdims=True) * ray
    tilt = np.where(sine > 1e-3, aside, up)
    tilt /= np.linalg.norm(tilt, axis=-1, keepdims=True)
    across = np.cross(ray, tilt)
    none = np.zeros((len(ray), 1))
    # Along the tilt of the eye against the line of sight an iris moves by its cosine only.
    moves = np.stack(
        [
            np.concatenate([np.einsum("ni,nij->nj", tilt, head), sine], 1) / np.clip(cosine, 0.3, 1.0),
            np.concatenate([np.einsum("ni,nij->nj", across, head), none], 1),
        ],
        1,
    )
    return np.asarray(np.einsum("nai,ij,naj->n", moves, covariance, moves) / 2)


def _normal_sample() -> Array:
    """A fixed, evenly spread sample of N(0, I), [_POINTS, 4]: Kronecker sequence of the generalised golden ratio."""
    ratio = 1.0
    for _ in range(60):
        ratio = (1 + ratio) ** 0.2  # root of x^5 = x + 1
    steps = ratio ** -np.arange(1.0, 5.0)
    part = np.asarray(ndtri((0.5 + np.arange(1, _POINTS // 4 + 1)[:, None] * steps) % 1.0))
    half = np.concatenate([part, part * [-1.0, 1.0, 1.0, 1.0]])  # a mirrored face has the mirrored offset
    return np.concatenate([half, -half])  # antithetic: its mean is exactly zero


_SAMPLE = _normal_sample()
