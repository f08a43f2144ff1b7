"""Speech regions from probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from duologue.transforms.voice_activity import (
    FRAME_S,
    VoiceActivity,
    VoiceActivityOptions,
    mask_regions,
    speech_regions,
)
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


def test_the_network_gives_what_the_wheel_gives() -> None:
    """The wheel's own ONNX form of the same weights, over more than one block and a ragged end."""
    silero_vad = pytest.importorskip("silero_vad")
    sequence = pytest.importorskip("silero_vad.sequence_vad")
    path = Path(silero_vad.__file__).parent / "data" / "silero_vad_16k_sequence.onnx"
    if not path.is_file():
        pytest.skip("this silero-vad has no sequence form")
    rng = np.random.default_rng(3)
    time = np.arange(36 * 16000 + 77) / 16000
    tone = np.sin(2 * np.pi * 140 * time * (1 + 0.02 * np.sin(9 * time))) * (np.sin(2.3 * time) > 0)
    audio = (0.2 * tone + 0.02 * rng.normal(size=len(time))).astype(np.float32)
    theirs = sequence.SileroVADSequence(str(path)).audio_forward(audio)
    ours = VoiceActivity()(audio)
    assert ours.shape == theirs.shape == (1126,)
    assert np.ptp(ours) > 0.05
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
