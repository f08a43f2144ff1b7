"""Head size from the irises: what they measure, what they are worth, when they are not believed."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.fitting.camera import Camera
from duologue.fitting.gaze import paired_eyeballs
from duologue.fitting.metric import HEAD_SIZE_LOG_SD, IRIS_LOG_SD, HeadSize, fuse, head_size
from duologue.schemas.tracks import LEFT_IRIS, RIGHT_IRIS

CAMERA = Camera(1280, 720, 1370.0, "user", 0.01)
IPD = 0.0618
FLIP = np.diag([1.0, -1.0, -1.0])


def test_pixels_count_from_pixel_centres() -> None:
    """As FaceMesh's landmarks do: the mirror image of pixel x is W - 1 - x, and the picture's middle looks ahead."""
    pixels = np.array([[100.0, 40.0], [900.5, 700.0]])
    mirrored = [1279.0, 0.0] + pixels * [-1, 1]
    np.testing.assert_allclose(CAMERA.normalise(mirrored), CAMERA.normalise(pixels) * [-1, 1], atol=1e-12)
    odd = Camera(5, 3, 10.0, "user", 0.01)
    np.testing.assert_allclose(odd.project(np.array([0.0, 0.0, 1.0])), [2, 1])
    np.testing.assert_allclose(CAMERA.normalise(CAMERA.project(np.array([0.1, -0.2, 2.0]))), [0.05, -0.1])


def discs(size: float, diameter: float, yaw: float, depth: float = 0.9, n: int = 20, aside: float = 0.0) -> HeadSize:
    """Two irises as discs whose axis is turned by ``yaw`` (rad) on a head of ``size``, ``depth`` and ``aside`` (m)."""
    axis = np.array([np.sin(yaw), 0.0, -np.cos(yaw)])
    across = np.array([np.cos(yaw), 0.0, np.sin(yaw)])
    landmarks = np.full((n, 478, 3), 400.0)
    for iris, x in ((LEFT_IRIS, 0.031), (RIGHT_IRIS, -0.031)):
        centre = np.array([(x + aside) * size, 0.0, depth * size])
        landmarks[:, iris[0], :2] = CAMERA.project(centre)
        for point, offset in ((1, across), (3, -across)):
            landmarks[:, iris[point], :2] = CAMERA.project(centre + 0.5 * diameter * offset)
    rays = np.broadcast_to(axis, (n, 2, 3))
    opened = np.ones((n, 2), dtype=bool)
    upright = np.broadcast_to(np.eye(3), (n, 3, 3))
    return head_size(landmarks, upright, rays, np.full((n, 2), depth), opened, CAMERA, IPD)


@pytest.mark.parametrize("aside", [0.0, -0.3, 0.4])
@pytest.mark.parametrize("yaw", [0.0, 0.3, -0.5])
@pytest.mark.parametrize("size", [0.93, 1.0, 1.08])
def test_irises_measure_the_head_whatever_the_gaze_and_wherever_it_is(size: float, yaw: float, aside: float) -> None:
    found = discs(size, 0.0117, yaw, aside=aside)
    assert found.iris_ratio == pytest.approx(size, rel=0.003)
    assert min(1.0, size) - 0.005 <= found.scale <= max(1.0, size) + 0.005  # between the prior and the irises
    assert found.log_sd < HEAD_SIZE_LOG_SD
    assert not found.child


def test_small_irises_are_worth_less() -> None:
    near, far = fuse(1.08, 25.0, IPD), fuse(1.08, 9.0, IPD)
    assert 1.0 < far.scale < near.scale < 1.08
    assert near.log_sd < far.log_sd < HEAD_SIZE_LOG_SD
    assert 0.032 < near.log_sd < 0.036


def test_a_child_is_flagged_and_placed_mostly_by_its_irises() -> None:
    child = discs(0.75, 0.0117, 0.1)
    assert child.child
    assert child.scale == pytest.approx(0.75, rel=0.03)
    assert not fuse(0.85, 9.0, IPD).child  # half a pixel on a far iris could make an adult look so


def test_what_cannot_be_an_iris_is_not_believed() -> None:
    for ratio in (0.3, 3.0):
        assert fuse(ratio, 12.0, IPD).scale == 1.0
    assert np.isnan(discs(1.0, 0.0117, 0.0, depth=3.0).iris_ratio)  # too far away
    assert discs(1.0, 0.0117, 0.0, n=5).scale == 1.0


def test_wrong_spacing_of_the_eyeballs_is_found() -> None:
    rng = np.random.default_rng(0)
    n = 60
    yaw = rng.uniform(-0.4, 0.4, n)
    turn = np.stack([np.stack([np.cos(yaw), 0 * yaw, np.sin(yaw)], -1), np.tile([0.0, 1, 0], (n, 1)),
                     np.stack([-np.sin(yaw), 0 * yaw, np.cos(yaw)], -1)], 1)  # fmt: skip
    rotation = turn @ FLIP
    where = np.array([[0.031, 0.0, 0.0], [-0.031, 0.0, 0.0]])
    true = np.einsum("nij,ej->nei", rotation, where) + np.array([0.1, 0.0, 1.2])
    local = np.stack([rng.normal(0, 0.15, n), rng.normal(0, 0.1, n), np.ones(n)], -1)
    gaze = np.einsum("nij,nj->ni", rotation, local / np.linalg.norm(local, axis=-1, keepdims=True))
    irises = CAMERA.project(true + 0.0103 * gaze[:, None])
    wrong = true - np.einsum("nij,ej->nei", rotation, [[0.002, 0.0005, 0.0], [-0.002, -0.0005, 0.0]])
    opened = np.ones((n, 2), dtype=bool)
    moved = wrong + paired_eyeballs(irises, rotation, wrong, 0.0103, CAMERA, opened)
    assert np.linalg.norm(wrong - true, axis=-1).mean() > 0.002
    assert np.linalg.norm(moved - true, axis=-1).mean() < 0.0003
    few = paired_eyeballs(irises[:5], rotation[:5], wrong[:5], 0.0103, CAMERA, opened[:5])
    assert (few == 0).all()


def test_adults_whose_irises_look_large_are_not_placed_by_them_alone() -> None:
    unlucky = fuse(0.85, 11.0, 0.057)  # two sd of iris and rim, with eyes close together
    assert not unlucky.child
    assert unlucky.scale > 0.9
    assert unlucky.log_sd > fuse(1.0, 11.0, 0.057).log_sd


def test_the_stored_deviation_of_adults_covers() -> None:
    rng = np.random.default_rng(0)
    size, iris, rim = rng.normal(0, HEAD_SIZE_LOG_SD, 4000), rng.normal(0, IRIS_LOG_SD, 4000), rng.normal(0, 0.5, 4000)
    found = [fuse(float(np.exp(s - i)) / (1 + r / 11.0), 11.0, 0.063) for s, i, r in zip(size, iris, rim, strict=True)]
    error = np.log([one.scale for one in found]) - size
    covered = np.abs(error) < 2 * np.array([one.log_sd for one in found])
    assert 0.92 < covered.mean() < 0.98
    assert error.std() < 0.9 * HEAD_SIZE_LOG_SD
    assert np.mean([one.child for one in found]) < 0.01
