"""A sound file from anywhere as the 16 kHz mono that everything here works on."""

from __future__ import annotations

from math import gcd
from pathlib import Path

import numpy as np

from ..schemas.errors import UsageError
from ..schemas.pair import SAMPLE_RATE
from ..schemas.tracks import Float32

SHORTEST_S, LONGEST_S = 1.0, 3600.0
LOWEST_RATE = 8000  # below it speech has lost its consonants


def read_speech(path: str | Path) -> tuple[Float32, str]:
    """[N] float32 at 16 kHz, -1..1, and what was done to the file to get there ("" for nothing).

    Channels are averaged; other rates are resampled with a polyphase filter.

    Raises:
        UsageError: no such file, not a sound file, too short, too long, silent, or of too low a rate.
    """
    import soundfile
    from scipy.signal import resample_poly

    if not Path(path).is_file():
        raise UsageError(f"{path}: no such file")
    try:
        info = soundfile.info(str(path))
        seconds = info.frames / info.samplerate
        if not SHORTEST_S <= seconds <= LONGEST_S:
            raise UsageError(f"{path} lasts {seconds:.2f} s; {SHORTEST_S:g} to {LONGEST_S:g} s can be animated")
        if info.samplerate < LOWEST_RATE:
            raise UsageError(f"{path} has {info.samplerate} samples a second; at least {LOWEST_RATE} are needed")
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UsageError(
            f"{path} is not a sound file that can be read ({str(error).rstrip('.')}); WAV, FLAC, Ogg and MP3 can"
        ) from None
    if not np.isfinite(samples).all():
        raise UsageError(f"{path} holds NaN or infinity")
    notes = []
    if samples.shape[1] > 1:
        notes.append(f"{samples.shape[1]} channels averaged")
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE:
        shared = gcd(SAMPLE_RATE, rate)
        mono = resample_poly(mono.astype(np.float64), SAMPLE_RATE // shared, rate // shared)
        notes.append(f"resampled from {rate} to {SAMPLE_RATE} Hz")
    if not np.abs(mono).max() > 1e-4:
        raise UsageError(f"{path} is silent")
    return np.clip(mono, -1.0, 1.0).astype(np.float32), ", ".join(notes)
