"""Bodies are closed, as wide and deep as people, and dressed at the back too."""

import numpy as np
import pytest
from duologue.fitting.load_head import load_head_model
from duologue.synthesis.avatar import build_avatar
from duologue.synthesis.identities import load_identity
from duologue.synthesis.portraits import NAMES

MODEL = load_head_model("canonical")


@pytest.mark.parametrize("name", NAMES)
def test_a_body_has_shoulders_arms_and_a_back(name: str) -> None:
    avatar = build_avatar(load_identity(name), MODEL, 1)
    body = avatar.body
    a, b, c = (body.points[body.triangles[:, k]] for k in range(3))
    assert np.einsum("fd,fd->", a, np.cross(b, c)) / 6.0 > 0.03  # m^3: its triangles look outward
    chest = body.points[(body.points[:, 1] < -0.30) & (body.points[:, 1] > -0.40)]
    assert 0.40 < np.ptp(chest[:, 0]) < 0.52
    assert 0.20 < np.ptp(chest[:, 2]) < 0.30
    rows = body.texture[150:250, :384, :3].astype(float)  # seam behind, front in the middle
    back, front = (np.median(part.reshape(-1, 3), axis=0) for part in (rows[:, :40], rows[:, 160:220]))
    assert np.abs(back - front).max() < 60.0  # one cloth
    hand = body.texture[188, 384 + 40, :3].astype(float)
    assert np.abs(hand - np.array(avatar.skin_color) * 0.8).max() < 12.0
