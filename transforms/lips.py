"""What the lips do, and whether speech follows it: aperture, its speed, and the lag between sight and sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

from ..schemas.tracks import Bool, FaceTrack, Float32, Float64
from .voice_activity import SAMPLE_RATE

RATE = 100.0  # Hz of the signals' common clock
MAX_LAG_S = 0.4
LAG_STEP_S = 0.02
LAGS_S: Float64 = np.round(np.arange(-MAX_LAG_S, MAX_LAG_S + 1e-9, LAG_STEP_S), 3)

_INNER_LIPS = ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402))  # upper, lower: across the opening
# Upright pairs on the bridge of the nose, as many as lip pairs and none sharing a point, so that their mean has the
# noise of the lips' mean; no muscle moves them: what they do is measurement noise.
_NOSE = ((168, 195), (122, 3), (351, 248), (193, 196), (417, 419))
_EYE_CORNERS = (33, 263)
_EYE_SPAN_MM = 89.4  # schemas.tracks.face_scale_px: outer eye corners of a 63 mm inter-pupillary distance
_LONGEST_GAP_S = 0.15
_PARTED_S, _SLOW_S = 0.075, 0.4  # sigma of the opening's smoothing; slower than this is no noise
REST_PERCENTILE = 10  # of the opening: lips meet at every m, b and p, so that who never stops talking has it too
_BAND_HZ = (1.0, 8.0)  # syllables


@dataclass(frozen=True)
class LipSignal:
    """Lip motion on a uniform clock of ``RATE`` Hz.

    Attributes:
        times: [N] seconds on the video clock.
        aperture_mm: [N] distance of the inner lips, for a head with 63 mm between the pupils.
        speed_mm_s: [N] root-mean-square speed of the aperture over about a quarter of a second.
        noise_mm_s: the median of the same speed of as many rigid distances on the nose: what measurement alone gives.
        valid: [N] landmarks were measured within 0.15 s.
        noise_mm: measurement noise of the opening over about 0.2 s, known from the nose likewise.
    """

    times: Float64
    aperture_mm: Float32
    speed_mm_s: Float32
    noise_mm_s: float
    valid: Bool
    noise_mm: float


def _distances(landmarks: Float32, pairs: tuple[tuple[int, int], ...]) -> Float64:
    """[T, P] 3D distances in millimetres of a 63 mm head: independent of where the head is and how it is turned."""
    upper, lower = (np.asarray([p[i] for p in pairs]) for i in (0, 1))
    span = np.linalg.norm(landmarks[:, _EYE_CORNERS[0]] - landmarks[:, _EYE_CORNERS[1]], axis=-1)
    length = np.linalg.norm(landmarks[:, upper] - landmarks[:, lower], axis=-1)
    return np.asarray(length / np.maximum(span[:, None], 1e-6) * _EYE_SPAN_MM, np.float64)


def _speed(values: Float64) -> Float64:
    """[N, P] at RATE Hz -> RMS speed per second, over a Gaussian window (sigma 0.13 s)."""
    rate = np.gradient(gaussian_filter1d(values, 0.02 * RATE, axis=0), axis=0) * RATE
    return np.asarray(np.sqrt(gaussian_filter1d(rate**2, 0.13 * RATE, axis=0)))


def opening(aperture_mm: Float64) -> Float64:
    """[N] at RATE Hz -> smoothed over about 0.2 s."""
    return np.asarray(gaussian_filter1d(aperture_mm, _PARTED_S * RATE), np.float64)


def lip_signal(track: FaceTrack, source_times: Float64, times: Float64) -> LipSignal:
    """Lip aperture and its dynamics, free of head pose and face size.

    Args:
        track: landmarks at ``source_times`` [T].
        times: [N] uniform clock of ``RATE`` Hz (:func:`clock`).
    """
    measured = track.valid & np.isfinite(track.landmarks[:, 13, 0])
    if measured.sum() < 2 or len(times) < 2:
        nothing = np.zeros(len(times), np.float32)
        return LipSignal(times, nothing, nothing, 0.0, np.zeros(len(times), bool), 0.0)
    known = source_times[measured]
    lips = _distances(track.landmarks[measured], _INNER_LIPS).mean(axis=1)
    nose = _distances(track.landmarks[measured], _NOSE).mean(axis=1)
    aperture = np.interp(times, known, lips)
    rigid = np.interp(times, known, nose)[:, None]
    after = np.searchsorted(known, times)
    gap = np.minimum(
        np.abs(times - known[np.clip(after, 0, len(known) - 1)]),
        np.abs(times - known[np.clip(after - 1, 0, len(known) - 1)]),
    )
    valid = gap <= _LONGEST_GAP_S
    noise = float(np.median(_speed(rigid)[valid])) if valid.any() else 0.0
    speed = _speed(aperture[:, None])[:, 0]
    still = opening(rigid[:, 0])
    shake = np.abs(still - gaussian_filter1d(still, _SLOW_S * RATE))[valid]
    noise_mm = 1.4826 * float(np.median(shake)) if valid.any() else 0.0
    return LipSignal(
        times,
        aperture.astype(np.float32),
        speed.astype(np.float32),
        noise,
        valid,
        noise_mm,
    )


def clock(start_s: float, end_s: float) -> Float64:
    """Times of the signals' common clock inside start..end: multiples of 1 / RATE."""
    return np.asarray(np.arange(np.ceil(start_s * RATE - 1e-6), np.floor(end_s * RATE + 1e-6) + 1) / RATE, np.float64)


def loudness(audio: Float32, start_s: float, times: Float64) -> Float32:
    """Speech-band (300-3500 Hz) power to the 0.15, much as loudness grows, at the given times; 0 outside the audio."""
    audio = np.nan_to_num(np.asarray(audio, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if len(audio) < 400:
        return np.zeros(len(times), np.float32)
    from scipy.signal import butter, sosfiltfilt  # half a second, for who binds only

    band = sosfiltfilt(butter(2, (300.0, 3500.0), "bandpass", fs=SAMPLE_RATE, output="sos"), audio)
    step = int(SAMPLE_RATE / RATE)
    power = np.add.reduceat(band**2, np.arange(0, len(band), step)) / step
    power = gaussian_filter1d(power, 0.7)
    centres = start_s + (np.arange(len(power)) + 0.5) / RATE
    return np.asarray(np.interp(times, centres, np.maximum(power, 1e-12) ** 0.15, left=0.0, right=0.0), np.float32)


def syllables(values: npt.NDArray[np.floating]) -> Float64:
    """The 1-8 Hz part of a signal at RATE Hz (zero where the signal is shorter than half a second)."""
    if len(values) < int(RATE / 2):
        return np.zeros(len(values), np.float64)
    from scipy.signal import butter, sosfiltfilt

    sos = butter(2, _BAND_HZ, "bandpass", fs=RATE, output="sos")
    return np.asarray(sosfiltfilt(sos, np.asarray(values, np.float64), padlen=min(len(values) - 1, 100)), np.float64)


def lag_curve(lips: Float64, sound: Float64, weight: npt.NDArray[np.floating]) -> Float64:
    """Correlation of lips at time t + lag with sound at time t, for each of ``LAGS_S``.

    Args:
        lips, sound: [N] from :func:`syllables`.
        weight: [N] in sound's time; 0 where it is not this person's speech or the lips were not seen.

    Returns:
        [len(LAGS_S)] correlation coefficients; zeros without any weighted sample.
    """
    n = len(lips)
    out = np.zeros(len(LAGS_S))
    step = round(LAG_STEP_S * RATE)
    for i in range(len(LAGS_S)):
        shift = (i - len(LAGS_S) // 2) * step
        lo, hi = max(0, -shift), min(n, n - shift)
        if hi - lo < 2:
            continue
        w, s, m = weight[lo:hi], sound[lo:hi], lips[lo + shift : hi + shift]
        total = float(w.sum())
        if total <= 0:
            continue
        s, m = s - float((w * s).sum()) / total, m - float((w * m).sum()) / total
        scale = np.sqrt(float((w * s * s).sum()) * float((w * m * m).sum()))
        out[i] = float((w * s * m).sum()) / scale if scale > 1e-12 else 0.0
    return out


def curve_at(curve: Float64, lag_s: float) -> float:
    """Value of a lag curve between its steps."""
    return float(np.interp(lag_s, LAGS_S, curve))


def best_lag(curve: Float64, seconds: float) -> tuple[float, float]:
    """The lag of the highest correlation, and how sure it is.

    The correlation has about four independent samples a second in its 1-8 Hz band; the confidence is the
    chance that the peak is not the best of the search range's independent lags by luck.

    Args:
        curve: correlation at ``LAGS_S``.
        seconds: of speech behind it.

    Returns:
        (lag in seconds by parabola through the peak, confidence 0..1).
    """
    peak = int(np.argmax(curve))
    lag = float(LAGS_S[peak])
    if 0 < peak < len(curve) - 1:
        left, top, right = (float(v) for v in curve[peak - 1 : peak + 2])
        bend = left - 2 * top + right
        if bend < 0:
            lag += LAG_STEP_S * 0.5 * (left - right) / bend
    samples = 4.0 * seconds
    if samples <= 4 or curve[peak] <= 0:
        return lag, 0.0
    z = float(np.arctanh(min(float(curve[peak]), 0.999))) * np.sqrt(samples - 3)
    independent = 2 * MAX_LAG_S * 5.0
    return lag, float(ndtr(z) ** independent)
