"""Labels along time, and the number of voices."""

from __future__ import annotations

import numpy as np
from duologue.transforms.voices import VoiceOptions, label_voices, unit, viterbi
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 3))
def test_viterbi_finds_the_best_path(seed: int, cost: float) -> None:
    score = np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)

    def value(path: tuple[int, ...]) -> float:
        return sum(float(score[t, s]) for t, s in enumerate(path)) - cost * sum(
            path[t] != path[t - 1] for t in range(1, 5)
        )

    best = max(value(path) for path in np.ndindex(3, 3, 3, 3, 3))
    assert abs(value(tuple(viterbi(score, cost))) - best) < 1e-5


@given(st.integers(0, 1000), st.lists(st.integers(0, 60), min_size=2, max_size=8, unique=True))
def test_viterbi_spans_know_nothing_of_each_other(seed: int, edges: list[int]) -> None:
    score = np.random.default_rng(seed).normal(size=(60, 3)).astype(np.float32)
    ordered = sorted(edges)
    spans = list(zip(ordered[:-1:2], ordered[1::2], strict=False))
    path = viterbi(score, 1.5, spans)
    outside = np.ones(60, bool)
    for first, end in spans:
        assert path[first:end].tolist() == viterbi(score[first:end], 1.5).tolist()
        outside[first:end] = False
    assert not path[outside].any()


def conversation(voices: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list, np.ndarray]:
    """Window embeddings of speakers who take turns of 4 s, 0.5 s apart."""
    rng = np.random.default_rng(seed)
    centres = unit(np.abs(rng.normal(size=(voices, 256))).astype(np.float32) ** 3)
    starts = np.arange(0, 60, 0.3)
    turn = np.floor(starts / 4.5).astype(int) % voices
    vectors = unit(centres[turn] + spread * rng.normal(size=(len(starts), 256)).astype(np.float32) / 16)
    regions = [(t, t + 4.0) for t in np.arange(0, 58, 4.5)]
    return starts, np.repeat(vectors[:, None], 2, 1).astype(np.float16), regions, turn


def test_voices_far_apart_are_counted() -> None:
    for voices in (1, 2, 3, 4):
        starts, vectors, regions, _ = conversation(voices, 0.3)
        found = label_voices(starts, vectors, (0.6, 1.6), regions)
        assert len({v for _, _, v in found}) == voices


def test_a_given_number_is_kept() -> None:
    starts, vectors, regions, _ = conversation(2, 0.3)
    options = VoiceOptions(min_voices=1, max_voices=1)
    assert label_voices(starts, vectors, (0.6, 1.6), regions, options) == [(lo, hi, 0) for lo, hi in regions]
    starts, vectors, regions, _ = conversation(1, 0.3)
    two = VoiceOptions(min_voices=2, max_voices=2)
    assert len({v for _, _, v in label_voices(starts, vectors, (0.6, 1.6), regions, two)}) == 2


def test_segments_lie_inside_their_regions() -> None:
    starts, vectors, regions, _ = conversation(3, 0.3)
    found = label_voices(starts, vectors, (0.6, 1.6), regions)
    assert abs(sum(e - s for s, e, _ in found) - sum(hi - lo for lo, hi in regions)) < 1e-6
    assert all(any(lo - 1e-9 <= s < e <= hi + 1e-9 for lo, hi in regions) for s, e, _ in found)
    assert label_voices(starts, vectors, (0.6, 1.6), []) == []


def test_speech_too_short_for_a_window_is_one_voice() -> None:
    none = np.zeros((0, 2, 256), np.float16)
    assert label_voices(np.zeros(0), none, (0.6, 1.6), [(1.0, 1.3)]) == [(1.0, 1.3, 0)]
