"""A crowd that laughs is told from one voice, from steady noise, from clapping and from music."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.synthesis.beds import LAUGH_S, music
from duologue.synthesis.beds import laughter as crowd
from duologue.transforms.audio_scores import sound_scores
from duologue.transforms.laughter import laughter, laughter_share

N, AT = 8 * 16000, 3 * 16000
T = np.arange(N) / 16000


def talker() -> np.ndarray:
    """A voice-like harmonic sound in syllables with pauses; unit RMS."""
    phase = 2 * np.pi * np.cumsum(140 + 35 * np.sin(2 * np.pi * 0.8 * T)) / 16000
    out = sum(np.sin(k * phase) / k for k in range(1, 20)) * np.clip(np.sin(2 * np.pi * 2.2 * T), 0.02, 1)
    return np.asarray(out / np.sqrt(np.mean(out**2)))


def bed(sound: np.ndarray, under: np.ndarray | float = 0.0) -> np.ndarray:
    """Eight seconds of faint hiss with a sound from the third on."""
    out = np.random.default_rng(0).normal(0, 1e-3, N) + under
    out[AT : AT + len(sound)] += sound[: N - AT]
    return out.astype(np.float32)


@pytest.mark.parametrize("gain", [0.003, 0.05, 0.4])
def test_a_crowd_is_found_where_it_laughs(gain: float) -> None:
    laugh = crowd(3, 0, people=30)
    audio = bed(gain * laugh) if gain > 0.01 else bed(0.05 * laugh) * np.float32(gain / 0.05)
    found = laughter(audio)
    true = (np.arange(len(found)) >= 300) & (np.arange(len(found)) < 300 + 100 * LAUGH_S)
    assert found[true].mean() > 0.65  # the first and last quarter second swell and fade
    assert found[~true].mean() < 0.02
    assert sound_scores(audio, 0.0, [])["laughter_share"] == pytest.approx(float(found.mean()))


def test_laughter_between_lines_is_found_and_under_a_louder_voice_is_not() -> None:
    voice = 0.1 * talker() * ((T < 2.8) | (T > 5.4))
    assert laughter_share(bed(0.1 * crowd(3, 0, people=30), voice)) > 0.12
    assert laughter_share(bed(0.01 * crowd(3, 0, people=30), 0.1 * talker())) == 0.0


def noise(power: float) -> np.ndarray:
    """Three seconds of noise whose spectrum falls as frequency to the ``power``; unit RMS."""
    spectrum = np.fft.rfft(np.random.default_rng(1).normal(0, 1, 48000))
    out = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 60) ** power, 48000)
    return np.asarray(out / out.std())


def claps() -> np.ndarray:
    rng, out = np.random.default_rng(2), np.zeros(48000)
    for at in rng.integers(0, 47000, 300):
        out[at : at + 400] += rng.normal(0, 1, 400) * np.exp(-np.arange(400) / 60)
    return out / out.std()


@pytest.mark.parametrize("kind", ["voice", "white", "pink", "brown", "claps", "music", "one person's laugh"])
def test_what_is_not_a_crowds_laughter(kind: str) -> None:
    sound = {
        "voice": talker()[:48000],
        "white": noise(0.0),
        "pink": noise(0.5),
        "brown": noise(1.0),
        "claps": claps(),
        "music": music(3.0, 4),
        "one person's laugh": crowd(3, 0, people=1),
    }[kind]
    assert laughter_share(bed(0.05 * sound)) == 0.0


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros(N), np.full(8000, 0.1), np.full(N, np.nan)])
def test_nothing_can_be_said_of_silence_or_a_moment(audio: np.ndarray) -> None:
    assert np.isnan(laughter_share(audio.astype(np.float32)))
