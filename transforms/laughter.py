"""Is there laughter in a clip: many voices at once, loud, without the syllables of one.

A crowd that laughs is noise between 400 Hz and 4 kHz that swells over the clip's quiet moments and then stays: its
level moves by 1 to 3 dB where that of one talker moves by 6 to 15 dB with his syllables. Steadier are machines, wind
and hiss; rumble lies lower, applause and hiss as high as they lie low, music holds its tones. One person's laugh has
syllables and is not found; nor is laughter as loud as the speech over it, nor one that fills the whole clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from ..schemas.tracks import Bool, Float32, Float64
from .voice_activity import SAMPLE_RATE

_FFT, _HOP = 512, 160  # 31 Hz, 10 ms
STEP_S = _HOP / SAMPLE_RATE
_LOW, _MIDDLE, _HIGH = slice(2, 13), slice(13, 128), slice(128, 250)  # 60, 400, 4000, 7800 Hz
_SILENCE = 1e-5  # RMS


@dataclass(frozen=True)
class LaughterOptions:
    """When noise is laughter. All is read over ``window_s``.

    Attributes:
        least_db: the level between 400 and 4000 Hz passes the clip's quietest tenth by this much.
        steadiest_db, liveliest_db: bounds of the standard deviation of that level.
        low_db, high_db: what lies below 400 and above 4000 Hz, against the middle, at most.
        tonal: standard deviation of the log spectrum around its trend, at most: noise 1.28, a clear voice 1.7 and more.
        shortest_s: shorter laughter is not counted. least_s: clips with less sound get no answer.
    """

    window_s: float = 0.8
    least_db: float = 10.0
    steadiest_db: float = 0.9
    liveliest_db: float = 4.0
    low_db: float = 2.0
    high_db: float = -8.0
    tonal: float = 1.6
    shortest_s: float = 0.8
    least_s: float = 2.0


def _bands(audio: Float32) -> tuple[Float64, Float64, Float64, Float64]:
    """Power below, in and above the middle band, and how tonal the middle is, every 10 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, _FFT)[::_HOP]
    window = np.hanning(_FFT).astype(np.float32)
    out = np.empty((4, len(frames)))
    for first in range(0, len(frames), 2048):
        power = np.abs(np.fft.rfft(frames[first : first + 2048] * window, axis=1)).astype(np.float32) ** 2 + 1e-9
        log = np.log(power[:, 6:128])
        rows = slice(first, first + len(power))
        out[:3, rows] = [power[:, band].sum(axis=1) for band in (_LOW, _MIDDLE, _HIGH)]
        out[3, rows] = (log - uniform_filter1d(log, 15, axis=1)).std(axis=1)
    return out[0], out[1], out[2], out[3]


def laughter(audio: Float32, options: LaughterOptions | None = None) -> Bool:
    """[F] whether there is laughter at each step of 10 ms; [0] for silence and for less than ``least_s``.

    Args:
        audio: [n] 16 kHz mono, -1..1.
    """
    options = options or LaughterOptions()
    audio = np.nan_to_num(np.asarray(audio, np.float32).reshape(-1), nan=0.0, posinf=0.0, neginf=0.0)
    if len(audio) < options.least_s * SAMPLE_RATE or float(np.sqrt(np.mean(audio**2))) < _SILENCE:
        return np.zeros(0, bool)
    size = round(options.window_s / STEP_S)
    low, middle, high, tonal = _bands(audio / np.float32(np.sqrt(np.mean(audio**2))))
    level = 10 * np.log10(middle)
    mean = uniform_filter1d(level, size)
    swing = np.sqrt(np.maximum(uniform_filter1d(level**2, size) - mean**2, 0.0))
    below, within, above = (uniform_filter1d(band, size) for band in (low, middle, high))
    found = mean - np.percentile(level, 10) >= options.least_db
    found &= (swing >= options.steadiest_db) & (swing <= options.liveliest_db)
    found &= (below <= within * 10 ** (options.low_db / 10)) & (above <= within * 10 ** (options.high_db / 10))
    found &= uniform_filter1d(tonal, size) <= options.tonal
    return _whole_windows(found, size, round(options.shortest_s / STEP_S))


def _whole_windows(centres: Bool, size: int, shortest: int) -> Bool:
    """Every moment of the windows around ``centres``, runs shorter than ``shortest`` left out."""
    wide = uniform_filter1d(centres.astype(np.float32), size, mode="constant") > 0.5 / size
    edges = np.diff(np.concatenate([[0], wide.astype(np.int8), [0]]))
    out = np.zeros(len(wide), bool)
    for first, last in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        if last - first >= shortest:
            out[first:last] = True
    return out


def laughter_share(audio: Float32, options: LaughterOptions | None = None) -> float:
    """Share of the clip's time with a crowd's laughter, 0..1; NaN for silence and for less than two seconds."""
    found = laughter(audio, options)
    return float(found.mean()) if len(found) else float("nan")
