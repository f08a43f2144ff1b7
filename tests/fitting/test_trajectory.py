"""What counts as measured after resampling to the clip clock."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.fitting.camera import choose_camera
from duologue.fitting.rotations import exp_so3
from duologue.fitting.trajectory import clip_times, resampling
from duologue.schemas.records import Focal


def test_clip_clock() -> None:
    np.testing.assert_allclose(clip_times(2.0, 12.0, 25.0)[[0, -1]], [2.0, 11.96])
    assert len(clip_times(0.1, 3.1, 25.0)) == 75
    assert len(clip_times(0.0, 3.03, 25.0)) == 75


def test_gaps_are_never_bridged() -> None:
    source = np.arange(30) / 30
    measured = np.delete(source, [10, 20, 21])
    plan = resampling(measured, clip_times(0, 1, 25), source)
    times = clip_times(0, 1, 25)
    for t, ok in zip(times, plan.valid, strict=True):
        exact = np.abs(measured - t).min() < 1e-4
        below, above = measured[measured <= t], measured[measured >= t]
        between = len(below) and len(above) and above[0] - below[-1] <= 1.5 / 30 + 1e-4
        assert ok == (exact or bool(between)), t
    assert not plan.valid[(times > 19 / 30 + 1e-3) & (times < 22 / 30 - 1e-3)].any()


def test_frames_that_the_source_never_had_are_no_gap() -> None:
    """A variable frame rate: what lies between two neighbouring frames is as good as of a slower camera."""
    grid = np.arange(50) / 25
    source = np.delete(grid, [10, 20, 21, 30, 31, 32])
    times = clip_times(0, 2, 25)
    whole = resampling(source, times, source)
    assert np.flatnonzero(~whole.valid).tolist() == [30, 31, 32]  # 0.16 s is too long
    lost = resampling(np.delete(source, [5, 18]), times, source)  # frames 5 and 19, at 0.2 and 0.76 s
    assert np.flatnonzero(~lost.valid).tolist() == [5, 19, 20, 21, 30, 31, 32]


def test_a_frame_on_a_measurement_needs_no_neighbour() -> None:
    plan = resampling(np.array([0.4]), np.array([0.36, 0.4, 0.44]), np.arange(30) / 25)
    assert plan.valid.tolist() == [False, True, False]


def test_interpolation_is_linear_and_slerp() -> None:
    measured = np.array([0.0, 0.05])
    plan = resampling(measured, np.array([0.0, 0.02, 0.05]), measured)
    np.testing.assert_allclose(plan.linear(np.array([[0.0], [1.0]]))[:, 0], [0, 0.4, 1], atol=1e-6)
    import torch

    vectors = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    half = plan.rotation(exp_so3(vectors).numpy())[1]
    np.testing.assert_allclose(half, exp_so3(torch.tensor([0.0, 0.4, 0.0], dtype=torch.float64)).numpy(), atol=1e-9)


def test_focal_length_comes_from_the_user_then_the_file_then_the_prior() -> None:
    assert choose_camera(1280, 720, 1000.0, Focal(900.0, "metadata", 0.1)).source == "user"
    assert choose_camera(1280, 720, None, Focal(900.0, "metadata", 0.1)).focal_px == 900.0
    mine = choose_camera(1280, 720, 1000.0, Focal(1100.0, "user", 0.15))  # said of this video alone
    assert (mine.focal_px, mine.source, mine.log_sd) == (1100.0, "user", 0.15)
    prior = choose_camera(1280, 720)
    assert prior.source == "prior"
    assert prior.focal_px == pytest.approx(1.3737 * 1280, rel=1e-3)
    assert prior.log_sd == 0.3
    with pytest.raises(ValueError, match="positive"):
        choose_camera(1280, 720, -1.0)
