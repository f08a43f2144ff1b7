"""The dyad frame and what is said about two heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from duologue.fitting.dyad import camera_to_dyad, relate, relative_covariance
from duologue.schemas.errors import BadInput
from duologue.schemas.heads import FittedPair, HeadTrack

T = 50


def head(
    name: str, centre: tuple[float, float, float], yaw: float, target: tuple[float, float, float] | None
) -> HeadTrack:
    ones = np.ones(T, dtype=np.float32)
    middle = np.tile(np.array(centre, dtype=np.float32), (T, 1))
    forward = np.array([-np.sin(yaw), 0.0, -np.cos(yaw)]) if target is None else np.array(target) - centre
    gaze = np.tile((forward / np.linalg.norm(forward)).astype(np.float32), (T, 1))
    zero = np.zeros((T, 3), dtype=np.float32)
    rotation = zero.copy()
    rotation[:, 1] = yaw
    return HeadTrack(
        track_id=name, shape=np.zeros(1, np.float32), expression=np.zeros((T, 1), np.float32), jaw=zero, neck=zero,
        rotation=rotation, translation=middle, eyes=np.zeros((T, 2, 3), np.float32), gaze_raw=gaze, gaze=gaze,
        head_centre=middle, rotation_sd=np.full((T, 3), 0.01, np.float32), translation_sd=0.05 * 1.5 * ones,
        gaze_sd=0.04 * ones, residual=0.02 * ones, box=np.zeros((T, 4), np.float32), confidence=ones,
        valid=np.ones(T, bool), scale_log_sd=0.048,
    )  # fmt: skip


def pair(a: HeadTrack, b: HeadTrack, focal_log_sd: float = 0.01) -> FittedPair:
    times = np.arange(T) / 25
    return FittedPair(times, 25.0, 1280, 720, 1370.0, "user", focal_log_sd, "m", "0", "canonical", a, b)


A, B = (-0.4, 0.0, 1.5), (0.4, 0.0, 1.5)


def test_the_dyad_frame() -> None:
    centre_a = np.array([[np.nan] * 3, [-0.3, 0.1, 1.4]])
    centre_b = np.array([[0.0, 0.0, 1.0], [0.5, -0.1, 1.8]])
    m = camera_to_dyad(centre_a, centre_b, np.array([False, True]))
    r = m[:3, :3]
    np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(r) == pytest.approx(1)
    a, b = (r @ c[1] + m[:3, 3] for c in (centre_a, centre_b))
    half = np.linalg.norm(centre_b[1] - centre_a[1]) / 2
    np.testing.assert_allclose(a, [-half, 0, 0], atol=1e-12)
    np.testing.assert_allclose(b, [half, 0, 0], atol=1e-12)
    assert (r @ [0, -1, 0])[1] > 0.9  # the camera's up stays up


def test_face_to_face_with_mutual_gaze() -> None:
    relation = relate(pair(head("a", A, -np.pi / 2 + 0.02, B), head("b", B, np.pi / 2 - 0.02, A)))
    assert relation.distance_m == pytest.approx(np.full(T, 0.8), abs=1e-5)
    assert (relation.looking_a < 0.01).all()
    assert (relation.mutual_gaze > 0.8).all()
    assert "arrangement:face_to_face" in relation.codes
    assert "facing_a:facing" in relation.codes
    assert "mutual:much" in relation.codes
    assert relation.layout["facing_a_deg"] == pytest.approx(np.degrees(0.02), abs=0.1)  # a little to the camera
    assert len(set(relation.captions)) == 5


def test_side_by_side_looking_at_the_camera() -> None:
    relation = relate(pair(head("a", A, 0.0, None), head("b", B, 0.0, None)))
    assert "arrangement:side_by_side" in relation.codes
    assert "facing_a:side_on" in relation.codes
    assert "mutual:none" in relation.codes
    assert relation.layout["facing_a_deg"] == pytest.approx(90, abs=0.1)
    assert relation.layout["facing_b_deg"] == pytest.approx(90, abs=0.1)


def test_the_tilt_is_the_subjects_own_side() -> None:
    a = head("a", A, 0.0, None)
    tilted = a.rotation.copy()
    tilted[:, 2] = np.radians(25)  # clockwise in the image: the top of the head to image right, the subject's left
    relation = relate(pair(replace(a, rotation=tilted), head("b", B, 0.0, None)))
    assert "tilt_a:left" in relation.codes
    assert "tilt_b:upright" in relation.codes


def test_unknown_focal_widens_the_depth_difference_only() -> None:
    far = (0.4, 0.0, 2.5)
    known, unknown = (pair(head("a", A, 0, None), head("b", far, 0, None), s) for s in (0.0, 0.03))
    extra = relative_covariance(unknown)[0] - relative_covariance(known)[0]
    # what size alone leaves shrinks by the focal part of translation_sd; the rest is depth difference x focal sd
    assert extra[2, 2] > -(0.03**2) * (1.5**2 + 2.5**2 + 0.32)
    equal = relative_covariance(pair(head("a", A, 0, None), head("b", B, 0, None), 0.0))[0]
    expected = 2 * (0.05 * 1.5 / np.hypot(0.4, 1.5) * 1.5) ** 2
    assert equal[2, 2] == pytest.approx(expected, rel=1e-3)


def test_uncertain_distance_is_not_claimed() -> None:
    near_edge = relate(pair(head("a", (-0.59, 0, 1.5), 0.0, None), head("b", (0.59, 0, 1.5), 0.0, None)))
    assert not any(c.startswith("distance:") for c in near_edge.codes)


def test_no_common_frame_is_bad_input() -> None:
    a, b = head("a", A, 0, None), head("b", B, 0, None)
    with pytest.raises(BadInput, match="landmarks_lost"):
        relate(pair(replace(a, valid=np.zeros(T, bool)), b))
