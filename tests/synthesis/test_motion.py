from __future__ import annotations

import numpy as np
import pytest
from duologue.fitting.head_model import rotation_matrix
from duologue.fitting.load_head import load_head_model
from duologue.synthesis.motion import (
    LIP_LEAD_S,
    MAX_EYE,
    RATE,
    animate,
    eye_rotations,
    head_rotation,
    mouth_track,
    viseme,
)
from duologue.synthesis.script import Line
from duologue.synthesis.voices import Phoneme, Utterance


def said(speaker: int, start: float, sounds: list[tuple[str, float, float]]) -> Line:
    phonemes = tuple(Phoneme(*s) for s in sounds)
    return Line(speaker, start, Utterance("", np.zeros(int(sounds[-1][2] * 16000), np.float32), phonemes), "turn")


LINES = (said(0, 1.0, [("A:", 0.0, 0.4), ("m", 0.4, 0.5), ("A:", 0.5, 0.9)]),)


def test_zero_angles_face_the_audience_and_azimuth_turns_to_the_right() -> None:
    np.testing.assert_allclose(head_rotation(np.array(0.0), np.array(0.0), np.array(0.0)), np.eye(3))
    forward = np.array([0.0, 0.0, -1.0])
    turned = head_rotation(np.array(np.pi / 2), np.array(0.0), np.array(0.0)) @ forward
    np.testing.assert_allclose(turned, [1.0, 0.0, 0.0], atol=1e-12)
    nodded = head_rotation(np.array(0.0), np.array(0.3), np.array(0.0)) @ forward
    assert nodded[1] > 0.0  # y is down


def test_eyes_point_where_asked_up_to_their_limit() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(50, 3)) * [0.25, 0.25, 0.0] + [0.0, 0.0, 1.0]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    wanted = wanted[np.arccos(wanted[:, 2]) < MAX_EYE]
    seen = rotation_matrix(eye_rotations(wanted))[..., 2]
    np.testing.assert_allclose(seen, wanted, atol=1e-9)
    far = eye_rotations(np.array([1.0, 0.0, 0.1]))
    assert np.linalg.norm(far) == pytest.approx(MAX_EYE)
    np.testing.assert_array_equal(eye_rotations(np.array([0.0, 0.0, 1.0])), 0.0)


def test_mouth_opens_on_vowels_and_closes_on_m() -> None:
    track = mouth_track(LINES, 0, 3.0)

    def at(t: float) -> float:
        return float(track[int((t + 0.02 - LIP_LEAD_S) * RATE), 0])

    assert at(0.3) < 0.01
    assert at(1.2) > 0.8
    assert at(1.43) < 0.15
    assert at(1.7) > 0.8
    assert at(2.6) < 0.01
    assert not mouth_track(LINES, 1, 3.0).any()


@pytest.mark.parametrize(
    ("symbol", "shape"), [("p", "closed"), ("u:", "pucker"), ("aI@", "open"), ("", "rest"), ("x", "schwa")]
)
def test_viseme(symbol: str, shape: str) -> None:
    assert viseme(symbol) == shape


def test_people_look_at_each_other_as_often_as_asked_and_blink() -> None:
    model = load_head_model("canonical")
    shape = np.zeros(len(model.shape_names))
    times = np.arange(1500) / 25.0
    places = (np.array([-0.45, 0.0, 0.0]), np.array([0.45, 0.0, 0.05]))

    def run(share: float) -> list[float]:
        motions = animate(model, (shape, shape), places, (30.0, -30.0), (), times, share, 4)
        for motion in motions:
            np.testing.assert_allclose(np.linalg.det(motion.rotation), 1.0)
            assert np.linalg.norm(motion.eyes, axis=-1).max() <= MAX_EYE + 1e-9
            closure = motion.expression[:, model.expression_names.index("eyeBlinkLeft")]
            blinks = np.sum((closure[1:] > 0.6) & (closure[:-1] <= 0.6))
            assert 8 <= blinks <= 45  # in a minute
            speed = np.degrees(np.linalg.norm(np.diff(motion.root, axis=0), axis=1)).max()
            assert speed < 1.0
        return [float((m.target == 0).mean()) for m in motions]

    assert np.mean(run(0.8)) > np.mean(run(0.35)) + 0.2


def test_whoever_looks_at_the_partner_hits_the_face() -> None:
    """Eyes and head together reach the partner once the head had time to turn."""
    model = load_head_model("canonical")
    shape = np.zeros(len(model.shape_names))
    places = (np.array([-0.45, 0.0, 0.0]), np.array([0.45, 0.0, 0.05]))
    motions = animate(model, (shape, shape), places, (30.0, -30.0), (), np.arange(1500) / 25.0, 0.7, 4)
    flip = np.diag([1.0, -1.0, -1.0])
    middle = model.joints[3:5].mean(0) - model.joints[0]
    centres = [m.root + m.rotation @ (flip @ middle) for m in motions]
    for who, motion in enumerate(motions):
        axes = rotation_matrix(motion.eyes)[..., 2].mean(1)
        gaze = np.einsum("tij,tj->ti", motion.rotation @ flip, axes / np.linalg.norm(axes, axis=1, keepdims=True))
        toward = centres[1 - who] - centres[who]
        toward /= np.linalg.norm(toward, axis=1, keepdims=True)
        angle = np.degrees(np.arccos(np.clip(np.sum(gaze * toward, axis=1), -1.0, 1.0)))
        partner = motion.target == 0
        settled = partner & np.concatenate(
            [np.zeros(15, bool), *[[partner[t - 15 : t].all()] for t in range(15, 1500)]]
        )
        assert np.percentile(angle[settled], 90) < 3.0
        assert np.median(angle[~partner]) > 15.0


def test_motion_is_seeded() -> None:
    model = load_head_model("canonical")
    shape = np.zeros(len(model.shape_names))
    places = (np.array([-0.45, 0.0, 0.0]), np.array([0.45, 0.0, 0.05]))
    a, b, c = (
        animate(model, (shape, shape), places, (30.0, -30.0), LINES, np.arange(75) / 25.0, 0.7, seed)[0]
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(a.rotation, b.rotation)
    assert np.abs(a.rotation - c.rotation).max() > 1e-3
