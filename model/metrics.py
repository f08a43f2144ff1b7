"""The measures of the DualTalk board: FD, P-FD, MSE, SID and rPCC of expression, jaw and head pose.

Every measure is taken within one clip, over its own frames, and the board's figure is the plain mean over clips. The
definitions, orders and scale factors are those of the benchmark's published code, faults included where they define
the figure (SID's argument order); see ``docs/boards.md``. Needs SciPy and scikit-learn.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .dualtalk_format import GROUPS

Frames = npt.NDArray[np.floating]
CLUSTERS = {"exp": 40, "jaw": 10, "pose": 10}
# Published tables multiply by these.
_SIZES = {"exp": 1.0, "jaw": 1e3, "pose": 1e2}
SCALES: dict[str, dict[str, float]] = {
    "fd": _SIZES,
    "pfd": _SIZES,
    "mse": {"exp": 10.0, "jaw": 1e3, "pose": 1e2},
    "sid": dict.fromkeys(GROUPS, 1.0),
    "sid_reverse": dict.fromkeys(GROUPS, 1.0),
    "rpcc": {"exp": 1e2, "jaw": 10.0, "pose": 10.0},
}
KEYS: tuple[str, ...] = tuple(f"{measure}_{group}" for measure in SCALES for group in GROUPS)
_SINGULAR_EPS = 1e-6


def frechet_distance(x: Frames, y: Frames) -> float:
    """Fréchet distance of Gaussians fitted to two sets of frames (Dowson & Landau 1982).

    ``|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)``, covariances with n - 1. The matrix root is SciPy's, of the
    product, as the benchmark takes it; where that is not finite, 1e-6 is added to both diagonals.

    Args:
        x, y: [T, D] and [T', D], at least two frames each.

    Raises:
        ValueError: fewer than two frames, or numbers that are not finite.
    """
    from scipy import linalg

    if len(x) < 2 or len(y) < 2:
        raise ValueError("a covariance needs two frames")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("the motion holds NaN or infinity")
    mean = np.asarray(x.mean(axis=0) - y.mean(axis=0), np.float64)
    s1, s2 = (np.atleast_2d(np.cov(values, rowvar=False)) for values in (x, y))
    if not s1.any() or not s2.any():  # a constant side: the product and its root are zero
        return float(mean @ mean + np.trace(s1) + np.trace(s2))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # A singular product (more dimensions than frames, a held pose) has its root to about 1e-7 all the same.
        warnings.simplefilter("ignore")
        root = linalg.sqrtm(s1 @ s2)
        if not np.isfinite(root).all():
            eps = np.eye(len(s1)) * _SINGULAR_EPS
            root = linalg.sqrtm((s1 + eps) @ (s2 + eps))
    return float(mean @ mean + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real)


def paired_frechet_distance(predicted: Frames, truth: Frames, partner: Frames) -> float:
    """:func:`frechet_distance` of [partner, truth] against [partner, predicted], joined frame by frame: 2 D numbers."""
    return frechet_distance(np.concatenate([partner, truth], -1), np.concatenate([partner, predicted], -1))


def mean_squared_error(predicted: Frames, truth: Frames) -> float:
    """Over frames and dimensions."""
    return float(np.mean((predicted - truth) ** 2))


def diversity_index(fitted: Frames, assigned: Frames, clusters: int) -> float:
    """SID: entropy in bits of how ``assigned`` frames spread over k-means clusters of ``fitted`` frames.

    ``-sum p log2(p + 1e-6)``; at most log2(clusters). With clusters of the truth it asks whether a prediction visits
    what the person does; the benchmark's own call fits on the *prediction* and assigns the truth.

    Args:
        fitted, assigned: [T, D]. ``fitted`` with fewer distinct frames than clusters uses as many as it has.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if fitted.dtype != assigned.dtype:
        fitted, assigned = fitted.astype(np.float64), assigned.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct frames than clusters
        model = KMeans(n_clusters=min(clusters, len(fitted)), random_state=0, n_init="auto").fit(fitted)
    share = np.bincount(model.predict(assigned), minlength=clusters) / len(assigned)
    return float(-np.sum(share * np.log2(share + 1e-6)))


def residual_correlation(predicted: Frames, truth: Frames, partner: Frames) -> float:
    """rPCC: how far the correlation with the partner is from the true one; Pearson over all numbers, flattened.

    A constant sequence has no correlation; it counts as zero.
    """
    wanted, got = _correlation(truth, partner), _correlation(predicted, partner)
    return abs(wanted - got)


def _correlation(x: Frames, y: Frames) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x.reshape(-1), y.reshape(-1))[0, 1])


def clip_metrics(predicted: Frames, truth: Frames, partner: Frames) -> dict[str, float]:
    """Every measure of one predicted clip, unscaled; keys are :data:`KEYS`.

    Args:
        predicted: [T, 56] of one person. truth: [T', 56] of that person. partner: [T'', 56], the other's truth. All are
            cut to the shortest.
    """
    frames = min(len(predicted), len(truth), len(partner))
    out: dict[str, float] = {}
    for group, part in GROUPS.items():
        x, y, z = (motion[:frames, part] for motion in (predicted, truth, partner))
        out[f"fd_{group}"] = frechet_distance(x, y)
        out[f"pfd_{group}"] = paired_frechet_distance(x, y, z)
        out[f"mse_{group}"] = mean_squared_error(x, y)
        out[f"sid_{group}"] = diversity_index(y, x, CLUSTERS[group])
        out[f"sid_reverse_{group}"] = diversity_index(x, y, CLUSTERS[group])
        out[f"rpcc_{group}"] = residual_correlation(x, y, z)
    return {key: out[key] for key in KEYS}


def mean_metrics(clips: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The plain mean over predicted clips of each measure."""
    if not clips:
        raise ValueError("no clips")
    return {key: float(np.mean([clip[key] for clip in clips])) for key in KEYS}


def published(means: Mapping[str, float]) -> dict[str, float]:
    """Means multiplied by the board's scale factors."""
    out = {}
    for measure, scales in SCALES.items():
        for group, scale in scales.items():
            out[f"{measure}_{group}"] = means[f"{measure}_{group}"] * scale
    return out
