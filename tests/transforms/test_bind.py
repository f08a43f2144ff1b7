"""Voices and faces on conversations whose truth is known: espeak voices, lips from the phonemes spoken."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from duologue.schemas.errors import UsageError
from duologue.schemas.records import Turn
from duologue.transforms.bind import (
    BindEvidence,
    BindOptions,
    bind_evidence,
    bind_voices,
    binding_margin,
    video_offset,
)
from duologue.transforms.lips import LAGS_S, best_lag, clock, lag_curve, lip_signal, syllables
from duologue.transforms.speaking import SpeakingResult, forward_backward, speaking_masks
from talk_factory import TEXTS, Conversation, converse, face


@pytest.fixture(scope="module")
def spoken() -> dict[str, list]:
    from duologue.synthesis import voices

    try:
        return {name: voices.speak([(t, voices.Voice(name)) for t in TEXTS]) for name in ("en-us", "en+f4")}
    except UsageError as error:
        pytest.skip(str(error))


def solve(c: Conversation, **options: float) -> tuple[dict[str, str], SpeakingResult]:
    evidence = bind_evidence(c.tracks, c.audio, c.tracks.start_s, c.turns)
    faces = bind_voices([evidence])[0]
    return faces, speaking_masks(c.tracks, c.audio, c.tracks.start_s, c.turns, faces, c.times)


def average_precision(truth: np.ndarray, score: np.ndarray) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, score))


def test_lip_signal_does_not_see_the_head_turn() -> None:
    times = np.arange(0, 6, 1 / 30)
    aperture = 5 + 4 * np.sin(2 * np.pi * 2.0 * times)
    for scale in (24.0, 200.0):
        signal = lip_signal(face("a", times, aperture, scale, 0.0, 3), times, clock(0, 5.9))
        assert np.abs(signal.aperture_mm - np.interp(signal.times, times, aperture)).max() < 0.05
        assert signal.noise_mm_s < 0.1
        assert signal.valid.all()
    still = lip_signal(face("a", times, np.full(len(times), 3.0), 60.0, 0.0, 3), times, clock(0, 5.9))
    assert still.speed_mm_s.max() < 0.1


def test_a_gap_in_the_landmarks_is_not_valid() -> None:
    times = np.arange(0, 4, 0.04)
    track = face("a", times, np.ones(len(times)), 60.0, 0.0, 1)
    valid = (times < 1.0) | (times >= 2.0)
    landmarks = np.where(valid[:, None, None], track.landmarks, np.nan)
    signal = lip_signal(replace(track, valid=valid, landmarks=landmarks), times, clock(0, 3.9))
    assert not signal.valid[(signal.times > 1.2) & (signal.times < 1.8)].any()
    assert signal.valid[(signal.times < 0.9) | (signal.times > 2.1)].all()
    assert np.isfinite(signal.aperture_mm).all()
    nothing = lip_signal(replace(track, valid=np.zeros(len(times), bool)), times, clock(0, 3.9))
    assert not nothing.valid.any()


@pytest.mark.parametrize("lag", [-0.2, 0.0, 0.13])
def test_the_lag_of_a_delayed_copy_is_found(lag: float) -> None:
    rng = np.random.default_rng(0)
    times = np.arange(0, 12, 0.01)
    signal = syllables(rng.normal(size=len(times)))
    curve = lag_curve(np.interp(times - lag, times, signal), signal, np.ones(len(times)))
    found, confidence = best_lag(curve, 12.0)
    assert found == pytest.approx(lag, abs=0.004)
    assert confidence > 0.99
    assert abs(curve).max() <= 1.0 + 1e-9
    assert best_lag(np.zeros(len(LAGS_S)), 12.0)[1] == 0.0
    noise = lag_curve(syllables(rng.normal(size=len(times))), signal, np.ones(len(times)))
    assert best_lag(noise, 12.0)[1] < 0.9


@pytest.mark.parametrize("seed", range(4))
def test_each_voice_gets_its_face(spoken: dict[str, list], seed: int) -> None:
    c = converse(spoken, seed=seed)
    faces, result = solve(c)
    assert faces == {"v0": "a", "v1": "b"}
    assert average_precision(c.speaks["a"], result.speaking_a) > 0.97
    assert average_precision(c.speaks["b"], result.speaking_b) > 0.97
    assert result.offset_s == pytest.approx(0.0, abs=0.02)
    assert result.offset_confidence > 0.9
    assert result.share_bound > 0.95
    assert (result.voice_a, result.voice_b) == ("v0", "v1")
    assert {t.face for t in result.turns} == {"a", "b"}
    scores = result.scores()
    assert scores["speaking_a"] == pytest.approx(c.speaks["a"].mean(), abs=0.03)
    assert scores["turn_changes"] >= 2
    assert all(c.tracks.start_s <= t.start_s < t.end_s <= c.tracks.end_s for t in result.turns)


@pytest.mark.parametrize("offset", [-0.12, 0.08, 0.2])
def test_the_offset_of_the_picture_is_measured(spoken: dict[str, list], offset: float) -> None:
    c = converse(spoken, offset_s=offset)
    faces, result = solve(c)
    assert faces == {"v0": "a", "v1": "b"}
    assert result.offset_s == pytest.approx(-offset, abs=0.02)
    assert result.offset_confidence > 0.9


def test_small_noisy_faces_and_noisy_sound(spoken: dict[str, list]) -> None:
    c = converse(spoken, scale=30.0, noise_px=0.5, snr_db=10.0)
    faces, result = solve(c)
    assert faces == {"v0": "a", "v1": "b"}
    assert average_precision(c.speaks["a"], result.speaking_a) > 0.95


def test_a_voice_off_screen_belongs_to_nobody(spoken: dict[str, list]) -> None:
    c = converse(spoken, order="ao")
    faces, result = solve(c)
    assert faces == {"v0": "a", "v2": ""}
    assert result.share_off_screen == pytest.approx(0.5, abs=0.15)
    assert result.speaking_b.max() < 0.5
    assert {t.face for t in result.turns if t.speaker == "v2"} == {""}


def test_a_voice_split_in_two_is_joined_by_its_face(spoken: dict[str, list]) -> None:
    c = converse(spoken, order="aab")
    turns = [replace(t, speaker="v5") if i % 3 == 1 else t for i, t in enumerate(c.turns)]
    evidence = bind_evidence(c.tracks, c.audio, c.tracks.start_s, turns)
    assert bind_voices([evidence])[0] == {"v0": "a", "v5": "a", "v1": "b"}


def test_faces_tell_apart_what_listening_could_not(spoken: dict[str, list]) -> None:
    """One voice id for both speakers: the lips alone say who speaks."""
    c = converse(spoken)
    turns = [replace(t, speaker="v0") for t in c.turns]
    result = speaking_masks(c.tracks, c.audio, c.tracks.start_s, turns, {"v0": ""}, c.times)
    assert average_precision(c.speaks["a"], result.speaking_a) > 0.95
    assert average_precision(c.speaks["b"], result.speaking_b) > 0.95


def test_the_video_decides_what_a_clip_cannot(spoken: dict[str, list]) -> None:
    """A clip whose lips were never seen follows the other clips of its shot."""
    clear = converse(spoken, seed=1)
    other = converse(spoken, seed=2, start_s=200.0)
    blind = np.zeros(len(other.tracks.times), bool)
    tracks = replace(other.tracks, a=replace(other.tracks.a, valid=blind), b=replace(other.tracks.b, valid=blind))
    evidence = [
        bind_evidence(tracks, other.audio, 200.0, other.turns),
        bind_evidence(clear.tracks, clear.audio, 100.0, clear.turns),
    ]
    assert bind_voices(evidence[:1])[0] == {"v0": "", "v1": ""}
    assert bind_voices(evidence) == [{"v0": "a", "v1": "b"}, {"v0": "a", "v1": "b"}]


def test_people_are_followed_into_another_shot_by_their_looks(spoken: dict[str, list]) -> None:
    """In the second shot the same two have changed sides and cannot be read; their looks carry the voices."""
    clear = converse(spoken, seed=1)
    other = converse(spoken, seed=2, start_s=200.0)
    blind = np.zeros(len(other.tracks.times), bool)
    a = replace(other.tracks.a, track_id="p", valid=blind, identity=clear.tracks.b.identity)
    b = replace(other.tracks.b, track_id="q", valid=blind, identity=clear.tracks.a.identity)
    evidence = [
        bind_evidence(clear.tracks, clear.audio, 100.0, clear.turns),
        bind_evidence(replace(other.tracks, shot_index=4, a=a, b=b), other.audio, 200.0, other.turns),
    ]
    assert bind_voices(evidence)[1] == {"v0": "b", "v1": "a"}
    assert bind_voices(evidence, BindOptions(same_person=1.1))[1] == {"v0": "", "v1": ""}


def test_the_margin_is_against_the_swapped_faces(spoken: dict[str, list]) -> None:
    clip = converse(spoken)
    evidence = bind_evidence(clip.tracks, clip.audio, clip.tracks.start_s, clip.turns)
    faces = bind_voices([evidence])[0]
    swapped = {voice: {"a": "b", "b": "a"}.get(face, face) for voice, face in faces.items()}
    margin = binding_margin(evidence, faces, (0.0, 1.0))
    assert margin > 6.0  # e to the sixth: beyond doubt
    assert binding_margin(evidence, swapped, (0.0, 1.0)) == pytest.approx(-margin)
    assert math.isnan(binding_margin(evidence, dict.fromkeys(faces, ""), (0.0, 1.0)))
    silent = replace(evidence, voices=())
    assert math.isnan(binding_margin(silent, faces, (0.0, 1.0)))


def test_evidence_is_small_and_survives_json(spoken: dict[str, list]) -> None:
    c = converse(spoken)
    evidence = bind_evidence(c.tracks, c.audio, c.tracks.start_s, c.turns)
    text = evidence.to_json()
    assert BindEvidence.from_json(text) == evidence
    assert len(text) < 10_000
    json.loads(text)


@pytest.mark.parametrize("audio_s", [0.0, 0.01, 3.0, 40.0])
def test_audio_of_any_length(spoken: dict[str, list], audio_s: float) -> None:
    c = converse(spoken)
    audio = np.resize(c.audio, round(audio_s * 16000)) if audio_s else np.zeros(0, np.float32)
    evidence = bind_evidence(c.tracks, audio, c.tracks.start_s, c.turns)
    faces = bind_voices([evidence])[0]
    result = speaking_masks(c.tracks, audio, c.tracks.start_s, c.turns, faces, c.times)
    assert np.isfinite(result.speaking_a).all()
    assert np.isfinite(result.offset_s) == (result.offset_confidence >= 0.9)


def test_no_turns_no_speech(spoken: dict[str, list]) -> None:
    c = converse(spoken)
    evidence = bind_evidence(c.tracks, np.zeros(16000, np.float32), c.tracks.start_s, [])
    assert bind_voices([evidence]) == [{}]
    assert bind_voices([]) == []
    assert video_offset([], []) == (0.0, 0.0)
    result = speaking_masks(c.tracks, c.audio, c.tracks.start_s, [], {}, c.times)
    assert result.speaking_a.max() == 0.0
    assert result.turns == ()
    assert result.share_speech == 0.0


def test_forward_backward_is_exact_on_a_short_chain() -> None:
    rng = np.random.default_rng(0)
    score, cost = rng.normal(size=(4, 4)), 2.0
    speak = ((0, 0), (1, 0), (0, 1), (1, 1))  # nobody, a, b, both
    stay = np.log1p(-2 * np.exp(-cost) - np.exp(-2 * cost))
    weight = np.zeros((4, 4))
    for path in np.ndindex(4, 4, 4, 4):
        p = sum(score[t, s] for t, s in enumerate(path))
        for was, now in pairwise(path):
            changes = sum(x != y for x, y in zip(speak[was], speak[now], strict=True))
            p += -cost * changes if changes else stay
        for t, s in enumerate(path):
            weight[t, s] += np.exp(p)
    assert np.allclose(forward_backward(score, cost), weight / weight.sum(1, keepdims=True))


def test_two_at_once_are_both_seen_to_speak(spoken: dict[str, list]) -> None:
    """Turns overlap; the turns given name one voice at a time, as listening does: the lips show the other."""
    c = converse(spoken, gap_s=-0.8)
    cut = [replace(t, end_s=min(t.end_s, n.start_s)) for t, n in zip(c.turns[:-1], c.turns[1:], strict=True)]
    turns = [*cut, c.turns[-1]]
    evidence = bind_evidence(c.tracks, c.audio, c.tracks.start_s, turns)
    result = speaking_masks(c.tracks, c.audio, c.tracks.start_s, turns, bind_voices([evidence])[0], c.times)
    both = c.speaks["a"] & c.speaks["b"]
    found = (result.speaking_a > 0.5) & (result.speaking_b > 0.5)
    assert both.mean() > 0.05
    assert (found & both).sum() / both.sum() > 0.5
    assert (found & ~both).sum() / (~both).sum() < 0.1
    assert result.share_overlap == pytest.approx(both.mean(), abs=0.08)


def test_two_who_share_one_voice_are_read_off_their_lips(spoken: dict[str, list]) -> None:
    """The ear hears one voice and cannot cut it: it is nobody's alone, and each moment goes to the lips that move."""
    c = converse(spoken, length_s=24.0)
    turns = [replace(t, speaker="v0") for t in c.turns]
    evidence = bind_evidence(c.tracks, c.audio, c.tracks.start_s, turns)
    faces = bind_voices([evidence])[0]
    assert faces == {"v0": "ab"}
    result = speaking_masks(c.tracks, c.audio, c.tracks.start_s, turns, faces, c.times)
    assert average_precision(c.speaks["a"], result.speaking_a) > 0.97
    assert average_precision(c.speaks["b"], result.speaking_b) > 0.97
    assert result.share_bound > 0.95
    assert {t.face for t in result.turns} == {"a", "b"}
    nobody = converse(spoken, order="o", length_s=24.0)
    evidence = bind_evidence(nobody.tracks, nobody.audio, 100.0, nobody.turns)
    assert bind_voices([evidence])[0] == {"v2": ""}


def test_an_unseen_voice_is_kept_while_a_face_talks_over_it(spoken: dict[str, list]) -> None:
    c = converse(spoken, length_s=24.0, gap_s=1.5)
    mine = next(t for t in c.turns if t.speaker == "v0" and t.end_s - t.start_s > 1.5)
    beyond = Turn(mine.start_s + 0.5, mine.end_s + 1.0, "v9")  # goes on when the face has stopped
    inside = Turn(mine.start_s + 0.4, mine.start_s + 0.9, "v8")  # nothing of it is left over: the ear was wrong
    turns = sorted([*(t for t in c.turns if t.start_s < mine.end_s), beyond, inside], key=lambda t: t.start_s)
    faces = bind_voices([bind_evidence(c.tracks, c.audio, c.tracks.start_s, c.turns)])[0] | {"v8": "", "v9": ""}
    result = speaking_masks(c.tracks, c.audio, c.tracks.start_s, turns, faces, c.times)
    unseen = [t for t in result.turns if not t.face]
    assert [t.speaker for t in unseen] == ["v9"]
    assert unseen[0].start_s == pytest.approx(beyond.start_s, abs=0.15)
    assert unseen[0].end_s == pytest.approx(beyond.end_s, abs=0.15)
    owner = [t for t in result.turns if t.face == faces["v0"]]
    assert any(t.start_s < mine.start_s + 0.2 and t.end_s > mine.end_s - 0.3 for t in owner)
