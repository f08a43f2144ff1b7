"""Is there music in a clip: tones that stand still for longer than any voice holds them.

The harmonics of speech glide, those of a played note stay on their frequency until the next one (the "continuous
frequency activation" of Seyerlehner et al., "Automatic music detection in television productions", DAFx 2007). What
has no held tones (drums, rap over drums) is not found; a sung or single melodic line only in part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from ..schemas.tracks import Bool, Float32, Float64
from .voice_activity import SAMPLE_RATE

_FFT, _HOP = 2048, 256  # 7.8 Hz, 16 ms
_BINS = slice(10, 520)  # 78 Hz to 4 kHz
STEP_S = _HOP / SAMPLE_RATE
_SILENCE = 1e-5  # RMS; a digital recording's dither lies below


@dataclass(frozen=True)
class MusicOptions:
    """When tones are music.

    Attributes:
        peak_db: a spectral peak stands over the mean level of the 160 Hz around it by this much.
        hold_s: a tone is held when its peak stays within one bin for so long.
        least_tones: held tones at once, averaged over ``window_s``, that are music. Single voices reach 2, rarely 3;
            chords have 5 to 15.
        constant_share: a frequency that peaks in more of the clip than this is hum or a whistle, not a note.
        least_s: clips with less sound get no answer.
    """

    peak_db: float = 8.0
    hold_s: float = 0.3
    least_tones: float = 3.0
    window_s: float = 2.0
    constant_share: float = 0.6
    least_s: float = 2.0


def held_tones(audio: Float32, options: MusicOptions | None = None) -> Float64:
    """[F] how many tones are held at each step of 16 ms, averaged over ``window_s``; [0] where nothing can be said.

    Args:
        audio: [n] 16 kHz mono, -1..1.
    """
    options = options or MusicOptions()
    audio = np.nan_to_num(np.asarray(audio, np.float32).reshape(-1), nan=0.0, posinf=0.0, neginf=0.0)
    count = (len(audio) - _FFT) // _HOP + 1
    if len(audio) < options.least_s * SAMPLE_RATE or float(np.sqrt(np.mean(audio**2))) < _SILENCE:
        return np.zeros(0)
    level = np.empty((count, _BINS.stop - _BINS.start), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, _FFT)[::_HOP]
    window = np.hanning(_FFT).astype(np.float32)
    for first in range(0, count, 1024):
        spectrum = np.fft.rfft(frames[first : first + 1024] * window, axis=1)[:, _BINS]
        level[first : first + len(spectrum)] = 20 * np.log10(np.abs(spectrum) + 1e-5)
    peak = np.zeros(level.shape, bool)
    peak[:, 1:-1] = (level[:, 1:-1] >= level[:, :-2]) & (level[:, 1:-1] >= level[:, 2:])
    peak &= level > uniform_filter1d(level, 21, axis=1) + options.peak_db
    near = peak.copy()
    near[:, 1:] |= peak[:, :-1]
    near[:, :-1] |= peak[:, 1:]
    long = _long_runs(near, round(options.hold_s / STEP_S))
    notes = (peak & long)[:, peak.mean(axis=0) <= options.constant_share]
    size = max(1, min(count, round(options.window_s / STEP_S)))
    return np.asarray(uniform_filter1d(notes.sum(axis=1).astype(np.float64), size, mode="nearest"))


def _long_runs(mask: Bool, steps: int) -> Bool:
    """[F, B] the moments that belong to a run of at least ``steps`` along the first axis."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    bins, starts = np.nonzero(edges.T == 1)
    ends = np.nonzero(edges.T == -1)[1]
    out = np.zeros(mask.shape, bool)
    for column, first, last in zip(bins, starts, ends, strict=True):
        if last - first >= steps:
            out[first:last, column] = True
    return out


def music_share(audio: Float32, options: MusicOptions | None = None) -> float:
    """Share of the clip's time with music (held tones), 0..1; NaN for silence and for less than two seconds."""
    options = options or MusicOptions()
    tones = held_tones(audio, options)
    return float(np.mean(tones >= options.least_tones)) if len(tones) else float("nan")
