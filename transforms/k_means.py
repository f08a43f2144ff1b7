"""K-means of a few clusters (Lloyd, 1982; seeds by k-means++, Arthur and Vassilvitskii, 2007).

As scikit-learn's, whose import takes longer than all the clustering of an hour of sound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def k_means(points: Points, count: int, tries: int = 10, most_steps: int = 300) -> Labels:
    """Cluster of each point, the best of ``tries`` starts by summed squared distance. [N, D] -> [N] in [0, count).

    The same points give the same labels. No cluster is empty where there are ``count`` different points.
    """
    rng = np.random.default_rng(0)
    points = points - points.mean(axis=0)
    best, least = np.zeros(len(points), np.int64), np.inf
    for _ in range(tries):
        label, cost = _lloyd(points, _seeds(points, count, rng), most_steps)
        if cost < least * (1 - 1e-6):
            best, least = label, cost
    return best


def _distances(points: Points, centres: Points) -> Points:
    """Squared distances less each point's own square: [N, D], [K, D] -> [N, K]."""
    return np.asarray((centres**2).sum(axis=1) - 2 * points @ centres.T, np.float32)


def _seeds(points: Points, count: int, rng: np.random.Generator) -> Points:
    """Points far from each other: each next one the best of a few drawn by squared distance to those chosen."""
    squares = (points**2).sum(axis=1)
    chosen = [int(rng.integers(len(points)))]
    near = np.maximum(squares + _distances(points, points[chosen])[:, 0], 0)
    for _ in range(1, count):
        total = np.cumsum(near, dtype=np.float64)
        drawn = np.searchsorted(total, rng.uniform(0, total[-1], 2 + int(np.log(count))))
        drawn = np.minimum(drawn, len(points) - 1)
        after = np.minimum(near[:, None], np.maximum(squares[:, None] + _distances(points, points[drawn]), 0))
        best = int(after.sum(axis=0).argmin())
        chosen.append(int(drawn[best]))
        near = after[:, best]
    return np.asarray(points[chosen])


def _lloyd(points: Points, centres: Points, most_steps: int) -> tuple[Labels, float]:
    squares = (points**2).sum(axis=1)
    each, count = np.arange(len(points)), np.arange(len(centres))
    label = np.full(len(points), -1)
    for _ in range(most_steps):
        distance = _distances(points, centres)
        new = distance.argmin(axis=1)
        for empty in np.setdiff1d(count, new):  # it takes the point farthest from its centre
            new[(squares + distance[each, new]).argmax()] = empty
        if np.array_equal(new, label):
            break
        label = new
        members = (label[:, None] == count).astype(np.float32)
        centres = (members.T @ points) / np.maximum(members.sum(axis=0), 1)[:, None]
    return label, float(((points - centres[label]) ** 2).sum(dtype=np.float64))
