"""The fit on synthetic tracks of an analytic head: truth is found, bad input is refused, gaps stay gaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from duologue.fitting.fit import FitOptions, HeadFitter, fit_clips
from duologue.fitting.reduce import reduced_landmarks
from duologue.fitting.reduced import ReducedModel
from duologue.fitting.rotations import exp_so3
from duologue.schemas.errors import BadInput
from duologue.schemas.heads import FittedPair
from duologue.schemas.tracks import ClipTracks, FaceTrack

from .heads import FLIP, ellipsoid_head

FOCAL, WIDTH, HEIGHT, FPS = 1370.0, 1280, 720, 25.0
HEAD = ellipsoid_head(468, 6, 8)
OPTIONS = FitOptions(focal_px=FOCAL, turned_error=0.0, iris_error=0.0, detector_bias=False)


def wave(t: np.ndarray, period: float, phase: float = 0.0) -> np.ndarray:
    return np.sin(2 * np.pi * t / period + phase)


def matrices(vectors: np.ndarray) -> np.ndarray:
    return exp_so3(torch.as_tensor(np.asarray(vectors, dtype=np.float64))).numpy()


class Truth:
    """One moving head, exact."""

    def __init__(self, times: np.ndarray, side: float, shape: np.ndarray, head: ReducedModel = HEAD) -> None:
        n = len(times)
        yaw, pitch = 0.6 * wave(times, 7, side), 0.2 * wave(times, 5, 2 * side)
        self.rotation = matrices(np.stack([0 * yaw, yaw, 0 * yaw], -1)) @ matrices(
            np.stack([pitch, 0 * yaw, 0 * yaw], -1)
        )
        self.translation = np.stack(
            [0.35 * side + 0.02 * wave(times, 6), 0.05 + 0 * yaw, 1.5 + 0.03 * wave(times, 9)], -1
        )
        self.expression = 0.4 * np.abs(wave(times[:, None], 1.3 + 0.2 * np.arange(8), np.arange(8)))
        self.jaw = np.zeros((n, 3))
        self.jaw[:, 0] = 0.15 * np.abs(wave(times, 0.9))
        self.shape = shape
        x = reduced_landmarks(head, shape, self.expression, self.jaw)
        joints = head.joints + head.joint_dirs @ shape
        full = self.rotation @ FLIP
        self.points = np.einsum("tij,tlj->tli", full, x - joints[0]) + self.translation[:, None]
        self.centre = np.einsum("tij,j->ti", full, joints[3:].mean(0) - joints[0]) + self.translation
        self.pixels = self.points[..., :2] / self.points[..., 2:] * FOCAL + np.array([WIDTH, HEIGHT]) / 2
        self.eyes = np.einsum("tij,ej->tei", full, joints[3:] - joints[0]) + self.translation[:, None]


def track(truth: Truth, noise: float = 0.0, seed: int = 0) -> FaceTrack:
    n = len(truth.pixels)
    rng = np.random.default_rng(seed)
    landmarks = np.full((n, 478, 3), np.nan)
    landmarks[:, :468, :2] = truth.pixels
    landmarks[:, :468, 2] = (truth.points[..., 2] - truth.points[..., 2].mean(1, keepdims=True)) * FOCAL / 1.5
    forward = -truth.rotation[:, :, 2]
    for eye, ring in ((0, range(473, 478)), (1, range(468, 473))):
        iris = truth.eyes[:, eye] + HEAD.eyeball_radius * forward
        landmarks[:, list(ring), :2] = (iris[:, :2] / iris[:, 2:] * FOCAL + np.array([WIDTH, HEIGHT]) / 2)[:, None]
        landmarks[:, list(ring), 2] = 0
    landmarks += noise * 58 * rng.standard_normal(landmarks.shape)
    one = np.ones(n, dtype=np.float32)
    box = np.tile(np.array([0, 0, 100, 100], dtype=np.float32), (n, 1))
    return FaceTrack(
        "t", landmarks.astype(np.float32), box, np.ones(n, dtype=bool), one, one, np.zeros(4, dtype=np.float32)
    )


def clip(
    noise: float = 0.0, seconds: float = 4.0, times: np.ndarray | None = None
) -> tuple[ClipTracks, tuple[Truth, Truth]]:
    times = np.arange(int(seconds * FPS)) / FPS if times is None else times
    rng = np.random.default_rng(3)
    truths = (Truth(times, -1.0, 0.7 * rng.standard_normal(6)), Truth(times, 1.0, 0.7 * rng.standard_normal(6)))
    tracks = [track(t, noise, k) for k, t in enumerate(truths)]
    return ClipTracks("v", 0, 0.0, seconds, WIDTH, HEIGHT, times, *tracks), truths


def fitted(result: FittedPair | BadInput) -> FittedPair:
    assert isinstance(result, FittedPair), result
    return result


def error_deg(rotation: np.ndarray, truth: np.ndarray) -> np.ndarray:
    trace = np.einsum("nij,nij->n", matrices(rotation), truth)
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


@pytest.fixture(scope="module")
def noisy() -> tuple[ClipTracks, tuple[Truth, Truth], FittedPair]:
    tracks, truths = clip(0.0175)
    return tracks, truths, fitted(fit_clips([tracks], HEAD, OPTIONS)[0])


def test_finds_rotation_position_and_expression(noisy: tuple[ClipTracks, tuple[Truth, Truth], FittedPair]) -> None:
    _, truths, pair = noisy
    np.testing.assert_allclose(pair.times, np.arange(100) / 25)
    for head, truth in ((pair.a, truths[0]), (pair.b, truths[1])):
        assert head.valid.all()
        assert error_deg(head.rotation, truth.rotation).mean() < 1.0
        # the model's mean size is the truth's up to what its random modes change
        scale = np.median(head.head_centre[:, 2] / truth.centre[:, 2])
        assert abs(scale - 1) < 0.05
        assert np.abs(head.head_centre / scale - truth.centre).max() < 0.02
        assert np.corrcoef(head.jaw[:, 0], truth.jaw[:, 0])[0, 1] > 0.9
        assert (head.neck == 0).all()
        assert head.residual.max() < 0.06


def test_stored_parameters_reproduce_the_landmarks(noisy: tuple[ClipTracks, tuple[Truth, Truth], FittedPair]) -> None:
    """X = R F (x - J_root) + t with the reduced model alone, as a reader of the data set would do it."""
    _, truths, pair = noisy
    head, truth = pair.a, truths[0]
    shape = head.shape.astype(np.float64)
    x = reduced_landmarks(HEAD, shape, head.expression, head.jaw)
    root = HEAD.joints[0] + HEAD.joint_dirs[0] @ shape
    camera = np.einsum("tij,tlj->tli", matrices(head.rotation) @ FLIP, x - root) + head.translation[:, None]
    pixels = camera[..., :2] / camera[..., 2:] * pair.focal_px + np.array([WIDTH, HEIGHT]) / 2
    assert np.median(np.linalg.norm(pixels - truth.pixels, axis=-1)) < 0.04 * 58


def test_gaze_of_eyes_that_look_straight_ahead(noisy: tuple[ClipTracks, tuple[Truth, Truth], FittedPair]) -> None:
    _, truths, pair = noisy
    clean = fitted(fit_clips([clip()[0]], HEAD, OPTIONS)[0])
    ahead = -truths[0].rotation[:, :, 2]
    seen = np.isfinite(clean.a.gaze_raw).all(-1)
    assert seen.mean() > 0.8
    angle = np.degrees(np.arccos(np.clip((clean.a.gaze_raw[seen] * ahead[seen]).sum(-1), -1, 1)))
    assert np.median(angle) < 7.0  # 1 mm of eyeball is 5.4 degrees, and more on a turned head
    assert np.nanmedian(pair.a.gaze_sd) > np.radians(1)


def test_the_same_input_gives_the_same_bytes() -> None:
    tracks, _ = clip(0.0175, 2.0)
    fitter = HeadFitter(HEAD, OPTIONS)
    one, two = fitted(fitter.fit([tracks])[0]), fitted(fitter.fit([tracks])[0])
    for name, value in one.a.__dict__.items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == getattr(two.a, name).tobytes(), name


def test_clips_fitted_together_are_those_fitted_alone() -> None:
    first, _ = clip(0.0175, 2.0)
    second, _ = clip(0.01, 1.6)
    fitter = HeadFitter(HEAD, OPTIONS)
    alone = fitted(fitter.fit([second])[0])
    together = fitted(fitter.fit([first, second])[1])
    assert error_deg(together.b.rotation, matrices(alone.b.rotation)).max() < 0.05


def test_lost_frames_are_not_bridged_and_do_not_hurt() -> None:
    tracks, truths = clip(0.0175)
    hole = replace(tracks.a, valid=tracks.a.valid.copy(), landmarks=tracks.a.landmarks.copy())
    hole.valid[40:60] = False
    hole.landmarks[40:60] = np.nan
    pair = fitted(fit_clips([replace(tracks, a=hole)], HEAD, OPTIONS)[0])
    assert not pair.a.valid[40:60].any()
    assert pair.a.valid[:40].all()
    assert pair.a.valid[60:].all()
    assert np.isnan(pair.a.rotation[40:60]).all()
    assert error_deg(pair.a.rotation[pair.a.valid], truths[0].rotation[pair.a.valid]).mean() < 1.0


def test_outliers_do_not_turn_the_head() -> None:
    tracks, truths = clip(0.0175)
    rng = np.random.default_rng(0)
    landmarks = tracks.a.landmarks.copy()
    wild = rng.random(landmarks.shape[:2]) < 0.1
    landmarks[wild] += 40 * rng.standard_normal((int(wild.sum()), 3)).astype(np.float32)
    pair = fitted(fit_clips([replace(tracks, a=replace(tracks.a, landmarks=landmarks))], HEAD, OPTIONS)[0])
    assert error_deg(pair.a.rotation, truths[0].rotation).mean() < 1.2


def test_windows_agree_with_one_solve() -> None:
    tracks, _ = clip(0.0175, 4.0)
    whole = fitted(fit_clips([tracks], HEAD, OPTIONS)[0])
    parts = fitted(fit_clips([tracks], HEAD, replace(OPTIONS, window=50, overlap=20))[0])
    assert error_deg(parts.a.rotation, matrices(whole.a.rotation)).max() < 0.1


def test_uneven_frame_times_are_resampled_to_the_clip_clock() -> None:
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.uniform(0.025, 0.042, 120))
    times -= times[0]
    tracks, _ = clip(0.005, 3.0, times)
    pair = fitted(fit_clips([tracks], HEAD, OPTIONS)[0])
    exact = Truth(pair.times, -1.0, np.zeros(6)).rotation
    valid = pair.a.valid
    assert valid.mean() > 0.9
    assert error_deg(pair.a.rotation[valid], exact[valid]).mean() < 1.0


def test_held_out_landmarks_have_no_influence() -> None:
    tracks, _ = clip(0.0175, 2.0)
    options = replace(OPTIONS, held_out=tuple(range(0, 468, 5)))
    moved = tracks.a.landmarks.copy()
    moved[:, ::5, :2][:, :94] += 25
    one = fitted(fit_clips([tracks], HEAD, options)[0])
    two = fitted(fit_clips([replace(tracks, a=replace(tracks.a, landmarks=moved))], HEAD, options)[0])
    np.testing.assert_array_equal(one.a.rotation, two.a.rotation)


def bad(result: FittedPair | BadInput) -> BadInput:
    assert isinstance(result, BadInput)
    return result


def test_bad_input_is_named_and_costs_only_its_clip() -> None:
    good, _ = clip(0.01, 2.0)
    few = replace(good.a, valid=np.arange(50) < 5)
    nan = replace(good.a, landmarks=np.full_like(good.a.landmarks, np.nan))
    mirrored = good.a.landmarks.copy()
    mirrored[..., 0] = 600 - mirrored[..., 0]  # image flipped, landmark names not: left and right are swapped
    swapped = replace(good.a, landmarks=mirrored)
    point = replace(good.a, landmarks=np.zeros_like(good.a.landmarks))
    clips = [replace(good, a=t) for t in (few, nan, swapped, point)] + [good]
    results = fit_clips(clips, HEAD, OPTIONS)
    assert bad(results[0]).reason == "landmarks_lost"
    assert "5 of 50" in bad(results[0]).detail
    assert bad(results[1]).reason == "fit_failed"
    assert "not finite" in bad(results[1]).detail
    assert bad(results[2]).reason == "fit_failed"
    assert "swapped" in bad(results[2]).detail
    assert bad(results[3]).reason == "fit_failed"
    assert isinstance(results[4], FittedPair)


def test_frames_with_left_and_right_swapped_are_left_out() -> None:
    good, truths = clip(0.01, 2.0)
    landmarks = good.a.landmarks.copy()
    landmarks[30:40, :, 0] = 600 - landmarks[30:40, :, 0]
    pair = fitted(fit_clips([replace(good, a=replace(good.a, landmarks=landmarks))], HEAD, OPTIONS)[0])
    assert np.array_equal(np.flatnonzero(~pair.a.valid), np.arange(30, 40))
    assert pair.b.valid.all()
    assert error_deg(pair.a.rotation[pair.a.valid], truths[0].rotation[pair.a.valid]).mean() < 1.0


def test_landmarks_that_are_no_face_are_refused() -> None:
    good, _ = clip(0.01, 2.0)
    shuffled = good.a.landmarks[:, np.random.default_rng(0).permutation(478)]
    results = fit_clips([replace(good, a=replace(good.a, landmarks=shuffled)), good], HEAD, OPTIONS)
    assert bad(results[0]).reason == "fit_failed"
    assert isinstance(results[1], FittedPair)


def test_a_profile_that_never_turns_to_the_camera_is_refused() -> None:
    good, _ = clip(0.0, 2.0)
    truth = Truth(good.times, -1.0, np.zeros(6))
    turn = matrices(np.array([0.0, np.radians(88.0), 0.0]))
    middle = truth.points.mean(1, keepdims=True)
    face = np.einsum("tij,kj->tik", truth.rotation.transpose(0, 2, 1), np.eye(3))
    still = np.einsum("ij,tlj->tli", turn, np.einsum("tij,tlj->tli", face, truth.points - middle)) + middle
    landmarks = good.a.landmarks.copy()
    landmarks[:, :468, :2] = still[..., :2] / still[..., 2:] * FOCAL + np.array([WIDTH, HEIGHT]) / 2
    result = fit_clips([replace(good, a=replace(good.a, landmarks=landmarks))], HEAD, OPTIONS)[0]
    assert bad(result).reason == "fit_failed"


def test_the_irises_error_is_of_gaze_read_from_irises() -> None:
    tracks, _ = clip()
    said = np.tile(np.array([0.0, 0.0, -1.0], np.float32), (len(tracks.times), 1))
    options = replace(OPTIONS, iris_error=0.5)
    pair = fitted(fit_clips([replace(tracks, a=replace(tracks.a, gaze=said))], HEAD, options)[0])
    assert np.nanmedian(pair.a.gaze_sd) < 0.2
    assert np.nanmin(pair.b.gaze_sd) > 0.5
