"""K-means of a few clusters, the best of several starts, by SciPy.

Scikit-learn's takes longer to import than to cluster an hour of sound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import ClusterError, kmeans2

Points = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]
TRIES, STEPS = 10, 30  # starts by k-means++ (Arthur and Vassilvitskii, 2007); steps of Lloyd, which settle before


def k_means(points: Points, count: int) -> Labels:
    """Cluster of each point, the best of :data:`TRIES` starts by summed squared distance. [N, D] -> [N] in [0, count).

    The same points give the same labels. All are of one cluster where there are not ``count`` different
    points, or every start leaves a cluster empty.
    """
    best, least = np.zeros(len(points), np.int64), np.inf
    if len(np.unique(points, axis=0)) < count:
        return best
    for start in range(TRIES):
        rng = np.random.default_rng(start)
        try:
            centres, label = kmeans2(points, count, iter=STEPS, minit="++", missing="raise", rng=rng)
        except ClusterError:  # a cluster lost all its points: no start to build on
            continue
        cost = float(((points - centres[label]) ** 2).sum(dtype=np.float64))
        if cost < least * (1 - 1e-6):
            best, least = label.astype(np.int64), cost
    return best
