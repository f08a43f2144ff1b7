"""The personal offset, what parallax says of eyeballs, how an unsure gaze is drawn, eyes that a detector lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from duologue.fitting.camera import Camera
from duologue.fitting.common_gaze import iris_evidence
from duologue.fitting.eyeball_evidence import EyeballEvidence, eyeball_evidence
from duologue.fitting.fixations import Fixations
from duologue.fitting.gaze import (
    GazeTrack,
    direction_of,
    gaze_rays,
    looking_at_partner,
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
from duologue.schemas.heads import HeadTrack

CAMERA = Camera(1280, 720, 1370.0, "user", 0.01)


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
