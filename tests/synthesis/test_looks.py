"""What people look like: skin without its portrait's lamp, no seam at the jaw, ears, a body with a back."""

import cv2
import numpy as np
import pytest
from duologue.fitting.load_head import load_head_model
from duologue.synthesis.avatar import Avatar, build_avatar, face_points, fit_portrait, oval_points
from duologue.synthesis.dress import HULL_COLUMNS, Mesh, Placement
from duologue.synthesis.head_geometry import face_triangles
from duologue.synthesis.identities import load_identity
from duologue.synthesis.portraits import NAMES, Portrait, _grade, _landmarks, _read, load_portrait
from duologue.synthesis.skin import even_light, face_uv
from duologue.transforms.mirror import mirror_map

MODEL = load_head_model("canonical")


@pytest.fixture(scope="module", params=NAMES)
def person(request: pytest.FixtureRequest) -> tuple[Portrait, Placement, Avatar]:
    portrait = load_portrait(request.param)
    return portrait, fit_portrait(MODEL, portrait.landmarks)[1], build_avatar(load_identity(request.param), MODEL, 1)


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.points[mesh.triangles[:, k]] for k in range(3))
    return float(np.einsum("fd,fd->", a, np.cross(b, c)) / 6.0)


def signed_areas(points: np.ndarray) -> np.ndarray:
    a, b, c = (points[face_triangles()[:, k]].astype(float) for k in range(3))
    return np.asarray((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def test_colours_of_the_cheeks_come_from_further_in_and_in_order(person: tuple[Portrait, Placement, Avatar]) -> None:
    marks = person[0].landmarks
    uv = face_uv(marks)
    np.testing.assert_allclose(uv[:, 1], marks[:468, 1], rtol=1e-6)
    np.testing.assert_allclose(uv[[1, 4, 13, 152], 0], marks[[1, 4, 13, 152], 0], atol=0.02 * np.ptp(marks[:468, 0]))
    before, after = (signed_areas(points[:468, :2]) for points in (marks, uv))
    folded = np.sign(before) != np.sign(after)
    assert np.abs(after[folded]).sum() < 0.002 * np.abs(after).sum()
    assert uv[234, 0] > marks[234, 0]
    assert uv[454, 0] < marks[454, 0]


def test_the_lamp_of_a_portrait_is_taken_off() -> None:
    image = _read("collins")
    image = cv2.resize(image, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_CUBIC)
    marks = _landmarks(image)
    image = _grade(image, marks)
    across = np.clip((np.arange(image.shape[1]) - marks[1, 0]) / np.ptp(marks[:468, 0]), -0.5, 0.5)
    lit = np.clip(image * (1.0 - 0.6 * across)[None, :, None], 0, 255).astype(np.uint8)  # a lamp at one side

    def uneven(picture: np.ndarray) -> float:
        soft = cv2.GaussianBlur(picture.mean(-1), (0, 0), 12.0)
        cheeks = np.array([50, 205, 118, 101, 187])
        left, right = (np.mean([soft[int(y), int(x)] for x, y in marks[k, :2]]) for k in (cheeks, mirror_map()[cheeks]))
        return float(abs(np.log(left / right)))

    assert uneven(lit) > 0.15
    assert uneven(even_light(lit, marks)) < 0.3 * uneven(lit)


def test_no_seam_between_face_and_skull(person: tuple[Portrait, Placement, Avatar]) -> None:
    portrait, _, avatar = person
    border = oval_points(avatar.face_uv.astype(np.float64))
    low = np.flatnonzero(border[:, 1] > portrait.landmarks[454, 1])  # beside and under the jaw
    columns = np.round(low / len(border) * (HULL_COLUMNS - 1)).astype(int)
    smooth = cv2.blur(portrait.image, (7, 7)).astype(float)
    face = smooth[border[low, 1].astype(int), border[low, 0].astype(int)]
    skull = cv2.blur(avatar.hull.texture[:6, :, :3], (7, 1))[2, columns].astype(float)
    assert np.median(np.abs(face - skull)) < 8.0


def test_ears_are_where_no_hair_covers_them() -> None:
    bare = build_avatar(load_identity("hopper"), MODEL, 1)
    assert len(bare.ears) == 2
    right, left = (ear.points for ear in bare.ears)
    np.testing.assert_allclose(right * [-1.0, 1.0, 1.0], left, atol=0.004)
    face = face_points(MODEL, MODEL.neutral(bare.shape))
    assert left[:, 0].max() > face[454, 0]
    assert 0.05 < np.ptp(left[:, 1]) < 0.08
    assert not build_avatar(load_identity("collins"), MODEL, 1).ears


def test_a_body_has_shoulders_and_a_back(person: tuple[Portrait, Placement, Avatar]) -> None:
    body = person[2].body
    assert volume(body) > 0.03  # m^3, so its triangles look outward
    chest = body.points[(body.points[:, 1] < -0.30) & (body.points[:, 1] > -0.40)]
    assert 0.40 < np.ptp(chest[:, 0]) < 0.52
    assert 0.20 < np.ptp(chest[:, 2]) < 0.30
    assert body.texture[..., :3].std() > 3.0
