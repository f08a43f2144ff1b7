from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from duologue.synthesis import voices
from duologue.synthesis.script import Line, speech_segments, write_script
from duologue.synthesis.voices import Phoneme, Utterance, Voice

VOICES = (Voice("en+f4", 170, 52), Voice("en-us", 160, 34))
needs_espeak = pytest.mark.skipif(not voices.available(), reason="espeak-ng is not installed")


def said(start: float, sounds: list[tuple[str, float, float]], speaker: int = 0) -> Line:
    phonemes = tuple(Phoneme(*s) for s in sounds)
    return Line(speaker, start, Utterance("", np.zeros(int(sounds[-1][2] * 16000), np.float32), phonemes), "turn")


def test_segments_bridge_short_pauses_and_keep_long_ones() -> None:
    line = said(1.0, [("a", 0.0, 0.5), ("", 0.5, 0.8), ("b", 0.8, 1.0), ("", 1.0, 1.9), ("c", 1.9, 2.0)])
    segments = speech_segments((line, said(7.0, [("a", 0.0, 1.0)], speaker=1)), 0)
    np.testing.assert_allclose(segments, [(1.0, 2.0), (2.9, 3.0)])


@needs_espeak
@pytest.mark.parametrize("seed", [1, 2])
def test_people_alternate_overlap_and_answer(seed: int) -> None:
    lines = write_script(26.0, VOICES, seed)
    turns = [line for line in lines if line.kind == "turn"]
    assert all(a.speaker != b.speaker for a, b in pairwise(turns))
    overlaps = [a.end_s - b.start_s for a, b in pairwise(turns) if b.start_s < a.end_s]
    assert overlaps
    assert all(0.2 < o < 0.6 for o in overlaps)
    replies = [line for line in lines if line.kind == "backchannel"]
    assert replies
    for reply in replies:
        assert any(t.speaker != reply.speaker and t.start_s < reply.start_s < t.end_s for t in turns)
    assert max(line.end_s for line in lines) <= 26.0
    assert max(line.end_s for line in lines) > 22.0
    own = [speech_segments(lines, who) for who in (0, 1)]
    assert all(a[1] <= b[0] for segments in own for a, b in pairwise(segments))


@needs_espeak
def test_switched_off_nobody_speaks_at_once() -> None:
    lines = write_script(20.0, VOICES, 3, overlaps=False, backchannels=False)
    assert all(a.end_s < b.start_s for a, b in pairwise(lines))


@needs_espeak
@pytest.mark.parametrize("rate", [120, 450])
def test_slow_and_fast_talkers_fill_the_film(rate: int) -> None:
    lines = write_script(60.0, (Voice("en+f4", rate, 52), Voice("en-us", rate, 34)), 3)
    assert max(line.end_s for line in lines) > 56.0


@needs_espeak
def test_seeds_repeat_and_differ() -> None:
    a, b, c = (write_script(12.0, VOICES, seed) for seed in (5, 5, 6))
    assert [(x.text, x.start_s) for x in a] == [(x.text, x.start_s) for x in b]
    assert [(x.text, x.start_s) for x in a] != [(x.text, x.start_s) for x in c]
