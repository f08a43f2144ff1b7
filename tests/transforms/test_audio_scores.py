"""Scores of a clip's sound, and fingerprints that survive what happens to copies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from duologue.schemas.records import Turn
from duologue.transforms.audio_scores import (
    clipping_share,
    fingerprint,
    fingerprint_bands,
    same_audio,
    similarity,
    sound_scores,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def babble(seed: int, seconds: float = 10.0) -> np.ndarray:
    """Speech-like sound: voiced syllables of changing pitch and formants with pauses."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * 16000)) / 16000
    out = np.zeros(len(times))
    at = 0.1
    while at < seconds - 0.4:
        length = rng.uniform(0.08, 0.3)
        inside = (times >= at) & (times < at + length)
        local = times[inside] - at
        pitch, glide = rng.uniform(90, 250), rng.uniform(-60, 60)
        formants = rng.uniform([300, 900, 2200], [900, 2200, 3300])
        voice = np.zeros(len(local))
        for k in range(1, 16):
            f = k * pitch
            gain = sum(np.exp(-0.5 * ((f - c) / 120) ** 2) for c in formants)
            voice += gain * np.sin(2 * np.pi * k * (pitch * local + 0.5 * glide * local**2))
        out[inside] += voice * np.sin(np.pi * local / length)
        at += length + rng.choice([0.02, 0.05, 0.3])
    return (0.1 * out / np.sqrt(np.mean(out**2))).astype(np.float32)


def test_level_and_noise_are_what_was_mixed() -> None:
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.003, 160000)
    audio[32000:96000] += rng.normal(0, 0.03, 64000)
    scores = sound_scores(audio.astype(np.float32), 50.0, [Turn(52.0, 56.0, "v0")])
    assert scores["snr_db"] == pytest.approx(20.0, abs=0.7)
    assert scores["speech_share"] == pytest.approx(0.4, abs=0.01)
    assert scores["loudness_db"] == pytest.approx(10 * np.log10(0.4 * 0.03**2 + 0.003**2), abs=0.1)
    assert scores["overlap_share"] == 0.0
    assert scores["clipping_share"] == 0.0


def test_overlap_is_a_share_of_the_speech() -> None:
    audio = np.full(160000, 0.01, np.float32)
    turns = [Turn(0.0, 4.0, "v0"), Turn(3.0, 5.0, "v1"), Turn(3.2, 3.6, "v0")]
    scores = sound_scores(audio, 0.0, turns)
    assert scores["speech_share"] == pytest.approx(0.5, abs=0.01)
    assert scores["overlap_share"] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros(5), np.zeros(16000), np.full(16000, np.nan)])
def test_nothing_to_hear(audio: np.ndarray) -> None:
    scores = sound_scores(audio.astype(np.float32), 0.0, [])
    assert scores["loudness_db"] == -100.0
    assert np.isnan(scores["snr_db"])
    assert scores["speech_share"] == scores["overlap_share"] == scores["clipping_share"] == 0.0
    assert fingerprint(audio.astype(np.float32)) == ()


def test_clipping_is_seen_at_any_level() -> None:
    wave = np.sin(2 * np.pi * 220 * np.arange(16000) / 16000).astype(np.float32)
    assert clipping_share(0.8 * wave) == 0.0
    share = float(np.mean(np.abs(2 * wave) >= 1.0))
    assert clipping_share(np.clip(2 * wave, -1, 1)) == pytest.approx(share, abs=0.01)
    assert clipping_share(0.3 * np.clip(2 * wave, -1, 1)) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("gain", [0.05, 0.5, 3.0])
def test_a_fingerprint_does_not_hear_level(gain: float) -> None:
    audio = babble(0)
    assert similarity(fingerprint(audio), fingerprint(gain * audio)) > 0.9


@pytest.mark.parametrize("shift", [100, 8000, 16100])
def test_a_copy_that_starts_elsewhere_is_found(shift: int) -> None:
    audio = babble(1, 12.0)
    one, other = fingerprint(audio[:160000]), fingerprint(audio[shift : shift + 160000])
    assert same_audio(one, other) is not None
    assert set(fingerprint_bands(one)) & set(fingerprint_bands(other))


@pytest.mark.parametrize(("kind", "rate"), [("mp3", "48k"), ("m4a", "64k")])
def test_a_re_encoded_copy_is_found(kind: str, rate: str, tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    import soundfile

    audio = babble(2)
    soundfile.write(tmp_path / "a.wav", audio, 16000)
    quiet = ["ffmpeg", "-v", "error", "-i"]
    subprocess.run([*quiet, tmp_path / "a.wav", "-b:a", rate, tmp_path / f"b.{kind}"], check=True)
    subprocess.run([*quiet, tmp_path / f"b.{kind}", "-ar", "16000", tmp_path / "c.wav"], check=True)
    copy, _ = soundfile.read(tmp_path / "c.wav", dtype="float32")
    value = same_audio(fingerprint(audio), fingerprint(copy))
    assert value is not None
    assert value > 0.3


def test_different_sound_is_different() -> None:
    prints = [fingerprint(babble(seed)) for seed in range(3, 11)]
    pairs = [similarity(p, q) for i, p in enumerate(prints) for q in prints[i + 1 :]]
    assert max(pairs) < 0.1
    assert all(same_audio(p, q) is None for i, p in enumerate(prints) for q in prints[i + 1 :])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=128, max_size=128))
def test_look_up_keys(values: list[int]) -> None:
    keys = fingerprint_bands(values)
    assert len(keys) == len(set(keys)) == 64
    assert fingerprint_bands(values) == keys
    changed = [values[0] ^ 1, *values[1:]]
    assert len(set(keys) ^ set(fingerprint_bands(changed))) == 2
    assert similarity(values, changed) == pytest.approx(127 / 128)


def test_no_fingerprint_matches_nothing() -> None:
    assert similarity((), ()) == 0.0
    assert same_audio((), ()) is None
    assert fingerprint_bands(()) == []
    assert fingerprint(np.sin(np.arange(160000) * 0.2).astype(np.float32)) == ()
