"""The embedded heads: anatomy at rest, symmetry, and expressions that do what their names say."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.fitting.canonical import FOLDER, canonical_skin
from duologue.fitting.embedding import check, face_measures
from duologue.fitting.head_model import HeadModel
from duologue.fitting.load_head import load_head_model
from duologue.fitting.mesh_query import triangle_normals

UPPER, LOWER = (246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head_model("canonical")


def act(head: HeadModel, **amounts: float) -> np.ndarray:
    e = np.zeros(len(head.expression_names))
    for name, amount in amounts.items():
        e[head.expression_names.index(name)] = amount
    return head.pose(expression=e)


def test_neutral_anatomy(head: HeadModel) -> None:
    m = {k: 1e3 * v for k, v in face_measures(head.vertices[:468]).items()}
    assert 8 <= m["lid_aperture"] <= 10
    assert m["inner_lip_gap"] <= 1
    assert 45 <= m["mouth_width"] <= 55
    assert np.linalg.norm(head.joints[3] - head.joints[4]) == pytest.approx(0.063, abs=1e-6)
    assert m["outer_eye_distance"] == pytest.approx(89.4, abs=3)  # tracks.face_scale_px counts on it
    assert (FOLDER / "canonical_head.npz").stat().st_size < 400_000


def test_frames_and_symmetry(head: HeadModel) -> None:
    skin, _, mirror = canonical_skin()
    assert skin[263, 0] > 0 > skin[33, 0]  # the subject's left is +x
    assert skin[10, 1] > skin[152, 1]
    assert skin[4, 2] == skin[:, 2].max()  # the nose points out
    assert np.array_equal(mirror[mirror], np.arange(468))
    assert np.abs(skin[mirror] * [-1, 1, 1] - skin).max() < 2e-6
    assert np.allclose(0.5 * (head.joints[3] + head.joints[4]), 0, atol=1e-6)


def test_triangles_are_facemeshs_and_face_outward(head: HeadModel) -> None:
    skin, triangles, _ = canonical_skin()
    assert triangles.shape == (852, 3)
    normals = triangle_normals(skin, triangles)
    front = np.abs(skin[triangles].mean(1)[:, 0]) < 0.02
    assert (normals[front, 2] > 0).mean() > 0.9
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)  # one winding: no directed edge twice
    assert set(head.triangles.ravel()) == set(range(len(head.vertices)))


def test_weights_and_provenance(head: HeadModel) -> None:
    assert np.allclose(head.weights.sum(1), 1)
    assert (head.weights >= 0).all()
    assert head.tier == "canonical"
    assert len(head.sha256) == 64
    assert "statistical" in head.notes[0]
    assert head.weights[14, 2] == 1.0  # lower lip with the jaw
    assert head.weights[13, 2] == 0.0  # upper lip without


@pytest.mark.parametrize("name", ["canonical", "second"])
@pytest.mark.parametrize("amount", [0.25, 0.5, 0.75, 1.0])
def test_blink_closes_over_the_eyeball(name: str, amount: float) -> None:
    head = load_head_model(name)
    v = act(head, eyeBlinkRight=amount)
    rest = head.vertices
    gap = np.linalg.norm(v[list(UPPER)] - v[list(LOWER)], axis=1)
    at_rest = np.linalg.norm(rest[list(UPPER)] - rest[list(LOWER)], axis=1)
    assert np.all(gap <= at_rest * (1 - amount) + 2.5e-3 * (name == "second") + 1e-5)
    lids = np.array(UPPER + LOWER)
    assert np.linalg.norm(v[lids] - head.joints[4], axis=1).min() > head.eyeball_radius - 1e-3 * (name == "second")
    assert np.abs(v[468 - 1 : 468] - rest[468 - 1 : 468]).max() < 1e-4  # the far side stays


def test_smile_lifts_its_own_corner_and_keeps_the_mouth_shut(head: HeadModel) -> None:
    v = act(head, mouthSmileLeft=1.0)
    assert v[291, 1] > head.vertices[291, 1] + 4e-3
    assert v[291, 0] > head.vertices[291, 0] + 3e-3
    assert np.abs(v[61] - head.vertices[61]).max() < 1e-3
    assert 1e3 * face_measures(v[:468])["inner_lip_gap"] < 2


def test_mouth_modes_do_what_they_say(head: HeadModel) -> None:
    rest = face_measures(head.vertices[:468])
    assert face_measures(act(head, mouthPucker=1)[:468])["mouth_width"] < rest["mouth_width"] - 0.01
    assert act(head, mouthPucker=1)[0, 2] > head.vertices[0, 2] + 3e-3
    assert face_measures(act(head, mouthFunnel=1)[:468])["inner_lip_gap"] > 4e-3
    e = np.zeros(len(head.expression_names))
    e[head.expression_names.index("mouthClose")] = 1
    agape, shut = (face_measures(head.pose(expression=x, jaw=[0.13, 0, 0])[:468])["inner_lip_gap"] for x in (0 * e, e))
    assert shut < 0.4 * agape
    assert act(head, browInnerUp=1)[107, 1] > head.vertices[107, 1] + 4e-3
    assert act(head, browDownRight=1)[66, 1] < head.vertices[66, 1] - 3e-3
    assert act(head, eyeWideLeft=1)[386, 1] > head.vertices[386, 1] + 1e-3


def test_left_and_right_are_mirror_images(head: HeadModel) -> None:
    _, _, mirror = canonical_skin()
    pairs = [n for n in head.expression_names if n.endswith("Left") and n[:-4] + "Right" in head.expression_names]
    assert len(pairs) >= 12
    for name in pairs:
        left = act(head, **{name: 1.0})[:468] - head.vertices[:468]
        right = act(head, **{name[:-4] + "Right": 1.0})[:468] - head.vertices[:468]
        assert np.abs(left[mirror] * [-1, 1, 1] - right).max() < 3e-6


def test_identity_varies_as_people_do(head: HeadModel) -> None:
    rng = np.random.default_rng(0)
    measures = [face_measures(head.pose(shape=rng.normal(size=len(head.shape_names)))[:468]) for _ in range(300)]
    sd = {k: np.std([m[k] for m in measures]) / np.mean([m[k] for m in measures]) for k in measures[0]}
    assert 0.035 < sd["outer_eye_distance"] < 0.075  # adults: 5.7 %
    assert 0.03 < sd["face_width"] < 0.07  # 5.3 %
    assert 0.03 < sd["face_height"] < 0.07  # 4.9 %
    for m in measures:
        assert 4e-3 < m["lid_aperture"] < 16e-3


def test_identity_carries_eyeballs_rigidly(head: HeadModel) -> None:
    shape = np.random.default_rng(3).normal(size=len(head.shape_names))
    v, joints = head.pose(shape=shape), head.posed_joints(shape)
    for part, joint in ((1, 3), (2, 4)):
        rows = head.parts == part
        assert np.abs((v[rows] - joints[joint]) - (head.vertices[rows] - head.joints[joint])).max() < 3e-5


def test_second_head_is_out_of_the_first_ones_reach(head: HeadModel) -> None:
    second = load_head_model("second")
    check(second)
    basis = np.concatenate([head.shape_dirs[:468], head.expression_dirs[:468]], -1).reshape(1404, -1).astype(float)
    for dirs in (second.shape_dirs, second.vertices[:, :, None] - head.vertices[:, :, None]):
        d = dirs[:468].reshape(1404, -1).astype(float)
        left = d - basis @ np.linalg.lstsq(basis, d, rcond=None)[0]
        share = np.sqrt((left**2).sum(0) / (d**2).sum(0))
        assert share.mean() > 0.25
    size = [
        float((p - p.mean(0)).ravel() @ (p - p.mean(0)).ravel()) for p in (second.vertices[:468], head.vertices[:468])
    ]
    assert size[0] == pytest.approx(size[1], rel=0.05)
