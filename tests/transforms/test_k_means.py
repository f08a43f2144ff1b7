"""K-means: clusters that stand apart are found, and no worse than scikit-learn's where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.transforms.k_means import k_means


def unit_rows(rng: np.random.Generator, count: int, clusters: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Points on the unit sphere around ``clusters`` directions, and whose they are."""
    whose = np.concatenate([np.arange(clusters), rng.integers(clusters, size=count - clusters)])
    points = apart * rng.normal(size=(clusters, 64))[whose] + rng.normal(size=(count, 64))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), whose


def cost(points: np.ndarray, label: np.ndarray) -> float:
    return float(sum(((points[label == k] - points[label == k].mean(axis=0)) ** 2).sum() for k in np.unique(label)))


@pytest.mark.parametrize("clusters", [1, 2, 3, 6])
def test_clusters_that_stand_apart_are_found(clusters: int) -> None:
    points, whose = unit_rows(np.random.default_rng(clusters), 150, clusters, 3.0)
    label = k_means(points, clusters)
    assert len(set(zip(label.tolist(), whose.tolist(), strict=True))) == clusters
    assert np.array_equal(label, k_means(points, clusters))


def test_no_worse_than_scikit_learn_on_what_overlaps() -> None:
    from sklearn.cluster import KMeans

    rng, excess = np.random.default_rng(1), []
    for _ in range(30):
        clusters = int(rng.integers(2, 6))
        points, _ = unit_rows(rng, int(rng.integers(30, 300)), clusters, rng.uniform(0.1, 0.8))
        theirs = cost(points, KMeans(clusters, n_init=10, random_state=0).fit(points).labels_)
        excess.append(cost(points, k_means(points, clusters)) / theirs - 1)
    assert np.mean(excess) < 1e-3
    assert max(excess) < 0.02


def test_points_that_are_all_one() -> None:
    label = k_means(np.ones((5, 3), np.float32), 2)
    assert label.shape == (5,)
    assert set(label) <= {0, 1}
