"""The board's measures: recorded results of its own code, exact small cases, baselines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from duologue.model.baselines import NearestNeighbour, copy_partner, mean_pose, oracle_mean, zero
from duologue.model.evaluate import score_dualtalk
from duologue.model.metrics import (
    KEYS,
    SCALES,
    clip_metrics,
    diversity_index,
    frechet_distance,
    mean_metrics,
    mean_squared_error,
    paired_frechet_distance,
    published,
    residual_correlation,
)
from duologue.schemas.errors import UsageError

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "dualtalk_metrics"
THEIR_NAMES = {"fd": "fid", "pfd": "p_fid", "mse": "mse", "sid_reverse": "sid", "rpcc": "rpcc"}


def walk(seed: int, frames: int, dims: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(frames, dims)) * 0.1, axis=0).astype(np.float32)


def test_recorded_results_of_the_published_code() -> None:
    if not GOLDEN.exists():
        pytest.skip("the recorded results are not here")
    expected = json.loads((GOLDEN / "expected.json").read_text())
    scored = score_dualtalk(GOLDEN / "truth", GOLDEN / "predictions", baselines=False)
    assert scored.files == 6
    assert not scored.missing
    for ours, theirs in THEIR_NAMES.items():
        for group in ("exp", "jaw", "pose"):
            tolerance = 1e-12 if ours.startswith("sid") else 1e-6
            assert scored.means[f"{ours}_{group}"] == pytest.approx(expected[f"{theirs}_{group}"], rel=tolerance), ours


def test_frechet_distance_of_known_gaussians() -> None:
    x = np.array([[-1.0, 0], [1, 0], [0, -2], [0, 2]])
    assert frechet_distance(x, x + np.array([3, 4])) == pytest.approx(25.0)
    # Diagonal covariances: sum of squared differences of the standard deviations.
    s1, s2 = np.sqrt(np.diag(np.cov(x, rowvar=False))), np.sqrt(np.diag(np.cov(x * [2, 5], rowvar=False)))
    assert frechet_distance(x, x * [2, 5]) == pytest.approx(((s1 - s2) ** 2).sum())
    one = np.array([[0.0], [2.0]])
    assert frechet_distance(one, 3 * one) == pytest.approx((3 - 1) ** 2 + 2 * (3 - 1) ** 2)
    with pytest.raises(ValueError, match="two frames"):
        frechet_distance(x[:1], x)


@pytest.mark.parametrize("frames", [300, 60])  # more dimensions than frames: singular
def test_frechet_distance_by_eigenvalues(frames: int) -> None:
    x, y = walk(0, frames, 100), walk(1, frames, 100)
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(s1)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    product = np.sqrt(np.clip(np.linalg.eigvalsh(root.T @ s2 @ root), 0, None)).sum()
    mean = x.mean(0) - y.mean(0)
    wanted = mean @ mean + np.trace(s1) + np.trace(s2) - 2 * product
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-6)


def test_a_held_pose_has_no_warning_and_the_truths_spread_as_distance(recwarn: pytest.WarningsRecorder) -> None:
    truth, partner = walk(0, 120, 50), walk(1, 120, 50)
    held = oracle_mean(truth)
    spread = np.trace(np.cov(truth, rowvar=False))
    assert frechet_distance(held, truth) == pytest.approx(spread, rel=1e-5)
    assert paired_frechet_distance(held, truth, partner) > 0
    assert diversity_index(truth, held, 40) == pytest.approx(0, abs=1e-5)
    diversity_index(held, truth, 40)
    assert residual_correlation(zero(truth), truth, partner) == pytest.approx(
        abs(np.corrcoef(truth.ravel(), partner.ravel())[0, 1])
    )
    assert not [w for w in recwarn if issubclass(w.category, (RuntimeWarning, UserWarning))]


def test_paired_distance_sees_what_the_plain_one_cannot() -> None:
    truth, partner = walk(0, 400, 3), walk(1, 400, 3)
    turned = truth[::-1]  # the same frames in another order: the same Gaussian, another relation to the partner
    assert frechet_distance(turned, truth) == pytest.approx(0, abs=1e-6)
    assert paired_frechet_distance(turned, truth, partner) > 0.01
    assert paired_frechet_distance(truth, truth, partner) == pytest.approx(0, abs=1e-5)


def test_diversity_is_the_entropy_of_visited_clusters() -> None:
    corners = np.repeat(np.eye(4), 25, axis=0)
    assert diversity_index(corners, corners, 4) == pytest.approx(2.0, abs=1e-4)
    assert diversity_index(corners, corners[:50], 4) == pytest.approx(1.0, abs=1e-4)
    assert diversity_index(corners[:50], corners[:50].astype(np.float32), 10) == pytest.approx(1.0, abs=1e-4)
    assert diversity_index(corners[:3], corners[:3], 10) == pytest.approx(0.0, abs=1e-4)  # three frames, one place


def test_small_exact_measures() -> None:
    truth = np.array([[0.0, 1.0], [2.0, 3.0]])
    assert mean_squared_error(truth + 2, truth) == 4
    assert residual_correlation(-truth, truth, truth) == pytest.approx(2)
    assert residual_correlation(truth, truth, truth[::-1]) == pytest.approx(0)


def test_a_clip_is_cut_to_the_shortest_and_all_keys_are_there() -> None:
    own, partner = walk(0, 61, 56), walk(1, 63, 56)
    exact = clip_metrics(own, own[:60], partner)
    assert tuple(exact) == KEYS
    assert max(exact[f"{m}_{g}"] for m in ("mse", "rpcc") for g in ("exp", "jaw", "pose")) == 0
    assert exact["fd_exp"] == pytest.approx(0, abs=1e-5)
    assert exact["sid_exp"] == exact["sid_reverse_exp"] > 3
    mean = mean_metrics([exact, {key: value + 2 for key, value in exact.items()}])
    assert mean["mse_jaw"] == pytest.approx(1)
    scaled = published(mean)
    assert [scaled[k] / mean[k] for k in ("fd_exp", "fd_jaw", "pfd_pose", "mse_exp", "rpcc_exp", "sid_pose")] == (
        pytest.approx([1, 1000, 100, 10, 100, 1])
    )
    assert set(scaled) == set(KEYS)
    assert len(SCALES) == 6
    with pytest.raises(ValueError, match="no clips"):
        mean_metrics([])


def test_baselines() -> None:
    own, partner = walk(0, 30, 56), walk(1, 20, 56)
    assert not zero(own).any()
    np.testing.assert_allclose(oracle_mean(own)[[0, -1]], own.mean(0)[None].repeat(2, 0), atol=1e-6)
    np.testing.assert_array_equal(mean_pose(own.mean(0), 7), own.mean(0)[None].repeat(7, 0))
    copied = copy_partner(partner, 30)
    np.testing.assert_array_equal(copied[:20], partner)
    np.testing.assert_array_equal(copied[20:], partner[-1:].repeat(10, 0))


def test_nearest_neighbour_answers_as_the_training_person_did() -> None:
    clips = [(walk(2 * k, 130, 56), walk(2 * k + 1, 130, 56)) for k in range(4)]
    library = NearestNeighbour.of(clips, segment=50, step=5)
    own, partner = clips[2]
    rng = np.random.default_rng(0)
    noisy = partner + rng.normal(size=partner.shape).astype(np.float32) * 0.01
    np.testing.assert_array_equal(library.predict(noisy[:100], 100)[0], own[:100])
    assert library.predict(partner[:70], 75).shape == (1, 75, 56)
    four = library.predict(partner[:50], 50, 4)  # from the nearest to the fourth
    np.testing.assert_array_equal(four[0], own[:50])
    away = [float(np.abs(library.answers - one).sum((1, 2)).argmin()) for one in four]
    keys = library.keys[np.asarray(away, int)]
    assert (np.diff(((keys - partner[:50][::5].reshape(-1)) ** 2).sum(1)) > 0).all()
    with pytest.raises(UsageError, match="9 nearest of 8 segments"):
        library.predict(partner, 50, 9)
    np.testing.assert_allclose(library.mean, np.concatenate([own for own, _ in clips]).mean(0), atol=1e-5)
    with pytest.raises(UsageError, match="no training clip"):
        NearestNeighbour.of([(own[:20], partner[:20])])
