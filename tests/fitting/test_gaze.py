"""Gaze geometry, smoothing between saccades, both eyes together, looking probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from duologue.fitting.camera import Camera
from duologue.fitting.common_gaze import common_gaze, iris_evidence
from duologue.fitting.fixations import Fixations, smooth_fixations
from duologue.fitting.gaze import (
    ENTER_DEG,
    PARTNER_SD,
    across_variance,
    direction_of,
    gaze_rays,
    lid_aperture,
    looking_at_partner,
    looking_probability,
    probability_within,
    solve_gaze,
)
from duologue.fitting.rotations import exp_so3
from duologue.fitting.trajectory import resampling

CAMERA = Camera(1280, 720, 1370.0, "user", 0.01)


def test_rays_are_those_that_made_the_irises() -> None:
    rng = np.random.default_rng(0)
    eyes = np.array([0.2, -0.1, 1.4]) + 0.05 * rng.standard_normal((50, 3))
    g = np.array([0.0, 0.0, -1.0]) + 0.4 * rng.standard_normal((50, 3))
    g /= np.linalg.norm(g, axis=-1, keepdims=True)
    g = g[(g * eyes).sum(-1) / np.linalg.norm(eyes, axis=-1) < -0.2]  # toward the camera: the near root
    eyes = eyes[: len(g)]
    irises = CAMERA.project(eyes + 0.0105 * g)
    keep = (g * eyes).sum(-1) / np.linalg.norm(eyes, axis=-1) < -0.2
    np.testing.assert_allclose(gaze_rays(irises, eyes, 0.0105, CAMERA)[keep], g[keep], atol=1e-6)


def test_a_ray_that_misses_takes_the_rim() -> None:
    eye = np.array([[0.0, 0.0, 1.0]])
    far = CAMERA.project(np.array([[0.05, 0.0, 1.0]]))
    np.testing.assert_allclose(gaze_rays(far, eye, 0.0105, CAMERA)[0], [1, 0, -0.05], atol=0.01)


def test_smoothing_keeps_saccades_and_averages_fixations() -> None:
    rng = np.random.default_rng(1)
    truth = direction_of(np.where(np.arange(100)[:, None] < 50, [[0.0, 0.1]], [[0.3, -0.1]]))
    sd = np.full(100, np.radians(3.0))
    sd[20:25] = np.nan
    measured = _noisy(truth, rng)
    smooth, smooth_sd = smooth_fixations(measured, np.tile(np.eye(3), (100, 1, 1)), sd, np.arange(100) / 25)
    error = _degrees(smooth, truth)
    assert error.mean() < 0.4 * _degrees(measured, truth).mean()
    assert error[49] < 3
    assert error[50] < 3  # the step is not smeared
    assert (smooth_sd < np.radians(3.0)).all()
    # The error is what the stored deviation says, per axis: mean length of a 2D Gaussian is 1.25 sd.
    assert 0.5 < error.mean() / (1.25 * np.degrees(smooth_sd.mean())) < 2


def test_a_place_in_the_world_is_held_while_the_head_turns() -> None:
    rng = np.random.default_rng(3)
    n = 75
    turn = np.radians(np.linspace(-15, 15, n))
    rotation = exp_so3(torch.as_tensor(np.stack([0 * turn, turn, 0 * turn], -1))).numpy()
    truth = np.einsum("nij,i->nj", rotation, [0.0, 0.0, 1.0])  # in the head's frame it wanders by 30 degrees
    smooth, _ = smooth_fixations(_noisy(truth, rng), rotation, np.full(n, np.radians(3.0)), np.arange(n) / 25)
    assert _degrees(smooth, truth).mean() < 1.0


def test_small_clear_steps_are_not_smoothed_over() -> None:
    rng = np.random.default_rng(4)
    steps = np.radians([0.0, 9.0, 0.0, -9.0])[np.arange(100) // 25]
    truth = direction_of(np.stack([steps, 0 * steps], -1))
    smooth, _ = smooth_fixations(
        _noisy(truth, rng), np.tile(np.eye(3), (100, 1, 1)), np.full(100, np.radians(3.0)), np.arange(100) / 25
    )
    assert _degrees(smooth, truth).mean() < 1.5


def _noisy(directions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    out = directions + np.radians(3.0) * rng.standard_normal(directions.shape)
    return np.asarray(out / np.linalg.norm(out, axis=-1, keepdims=True))


def _degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1))))


def test_an_appearance_model_takes_the_place_of_the_irises() -> None:
    n = 40
    times = np.arange(n) / 25
    landmarks = np.random.default_rng(5).uniform(300, 500, (n, 478, 2))
    rotation = np.tile(np.diag([1.0, -1.0, -1.0]), (n, 1, 1))
    eyeballs = np.tile([[0.03, 0.0, 1.4], [-0.03, 0.0, 1.4]], (n, 1, 1))
    said = np.tile(_unit(np.array(0.3), np.array(-0.1)), (n, 1))
    said[5] = np.nan
    landmarks[7, [386, 374, 159, 145]] = 400.0  # both eyes closed: no gaze, whatever the model says
    plan = resampling(times, times, times)
    gaze = solve_gaze(landmarks, rotation, eyeballs, 0.0105, CAMERA, times, plan, said)
    assert gaze.blink[7]
    assert np.isnan(gaze.direction[7]).all()
    rest = np.isfinite(gaze.direction).all(-1)
    assert rest.sum() >= n - 3
    np.testing.assert_allclose(gaze.direction[rest], said[[0]].repeat(rest.sum(), 0), atol=0.01)
    assert (gaze.noise_sd[rest] < np.radians(4)).all()


def _unit(yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Camera-frame directions of a head that faces the camera (model +y is up)."""
    return np.stack([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), -np.cos(yaw) * np.cos(pitch)], -1)


def _seen_from_the_side(yaw_head: float, yaw_eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Irises, rotations and eyeballs of a head at 1.5 m, turned by ``yaw_head``, eyes by ``yaw_eyes`` in it."""
    n = len(yaw_eyes)
    turn = exp_so3(torch.tensor([0.0, yaw_head, 0.0], dtype=torch.float64)).numpy()
    rotation = np.tile(np.diag([1.0, -1.0, -1.0]) @ turn, (n, 1, 1))
    places = np.array([[0.0315, 0.0, 0.0], [-0.0315, 0.0, 0.0]])  # left, right
    eyeballs = np.array([0.0, 0.0, 1.5]) + np.einsum("nij,ej->nei", rotation, places)
    gaze = np.einsum("nij,nj->ni", rotation, direction_of(np.stack([yaw_eyes, 0 * yaw_eyes], -1)))
    return CAMERA.project(eyeballs + 0.0105 * gaze[:, None]), rotation, eyeballs


def test_both_eyes_give_the_direction_that_they_share() -> None:
    eyes = np.radians(np.linspace(-25, 25, 21))
    for head in np.radians([-30.0, 0.0, 40.0]):
        irises, rotation, eyeballs = _seen_from_the_side(float(head), eyes)
        mean, sd = common_gaze(irises, rotation, eyeballs, 0.0105, CAMERA, np.ones((21, 2), bool))
        near = np.abs(head + eyes) < np.radians(50)
        np.testing.assert_allclose(mean[near, 0], eyes[near], atol=np.radians(2.0))
        np.testing.assert_allclose(mean[near, 1], 0.0, atol=np.radians(2.0))
        assert (sd[near] > np.radians(2)).all()
        assert (sd[near] < np.radians(8)).all()


def test_an_iris_at_the_rim_overrules_a_hidden_eye_that_seems_to_look_at_the_camera() -> None:
    eyes = np.full(5, np.radians(25.0))
    irises, rotation, eyeballs = _seen_from_the_side(np.radians(55.0), eyes)  # turned to the subject's left
    irises[:, 0] = CAMERA.project(eyeballs[:, 0] + [0.0, 0.0, -0.0105])  # the left eye, behind the nose, is guessed
    mean, sd = common_gaze(irises, rotation, eyeballs, 0.0105, CAMERA, np.ones((5, 2), bool))
    assert (np.degrees(mean[:, 0]) > 5).all()
    assert (np.degrees(mean[:, 0]) > 0.5 * (25.0 - 55.0) + 15).all()  # far from the mean of the two angles
    none = common_gaze(irises, rotation, eyeballs, 0.0105, CAMERA, np.zeros((5, 2), bool))[1]
    assert np.isnan(none).all()
    assert np.isfinite(sd).all()


def test_probability_within_is_the_rice_distribution() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal([0.2, 0.0], 0.1, (200_000, 2))
    expected = (np.linalg.norm(draws, axis=-1) < 0.25).mean()
    assert probability_within(np.array([0.2]), np.array([0.1]), np.array([0.25]))[0] == pytest.approx(
        expected, abs=0.005
    )


def test_hysteresis_and_uncertainty() -> None:
    def chance(degrees: list[float], sd: float, share: float = 0.0) -> np.ndarray:
        n = len(degrees)
        elsewhere = np.full(n, 1.0)
        return looking_probability(
            np.radians(degrees), np.full(n, np.radians(sd)), elsewhere, np.full(n, share), np.ones(n), 25.0
        )

    still = chance([5.0] * 10, 1.0)
    assert (still > 0.99).all()
    drifting = chance([5.0] * 10 + [14.0] * 10 + [25.0] * 5, 1.0)
    assert (drifting[10:20] > 0.9).all()  # inside a bout up to 16 degrees
    assert (drifting[20:] < 0.01).all()
    assert (chance([14.0] * 10, 1.0) < 0.1).all()  # never entered
    assert (chance([25.0] * 5 + [5.0] * 2 + [14.0] * 5, 1.0)[7:] < 0.1).all()  # two frames are no bout
    assert 0.2 < chance([5.0] * 10, 10.0)[0] < 0.8  # an unsure gaze is not claimed


def test_the_prior_speaks_where_the_gaze_is_unsure() -> None:
    """Drawn from the prior's own two parts, the probability is the share of gazes that are on the face."""
    rng = np.random.default_rng(7)
    n, sd, share, wide = 60_000, np.radians(11.0), 0.5, np.radians(20.0)
    on = rng.random(n) < share
    partner = np.radians([15.0, 0.0])  # seen from where the head points
    true = np.where(on[:, None], partner + rng.normal(0, PARTNER_SD, (n, 2)), rng.normal(0, wide, (n, 2)))
    measured = true + rng.normal(0, sd, (n, 2))
    angle = np.linalg.norm(measured - partner, axis=-1)
    spread = wide**2 + sd**2
    elsewhere = np.exp(-0.5 * (measured**2).sum(-1) / spread) / (2 * np.pi * spread)
    # One frame a call is never a bout: no hysteresis.
    chance = looking_probability(angle, np.full(n, sd), elsewhere, np.full(n, share), np.ones(n), 2.5)
    looks = np.linalg.norm(true - partner, axis=-1) < np.radians(ENTER_DEG)
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.5)):
        rows = (chance >= low) & (chance < high)
        assert looks[rows].mean() == pytest.approx(chance[rows].mean(), abs=0.06)


def test_a_sure_gaze_needs_no_prior() -> None:
    for share in (0.0, 0.5):
        sure = [
            looking_probability(np.radians([d]), np.radians([0.5]), np.ones(1), np.full(1, share), np.ones(1), 25.0)[0]
            for d in (4.0, 20.0)
        ]
        assert sure[0] > 0.99
        assert sure[1] < 0.01


def test_angle_to_the_partner() -> None:
    angle = looking_at_partner(np.array([[0.0, 0.0, -1.0]]), np.array([[0.0, 0.0, 2.0]]), np.array([[1.0, 0.0, 1.0]]))
    assert np.degrees(angle[0]) == pytest.approx(45, abs=1e-4)


def test_lid_aperture_is_relative_to_the_eye() -> None:
    landmarks = np.zeros((1, 478, 2))
    landmarks[0, 386], landmarks[0, 374], landmarks[0, 362], landmarks[0, 263] = [0, 0], [0, 3], [-5, 0], [5, 0]
    landmarks[0, 159], landmarks[0, 145], landmarks[0, 133], landmarks[0, 33] = [0, 0], [0, 1], [-5, 0], [5, 0]
    np.testing.assert_allclose(lid_aperture(landmarks), [[0.3, 0.1]])


def test_frames_of_a_fixation_add_up() -> None:
    shares = np.zeros((2, 5, 3))
    shares[0, 2, 2] = 1.0  # frames 0 to 2, held in the head
    shares[1, 4, 1] = 1.0  # frames 3 and 4, held in the world
    head, world = Fixations(shares).pooled(np.arange(5.0)[:, None], 10 * np.arange(5.0)[:, None])
    np.testing.assert_allclose(head[:, 0], [3, 3, 3, 0, 0], atol=1e-12)
    np.testing.assert_allclose(world[:, 0], [0, 0, 0, 70, 70], atol=1e-12)


def test_a_fixation_at_the_rim_is_not_bent_by_noise() -> None:
    rng = np.random.default_rng(8)
    n, radius = 40, 0.0105
    turned = exp_so3(torch.tensor([0.0, -np.radians(20.0), 0.0], dtype=torch.float64)).numpy()
    rotation = np.tile(turned @ np.diag([1.0, -1.0, -1.0]), (n, 1, 1))
    eyeballs = np.tile([[0.0315, 0.0, 1.5], [-0.0315, 0.0, 1.5]], (n, 1, 1))
    truth = direction_of(np.radians([50.0, 0.0]))  # 70 degrees past the camera
    irises = CAMERA.project(eyeballs + radius * rotation[0] @ truth) + 0.5 * rng.standard_normal((n, 2, 2))
    evidence = iris_evidence(irises, rotation, eyeballs, radius, CAMERA, np.ones((n, 2), bool), 0.0)
    shares = np.zeros((2, n, n))
    shares[0, n - 1, n - 1] = 1.0
    by_frame, _ = evidence.direction()
    together, sd = evidence.pooled(Fixations(shares), rotation).direction()
    assert abs(np.degrees(by_frame[:, 0].mean()) - 50.0) > 3.0
    np.testing.assert_allclose(np.degrees(together[:, 0]), 50.0, atol=1.0)
    # What is constant is not averaged out.
    constant = iris_evidence(irises, rotation, eyeballs, radius, CAMERA, np.ones((n, 2), bool), 0.001)
    assert (constant.pooled(Fixations(shares), rotation).direction()[1] > 2 * sd).all()


def test_a_turn_moves_a_direction_across_its_axis_only() -> None:
    sd = np.array([[0.0, 0.2, 0.0], [0.1, 0.1, 0.1]])
    np.testing.assert_allclose(across_variance(sd, np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0]])), [0.0, 0.01])
    np.testing.assert_allclose(across_variance(sd[:1], np.array([[0.0, 0.0, -1.0]])), [0.02])
