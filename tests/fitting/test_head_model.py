"""Posing a head: linear blend skinning against an independent, joint-by-joint reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from duologue.fitting.head_model import rotation_matrix
from duologue.fitting.load_head import load_head_model
from duologue.schemas.errors import UsageError
from duologue.tests.head_model_factory import random_parameters, reference_lbs, with_everything
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_pose_equals_forward_kinematics(seed: int) -> None:
    head = with_everything()
    p = random_parameters(head, seed)
    assert np.abs(head.pose(**p) - reference_lbs(head, **p)).max() < 1e-7


def test_pose_broadcasts_over_frames() -> None:
    head = with_everything()
    many = [random_parameters(head, k) for k in range(4)]
    stacked = {k: np.stack([m[k] for m in many]) for k in many[0]}
    together = head.pose(**{**stacked, "shape": many[0]["shape"]})
    for k, m in enumerate(many):
        alone = head.pose(**{**m, "shape": many[0]["shape"]})
        assert np.abs(together[k] - alone).max() < 1e-8


def test_rest_pose_is_the_template_and_short_coefficients_are_padded() -> None:
    head = load_head_model("canonical")
    assert np.allclose(head.pose(), head.vertices, rtol=0, atol=1e-12)
    assert np.allclose(
        head.pose(shape=[1.0, 2.0]), head.pose(shape=np.r_[1.0, 2.0, np.zeros(len(head.shape_names) - 2)])
    )
    with pytest.raises(ValueError, match="coefficients"):
        head.pose(shape=np.zeros(len(head.shape_names) + 1))


def test_positive_jaw_opens_downward() -> None:
    head = load_head_model("canonical")
    open_mouth = head.pose(jaw=[0.3, 0, 0])
    assert open_mouth[152, 1] < head.vertices[152, 1] - 0.01
    assert np.linalg.norm(open_mouth[13] - open_mouth[14]) > 0.015
    assert np.allclose(open_mouth[10], head.vertices[10], atol=1e-9)


def test_eyes_turn_alone_and_toward_the_side_asked() -> None:
    head = load_head_model("canonical")
    posed = head.pose(eyes=np.array([[0, 0.4, 0], [0, 0, 0]]))  # +y turns the gaze to the subject's left
    left = head.parts == 1
    iris = np.flatnonzero(left)[0]
    assert posed[iris, 0] > head.vertices[iris, 0] + 0.003
    assert np.allclose(posed[~left], head.vertices[~left], rtol=0, atol=1e-12)
    centre = head.joints[3]
    assert np.allclose(
        np.linalg.norm(posed[left] - centre, axis=1), np.linalg.norm(head.vertices[left] - centre, axis=1)
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.sampled_from([1.0, 1e-4, 1e-9]))
def test_rotation_matrix(vector: list[float], size: float) -> None:
    v = np.array(vector) * size
    assert np.allclose(rotation_matrix(v), Rotation.from_rotvec(v).as_matrix(), atol=1e-12)


def test_environment_names_the_model_when_no_path_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUOLOGUE_HEAD_MODEL", "second")
    assert load_head_model().model_id.startswith("second")
    assert load_head_model("canonical").model_id.startswith("canonical")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.pkl", None, "no such file"),
        ("head.obj", b"v 0 0 0", "expected a FLAME"),
        ("broken.npz", b"not a zip", "not a readable .npz"),
        ("broken.task", b"not a zip", "expected a MediaPipe .task"),
    ],
)
def test_unusable_paths_are_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=says) as caught:
        load_head_model(path)
    assert "\n" not in str(caught.value)


def test_foreign_npz_is_told_what_was_expected(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", apples=np.zeros(3))
    with pytest.raises(UsageError, match=r"apples.*FLAME.*v_template.*GNM"):
        load_head_model(tmp_path / "x.npz")


def test_empty_folder_is_not_ict(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"generic_neutral_mesh\.obj"):
        load_head_model(tmp_path)
