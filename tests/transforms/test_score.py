"""Scores of a clip: yaw and what its deviation adds."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.transforms.score import yaw_of, yaw_sd
from scipy.spatial.transform import Rotation


def test_deviation_of_yaw_is_that_of_small_turns() -> None:
    rng = np.random.default_rng(0)
    turns = Rotation.from_euler("zxy", [[5, 20, 70], [-10, 35, -60], [0, 0, 0]], degrees=True)
    sd = np.float32([[0.02, 0.05, 0.03], [0.04, 0.02, 0.05], [0.03, 0.03, 0.03]])
    said = yaw_sd(turns.as_rotvec().astype(np.float32), sd)
    for k in range(3):
        many = Rotation.from_rotvec(0.1 * sd[k] * rng.standard_normal((20000, 3))) * turns[k]
        spread = yaw_of(many.as_rotvec().astype(np.float32)).std() / 0.1
        assert said[k] == pytest.approx(spread, rel=0.03)
    assert len(yaw_sd(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))) == 0
