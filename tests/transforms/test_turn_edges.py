"""Edges of speech to 10 ms, and turns whose edges follow the sound."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.schemas.records import Turn
from duologue.transforms.turn_edges import EdgeOptions, pauses_of, sharpen, snap, sounding
from hypothesis import example, given, settings
from hypothesis import strategies as st


def test_what_stands_over_the_noise_of_its_band_sounds() -> None:
    rng = np.random.default_rng(0)
    mel = rng.chisquare(8, (3000, 40)) * np.linspace(1, 30, 40)  # noise of another level in each band
    loud = np.zeros(3000, bool)
    loud[500:900] = loud[950:1400] = True
    mel[loud, 5:25] *= 100
    speech = np.zeros(3000, bool)
    speech[480:1415] = True  # what a speech network says: late to end, and deaf to the pause
    found = sounding(mel.astype(np.float32), speech)
    assert np.mean(found != loud) < 0.005
    assert not sounding(mel.astype(np.float32), np.zeros(3000, bool)).any()


def test_louder_laughter_outside_does_not_hide_the_speech() -> None:
    """Where what lies outside is louder than the speech, the speech's own quiet moments are its noise."""
    rng = np.random.default_rng(1)
    mel = rng.chisquare(8, (3000, 40))
    speech = np.zeros(3000, bool)
    speech[500:1400] = True
    mel[500:900] *= 40
    mel[1000:1400] *= 40
    mel[1400:] *= 4000
    found = sounding(mel.astype(np.float32), speech)
    assert found[500:900].all()
    assert found[1000:].all()
    assert not found[901:999].any()


def test_edges_move_to_the_sound_and_pauses_part() -> None:
    sounds = np.zeros(1000, bool)
    sounds[105:200] = sounds[212:300] = sounds[305:340] = True
    assert sharpen([(11.0, 13.55)], sounds, 10.0) == [
        pytest.approx((11.05, 12.0)),
        pytest.approx((12.12, 13.4)),  # 50 ms are a stop consonant, not a pause
    ]


def test_an_edge_without_sound_in_reach_stays() -> None:
    nothing = np.zeros(1000, bool)
    assert sharpen([(1.003, 2.007)], nothing, 0.0) == [(1.003, 2.007)]
    through = np.ones(1000, bool)
    assert sharpen([(1.003, 2.007)], through, 0.0) == [(1.003, 2.007)]


def test_a_sound_between_two_regions_belongs_to_one() -> None:
    sounds = np.zeros(400, bool)
    sounds[50:100] = sounds[104:108] = sounds[112:200] = True  # 40 ms within reach of both
    out = sharpen([(0.5, 1.01), (1.11, 2.0)], sounds, 0.0)
    assert out == [pytest.approx((0.5, 1.08)), pytest.approx((1.12, 2.0))]


@settings(max_examples=80, deadline=None)
@example(seed=107, count=4, start=0.0)
@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(-20, 20))
def test_regions_stay_in_order_and_near(seed: int, count: int, start: float) -> None:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.uniform(0, 10, 2 * count)) + start
    regions = [(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    sounds = np.repeat(rng.random(200) < 0.6, 5)
    options = EdgeOptions()
    out = sharpen(regions, sounds, start, options)
    flat = [edge for region in out for edge in region]
    assert all(b >= a - 1e-9 for a, b in out)
    assert all(later >= earlier - 0.011 for earlier, later in zip(flat[1:-1:2], flat[2::2], strict=True))
    for lo, hi in out:
        assert any(lo >= a - options.earlier_s - 0.011 and hi <= b + options.earlier_s + 0.011 for a, b in regions)


def test_turns_follow_the_sound() -> None:
    heard = [Turn(1.0, 2.013, "v0"), Turn(2.207, 4.0, "v1"), Turn(3.0, 3.5, "v0")]
    assert pauses_of(heard) == [(2.013, 2.207)]
    frames = [Turn(1.02, 2.1, "v0", "a"), Turn(2.1, 3.1, "v1", "b"), Turn(3.1, 4.06, "v0", "a")]
    moved = snap(frames, heard, 0.12)
    assert [(t.start_s, t.end_s) for t in moved] == [(1.0, 2.013), (2.207, 3.1), (3.1, 4.0)]
    kept = snap([Turn(2.0, 3.0, "v1", "b")], [Turn(0.0, 1.95, "v1"), Turn(2.15, 5.0, "v1")], 0.12, 2.0, 3.0)
    assert (kept[0].start_s, kept[0].end_s) == (2.0, 3.0)  # cut by the clip, not by the pause
    assert snap(frames, [], 0.12) == frames
    lost = Turn(2.05, 2.15, "v2")  # all of it inside the silence
    assert snap([lost], heard, 0.12) == [lost]
