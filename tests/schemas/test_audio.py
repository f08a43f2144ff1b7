"""Sound in a row: lossless to 16 bits, the same bytes every time, readable without soundfile as WAV."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from duologue.schemas.audio import decode_audio, encode_audio
from duologue.schemas.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@settings(max_examples=30)
@given(
    hnp.arrays(np.float32, st.integers(1, 3000), elements=st.floats(-1, 0.9375, width=32)),
    st.sampled_from(["flac", "wav"]),
)
def test_round_trip(samples: np.ndarray, codec: str) -> None:
    data = encode_audio(samples, codec)
    assert data == encode_audio(samples, codec)
    again = decode_audio(data)
    assert again.shape == samples.shape
    assert np.abs(again - samples).max() <= 0.5 / 32768 + 1e-7


def test_loud_samples_are_clipped_not_wrapped() -> None:
    again = decode_audio(encode_audio(np.array([2.0, -2.0], np.float32)))
    assert again[0] > 0.99
    assert again[1] == -1


def test_bad_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="mono"):
        encode_audio(np.zeros((10, 2), np.float32))
    with pytest.raises(ValueError, match="NaN"):
        encode_audio(np.array([np.nan], np.float32))


@pytest.mark.parametrize("data", [b"", b"OggS....", b"fLaC rubbish", b"RIFF rubbish"])
def test_bad_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="audio"):
        decode_audio(data)


def test_another_rate_is_refused() -> None:
    import io

    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(100), 8000, format="FLAC")
    with pytest.raises(ValueError, match="8000 Hz"):
        decode_audio(stream.getvalue())


def test_wav_needs_no_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.linspace(-0.5, 0.5, 100, dtype=np.float32)
    flac = encode_audio(samples)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert np.abs(decode_audio(encode_audio(samples, "wav")) - samples).max() < 1e-4
    with pytest.raises(UsageError, match="pip install soundfile"):
        decode_audio(flac)
