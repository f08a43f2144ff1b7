"""Gaze between saccades: exact posterior mean over every way to cut a track into fixations.

A fixation holds a place in the world (the eyes turn against the head, the vestibulo-ocular reflex) or a place in the
head (the eyes rest while it turns). Fixations end at random; what is measured of one is its direction with noise. The
sum over all segmentations is exact and linear in time (Fearnhead, Exact and efficient Bayesian inference for multiple
changepoint problems, Statistics and Computing 16, 2006), so that a saccade is neither smoothed over nor missed because
an iteration started badly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MEAN_FIXATION_S = 0.4
LONGEST_FIXATION_S = 2.5  # longer ones are cut, which costs nothing but a little noise
PRIOR_SD = np.radians(20.0)  # of a fixation's direction, per axis


@dataclass(frozen=True)
class Fixations:
    """How likely a track of N frames is cut where.

    Attributes:
        shares: [2, N, L] probability that the l frames before frame e, at [e - 1, l - 1], are one fixation that is held
            in the head, or in the world.
    """

    shares: Array

    def pooled(self, head: Array, world: Array) -> tuple[Array, Array]:
        """Sum over each frame's fixation, in expectation: of what is held in the head, and in the world.

        Args:
            head, world: [N, K] values of the frames, in either frame.

        Returns:
            [N, K] each.
        """
        longest = self.shares.shape[2]
        return (
            _covering(self.shares[0][..., None] * _windows(head, longest)),
            _covering(self.shares[1][..., None] * _windows(world, longest)),
        )


def find_fixations(directions: Array, rotation: Array, sd: Array, times: Array) -> Fixations | None:
    """Every way to cut a track into fixations, weighed.

    Args:
        directions: [N, 3] unit vectors in the head's frame; anything finite where not measured.
        rotation: [N, 3, 3] head to camera.
        sd: [N] radians per axis, NaN where not measured. times: [N] seconds, rising.

    Returns:
        None where nothing was measured at all, or only one frame.
    """
    n = len(directions)
    weight = _weights(sd)
    if n < 2 or not weight.any():
        return None
    step = np.diff(times)
    longest = int(np.clip(np.ceil(LONGEST_FIXATION_S / max(float(np.median(step)), 1e-3)), 1, n))
    _, _, evidence = _segments(weight, _both_frames(directions, rotation, weight), longest)
    log_stay = np.concatenate([[0.0], np.cumsum(-step / MEAN_FIXATION_S)])
    log_leave = np.log(-np.expm1(-np.maximum(step, 1e-4) / MEAN_FIXATION_S))

    # table[e - 1, l - 1]: the segment of the l frames before frame e, all its frames but none of its neighbours.
    end, length = np.arange(1, n + 1)[:, None], np.arange(1, longest + 1)[None]
    start = end - length
    inside = start >= 0
    own = np.where(inside, log_stay[end - 1] - log_stay[np.maximum(start, 0)], -np.inf)
    both = np.logaddexp(evidence[0], evidence[1]) - np.log(2.0)
    table = own + both
    forward, backward = np.zeros(n + 1), np.zeros(n + 1)
    leave = np.concatenate([log_leave, [0.0]])
    for e in range(1, n + 1):
        m = min(longest, e)
        forward[e] = _log_sum(table[e - 1, :m] + forward[e - m : e][::-1]) + leave[e - 1]
    for s in range(n - 1, -1, -1):
        ends = np.arange(s + 1, min(s + longest, n) + 1)
        backward[s] = _log_sum(table[ends - 1, ends - 1 - s] + leave[ends - 1] + backward[ends])
    posterior = np.exp(
        np.where(inside, table + forward[np.maximum(start, 0)] + leave[end - 1] + backward[end] - forward[n], -np.inf)
    )
    shares = [
        posterior * np.exp(evidence[k] - np.log(2.0) - both, where=inside, out=np.zeros_like(both)) for k in range(2)
    ]
    return Fixations(np.stack(shares))


def smooth_fixations(directions: Array, rotation: Array, sd: Array, times: Array) -> tuple[Array, Array]:
    """Smooth gaze within fixations, keep saccades sharp.

    Args: of :func:`find_fixations`.

    Returns:
        Unit vectors [N, 3] in the head's frame and their sd [N] per axis; frames without a measurement are bridged.
        Both as given where nothing was measured at all.
    """
    found = find_fixations(directions, rotation, sd, times)
    if found is None:
        return directions, sd
    weight = _weights(sd)
    total, means, _ = _segments(weight, _both_frames(directions, rotation, weight), found.shares.shape[2])
    out = np.zeros((len(directions), 3))
    square, left = np.zeros(len(directions)), np.zeros(len(directions))
    for k, (share, mean) in enumerate(zip(found.shares, means, strict=True)):
        here = _covering(share[..., None] * mean)
        out += here if k == 0 else np.einsum("nij,ni->nj", rotation, here)
        square += _covering(share * (mean**2).sum(-1))
        left += _covering(share / (total + PRIOR_SD**-2))
    spread = np.maximum(square - (out**2).sum(-1), 0.0) / 2
    return out / np.maximum(np.linalg.norm(out, axis=-1, keepdims=True), 1e-12), np.sqrt(left + spread)


def _weights(sd: Array) -> Array:
    return np.where(np.isfinite(sd), 1 / np.maximum(np.nan_to_num(sd, nan=1.0), 1e-4) ** 2, 0.0)


def _both_frames(directions: Array, rotation: Array, weight: Array) -> tuple[Array, Array]:
    seen = np.where(weight[:, None] > 0, directions, 0.0)
    return seen, np.einsum("nij,nj->ni", rotation, seen)  # fixed in the head, fixed in the world


def _windows(values: Array, longest: int) -> Array:
    """Sums of the l frames before frame e, at [e - 1, l - 1]: [N, ...] to [N, L, ...]."""
    c = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, 0)])
    start = np.maximum(np.arange(1, len(values) + 1)[:, None] - np.arange(1, longest + 1), 0)
    return np.asarray(c[1:, None] - c[start])


def _segments(weight: Array, frames: tuple[Array, Array], longest: int) -> tuple[Array, list[Array], list[Array]]:
    """Of the segment of the l frames before frame e, at [e - 1, l - 1]: weight, mean direction and log evidence."""
    total = _windows(weight, longest)
    precision = PRIOR_SD**-2
    means, evidence = [], []
    for d in frames:
        centre = d[weight > 0].mean(0)  # the prior's mean for what is fixed in the world; close to it in the head
        moved = _windows(weight[:, None] * (d - centre), longest)
        square = _windows(weight * ((d - centre) ** 2).sum(-1), longest)
        shift = moved / (total + precision)[..., None]
        means.append(centre + shift)
        evidence.append(-0.5 * (square - (moved * shift).sum(-1)) - np.log1p(total / precision))
    return total, means, evidence


def _covering(values: Array) -> Array:
    """Sum at every frame over the segments that cover it: [N, L, ...] to [N, ...]."""
    n, longest = values.shape[:2]
    change = np.zeros((n + 1, *values.shape[2:]))
    change[1:] -= values.sum(1)  # a segment ends before frame e
    for length in range(1, longest + 1):
        change[: n + 1 - length] += values[length - 1 :, length - 1]
    return np.asarray(np.cumsum(change, 0)[:n])


def _log_sum(values: Array) -> float:
    top = values.max()
    return float(top + np.log(np.exp(values - top).sum())) if np.isfinite(top) else float("-inf")
