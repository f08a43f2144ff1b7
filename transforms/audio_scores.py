"""Numbers about a clip's sound, and a fingerprint that finds the same sound again after re-encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schemas.records import Turn
from ..schemas.tracks import Bool, Float32, Float64
from .laughter import laughter_share
from .music import music_share
from .voice_activity import SAMPLE_RATE

_SILENCE_DB = -100.0


@dataclass(frozen=True)
class FingerprintOptions:
    """The spectral-peak fingerprint.

    Attributes:
        hashes: minima kept (MinHash size): the similarity's standard error is at most 0.5 / sqrt(hashes).
        bands: groups the minima are cut into for look-up; two clips meet if any group is equal.
        peaks_per_s: strongest spectral peaks kept a second.
        fan_out, reach_s: each peak is paired with this many later ones, at most this far away.
        same: similarity at which two clips hold the same sound.
        least_pairs: with fewer peak pairs (silence, a pure tone) there is no fingerprint.
    """

    hashes: int = 128
    bands: int = 64
    peaks_per_s: float = 20.0
    fan_out: int = 4
    reach_s: float = 1.0
    same: float = 0.12
    least_pairs: int = 40


def sound_scores(audio: Float32, start_s: float, turns: Sequence[Turn]) -> dict[str, float]:
    """Level, noise, clipping and overlap of a clip's sound.

    * ``loudness_db``: RMS level of all samples, dBFS (-100 for silence).
    * ``snr_db``: mean power inside the turns, less the noise, over the noise; the noise is the mean power of the
      quietest half of the 32 ms frames outside them. NaN without speech or without 0.3 s outside the turns.
    * ``clipping_share``: share of samples in runs of three or more at the clip's own extreme, where that extreme is
      within 1 dB of full scale or the runs show a flat top below it.
    * ``speech_share``: share of the clip's time with any voice; ``overlap_share``: share of that with two or more.

    * ``music_share``: share of the clip's time with held tones (:mod:`.music`).
    * ``laughter_share``: share of the clip's time with the laughter of several people (:mod:`.laughter`).

    Args:
        audio: [n] 16 kHz mono of the clip, -1..1; may be empty.
        start_s: time of its first sample.
        turns: on the same clock; they may reach outside the audio.
    """
    audio = np.nan_to_num(np.asarray(audio, np.float32).reshape(-1), nan=0.0, posinf=0.0, neginf=0.0)
    power = _frame_power(audio)
    times = start_s + (np.arange(len(power)) + 0.5) * 0.032
    voices = np.zeros(len(power), np.int64)
    for speaker in sorted({t.speaker for t in turns}):
        mask = np.zeros(len(power), bool)
        for turn in turns:
            if turn.speaker == speaker:
                mask |= (times >= turn.start_s) & (times < turn.end_s)
        voices += mask
    speech = voices > 0
    mean = float(np.mean(audio.astype(np.float64) ** 2)) if len(audio) else 0.0
    return {
        "loudness_db": _decibel(mean),
        "snr_db": _snr(power, speech),
        "clipping_share": clipping_share(audio),
        "speech_share": float(speech.mean()) if len(speech) else 0.0,
        "overlap_share": float((voices > 1).sum() / speech.sum()) if speech.any() else 0.0,
        "music_share": music_share(audio),
        "laughter_share": laughter_share(audio),
    }


def _frame_power(audio: Float32) -> Float64:
    frames = len(audio) // 512
    if frames == 0:
        return np.zeros(0)
    cut = audio[: frames * 512].reshape(frames, 512).astype(np.float64)
    return np.asarray(np.mean((cut - cut.mean(axis=1, keepdims=True)) ** 2, axis=1))


def _decibel(power: float) -> float:
    return max(_SILENCE_DB, 10 * float(np.log10(max(power, 1e-12))))


def _snr(power: Float64, speech: Bool) -> float:
    quiet = np.sort(power[~speech])
    if not speech.any() or len(quiet) < 10:
        return float("nan")
    noise = max(float(quiet[: max(1, len(quiet) // 2)].mean()), 1e-10)
    signal = max(float(power[speech].mean()) - noise, 1e-10)
    return float(np.clip(10 * np.log10(signal / noise), -20.0, 80.0))


def clipping_share(audio: Float32) -> float:
    """Share of samples cut off: runs of at least three equal samples at the positive or negative extreme."""
    if len(audio) < 3:
        return 0.0
    clipped = 0
    for signed in (audio, -audio):
        top = float(signed.max())
        if top < 0.05:
            continue
        at = np.concatenate([[0], (signed >= top * 0.999).astype(np.int8), [0]])
        edges = np.flatnonzero(np.diff(at))
        lengths = edges[1::2] - edges[::2]
        long = lengths[lengths >= 3]
        if top >= 0.89 or len(long) >= 3:
            clipped += int(long.sum())
    return clipped / len(audio)


def _peaks(audio: Float32, options: FingerprintOptions) -> tuple[Float64, Float64]:
    """(frame, bin) of the strongest local maxima of a 64 ms / 16 ms log spectrum, 200-3600 Hz, in time order."""
    from scipy.ndimage import maximum_filter

    window = np.hanning(1024).astype(np.float32)
    starts = np.arange(0, len(audio) - 1023, 256)
    if len(starts) == 0:
        return np.zeros(0), np.zeros(0)
    frames = np.lib.stride_tricks.sliding_window_view(audio, 1024)[starts]
    spectrum = np.abs(np.fft.rfft(frames * window, axis=1))[:, 13:231]
    floor = max(float(spectrum.max()) * 1e-3, 1e-6)
    level = np.log(np.maximum(spectrum, floor))
    top = (level == maximum_filter(level, size=(15, 9))) & (spectrum > 3 * floor)
    frame, band = np.nonzero(top)
    keep = int(options.peaks_per_s * len(audio) / SAMPLE_RATE)
    order = np.argsort(-level[frame, band], kind="stable")[:keep]
    order = order[np.lexsort((band[order], frame[order]))]
    return frame[order].astype(np.float64), band[order].astype(np.float64)


def fingerprint(audio: Float32, options: FingerprintOptions | None = None) -> tuple[int, ...]:
    """MinHash of pairs of spectral peaks (frequency, frequency, distance): independent of level, start and codec.

    Peak pairs are Wang's landmark hashes ("An industrial-strength audio search algorithm", ISMIR 2003); MinHash is
    Broder's ("On the resemblance and containment of documents", 1997).

    Args:
        audio: [n] 16 kHz mono.

    Returns:
        ``hashes`` unsigned 32-bit numbers; () where there is too little sound to recognise.
    """
    options = options or FingerprintOptions()
    audio = np.nan_to_num(np.asarray(audio, np.float32).reshape(-1), nan=0.0, posinf=0.0, neginf=0.0)
    frame, band = _peaks(audio, options)
    reach = round(options.reach_s / 0.016)
    parts = []
    for i in range(len(frame)):
        later = np.flatnonzero((frame[i + 1 :] > frame[i]) & (frame[i + 1 :] <= frame[i] + reach))
        for j in (later[: options.fan_out] + i + 1).tolist():
            first, second, apart = int(band[i]) // 2, int(band[j]) // 2, int(frame[j] - frame[i] + 1) // 4
            parts.append((first << 16) | (second << 8) | apart)
    pairs = np.unique(np.asarray(parts, np.uint64))
    if len(pairs) < options.least_pairs:
        return ()
    rng = np.random.default_rng(20110417)  # fixed: fingerprints of all machines and versions must agree
    odd = rng.integers(1, 2**63, options.hashes, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    add = rng.integers(0, 2**63, options.hashes, dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = (pairs[None] + np.uint64(1)) * odd[:, None] + add[:, None]
        mixed = ((mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)
    return tuple(int(v) for v in mixed.min(axis=1))


def similarity(one: Sequence[int], other: Sequence[int]) -> float:
    """Estimated share of peak pairs in common (Jaccard), 0..1; 0 where a fingerprint is absent."""
    if len(one) == 0 or len(one) != len(other):
        return 0.0
    return float(np.mean(np.asarray(one) == np.asarray(other)))


def same_audio(one: Sequence[int], other: Sequence[int], options: FingerprintOptions | None = None) -> float | None:
    """The similarity of two fingerprints that hold the same sound, None where they do not."""
    value = similarity(one, other)
    return value if value >= (options or FingerprintOptions()).same else None


def fingerprint_bands(values: Sequence[int], options: FingerprintOptions | None = None) -> list[str]:
    """Look-up keys: two fingerprints of similarity s share one with chance 1 - (1 - s^r)^bands, r = hashes / bands."""
    options = options or FingerprintOptions()
    if len(values) == 0:
        return []
    rows = np.asarray(values, "<u4").reshape(options.bands, -1)
    return [f"{i:02x}{hashlib.blake2b(row.tobytes(), digest_size=8).hexdigest()}" for i, row in enumerate(rows)]
