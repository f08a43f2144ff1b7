"""Scores of a clip: yaw and what its deviation adds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from duologue.schemas.tracks import FaceTrack
from duologue.tests.dataset_factory import make_head
from duologue.transforms.score import person_scores, yaw_of, yaw_sd
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


def test_bound_of_yaw_is_over_it_by_its_deviation_and_by_more_the_less_sure_the_pose() -> None:
    head, empty = make_head(np.random.default_rng(1), 50, -0.4, track_id="t0"), np.full((50, 4), np.nan, np.float32)
    track = FaceTrack("t0", np.full((50, 478, 3), np.nan, np.float32), empty, np.zeros(50, bool), empty[:, 0],
                      empty[:, 0], np.zeros(1, np.float32))  # fmt: skip
    inside = np.ones(50, bool)
    scores = person_scores(track, inside, head)
    assert scores["yaw_bound"] - scores["yaw95"] == pytest.approx(np.degrees(0.02), rel=0.1)  # every axis has 0.02
    unsure = person_scores(track, inside, replace(head, rotation_sd=5 * head.rotation_sd))
    assert unsure["yaw95"] == scores["yaw95"]
    assert unsure["yaw_bound"] - scores["yaw_bound"] == pytest.approx(np.degrees(0.08), rel=0.1)
