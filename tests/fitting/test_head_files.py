"""FLAME, GNM, ICT-FaceKit and MediaPipe files: layouts, quirks and refusals."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from duologue.fitting.embedding import check, embedding_distance
from duologue.fitting.head_model import HeadModel
from duologue.fitting.load_head import load_head_model
from duologue.fitting.reduce import reduce, reduced_landmarks
from duologue.schemas.errors import UsageError
from duologue.tests.head_model_factory import (
    flame_arrays,
    gnm_arrays,
    random_parameters,
    reference_lbs,
    write_flame_npz,
    write_flame_pickle,
    write_task,
)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    return flame_arrays()


@pytest.fixture(scope="module")
def flame(arrays: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    return load_head_model(write_flame_pickle(tmp_path_factory.mktemp("flame") / "generic_model.pkl", arrays))


def test_flame_pickle_with_chumpy_objects(flame: HeadModel, arrays: dict[str, Any]) -> None:
    assert flame.tier == "flame"
    assert flame.model_id == "flame-generic_model"
    assert "non-commercial" in flame.license
    assert flame.shape_dirs.shape[2] == 300
    assert flame.expression_dirs.shape[2] == 100
    assert np.allclose(flame.vertices, arrays["v_template"])
    assert np.allclose(flame.expression_dirs, arrays["shapedirs"][..., 300:], atol=1e-9)
    assert np.allclose(flame.joints, arrays["J"], atol=1e-6)
    assert flame.eyeball_radius == pytest.approx(0.012, abs=0.001)


def test_flame_poses_as_its_paper_says(flame: HeadModel, arrays: dict[str, Any]) -> None:
    p = random_parameters(flame, 1)
    p["shape"] *= 0.3
    assert np.abs(flame.pose(**p) - reference_lbs(flame, **p)).max() < 1e-6
    # joints regressed from the shaped vertices, expression included
    shaped = arrays["v_template"] + arrays["shapedirs"] @ np.r_[p["shape"], p["expression"]]
    regressed = arrays["J_regressor"] @ shaped
    assert np.allclose(flame.posed_joints(p["shape"], p["expression"]), regressed, atol=1e-6)


def test_flame_reduces_exactly(flame: HeadModel) -> None:
    model = reduce(flame)
    p = random_parameters(flame, 2)
    p = {k: p[k] for k in ("shape", "expression", "jaw")}
    assert np.abs(reduced_landmarks(model, **p) - flame.landmarks(flame.pose(**p))).max() < 1e-5


def test_flame_npz_equals_pickle(flame: HeadModel, arrays: dict[str, Any], tmp_path: Path) -> None:
    other = load_head_model(write_flame_npz(tmp_path / "flame2023_no_jaw.npz", arrays))
    assert other.pose_dirs is not None
    assert flame.pose_dirs is not None
    assert np.array_equal(other.pose_dirs, flame.pose_dirs)
    assert np.array_equal(other.shape_dirs, flame.shape_dirs)
    assert np.array_equal(other.embedding.faces, flame.embedding.faces)
    assert not other.jaw_limits.any()  # that release opens the mouth by expression
    assert other.sha256 != flame.sha256


def test_flame_open_states_its_licence(arrays: dict[str, Any], tmp_path: Path) -> None:
    head = load_head_model(write_flame_npz(tmp_path / "flame2023_Open.npz", arrays))
    assert head.license.startswith("CC-BY-4.0")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("shapedirs", np.zeros((1178, 3, 150)), r"shapedirs.*\(1178, 3, 150\).*\(1178, 3, 400\)"),
        ("weights", np.zeros((1178, 24)), r"weights.*expected \(1178, 5\)"),
        ("J_regressor", np.zeros((5, 7)), r"J_regressor.*expected \(5, 1178\)"),
        ("posedirs", np.zeros((1178, 3, 207)), r"posedirs.*expected \(1178, 3, 36\)"),
        ("f", np.full((4, 3), 99999), r"f has shape.*below 1178"),
        ("kintree_table", np.zeros((2, 5), np.uint32), r"parents \[-1, 0, 0, 0, 0\], expected \[-1, 0, 1, 1, 1\]"),
        ("v_template", np.full((1178, 3), np.nan), "not finite"),
        ("v_template", np.random.default_rng(0).normal(size=(1178, 3)) * 10, "expected metres"),
        ("posedirs", None, "posedirs missing"),
    ],
)
def test_flame_with_wrong_arrays(
    arrays: dict[str, Any], tmp_path: Path, name: str, value: np.ndarray | None, says: str
) -> None:
    content = {k: v for k, v in arrays.items() if k != name}
    if value is not None:
        content[name] = value
    path = tmp_path / "flame.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UsageError, match=says) as caught:
        load_head_model(path)
    assert "\n" not in str(caught.value)


def test_embedding_by_path(flame: HeadModel, arrays: dict[str, Any], tmp_path: Path) -> None:
    path = write_flame_npz(tmp_path / "flame.npz", arrays)
    keep = np.array([33, 263, 133, 362, 61, 291, 13, 14, 1])
    e = flame.embedding
    np.savez(
        tmp_path / "mediapipe_landmark_embedding.npz",
        lmk_face_idx=e.faces[keep].astype(np.uint32),
        lmk_b_coords=e.barycentric[keep],
        landmark_indices=keep,
    )
    head = load_head_model(path, tmp_path / "mediapipe_landmark_embedding.npz")
    assert head.embedding.landmarks.tolist() == sorted(keep.tolist())
    assert np.allclose(head.landmarks(head.vertices), flame.landmarks(flame.vertices)[np.sort(keep)])
    np.savez(tmp_path / "bad.npz", lmk_face_idx=[10**6], lmk_b_coords=[[1.0, 0, 0]], landmark_indices=[1])
    with pytest.raises(UsageError, match="triangle 1000000"):
        load_head_model(path, tmp_path / "bad.npz")


def test_a_collapsed_embedding_is_refused(flame: HeadModel, arrays: dict[str, Any], tmp_path: Path) -> None:
    path = write_flame_npz(tmp_path / "flame.npz", arrays)
    e = flame.embedding
    faces, barycentric = e.faces.copy(), e.barycentric.copy()
    for up, low in ((159, 145), (160, 144), (158, 153), (386, 374), (385, 380), (387, 373)):
        faces[up], barycentric[up] = faces[low], barycentric[low]
    np.savez(tmp_path / "e.npz", lmk_face_idx=faces, lmk_b_coords=barycentric, landmark_indices=e.landmarks)
    with pytest.raises(UsageError, match=r"lid_aperture 0\.0 mm"):
        load_head_model(path, tmp_path / "e.npz")


def test_gnm(tmp_path: Path) -> None:
    np.savez(tmp_path / "gnm_head.npz", **gnm_arrays())
    head = load_head_model(tmp_path / "gnm_head.npz")
    assert head.tier == "gnm"
    assert head.license.startswith("Apache-2.0")
    assert head.pose_dirs is None  # v3's correctives are all zero
    assert len(head.shape_names) == 35  # 40 less the teeth
    assert head.expression_names[:3] == ("left_eye_region_0", "right_eye_region_0", "lower_face_region_0")
    assert not any("tongue" in n or "pupil" in n for n in head.expression_names)
    assert not head.jaw_limits.any()
    p = random_parameters(head, 3)
    assert np.abs(head.pose(**p) - reference_lbs(head, **p)).max() < 1e-6
    mean, _ = embedding_distance(head)
    assert mean < 0.002


def test_gnm_correctives_of_head_and_eyes(tmp_path: Path) -> None:
    a = gnm_arrays(correctives=True)
    np.savez(tmp_path / "gnm_head.npz", **a)
    head = load_head_model(tmp_path / "gnm_head.npz")
    p = random_parameters(head, 4)
    assert np.abs(head.pose(**p) - reference_lbs(head, **p)).max() < 1e-6
    assert head.pose_dirs is not None
    n = len(head.vertices)
    # GNM's own order: neck, head, left eye, right eye; each vec(R - I), row by row
    assert np.allclose(
        head.pose_dirs[:, :, 18:27], a["pose_correctives_regressor"][18:27].reshape(9, n, 3).transpose(1, 2, 0)
    )
    assert not head.pose_dirs[:, :, 9:18].any()  # no jaw joint


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("skinning_weights", np.zeros((1178, 4), np.float32), r"skinning_weights.*expected \(4, 1178\)"),
        ("joint_names", np.array(["neck", "head", "right_eye", "left_eye"]), "joint_names"),
        ("joint_identity_basis", np.zeros((3, 4, 3), np.float32), r"joint_identity_basis.*expected \(40, 4, 3\)"),
    ],
)
def test_gnm_with_wrong_arrays(tmp_path: Path, name: str, value: np.ndarray, says: str) -> None:
    np.savez(tmp_path / "gnm_head.npz", **{**gnm_arrays(), name: value})
    with pytest.raises(UsageError, match=says):
        load_head_model(tmp_path / "gnm_head.npz")


def test_made_embedding_finds_the_true_places(flame: HeadModel) -> None:
    """The FLAME-layout file holds the canonical mesh, whose landmarks are known exactly."""
    error = 1e3 * np.linalg.norm(flame.landmarks(flame.vertices) - flame.vertices[:468], axis=1)
    assert error.mean() < 0.8
    assert error.max() < 4
    check(flame)


def test_ict_facekit(ict: HeadModel) -> None:
    head = ict
    assert head.tier == "ict"
    assert head.license.startswith("MIT")
    assert len(head.vertices) == 26719
    assert len(head.shape_names) == 25
    assert {"jawOpen", "eyeBlink_L", "mouthSmile_R"} <= set(head.expression_names)
    assert np.linalg.norm(head.joints[3] - head.joints[4]) == pytest.approx(0.062, abs=0.003)
    measures = check(head)
    assert 0.007 < measures["lid_aperture"] < 0.012
    mean, worst = embedding_distance(head)
    assert mean < 0.003
    assert worst < 0.007
    e = np.zeros(len(head.expression_names))
    e[head.expression_names.index("jawOpen")] = 0.7
    points = head.landmarks(head.pose(expression=e))
    assert np.linalg.norm(points[13] - points[14]) > 0.015  # the two lips are two lips
    assert np.linalg.norm(points[80] - points[88]) > 0.010


def test_ict_lids_close(ict: HeadModel) -> None:
    head = ict
    e = np.zeros(len(head.expression_names))
    e[head.expression_names.index("eyeBlink_R")] = 1.0
    points = head.landmarks(head.pose(expression=e))
    assert abs(points[159] - points[145])[1] < 0.002
    assert abs(points[386] - points[374])[1] > 0.007


def test_ict_with_a_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "generic_neutral_mesh.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(UsageError, match="expected 26719 vertices, found 3"):
        load_head_model(tmp_path)


@pytest.mark.parametrize("packed", [True, False])
def test_mediapipe_task(tmp_path: Path, packed: bool) -> None:
    base = load_head_model("canonical")
    vertices = base.vertices[:468] * [1.03, 0.97, 1.0]
    head = load_head_model(write_task(tmp_path / "face.task", vertices * 100, base.triangles[:852], packed))
    assert head.model_id == "mediapipe-task"
    shift = head.vertices[:468] - vertices
    assert np.abs(shift - shift[0]).max() < 5e-5  # rigid, but for lips that are brought together
    assert len(head.embedding.landmarks) == 468
    reduce(head)


def test_mediapipe_task_of_the_wrong_size(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected 468 vertices"):
        load_head_model(write_task(tmp_path / "face.task", np.zeros((10, 3)), np.zeros((4, 3), int)))


def test_real_mediapipe_task(task_file: Path) -> None:
    head = load_head_model(task_file)
    assert np.linalg.norm(head.joints[3] - head.joints[4]) == pytest.approx(0.063, abs=0.004)
    assert embedding_distance(head)[0] < 0.0045
