import numpy as np
import pytest
from duologue.fitting.canonical import canonical_skin
from duologue.schemas.tracks import face_scale_px
from duologue.synthesis.dress import FLIP
from duologue.synthesis.landmark_bias import REAL_SHARE, Stills, learn, shared_with_real
from duologue.synthesis.motion import head_rotation


@pytest.fixture(scope="module")
def stills() -> Stills:
    """A network that turns faces by four fifths of their yaw, adds a person's own constant, and lowers the irises."""
    rng = np.random.default_rng(3)
    skin = canonical_skin()[0]
    irises = np.concatenate([np.repeat(skin[[a, b]].mean(0)[None], 5, 0) for a, b in ((33, 133), (263, 362))])
    head = np.concatenate([skin, irises])
    n = 90
    yaw, zero = rng.uniform(-1.0, 1.0, n), np.zeros(n)
    person = np.arange(n) % 3
    own = rng.normal(0.0, 0.0003, (3, 1, 3))[person] * np.array([1.0, 1.0, 0.0])

    def pixels(turned: np.ndarray, points: np.ndarray) -> np.ndarray:
        rotation = head_rotation(turned, rng.normal(0.0, 1e-6, n), zero)
        return np.einsum("nij,nlj->nli", rotation @ FLIP, points) * 900.0 + np.array([300.0, 200.0, 0.0])

    true = pixels(yaw, np.broadcast_to(head, (n, 478, 3)))
    seen = pixels(0.8 * yaw, head + own).astype(np.float32)
    seen[:, 468:, 1] += 1.0
    return Stills(seen, true, head_rotation(yaw, zero, zero), np.full(n, 900.0), person, np.full(n, "x"),
                  np.zeros((n, 1)), np.zeros((n, 3)))  # fmt: skip


def test_a_regular_bias_is_learned_and_what_is_a_persons_own_is_not(stills: Stills) -> None:
    bias = learn(stills)
    turned = np.abs(stills.rotation[:, 0, 2]) > 0.4
    before, after = (
        np.abs(stills.true[:, :468] - points[:, :468])[turned, :, :2].mean()
        for points in (stills.seen, bias.correct(stills.seen))
    )
    assert before > 1.5
    assert after < 0.3 * before
    one, other = (learn(stills.only(stills.person == k)).coefficients for k in (0, 1))
    assert np.abs(one - other)[:468, :2].max() < 0.2 * np.abs(one[:468, :2]).max()


def test_irises_are_brought_to_the_height_of_the_skin(stills: Stills) -> None:
    bias = learn(stills)
    lift = bias.coefficients[468:, 1, 0]
    np.testing.assert_allclose(lift, -1.0 / face_scale_px(stills.seen).mean(), rtol=0.5)
    assert not bias.coefficients[468:, :, 1:].any()
    assert not bias.coefficients[:468, :, 0].any()


def test_only_a_share_of_the_skins_bias_is_applied(stills: Stills) -> None:
    bias = learn(stills)
    applied = shared_with_real(bias).coefficients
    np.testing.assert_allclose(applied[:468], REAL_SHARE * bias.coefficients[:468])
    np.testing.assert_array_equal(applied[468:], bias.coefficients[468:])
