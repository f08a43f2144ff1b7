"""A clip's sound as bytes: 16 kHz mono FLAC, or PCM WAV that needs nothing but the standard library to read."""

from __future__ import annotations

import io
import wave

import numpy as np

from .errors import UsageError
from .pair import SAMPLE_RATE
from .tracks import Float32


def to_pcm16(samples: Float32) -> np.ndarray:
    """[N] float in -1..1 to [N] int16; what lies outside is clipped, NaN is an error."""
    if samples.ndim != 1:
        raise ValueError(f"audio must be mono, [N]; got shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("audio holds NaN or infinity")
    return np.clip(np.rint(samples.astype(np.float64) * 32768.0), -32768, 32767).astype(np.int16)


def encode_audio(samples: Float32, codec: str = "flac") -> bytes:
    """[N] samples at 16 kHz, -1..1, to a complete file; the same samples give the same bytes.

    Args:
        codec: "flac" (about half the size, needs soundfile) or "wav".
    """
    pcm = to_pcm16(samples)
    stream = io.BytesIO()
    if codec == "flac":
        import soundfile

        soundfile.write(stream, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    elif codec == "wav":
        with wave.open(stream, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(SAMPLE_RATE)
            out.writeframes(pcm.astype("<i2").tobytes())
    else:
        raise UsageError(f"unknown audio codec {codec!r}: flac or wav")
    return stream.getvalue()


def decode_audio(data: bytes) -> Float32:
    """The samples of :func:`encode_audio`'s bytes: [N] float32 at 16 kHz, -1..1.

    Raises:
        ValueError: not a mono 16 kHz FLAC or PCM WAV file.
        UsageError: FLAC, and soundfile is not installed.
    """
    if data[:4] == b"RIFF":
        return _decode_wav(data)
    if data[:4] != b"fLaC":
        raise ValueError("audio is neither FLAC nor WAV")
    try:
        import soundfile
    except ImportError as error:
        raise UsageError("FLAC audio needs soundfile: pip install soundfile (or write the data set as wav)") from error
    try:
        pcm, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"FLAC audio does not decode: {error}") from error
    if rate != SAMPLE_RATE or pcm.shape[1] != 1:
        raise ValueError(f"audio is {rate} Hz with {pcm.shape[1]} channels, expected {SAMPLE_RATE} Hz mono")
    return np.asarray(pcm[:, 0] / np.float32(32768), dtype=np.float32)


def _decode_wav(data: bytes) -> Float32:
    try:
        with wave.open(io.BytesIO(data)) as source:
            facts = (source.getframerate(), source.getnchannels(), source.getsampwidth())
            raw = source.readframes(source.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"WAV audio does not decode: {error}") from error
    if facts != (SAMPLE_RATE, 1, 2):
        raise ValueError(f"audio is {facts[0]} Hz with {facts[1]} channels, expected {SAMPLE_RATE} Hz mono 16-bit")
    return np.asarray(np.frombuffer(raw, "<i2") / np.float32(32768), dtype=np.float32)
