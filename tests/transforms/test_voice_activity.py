"""Speech regions from probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from duologue.transforms.voice_activity import FRAME_S, VoiceActivityOptions, mask_regions, speech_regions
from hypothesis import given, settings
from hypothesis import strategies as st

BARE = VoiceActivityOptions(min_speech_s=0.0, min_silence_s=0.0, pad_s=0.0)


def test_hysteresis_keeps_a_dip_and_needs_an_onset() -> None:
    dip = np.array([0.0, 0.6, 0.4, 0.6, 0.3, 0.4, 0.0], np.float32)
    assert speech_regions(dip, 10.0, BARE) == [(10.0 + FRAME_S, 10.0 + 4 * FRAME_S)]


def test_short_gaps_close_and_short_speech_goes() -> None:
    speech = np.zeros(200, np.float32)
    speech[20:60] = speech[62:90] = 1.0
    speech[150:152] = 1.0
    (region,) = speech_regions(speech, 0.0)
    assert region == pytest.approx((20 * FRAME_S - 0.03, 90 * FRAME_S + 0.03))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=60), st.floats(-100, 100))
def test_regions_are_ordered_and_inside(values: list[float], start: float) -> None:
    regions = speech_regions(np.array(values, np.float32), start)
    edges = [edge for region in regions for edge in region]
    assert edges == sorted(edges)
    assert all(start - 1e-9 <= edge <= start + len(values) * FRAME_S + 1e-9 for edge in edges)


def test_mask_is_half_open() -> None:
    times = np.array([0.0, 1.0, 1.5, 2.0, 3.0])
    assert mask_regions([(1.0, 2.0), (1.5, 2.5)], times).tolist() == [False, True, True, True, False]
    assert not mask_regions([], times).any()
