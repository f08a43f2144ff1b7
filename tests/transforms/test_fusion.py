"""Voices and both mouths weighed by the network: what it reads, and what it says of plain cases."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.schemas.records import Turn
from duologue.transforms.fusion import N_INPUTS, Mouth, inputs_of, load_fusion, mouth_of, voices_of
from duologue.transforms.lips import LipSignal, clock, lip_signal
from talk_factory import face

TIMES = np.arange(0, 10, 0.04)
FINE = clock(-1.0, 11.0)
SILENCE = np.zeros(len(FINE))


def mouth(aperture: np.ndarray, noise_px: float = 0.1) -> Mouth:
    around = np.arange(-1, 11, 0.04)
    moved = np.interp(around, TIMES, aperture)
    return mouth_of(lip_signal(face("a", around, moved + 2.0, 60.0, noise_px, 3), around, FINE), SILENCE)


def syllables_until(end_s: float) -> np.ndarray:
    return np.where(end_s > TIMES, 4.0 + 3.0 * np.sin(2 * np.pi * 3.0 * TIMES), 0.3)


def test_voices_are_read_around_a_moment_and_shared_ones_count_half() -> None:
    turns = [Turn(1.0, 2.0, "v0"), Turn(3.0, 4.0, "v1"), Turn(5.0, 6.0, "v2")]
    voices = voices_of(turns, {"v0": "a", "v1": "ab"}, np.array([1.5, 2.5, 3.5, 5.5]))
    now = {who: rows[:, 4].tolist() for who, rows in voices.items()}
    assert now == {"a": [1, 0, 0.5, 0], "b": [0, 0, 0.5, 0], "": [0, 0, 0, 1]}
    assert voices["a"][1].tolist() == [1, 1, 0, 0, 0, 0, 0, 0.5, 0.5]  # 1 s, 0.6 s before 2.5 s, and after


def test_a_mouth_that_is_not_seen_is_all_zeros() -> None:
    nothing = np.zeros(len(FINE), np.float32)
    hidden = mouth_of(LipSignal(FINE, nothing, nothing, 0.0, np.zeros(len(FINE), bool), 0.0), SILENCE)
    none = np.zeros((len(TIMES), 9))
    read = inputs_of(hidden, hidden, (none, none, none), TIMES)
    assert read.shape == (len(TIMES), N_INPUTS)
    assert (read == 0).all()
    mine = np.ones((len(TIMES), 9))
    network = load_fusion()
    assert network.mean.shape == network.scale.shape == (N_INPUTS,)
    assert (network.log_odds(inputs_of(hidden, hidden, (mine, none, none), TIMES)) > 1.0).all()
    assert (network.log_odds(inputs_of(hidden, hidden, (none, mine, none), TIMES)) < -1.0).all()


def test_head_size_and_noise_do_not_move_the_opening() -> None:
    talk = syllables_until(5.0)
    plain, noisy = mouth(talk), mouth(talk, 0.6)
    inside = (FINE > 0.5) & (FINE < 4.5)
    assert np.corrcoef(plain.parted[inside], noisy.parted[inside])[0, 1] > 0.95
    assert noisy.noise[0] > plain.noise[0] + 0.5
    assert plain.parted[(FINE > 6) & (FINE < 9)].max() < -0.5
    assert plain.lively[inside].mean() > 1.0 > 0.0 > plain.lively[(FINE > 6) & (FINE < 9)].mean()


def test_of_one_voice_for_both_the_lips_decide() -> None:
    talks, listens = mouth(syllables_until(5.0)), mouth(np.full(len(TIMES), 0.3))
    half, none = np.full((len(TIMES), 9), 0.5), np.zeros((len(TIMES), 9))
    network = load_fusion()
    told = network.log_odds(inputs_of(talks, listens, (half, half, none), TIMES))
    other = network.log_odds(inputs_of(listens, talks, (half, half, none), TIMES))
    first = (TIMES > 0.6) & (TIMES < 4.4)
    assert np.mean(told[first] > 0) > 0.9
    assert np.mean(other[first] < 0) > 0.9


def test_a_listener_who_gapes_does_not_speak() -> None:
    gapes = np.where(TIMES < 5, 0.3, 4.0)  # hangs open from 5 s on, still
    none, whole = np.zeros((len(TIMES), 9)), np.ones((len(TIMES), 9))
    talks = mouth(4.0 + 3.0 * np.sin(2 * np.pi * 3.0 * TIMES))
    told = load_fusion().log_odds(inputs_of(mouth(gapes), talks, (none, whole, none), TIMES))
    assert (told[(TIMES > 6) & (TIMES < 9)] < 0).all()


@pytest.mark.parametrize("lag", [0.1, 0.2])
def test_opening_with_the_sound_counts_as_together(lag: float) -> None:
    beat = np.sin(2 * np.pi * 3.0 * FINE)
    around = np.arange(-1, 11, 0.04)
    lips = lip_signal(face("a", around, 5 + 3 * np.interp(around, FINE, beat), 60.0, 0.1, 3), around, FINE)
    heard = np.interp(FINE - lag, FINE, beat)  # loud that much later
    together = mouth_of(lips, heard).together[(FINE > 1) & (FINE < 9)].mean()
    assert together > 0.9 if lag == 0.1 else together < 0.0
