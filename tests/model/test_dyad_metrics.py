"""Measures of two people in space, and on the mesh: known errors come out as known figures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from dataset_factory import make_head
from duologue.fitting.head_model import rotation_matrix
from duologue.fitting.load_head import load_head_model
from duologue.model.dyad_metrics import (
    angle_between,
    forward_directions,
    gaze_directions,
    gaze_error_deg,
    lip_modes,
    mutual_gaze_ap,
    mutual_gaze_chance,
    parameter_errors,
    parts_of,
    space_errors,
)
from duologue.model.mesh_metrics import (
    dynamics_deviation,
    face_vertices_mm,
    lip_vertex_error,
    mean_head_distance,
    mesh_errors,
    regions,
    upper_face_dynamics_deviation,
)
from duologue.model.turns import unwrapped
from duologue.schemas.heads import HeadTrack
from hypothesis import given
from hypothesis import strategies as st


def head(seed: int, side: float = -0.4, frames: int = 75, **options: bool) -> HeadTrack:
    return make_head(np.random.default_rng(seed), frames, side, **options)


SPEAKING = np.r_[np.ones(30), np.zeros(30), np.full(15, np.nan)].astype(np.float32)


def test_what_a_prediction_does_before_the_truth_begins_is_no_error() -> None:
    """Places are relative to the first frame that counts, not to each sequence's own first one."""
    truth, partner = head(0), head(1, 0.4)
    late = truth.valid & (np.arange(75) >= 10)
    early = truth.translation.copy()
    early[:10] += np.float32(0.5)
    same = replace(truth, valid=np.ones(75, bool), translation=early)
    assert parameter_errors(same, replace(truth, valid=late), partner, SPEAKING)["mse_translation"] == 0


def test_rpcc_is_of_all_numbers_of_the_frames_that_count() -> None:
    truth, partner, got = head(0), head(1, 0.4), head(2)
    keep = truth.valid & partner.valid & got.valid
    x, y, z = (np.concatenate(list(parts_of(one).values()), axis=1)[keep] for one in (got, truth, partner))
    for values in (x, y, z):
        values[:, -3:] -= values[0, -3:]
    wanted = abs(np.corrcoef(y.ravel(), z.ravel())[0, 1] - np.corrcoef(x.ravel(), z.ravel())[0, 1])
    assert parameter_errors(got, truth, partner, SPEAKING)["rpcc"] == pytest.approx(wanted, rel=1e-6)
    assert parameter_errors(truth, truth, partner, SPEAKING)["rpcc"] == 0


def test_chance_is_the_share_of_mutual_frames() -> None:
    assert mutual_gaze_chance([[0.1] * 3, [0.1] * 2], [[1.0, 0.0, np.nan], [0.9, 0.2]]) == 0.5
    assert math.isnan(mutual_gaze_chance([[np.nan]], [[1.0]]))


def test_each_part_has_its_own_column() -> None:
    truth, partner = head(0), head(1, 0.4)
    same = parameter_errors(truth, truth, partner, SPEAKING)
    assert all(value == 0 for name, value in same.items() if name.startswith("mse"))
    assert same["fd"] == pytest.approx(0, abs=1e-6)
    assert same["sid_speaker"] > 3
    moved = replace(truth, eyes=truth.eyes + np.float32(0.1))
    got = parameter_errors(moved, truth, partner, SPEAKING)
    assert got["mse_eye"] == pytest.approx(0.01, rel=1e-4)
    assert [got[f"mse_{name}"] for name in ("expression", "rotation", "translation", "lip")] == [0, 0, 0, 0]
    assert got["mse_full"] == pytest.approx(0.01 * 6 / (20 + 3 + 6 + 6 + 3), rel=1e-4)
    assert got["fd"] == pytest.approx(0.06, rel=1e-3)
    far = replace(truth, translation=truth.translation + np.float32(1))
    assert parameter_errors(far, truth, partner, SPEAKING)["mse_translation"] == pytest.approx(0, abs=1e-10)
    talks = replace(truth, expression=truth.expression + np.eye(20, dtype=np.float32)[3])
    assert parameter_errors(talks, truth, partner, SPEAKING)["mse_lip"] == 0
    assert parameter_errors(talks, truth, partner, SPEAKING, lips=[3])["mse_lip"] == pytest.approx(1 / 4, rel=1e-5)


def test_a_head_turned_away_does_not_jump_by_a_whole_turn() -> None:
    angle = np.pi + np.linspace(-0.2, 0.2, 75)  # a swing through half a turn; stored vectors change sign there
    swing = np.stack([0 * angle, angle, 0 * angle], 1)
    stored = np.where(angle[:, None] > np.pi, swing - [0, 2 * np.pi, 0], swing)
    np.testing.assert_allclose(unwrapped(stored), swing, atol=1e-12)
    np.testing.assert_allclose(unwrapped(stored[::-1], near=swing[-1]), swing[::-1], atol=1e-12)
    holed = stored.copy()
    holed[30:35] = np.nan
    keep = np.isfinite(holed[:, 0])
    np.testing.assert_allclose(unwrapped(holed)[keep], swing[keep], atol=1e-12)
    truth, partner = head(0, holes=False), head(1, 0.4, holes=False)
    truth = replace(truth, rotation=stored.astype(np.float32))
    other_way = swing + np.array([0, 0.02, 0])
    near_by = np.where(other_way[:, 1:2] > np.pi, other_way - [0, 2 * np.pi, 0], other_way)
    got = parameter_errors(replace(truth, rotation=near_by.astype(np.float32)), truth, partner, SPEAKING)
    assert got["mse_rotation"] == pytest.approx(0.02**2 / 6, rel=1e-3)
    assert got["fd"] == pytest.approx(0.02**2, rel=1e-2)


@given(st.integers(0, 2**32 - 1), st.floats(0, 9))
def test_unwrapping_keeps_every_rotation(seed: int, far: float) -> None:
    rng = np.random.default_rng(seed)
    turns, near = rng.normal(size=(12, 3)) * rng.choice([0, 1e-170, 1e-3, 2]), far * rng.normal(size=3)
    turns = turns * np.minimum(1, np.pi / np.maximum(np.linalg.norm(turns, axis=1, keepdims=True), 1e-12))
    np.testing.assert_allclose(rotation_matrix(unwrapped(turns, near)), rotation_matrix(turns), atol=1e-6)
    small = turns * 0.3
    assert np.array_equal(unwrapped(small), small)


def test_speaker_and_listener_frames_are_told_apart_and_invalid_ones_left_out() -> None:
    truth, partner = head(0, holes=False), head(1, 0.4, holes=False)
    still = replace(truth, expression=np.where(SPEAKING[:, None] == 1, truth.expression, truth.expression[:1]))
    for name in ("jaw", "rotation", "eyes", "translation"):
        value = getattr(truth, name)
        shown = SPEAKING.reshape(-1, *[1] * (value.ndim - 1)) == 1
        still = replace(still, **{name: np.where(shown, value, value[:1])})
    got = parameter_errors(still, truth, partner, SPEAKING)
    assert got["sid_speaker"] > 3
    assert got["sid_listener"] == pytest.approx(0, abs=1e-5)
    assert got["mse_listener"] > 0.1
    assert got["fd_listener"] > 1
    talker = replace(truth, jaw=truth.jaw + np.nan_to_num(SPEAKING)[:, None])
    assert parameter_errors(talker, truth, partner, SPEAKING)["mse_listener"] == 0
    nods = replace(truth, neck=truth.neck + np.float32(0.2) * (SPEAKING == 0)[:, None])
    got = parameter_errors(nods, truth, partner, SPEAKING)
    assert got["mse_listener_rotation"] == pytest.approx(0.04 * 3 / 6, rel=1e-4)
    assert got["fd_listener_rotation"] == pytest.approx(0.04 * 3, rel=1e-3)
    assert got["mse_listener"] == 0
    assert math.isnan(parameter_errors(truth, truth, partner, np.ones(75, np.float32))["sid_listener"])
    with pytest.raises(ValueError, match="NaN"):
        parameter_errors(replace(truth, jaw=truth.jaw * np.nan), truth, partner, SPEAKING)
    blind = replace(truth, valid=np.zeros(75, bool))
    with pytest.raises(ValueError, match="fewer than two frames"):
        parameter_errors(blind, truth, partner, SPEAKING)


def test_gaze_and_facing_angles() -> None:
    rotation = np.array([[0, 0, 0], [0, math.pi / 2, 0]])
    np.testing.assert_allclose(forward_directions(rotation), [[0, 0, -1], [-1, 0, 0]], atol=1e-12)
    straight = np.zeros((2, 2, 3))
    np.testing.assert_allclose(gaze_directions(rotation, straight), forward_directions(rotation), atol=1e-12)
    left = np.broadcast_to([0, 0.3, 0], (2, 2, 3))  # +y turns the eyes toward the subject's left, image right
    np.testing.assert_allclose(gaze_directions(rotation, left)[0], [math.sin(0.3), 0, -math.cos(0.3)], atol=1e-12)
    crossed = np.array([[[0, -0.2, 0], [0, 0.2, 0]]])
    np.testing.assert_allclose(gaze_directions(rotation[:1], crossed), [[0, 0, -1]], atol=1e-12)
    assert angle_between([1, 0, 0], [1, 1e-7, 0]) == pytest.approx(1e-7)


def test_gaze_error_is_the_mean_angle_over_known_frames() -> None:
    truth = head(0)
    turn = math.radians(10)
    matrix = np.array([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
    flat = truth.gaze * [1, 0, 1]
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert gaze_error_deg(replace(truth, gaze=flat @ matrix.T), replace(truth, gaze=flat)) == pytest.approx(10)
    assert math.isnan(gaze_error_deg(replace(truth, gaze=truth.gaze * np.nan), truth))


def test_distance_and_facing_errors() -> None:
    a, b = head(0, -0.4, facing=0.0), head(1, 0.4, facing=0.0)
    same = space_errors((a, b), (a, b))
    assert (same.distance_m, same.facing_deg, same.position_m) == (0, 0, 0)
    further = replace(b, head_centre=b.head_centre + np.array([0.2, 0, 0], np.float32))
    got = space_errors((a, further), (a, b))
    assert got.distance_m == pytest.approx(0.2, rel=0.01)
    assert got.distance_share == pytest.approx(0.25, rel=0.02)
    assert got.position_m == pytest.approx(0.2, rel=1e-4)
    still = replace(a, rotation=np.zeros_like(a.rotation)), replace(b, rotation=np.zeros_like(b.rotation))
    turned = replace(still[0], rotation=np.broadcast_to(np.float32([0, -math.radians(30), 0]), (75, 3)))
    assert space_errors((turned, still[1]), still).facing_deg == pytest.approx(15, rel=0.05)  # one of two, 30 degrees
    with pytest.raises(ValueError, match="no frame"):
        space_errors((replace(a, valid=~np.ones(75, bool)), b), (a, b))


def test_mutual_gaze_average_precision() -> None:
    truth = [np.array([0.9, 0.1, np.nan]), np.array([0.8, 0.2, 0.3])]
    assert mutual_gaze_ap([np.array([0.7, 0.2, 0.9]), np.array([0.6, 0.5, 0.1])], truth) == 1
    assert mutual_gaze_ap([np.array([0.1, 0.2, 0.9]), np.array([0.6, 0.5, np.nan])], truth) == pytest.approx(
        (1 / 1 + 2 / 4) / 2
    )
    assert math.isnan(mutual_gaze_ap([np.zeros(3)], [np.zeros(3)]))


@pytest.fixture(scope="module")
def canonical() -> object:
    return load_head_model()


def test_regions_lie_where_they_should(canonical) -> None:  # type: ignore[no-untyped-def]
    found = regions(canonical)
    v = canonical.vertices
    assert 20 <= len(found.lips) <= 40
    assert len(found.upper) > 60
    assert v[found.lips, 1].max() < v[found.upper, 1].min()
    assert not set(found.lips) & set(found.upper)


def test_mesh_measures_of_known_displacements(canonical) -> None:  # type: ignore[no-untyped-def]
    truth = np.zeros((4, 5, 3))
    truth[:, :, 0] = np.arange(4)[:, None]
    shifted = truth.copy()
    shifted[:, 2] += [0, 3, 4]
    assert lip_vertex_error(shifted, truth) == 5
    assert mean_head_distance(shifted, truth) == pytest.approx(math.sqrt(25 / 5))
    assert upper_face_dynamics_deviation(shifted, truth) == 0  # a shift is not a movement
    assert upper_face_dynamics_deviation(2 * truth, truth) == pytest.approx(100 * np.arange(4).std())
    assert dynamics_deviation(truth[:, 0], 0 * truth[:, 0]) == pytest.approx(100 * np.arange(4).std() / 3)


def test_mesh_errors_of_a_head_that_shuts_up(canonical) -> None:  # type: ignore[no-untyped-def]
    count = len(canonical.expression_names)
    base = head(0, frames=20, holes=False)
    truth = replace(base, expression=np.zeros((20, count), np.float32), shape=np.zeros(3, np.float32))
    same = mesh_errors(canonical, truth, truth)
    assert same == dict.fromkeys(("lve", "mhd", "vmse", "fdd", "pdd", "jdd"), 0.0)
    shut = replace(truth, jaw=np.zeros_like(truth.jaw))
    got = mesh_errors(canonical, shut, truth)
    assert 2 < got["lve"] < 60
    assert 0 < got["mhd"] < got["lve"]
    assert got["jdd"] > 1
    assert (got["pdd"], got["fdd"]) == (0, pytest.approx(0, abs=0.5))
    assert lip_modes(canonical.expression_names)
    # Only the speaking half shuts up: the listening half has no deviation.
    half = (np.arange(20) < 10).astype(np.float32)
    split = mesh_errors(canonical, replace(truth, jaw=truth.jaw * (1 - half[:, None])), truth, half)
    assert split["jdd_speaking"] > 0.5
    assert split["jdd_listening"] == split["pdd_speaking"] == 0
    assert math.isnan(mesh_errors(canonical, shut, truth, half * 0)["jdd_speaking"])
    truth.valid[3] = False
    assert np.isfinite(
        mesh_errors(canonical, shut, replace(truth, jaw=np.where(truth.valid[:, None], truth.jaw, np.nan)))["lve"]
    )
    assert face_vertices_mm(canonical, shut, regions(canonical).lips).shape[0] == 20
