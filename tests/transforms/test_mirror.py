"""The landmark network's preference for one side of the face, and its removal."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from duologue.schemas.tracks import face_scale_px
from duologue.transforms.face_mesh import FaceMesh, MeshFace, Region, region_from_landmarks
from duologue.transforms.mirror import mirror_map, region_without_side_error, side_error, without_side_error


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh()


def look(mesh: FaceMesh, rgb: np.ndarray, region: Region) -> MeshFace:
    for _ in range(3):
        seen = mesh.measure(rgb, region)
        region = region_from_landmarks(seen.landmarks)
    return seen


def mirrored(landmarks: np.ndarray, width: int) -> np.ndarray:
    out = landmarks[mirror_map()].copy()
    out[:, 0] = width - 1 - out[:, 0]
    return out


def test_every_landmark_has_one_on_the_other_side() -> None:
    other = mirror_map()
    assert sorted(other) == list(range(478))
    for right, left in ((33, 263), (133, 362), (61, 291), (468, 473), (469, 476), (470, 475), (471, 474), (472, 477)):
        assert (other[right], other[left]) == (left, right)
    assert (other[[1, 4, 10, 13, 152]] == [1, 4, 10, 13, 152]).all()  # of the middle


@pytest.mark.parametrize("angle", [0.0, 0.35])
def test_a_mirrored_picture_gives_the_mirrored_landmarks(mesh: FaceMesh, angle: float) -> None:
    picture = np.ascontiguousarray(skimage.data.astronaut()[:300])
    reverse = np.ascontiguousarray(picture[:, ::-1])
    width = picture.shape[1]
    one = look(mesh, picture, Region(222, 122, 170, angle))
    place = one.region
    two = mesh.measure(reverse, Region(width - 1 - place.x, place.y, place.side, -place.angle))
    scale = float(face_scale_px(one.landmarks))

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a[:, :2] - mirrored(b, width)[:, :2], axis=1).mean()) / scale

    fixed = []
    for seen in (one, two):
        error = side_error(mesh, seen, 0.0)
        assert error is not None
        fixed.append(without_side_error({0: seen.landmarks}, {0: error}, np.zeros(1))[0])
    assert apart(one.landmarks, two.landmarks) > 0.01
    assert apart(*fixed) < 0.004
    moved = float(np.linalg.norm(fixed[0] - one.landmarks, axis=1).mean()) / scale
    assert 0.003 < moved < 0.05


def test_between_measurements_the_error_is_interpolated_and_turns_with_the_face() -> None:
    rng = np.random.default_rng(3)
    face = (rng.normal(size=(478, 3)) * 30 + 200).astype(np.float32)
    face[33, :2], face[263, :2], face[10, :2], face[152, :2] = (170, 190), (230, 190), (200, 150), (200, 260)
    times = np.array([0.0, 0.1, 0.2, 0.4, 0.5])
    side = region_from_landmarks(face).side
    right = np.zeros((478, 3), np.float32)
    right[:, 0] = 0.01
    out = without_side_error(dict.fromkeys(range(5), face), {0: 0 * right, 3: right}, times)
    moved = [float((out[k] - face)[:, 0].mean()) / side for k in range(5)]
    np.testing.assert_allclose(moved, [0, 0.0025, 0.005, 0.01, 0.01], atol=1e-5)
    turn = np.array([[0.0, -1.0], [1.0, 0.0]], np.float32)  # a quarter turn, clockwise in the image
    turned = face.copy()
    turned[:, :2] = (face[:, :2] - 200) @ turn.T + 200
    shift = without_side_error({0: turned}, {0: right}, times)[0] - turned
    np.testing.assert_allclose(shift[:, :2].mean(0) / side, [0, 0.01], atol=1e-5)
    assert without_side_error({0: face}, {}, times)[0] is face
    uneven = (0.002 * rng.normal(size=(478, 3))).astype(np.float32)
    want = region_from_landmarks(without_side_error({0: turned}, {0: uneven}, times)[0])
    got = region_without_side_error(turned, uneven)
    np.testing.assert_allclose((got.x, got.y, got.side), (want.x, want.y, want.side), atol=0.01 * side)
    assert abs(got.angle - want.angle) < 1e-5
    assert region_without_side_error(turned, None) == region_from_landmarks(turned)


class Unsure:
    def measure(self, rgb: np.ndarray, region: Region) -> MeshFace:
        return MeshFace(np.zeros((478, 3), np.float32), 1.0, rgb, region)


def test_an_unsure_second_answer_counts_for_nothing(mesh: FaceMesh) -> None:
    picture = np.ascontiguousarray(skimage.data.astronaut()[:300])
    seen = mesh.measure(picture, Region(222, 122, 170))
    assert side_error(Unsure(), seen, 1.5) is None
    assert side_error(Unsure(), seen, 0.5) is None  # all points in one place: not the same face
