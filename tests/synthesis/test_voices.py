from __future__ import annotations

import ctypes
from itertools import pairwise

import numpy as np
import pytest
from duologue.schemas.errors import UsageError
from duologue.synthesis import voices
from duologue.synthesis.voices import SAMPLE_RATE, Voice, speak

needs_espeak = pytest.mark.skipif(not voices.available(), reason="espeak-ng is not installed")
TEXT = "Hello there, my friend. Please map the beam."


@needs_espeak
def test_phonemes_cover_the_speech_and_silence_is_where_they_say() -> None:
    (spoken,) = speak([(TEXT, Voice("en-us"))])
    assert spoken.samples.dtype == np.float32
    assert 1.5 < spoken.duration_s < 5.0
    assert spoken.phonemes[0].start_s == 0.0
    assert spoken.phonemes[-1].end_s == pytest.approx(spoken.duration_s, abs=0.005)
    assert all(a.end_s == pytest.approx(b.start_s) for a, b in pairwise(spoken.phonemes))

    def loudness(start: float, end: float) -> float:
        part = spoken.samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
        return float(np.sqrt(np.mean(part**2)))

    pauses = [p for p in spoken.phonemes if not p.symbol and p.end_s - p.start_s > 0.1]
    vowels = [p for p in spoken.phonemes if p.symbol in ("oU", "i:", "aI", "E")]
    assert len(pauses) >= 1  # the comma or the full stop
    assert len(vowels) >= 4
    quiet = max(loudness(p.start_s + 0.05, p.end_s - 0.02) for p in pauses)
    assert quiet < 0.2 * min(loudness(p.start_s, p.end_s) for p in vowels)


@needs_espeak
def test_same_request_same_bytes() -> None:
    lines = [(TEXT, Voice("en-us", 160, 34)), ("Yes.", Voice("en+f4"))]
    for a, b in zip(speak(lines), speak(lines), strict=True):
        np.testing.assert_array_equal(a.samples, b.samples)
        assert a.phonemes == b.phonemes


@needs_espeak
def test_unknown_voice_is_named() -> None:
    with pytest.raises(UsageError, match="no-such-voice"):
        speak([("hello", Voice("no-such-voice"))])


@needs_espeak
def test_a_text_without_sound_is_an_error() -> None:
    with pytest.raises(UsageError, match="spoke nothing"):
        speak([("", Voice("en-us"))])


def test_absent_library_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(UsageError, match="apt-get install espeak-ng"):
        voices._library()


@needs_espeak
def test_a_speaker_embedding_tells_the_default_voices_apart() -> None:
    resemblyzer = pytest.importorskip("resemblyzer")
    from duologue.synthesis.scenario import Scenario
    from duologue.synthesis.script import TOPICS

    people = Scenario().people
    texts = [TOPICS[0][0], TOPICS[0][1], TOPICS[1][1]]
    spoken = speak([(t, Voice(p.voice, p.rate, p.pitch)) for p in people for t in texts])
    encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)
    vectors = np.stack([encoder.embed_utterance(u.samples) for u in spoken])
    cosine = vectors @ vectors.T
    same = min(cosine[i, j] for who in (0, 3) for i in range(who, who + 3) for j in range(who, who + 3) if i < j)
    other = cosine[:3, 3:].max()
    assert same > other + 0.1
