import numpy as np
from duologue.fitting.canonical import canonical_skin
from duologue.fitting.landmark_bias import LandmarkBias, apparent_direction, features, load_bias
from duologue.schemas.tracks import face_scale_px
from duologue.synthesis.motion import head_rotation
from duologue.transforms.mirror import mirror_map
from hypothesis import given, settings
from hypothesis import strategies as st

FLIP = np.diag([1.0, -1.0, -1.0])


def face(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[1, 478, 3] the canonical face in scaled orthography, irises between the eye corners."""
    skin = canonical_skin()[0]
    irises = np.concatenate([np.repeat(skin[[a, b]].mean(0)[None], 5, 0) for a, b in ((33, 133), (263, 362))])
    turn = head_rotation(*(np.array([a]) for a in (yaw, pitch, roll)))[0]
    return ((np.concatenate([skin, irises]) @ (turn @ FLIP).T * 900.0) + [400.0, 300.0, 0.0])[None].astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1.3, 1.3), st.floats(-0.6, 0.6), st.floats(-0.7, 0.7))
def test_the_apparent_direction_is_that_of_an_exact_face(yaw: float, pitch: float, roll: float) -> None:
    found = apparent_direction(face(yaw, pitch, 0.0).astype(np.float64))
    np.testing.assert_allclose(np.concatenate(found), [yaw, pitch, 0.0], atol=1e-3)
    upright, tipped = (apparent_direction(face(0.0, 0.0, r).astype(np.float64)) for r in (0.0, roll))
    np.testing.assert_allclose(tipped[2] - upright[2], roll, atol=1e-3)


def test_the_skin_of_a_straight_face_and_a_face_without_depth_stay_as_they_are() -> None:
    straight, flat = face(0.0, 0.0, 0.0), face(0.7, 0.0, 0.0)
    flat[..., 2] = np.nan
    both = load_bias().correct(np.concatenate([straight, flat]))
    np.testing.assert_allclose(both[0, :468], straight[0, :468], atol=0.02)
    lift = (straight[0, 468:, 1] - both[0, 468:, 1]) / face_scale_px(straight)[0]
    np.testing.assert_allclose(lift, lift[0])
    assert 0.005 < lift[0] < 0.02  # irises go up, all alike
    np.testing.assert_array_equal(both[1], flat[0])


def test_correcting_the_mirrored_face_is_mirroring_the_corrected_one() -> None:
    seen = face(0.6, 0.2, 0.15)
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    there = load_bias().correct(seen[:, mirror_map()] * flip)
    back = load_bias().correct(seen)[:, mirror_map()] * flip
    np.testing.assert_allclose(there, back, atol=0.05)


def test_it_turns_a_turned_face_further_and_grows_with_the_face() -> None:
    seen = face(0.75, 0.0, 0.0)
    once, twice = load_bias().correct(seen) - seen, load_bias().correct(2 * seen) - 2 * seen
    np.testing.assert_allclose(twice, 2 * once, atol=1e-2)
    assert apparent_direction((seen + once).astype(np.float64))[0][0] > 0.75 + np.radians(3.0)
    assert np.abs(once).max() < 0.35 * face_scale_px(seen)[0]


def test_roll_turns_the_correction_with_the_face() -> None:
    bias = LandmarkBias(np.zeros((478, 3, features(np.zeros(1), np.zeros(1)).shape[1])))
    bias.coefficients[:, 0, 1] = 1.0  # to the face's own right of the image, in proportion to yaw
    upright, tipped = face(0.5, 0.0, 0.0), face(0.5, 0.0, 0.4)
    (a,), (b,) = bias.correct(upright) - upright, bias.correct(tipped) - tipped
    np.testing.assert_allclose(np.degrees(np.arctan2(b[0, 1], b[0, 0]) - np.arctan2(a[0, 1], a[0, 0])), 22.9, atol=0.3)
