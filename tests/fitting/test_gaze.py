"""Gaze geometry, smoothing between saccades, the personal offset, looking probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from duologue.fitting.camera import Camera
from duologue.fitting.common_gaze import common_gaze, iris_evidence
from duologue.fitting.eyeball_evidence import EyeballEvidence, eyeball_evidence
from duologue.fitting.fixations import Fixations, smooth_fixations
from duologue.fitting.gaze import (
    ENTER_DEG,
    PARTNER_SD,
    GazeTrack,
    across_variance,
    direction_of,
    gaze_rays,
    lid_aperture,
    looking_at_partner,
    looking_probability,
    probability_within,
    solve_gaze,
)
from duologue.fitting.gaze_offset import (
    MISREAD,
    MISREAD_IN_PROFILE,
    RADIUS_LOG_SD,
    misread_share,
    moved_eyeball,
    offset_posterior,
    personal_offset,
    prior_sd,
    resized,
)
from duologue.fitting.head_model import rotation_matrix
from duologue.fitting.rotations import exp_so3
from duologue.fitting.trajectory import resampling
from duologue.schemas.heads import HeadTrack

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


def _head(n: int) -> HeadTrack:
    zero = np.zeros((n, 3), dtype=np.float32)
    one = np.zeros(n, dtype=np.float32)
    return HeadTrack(
        track_id="a", shape=np.zeros(2, np.float32), expression=np.zeros((n, 2), np.float32), jaw=zero, neck=zero,
        rotation=zero, translation=zero, eyes=np.zeros((n, 2, 3), dtype=np.float32), gaze_raw=zero, gaze=zero,
        head_centre=np.tile(np.array([0, 0, 1.5], dtype=np.float32), (n, 1)), rotation_sd=np.repeat(one[:, None], 3, 1),
        translation_sd=one, gaze_sd=one, residual=one, box=np.zeros((n, 4), dtype=np.float32), confidence=one,
        valid=np.ones(n, dtype=bool), scale_log_sd=0.048,
    )  # fmt: skip


def _unit(yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Camera-frame directions of a head that faces the camera (model +y is up)."""
    return np.stack([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), -np.cos(yaw) * np.cos(pitch)], -1)


def test_a_constant_offset_is_found_from_looks_at_the_partner() -> None:
    n = 250
    rng = np.random.default_rng(2)
    partner = np.tile([0.5, 0.0, 0.7], (n, 1))  # 32 degrees to the side of a head at (0, 0, 1.5)
    to_partner = np.arctan2(0.5, 0.8)
    looks = rng.random(n) < 0.6
    yaw = np.where(looks, to_partner, 0.3 * rng.standard_normal(n)) + 0.02 * rng.standard_normal(n)
    pitch = np.where(looks, 0.0, 0.2 * rng.standard_normal(n)) + 0.02 * rng.standard_normal(n)
    head = np.tile(np.diag([1.0, -1.0, -1.0]), (n, 1, 1))
    ray = np.tile([0.0, 0.0, 1.0], (n, 1))
    measured = moved_eyeball(_unit(yaw, pitch), head, ray, np.array([0.08, 0.07, 0.0, 0.0])).astype(np.float32)
    assert np.degrees(np.arccos(np.clip((measured * _unit(yaw, pitch)).sum(-1), -1, 1))).mean() > 5
    gaze = GazeTrack(measured, np.zeros((n, 2, 3), np.float32), np.full(n, 0.02, np.float32), np.zeros(n, bool), head)
    fixed = personal_offset(_head(n), gaze, partner, prior_sd(0.0015, 0.0105, 0.036), 25.0)
    angle = np.degrees(np.arccos(np.clip((fixed.gaze * _unit(yaw, pitch)).sum(-1), -1, 1)))
    assert angle.mean() < 1.5
    assert 0.02 < fixed.gaze_sd[0] < np.radians(4)
    # without a partner to look at, the correction is small and the uncertainty large
    away = personal_offset(_head(n), gaze, np.tile([0.0, 0.0, 3.0], (n, 1)), prior_sd(0.0015, 0.0105, 0.036), 25.0)
    assert away.gaze_sd[0] > np.radians(2.5)


def test_a_moved_eyeball_turns_the_gaze_as_the_geometry_says() -> None:
    """A ball of another size elsewhere, whose iris is seen at the same pixel, against the exact intersection."""
    rng = np.random.default_rng(4)
    n, radius, camera = 40, 0.0105, Camera(1280, 720, 1400.0, "user", 0.01)
    balls = np.array([0.2, -0.1, 1.4]) + 0.05 * rng.standard_normal((n, 3))
    head = exp_so3(torch.as_tensor(0.5 * rng.standard_normal((n, 3)))).numpy() @ np.diag([1.0, -1.0, -1.0])
    looks = _unit(0.6 * rng.standard_normal(n), 0.3 * rng.standard_normal(n))
    irises = camera.project(balls + radius * looks)
    before = gaze_rays(irises, balls, radius, camera)
    offset = np.array([0.04, -0.06, 0.05, 0.03])
    shifted = balls + radius * np.einsum("nij,j->ni", head, offset[:3])
    after = gaze_rays(irises, shifted, radius * np.exp(offset[3]), camera)
    ray = balls / np.linalg.norm(balls, axis=-1, keepdims=True)
    found = moved_eyeball(before, head, ray, offset)
    assert np.degrees(np.arccos(np.clip((before * after).sum(-1), -1, 1))).mean() > 3
    assert np.degrees(np.arccos(np.clip((found * after).sum(-1), -1, 1))).max() < 1.0


def test_gaze_that_was_not_read_off_irises_errs_by_a_constant_angle() -> None:
    n = 250
    rng = np.random.default_rng(5)
    partner = np.tile([0.5, 0.0, 0.7], (n, 1))
    yaw, pitch = np.arctan2(0.5, 0.8) + 0.03 * rng.standard_normal(n), 0.03 * rng.standard_normal(n)
    measured = _unit(yaw + np.radians(4.0), pitch).astype(np.float32)
    head = np.tile(np.diag([1.0, -1.0, -1.0]), (n, 1, 1))
    gaze = GazeTrack(measured, np.zeros((n, 2, 3), np.float32), np.full(n, 0.02, np.float32), np.zeros(n, bool), head)
    fixed = personal_offset(_head(n), gaze, partner, prior_sd(0.0015, 0.0105, 0.036), 25.0, angular=True)
    angle = np.degrees(np.arccos(np.clip((fixed.gaze * _unit(yaw, pitch)).sum(-1), -1, 1)))
    assert angle.mean() < 2.0


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


def test_an_unsure_gaze_is_drawn_to_the_partner_and_a_sure_one_is_not() -> None:
    n = 100
    partner = np.tile([0.5, 0.0, 0.7], (n, 1))
    to_partner = np.arctan2(0.5, 0.8)
    head = np.tile(np.diag([1.0, -1.0, -1.0]), (n, 1, 1))

    def stored(yaw: float, noise: float) -> HeadTrack:
        measured = _unit(np.full(n, yaw), np.zeros(n)).astype(np.float32)
        sd = np.full(n, noise, np.float32)
        gaze = GazeTrack(measured, np.zeros((n, 2, 3), np.float32), sd, np.zeros(n, bool), head)
        return personal_offset(_head(n), gaze, partner, np.full(4, 1e-4), 25.0)

    beside = to_partner - np.radians(8.0)
    off = {}
    for noise in (1.0, 10.0):
        track = stored(beside, np.radians(noise))
        off[noise] = np.degrees(looking_at_partner(track.gaze, track.head_centre, partner)).mean()
    assert off[1.0] > 7.0
    assert off[10.0] < 5.0
    away = stored(-to_partner, np.radians(5.0))  # the other way: nothing draws
    np.testing.assert_allclose(away.gaze, _unit(np.full(n, -to_partner), np.zeros(n)), atol=0.01)
    assert away.gaze_sd[0] == pytest.approx(np.radians(5.0), rel=0.1)


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


def _ball_by_parallax(held: str, shift: list[float], growth: float) -> tuple[np.ndarray, np.ndarray]:
    """Offset [4] and its sd [4], of a prior of 0.1, from three fixations of a head that turns by 50 degrees."""
    rng = np.random.default_rng(9)
    n, radius = 120, 0.0105
    yaw = np.radians(np.linspace(-25, 25, n))
    head = exp_so3(torch.as_tensor(np.stack([0 * yaw, yaw, 0 * yaw], -1))).numpy() @ np.diag([1.0, -1.0, -1.0])
    sockets = np.array([[0.0315, 0.0, 0.0], [-0.0315, 0.0, 0.0]])
    fitted = np.array([0.0, 0.0, 1.5]) + np.einsum("nij,ej->nei", head, sockets)
    true = fitted + np.einsum("nij,j->ni", head, radius * np.array(shift))[:, None]
    local = direction_of(np.radians([[8.0, 3.0], [-8.0, -5.0], [2.0, 6.0]]))[np.arange(n) // 40]
    world = np.einsum("nij,nj->ni", head, local)
    if held == "world":
        world = world[20::40][np.arange(n) // 40]
    irises = CAMERA.project(true + radius * np.exp(growth) * world[:, None]) + 0.02 * rng.standard_normal((n, 2, 2))
    evidence = iris_evidence(irises, head, fitted, radius, CAMERA, np.ones((n, 2), bool), 0.0)
    shares = np.zeros((2, n, 40))
    shares[0 if held == "head" else 1, [39, 79, 119], 39] = 1.0
    smooth, _ = evidence.pooled(Fixations(shares), head).direction()
    found = eyeball_evidence(evidence, Fixations(shares), head, direction_of(smooth), 0.0)
    covariance = np.linalg.inv(found.information + np.eye(4) / 0.1**2)
    return covariance @ found.pull, np.sqrt(np.diag(covariance))


def test_an_eyeball_is_found_by_parallax_while_the_gaze_stays_in_the_world() -> None:
    found, sd = _ball_by_parallax("world", [0.0, 0.0, 0.08], 0.0)
    assert found[2] == pytest.approx(0.08, abs=0.02)
    assert sd[2] < 0.05
    assert sd[1] > 0.09  # up or down stays hidden: the head turned about that axis


def test_an_eyeballs_front_is_found_by_parallax_while_the_eyes_rest_in_the_head() -> None:
    for shift, growth in (([0.0, 0.0, 0.08], 0.0), ([0.0, 0.0, 0.0], 0.08), ([0.0, 0.0, 0.06], -0.06)):
        found, _ = _ball_by_parallax("head", shift, growth)
        assert found[2] + found[3] == pytest.approx(shift[2] + growth, abs=0.02)


def test_what_fixations_say_of_the_eyeballs_enters_the_offset() -> None:
    n = 100
    head = np.tile(np.diag([1.0, -1.0, -1.0]), (n, 1, 1))
    ray = np.tile([0.0, 0.0, 1.0], (n, 1))
    nobody = np.full((n, 3), np.nan)
    measured = _unit(np.zeros(n), np.zeros(n))
    sd = np.full(4, 0.03)
    said = np.array([0.01, -0.02, 0.03, 0.02])
    sure = EyeballEvidence(1e8 * np.eye(4), 1e8 * said)
    mean, covariance = offset_posterior(measured, head, ray, nobody, np.full(n, 0.02), sd, 25.0, sure)
    np.testing.assert_allclose(mean, said, atol=1e-3)
    assert (np.sqrt(np.diag(covariance)) < 1e-3).all()
    nothing = EyeballEvidence(np.zeros((4, 4)), np.zeros(4))
    for a, b in zip(
        offset_posterior(measured, head, ray, nobody, np.full(n, 0.02), sd, 25.0, nothing),
        offset_posterior(measured, head, ray, nobody, np.full(n, 0.02), sd, 25.0),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_head_is_as_large_as_its_eyeballs_ask_for() -> None:
    head = replace(_head(5), translation_sd=np.full(5, 1.5 * 0.048, np.float32))
    sure = resized(head, -0.04, 0.0)  # eyeballs too large by 4 %: the head was taken 4 % too small, or they are large
    share = 0.048**2 / (0.048**2 + RADIUS_LOG_SD**2)
    np.testing.assert_allclose(sure.head_centre, head.head_centre * np.exp(0.04 * share), rtol=1e-6)
    assert sure.scale == pytest.approx(np.exp(0.04 * share))
    assert sure.scale_log_sd == pytest.approx((0.048**-2 + RADIUS_LOG_SD**-2) ** -0.5)
    np.testing.assert_allclose(sure.translation_sd, sure.head_centre[:, 2] * sure.scale_log_sd, rtol=1e-5)
    nothing = resized(head, 0.0, 0.048**2 + RADIUS_LOG_SD**2)  # what was known before
    assert nothing.scale_log_sd == pytest.approx(0.048)
    np.testing.assert_allclose(nothing.translation_sd, head.translation_sd, rtol=1e-5)


def test_a_detectors_lost_eyes_leave_the_prior_and_exact_ones_are_believed() -> None:
    """A head 70 degrees aside whose irises seem to look past the camera, the partner straight ahead of the face."""
    n = 50
    turn = np.radians(70.0)
    head = np.broadcast_to(rotation_matrix(np.array([0.0, turn, 0.0])) @ np.diag([1.0, -1.0, -1.0]), (n, 3, 3)).copy()
    ahead = head[:, :, 2]
    back = np.einsum("nij,nj->ni", head, np.tile(_unit(np.radians([60.0]), np.zeros(1)), (n, 1)))
    none = np.zeros((n, 2, 3), np.float32)
    gaze = GazeTrack(back.astype(np.float32), none, np.full(n, 0.02, np.float32), np.zeros(n, bool), head)
    track = _head(n)

    def off(iris_error: float) -> tuple[float, float]:
        partner = track.head_centre + 0.8 * ahead
        found = personal_offset(track, gaze, partner, np.full(4, 1e-4), 25.0, iris_error, True)
        return float(np.degrees(np.arccos(found.gaze[0] @ ahead[0]))), float(np.degrees(found.gaze_sd[0]))

    assert off(0.0)[0] > 55.0
    angle, sd = off(0.105)
    assert angle < 12.0
    assert sd > 5.0


def test_irises_are_lost_in_profile() -> None:
    turns = np.radians([0.0, 40.0, 52.0, 75.0])
    head = np.stack([rotation_matrix(np.array([0.0, t, 0.0])) @ np.diag([1.0, -1.0, -1.0]) for t in turns])
    share = misread_share(head, np.tile([0.0, 0.0, 1.5], (4, 1)))
    expected = [MISREAD, MISREAD, MISREAD + MISREAD_IN_PROFILE / 2, MISREAD + MISREAD_IN_PROFILE]
    np.testing.assert_allclose(share, expected, atol=0.003)
