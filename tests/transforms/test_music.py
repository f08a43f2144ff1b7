"""Held tones: chords are music alone and under speech; speech, noise, hum and silence are not."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.transforms.audio_scores import sound_scores
from duologue.transforms.music import held_tones, music_share

N = 8 * 16000
T = np.arange(N) / 16000


def chords(seed: int = 0) -> np.ndarray:
    """A chord of three notes with six partials each, another one every 0.6 s; unit RMS."""
    rng = np.random.default_rng(seed)
    out = np.zeros(N)
    for first in range(0, N, 9600):
        age = T[: len(out[first : first + 9600])]
        for ratio in (1.0, 1.25, 1.5):
            hertz = ratio * rng.choice([147.0, 165.0, 196.0, 220.0])
            out[first : first + 9600] += sum(
                np.exp(-2 * age) * np.sin(2 * np.pi * k * hertz * age) for k in range(1, 7)
            )
    return (out / np.sqrt(np.mean(out**2))).astype(np.float32)


def glide() -> np.ndarray:
    """A voice-like harmonic sound whose pitch moves as speech's does, in syllables; unit RMS."""
    pitch = 140 + 35 * np.sin(2 * np.pi * 0.8 * T) + 12 * np.sin(2 * np.pi * 2.3 * T)
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    out = sum(np.sin(k * phase) / k for k in range(1, 20)) * (0.3 + np.abs(np.sin(2 * np.pi * 2.2 * T)))
    return (out / np.sqrt(np.mean(out**2))).astype(np.float32)


@pytest.mark.parametrize("speech_db", [None, 0.0, 6.0])
def test_chords_are_music_alone_and_under_a_voice(speech_db: float | None) -> None:
    audio = 0.05 * chords()
    if speech_db is not None:
        audio = audio + 0.05 * 10 ** (speech_db / 20) * glide()
    assert music_share(audio) > 0.9


@pytest.mark.parametrize("kind", ["voice", "noise", "hum", "whistle"])
def test_what_is_not_music(kind: str) -> None:
    rng = np.random.default_rng(0)
    audio = {
        "voice": 0.1 * glide(),
        "noise": rng.normal(0, 0.1, N),
        "hum": sum(np.sin(2 * np.pi * 50 * k * T) / k for k in range(1, 20)) * 0.1 + rng.normal(0, 1e-3, N),
        "whistle": 0.1 * np.sin(2 * np.pi * 1100 * T) + rng.normal(0, 1e-3, N),
    }[kind]
    assert music_share(np.asarray(audio, np.float32)) == 0.0


def test_half_a_clip_of_music_is_half() -> None:
    audio = np.where(T < 4.0, 0.1 * chords(), np.random.default_rng(0).normal(0, 0.01, N)).astype(np.float32)
    assert music_share(audio) == pytest.approx(0.5, abs=0.12)
    assert held_tones(audio)[:100].mean() > 5 * held_tones(audio)[-100:].mean() + 3


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros(N), np.full(8000, 0.1), np.full(N, np.nan)])
def test_nothing_can_be_said_of_silence_or_a_moment(audio: np.ndarray) -> None:
    assert np.isnan(music_share(audio.astype(np.float32)))


def test_level_does_not_matter_and_the_score_is_stored() -> None:
    audio = chords()
    assert music_share(1e-3 * audio) == pytest.approx(music_share(0.3 * audio), abs=0.05)
    assert sound_scores(0.1 * audio, 0.0, [])["music_share"] > 0.9
