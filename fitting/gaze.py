"""Gaze from irises and fitted eyeballs: rays, blinks, the personal offset, looking at the partner, mutual gaze.

An eye's optical axis runs from the eyeball's centre through the iris centre; the iris centre lies where its viewing ray
first meets the sphere of radius ``rho`` about the eyeball's centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import chndtr

from ..schemas.heads import HeadTrack
from ..schemas.tracks import LEFT_IRIS, RIGHT_IRIS
from .camera import Camera
from .common_gaze import NOISE_SHARE, OUTWARD, common_gaze, iris_evidence
from .eyeball_evidence import EyeballEvidence, eyeball_evidence
from .fixations import find_fixations, smooth_fixations
from .rotations import exp_so3
from .trajectory import Resampling

Array = npt.NDArray[np.float64]

BLINK_APERTURE = 0.6  # of the track's median lid aperture: below it too little of the iris is seen
APPEARANCE_SD = np.radians(4.0)  # per axis and frame: networks reach 4 to 10 degrees on people they have not seen
ENTER_DEG, LEAVE_DEG, SHORTEST_S = 12.0, 16.0, 0.2
_FACE_FORWARD = np.array([1.0, 1.0, -1.0])
_APART_SD = 0.004  # metres, of the fitted distance between the eyeballs, whatever the head model
_PAIRED_FRAMES, _PAIRED_MOST = 8, 40
PARTNER_SHARE = 0.5  # of gaze, while the eyes can reach the partner: mutual gaze is some 60 % of a live talk
PARTNER_SD = np.radians(4.0)  # a fixation "on the partner" is on an eye, the mouth, the brow
REACH = np.radians(42.0)  # eyes rarely turn further in the head; half of the prior's share is left there
REACH_SD = np.radians(3.0)
CENTRE_SD = np.radians((12.0, 8.0))  # elsewhere eyes are centred in the head: yaw, pitch
FACE_RADIUS = 0.10  # metres: a gaze that passes the partner's eyes within this looks at the face
# subject's left, right: upper lid, lower lid, inner corner, outer corner
_LIDS = ((386, 374, 362, 263), (159, 145, 133, 33))


@dataclass(frozen=True)
class GazeTrack:
    """Gaze of one person over T clip frames; NaN where blinking or not valid.

    Attributes:
        direction: [T, 3] unit vectors, camera frame: mean of both optical axes.
        eyes: [T, 2, 3] axis-angle of (left, right) eyeball relative to the head, model frame; zero looks along +z.
        noise_sd: [T] radians, from the irises' and eyeballs' places.
        blink: [T] lids closed (False where not valid).
        head: [T, 3, 3] rotation, model to camera.
        eyeballs: what the measured frames' fixations say of the eyeballs; None where there are no irises, or not
            exact ones.
    """

    direction: npt.NDArray[np.float32]
    eyes: npt.NDArray[np.float32]
    noise_sd: npt.NDArray[np.float32]
    blink: npt.NDArray[np.bool_]
    head: Array
    eyeballs: EyeballEvidence | None = None


def gaze_rays(
    irises: npt.NDArray[np.floating], eyeballs: npt.NDArray[np.floating], radius: float, camera: Camera
) -> Array:
    """Optical axes, camera frame.

    Args:
        irises: [..., 2] pixels, iris centres. eyeballs: [..., 3] metres, eyeball centres, camera frame.
        radius: metres from eyeball centre to iris centre.

    Returns:
        [..., 3] unit vectors. A ray that misses the sphere takes the direction of its closest point.
    """
    d = np.concatenate([camera.normalise(irises), np.ones((*irises.shape[:-1], 1))], -1)
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    along = (d * eyeballs).sum(-1, keepdims=True)
    miss2 = (eyeballs * eyeballs).sum(-1, keepdims=True) - along * along
    half = np.sqrt(np.maximum(radius * radius - miss2, 0.0))
    g = (along - half) * d - eyeballs  # near root
    return np.asarray(g / np.maximum(np.linalg.norm(g, axis=-1, keepdims=True), 1e-12))


def lid_aperture(landmarks: npt.NDArray[np.floating]) -> Array:
    """Lid distance over eye width, (left, right): [N, 478, >=2] -> [N, 2]."""
    out = []
    for upper, lower, inner, outer in _LIDS:
        gap = np.linalg.norm(landmarks[:, upper, :2] - landmarks[:, lower, :2], axis=-1)
        width = np.linalg.norm(landmarks[:, inner, :2] - landmarks[:, outer, :2], axis=-1)
        out.append(gap / np.maximum(width, 1e-6))
    return np.stack(out, -1)


def eyes_open(landmarks: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """[N, 2] (left, right): the lids are not closed, judged against the track's own median aperture."""
    aperture = lid_aperture(landmarks)
    return np.asarray(aperture >= BLINK_APERTURE * np.nanmedian(aperture, axis=0))


def paired_eyeballs(
    irises: npt.NDArray[np.floating], rotation: Array, eyeballs: Array, radius: float, camera: Camera,
    opened: npt.NDArray[np.bool_],
) -> Array:  # fmt: skip
    """How far the fitted eyeballs are from a pair whose eyes look the same way: [N, 2, 3] metres, camera frame.

    An eyeball fitted 1 mm off turns its optical axis by 5.4 degrees, and which eye is trusted changes with the head's
    turn. Two people a metre apart converge their eyes by under 4 degrees, so that a larger constant disagreement
    between one's own eyes is a wrong spacing or height of the eyeballs: these two numbers of a track are solved for, by
    Gauss-Newton with Cauchy weights. The part common to both eyes cannot be seen this way (see `personal_offset`).
    """
    head = np.einsum("nij,nei->nej", rotation, eyeballs)
    apart = np.zeros(2)  # left minus right eyeball, half of it each, x and y of the model frame
    towards = -(np.einsum("nij,ej->nei", rotation, OUTWARD) * eyeballs).sum(-1)
    towards = towards / np.linalg.norm(eyeballs, axis=-1)
    rows = opened.all(1) & (towards > 0.3).all(1) & np.isfinite(irises).all((1, 2))
    rows &= _readable(gaze_rays(irises, eyeballs, radius, camera), eyeballs).all(1)
    if rows.sum() < _PAIRED_FRAMES:
        return np.zeros_like(eyeballs)
    r, seen, balls = rotation[rows], irises[rows], head[rows]
    sides = np.array([0.5, -0.5])[:, None]

    def disagreement(shift: Array) -> Array:
        moved = balls + sides * np.array([*shift, 0.0])
        rays = gaze_rays(seen, np.einsum("nij,nej->nei", r, moved), radius, camera)
        angles = angles_of(np.einsum("nij,nei->nej", r, rays))
        return np.asarray(angles[:, 0] - angles[:, 1])  # [n, 2]

    step = 1e-4
    prior = _APART_SD**-2
    for _ in range(6):
        e = disagreement(apart)
        jacobian = np.stack([(disagreement(apart + step * axis) - e) / step for axis in np.eye(2)], -1)  # [n, 2, 2]
        scale = max(1.4826 * float(np.median(np.abs(e - np.median(e, axis=0)))), np.radians(1.0))
        weight = 1 / (1 + (e**2).sum(-1) / (3 * scale) ** 2) / scale**2
        # The frames share their errors: they count as no more than a few dozen.
        weight *= min(1.0, _PAIRED_MOST / len(e))
        normal = np.einsum("n,nki,nkj->ij", weight, jacobian, jacobian) + prior * np.eye(2)
        slope = np.einsum("n,nki,nk->i", weight, jacobian, e) + prior * apart
        apart = np.clip(apart - np.linalg.solve(normal, slope), -0.012, 0.012)
    return np.asarray(np.einsum("nij,ej->nei", rotation, sides * np.array([*apart, 0.0])))


def solve_gaze(
    landmarks: npt.NDArray[np.floating],
    rotation: Array,
    eyeballs: Array,
    radius: float,
    camera: Camera,
    times: Array,
    plan: Resampling,
    appearance: npt.NDArray[np.floating] | None = None,
    iris_error: float = 0.0,
    foreign: float = 0.0,
) -> GazeTrack:
    """Gaze at the N measured frames, smoothed between saccades, resampled to the clip clock.

    Args:
        landmarks: [N, 478, >=2] pixels. rotation: [N, 3, 3] model to camera. eyeballs: [N, 2, 3] metres (left, right).
        radius: metres, eyeball centre to iris centre. times: [N] seconds.
        appearance: [N, 3] gaze by an appearance model, camera frame, NaN where none; it then takes the irises' place.
        iris_error: radians, of what no averaging over a fixation removes (see ``FitOptions``).
        foreign: metres of anatomy beyond the head model.
    """
    irises = landmarks[:, [LEFT_IRIS[0], RIGHT_IRIS[0]], :2]
    opened = eyes_open(landmarks)
    eyeballs = eyeballs + paired_eyeballs(irises, rotation, eyeballs, radius, camera, opened)
    rays = gaze_rays(irises, eyeballs, radius, camera)  # [N, 2, 3]
    local = np.einsum("nij,nei->nej", rotation, rays)  # model frame, +z is straight ahead
    usable = opened & np.isfinite(local).all(-1)

    angles = angles_of(np.nan_to_num(local))  # [N, 2, 2] yaw, pitch
    mean, unsure = common_gaze(irises, rotation, eyeballs, radius, camera, usable)
    noise = NOISE_SHARE * unsure
    seen = np.isfinite(noise)
    # Eyes keep their own vergence (a constant of the track is not noise), and share the smoothed version.
    own = np.where((usable & _readable(rays, eyeballs))[..., None], angles - mean[:, None], np.nan)
    balls = None
    if appearance is not None:
        mean = angles_of(np.nan_to_num(np.einsum("nij,ni->nj", rotation, appearance.astype(np.float64)), nan=0.0))
        seen = opened.any(-1) & np.isfinite(appearance).all(-1)
        noise = np.where(seen, APPEARANCE_SD, np.nan)
        steady, smooth_sd = smooth_fixations(direction_of(mean), rotation, noise, times)
        smooth = angles_of(steady)
    else:
        fixations = find_fixations(direction_of(mean), rotation, noise, times)
        smooth, smooth_sd = mean, noise
        if fixations is not None:
            evidence = iris_evidence(irises, rotation, eyeballs, radius, camera, usable, iris_error * radius)
            smooth, smooth_sd = evidence.pooled(fixations, rotation).direction()
            if iris_error == 0:  # a detector's own errors at the rim are larger than parallax
                balls = eyeball_evidence(evidence, fixations, rotation, direction_of(smooth), foreign)
    vergence = np.nan_to_num(_nanmedian(own))
    eyes = _eye_vectors(smooth[:, None] + vergence[None])
    # Two unit vectors of slightly different yaw: their mean direction is the direction of the mean angles.
    direction = np.einsum("nij,nj->ni", rotation, direction_of(smooth))

    blink = _nearest(~seen, plan)
    direction_out = plan.linear(direction).astype(np.float64)
    direction_out /= np.linalg.norm(direction_out, axis=-1, keepdims=True)
    head = plan.rotation(rotation)
    hidden = blink | ~plan.valid
    direction_out[hidden] = np.nan
    eyes_out = plan.linear(eyes)
    noise_out = plan.linear(smooth_sd)
    noise_out[hidden] = np.nan
    return GazeTrack(direction_out.astype(np.float32), eyes_out, noise_out, blink & plan.valid, head, balls)


def _readable(rays: Array, eyeballs: Array) -> npt.NDArray[np.bool_]:
    """[..., 2] the eye looks within 53 degrees of the camera: nearer the rim its angle is not its own."""
    return np.asarray(-(rays * eyeballs).sum(-1) / np.linalg.norm(eyeballs, axis=-1) > 0.6)


def angles_of(d: npt.NDArray[np.floating]) -> Array:
    """Unit vectors [..., 3] about +z to (yaw toward +x, pitch toward +y), radians."""
    return np.stack([np.arctan2(d[..., 0], d[..., 2]), np.arcsin(np.clip(d[..., 1], -1, 1))], -1)


def direction_of(a: npt.NDArray[np.floating]) -> Array:
    yaw, pitch = a[..., 0], a[..., 1]
    return np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], -1)


def _eye_vectors(angles: Array) -> Array:
    """Shortest rotation from +z to the direction, axis-angle [..., 3]."""
    d = direction_of(angles)
    axis = np.stack([-d[..., 1], d[..., 0], np.zeros_like(d[..., 0])], -1)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, d[..., 2:])
    return np.where(sine > 1e-12, axis * angle / np.maximum(sine, 1e-12), axis)


def _nanmedian(values: Array) -> Array:
    out = np.zeros(values.shape[1:])
    for e in range(values.shape[1]):
        good = values[np.isfinite(values[:, e]).all(-1), e]
        if len(good):
            out[e] = np.median(good, axis=0)
    return out


def _nearest(flags: npt.NDArray[np.bool_], plan: Resampling) -> npt.NDArray[np.bool_]:
    """A resampled frame is flagged where either neighbour it leans on is."""
    lean_after = plan.fraction > 1e-3
    return np.asarray(flags[plan.before] | (flags[plan.after] & lean_after))


def looking_at_partner(
    gaze: npt.NDArray[np.floating], eyes: npt.NDArray[np.floating], partner: npt.NDArray[np.floating]
) -> npt.NDArray[np.float32]:
    """Angle between the gaze and the direction to the partner's eyes, [T] radians; NaN where unknown."""
    d = partner.astype(np.float64) - eyes
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    g = gaze.astype(np.float64)
    return np.arctan2(np.linalg.norm(np.cross(g, d), axis=-1), (g * d).sum(-1)).astype(np.float32)


def probability_within(
    angle: npt.NDArray[np.floating], sd: npt.NDArray[np.floating], limit: npt.NDArray[np.floating]
) -> Array:
    """P(true angle < limit) when both components of the direction carry Gaussian noise of ``sd`` (Rice), [T]."""
    s2 = np.maximum(sd.astype(np.float64), 1e-3) ** 2
    return np.asarray(chndtr(limit.astype(np.float64) ** 2 / s2, 2, angle.astype(np.float64) ** 2 / s2))


def looking_probability(
    angle: npt.NDArray[np.floating],
    sd: npt.NDArray[np.floating],
    elsewhere: npt.NDArray[np.floating],
    share: npt.NDArray[np.floating],
    distance: npt.NDArray[np.floating],
    fps: float,
) -> Array:
    """Probability that a person looks at the partner's face, given the measured gaze, with hysteresis.

    The prior of the true direction is a mixture, the one that also finds the personal offset: on the partner, or
    somewhere about where the head points. A measurement that is sure decides alone; one that is not leaves the prior.
    (The stored gaze was drawn to the partner by the same prior; how far the probability is right is measured on films,
    see docs/accuracy.md.)
    Inside a bout the limit is 16 degrees, outside 12 (or the angle under which the face is seen, if larger); a bout
    starts once the probability stays over one half for 0.2 s.

    Args:
        angle, sd: [T] radians. distance: [T] metres to the partner. NaN where unknown (result NaN, bout ends).
        elsewhere: [T] density of the measured direction, per square radian, if the partner is not looked at.
        share: [T] prior probability that the partner is looked at.
    """
    angle, variance = angle.astype(np.float64), np.maximum(sd.astype(np.float64), 1e-3) ** 2
    spread = variance + PARTNER_SD**2
    at_partner = share * np.exp(-0.5 * angle**2 / spread) / (2 * np.pi * spread)
    with np.errstate(invalid="ignore"):
        weight = at_partner / np.maximum(at_partner + (1 - share) * elsewhere, 1e-300)
    drawn = PARTNER_SD**2 / spread  # of the measured angle: what is left of it on the way to the partner
    face = np.arctan(FACE_RADIUS / np.maximum(np.nan_to_num(distance.astype(np.float64), nan=1.0), 0.05))

    def within(degrees: float) -> Array:
        limit = np.maximum(np.radians(degrees), face)
        there = probability_within(angle * drawn, np.sqrt(variance * drawn), limit)
        return np.asarray(weight * there + (1 - weight) * probability_within(angle, np.sqrt(variance), limit))

    enter, leave = within(ENTER_DEG), within(LEAVE_DEG)
    needed = max(round(SHORTEST_S * fps), 1)
    out = enter.copy()
    start = 0
    while start < len(out):
        if not enter[start] > 0.5:
            start += 1
            continue
        end = start
        while end < len(out) and leave[end] > 0.5:
            end += 1
        strong = 0
        while start + strong < end and enter[start + strong] > 0.5:
            strong += 1
        if strong >= needed:
            out[start:end] = leave[start:end]
        start = max(end, start + 1)
    return out


def mutual_gaze(
    a: HeadTrack, b: HeadTrack, distance: npt.NDArray[np.floating], direction_sd: npt.NDArray[np.floating], fps: float
) -> tuple[Array, Array, Array]:
    """Probability that both look at the other's face, and that each does: three arrays [T], NaN where unknown.

    Args:
        distance: [T] metres between the heads. direction_sd: [T] radians, of the direction from one to the other.
    """
    sides = []
    for track, partner in ((a, b), (b, a)):
        angle = looking_at_partner(track.gaze, track.head_centre, partner.head_centre)
        sd = np.hypot(track.gaze_sd.astype(np.float64), direction_sd)
        head = rotate(track.rotation)  # its -z is where the face points
        own = np.einsum("tij,ti->tj", head, track.gaze.astype(np.float64))
        spread = np.hypot(CENTRE_SD, sd[:, None])
        off = angles_of(own * _FACE_FORWARD) / spread
        elsewhere = np.exp(-0.5 * (off**2).sum(-1)) / (2 * np.pi * spread.prod(-1))
        turned = looking_at_partner(-head[:, :, 2], track.head_centre, partner.head_centre)
        unsure = np.sqrt(across_variance(track.rotation_sd, -head[:, :, 2]) + direction_sd**2 + REACH_SD**2)
        reach = probability_within(turned, unsure, np.full(len(turned), REACH))
        sides.append(looking_probability(angle, sd, elsewhere, PARTNER_SHARE * reach, distance, fps))
    return sides[0] * sides[1], sides[0], sides[1]


def across_variance(rotation_sd: npt.NDArray[np.floating], direction: npt.NDArray[np.floating]) -> Array:
    """Mean variance per axis, [T], by which ``rotation_sd`` [T, 3] moves a direction [T, 3] that turns with the head.

    A turn about the direction itself does not move it; one about an axis across it moves it by the whole turn.
    """
    across = 1 - direction.astype(np.float64) ** 2
    return np.asarray((across * rotation_sd.astype(np.float64) ** 2).sum(-1) / 2)


def rotate(vector: npt.NDArray[np.floating]) -> Array:
    """Axis-angle [..., 3] to matrices, numpy."""
    return np.asarray(exp_so3(torch.as_tensor(np.asarray(vector, dtype=np.float64))).numpy())
