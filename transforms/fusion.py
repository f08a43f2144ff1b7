"""Whether a person speaks at a moment, of the voices heard and of what both mouths do in the second around it.

A small network weighs them. Hand-set bars cannot know how a landmark network draws a mouth that it sees badly: in a
grainy picture shut lips tremble like syllables, and then the voice and the other mouth must count for more. The weights
are learned from conversations whose truth is known, with landmarks measured on rendered films, good and bad ones, and
with exact landmarks under white noise (``bench/learning/fusion.py``). Inputs are free of head pose and face size, and
mostly of how far a person opens the mouth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..schemas.records import Turn
from ..schemas.tracks import Bool, Float32, Float64
from .lips import RATE, REST_PERCENTILE, LipSignal, opening, syllables

PATH = Path(__file__).parent / "data" / "fusion.npz"
LIP_LEAD_S = 0.14  # lips open and shut ahead of the sound; in live speech 0.1 to 0.3 s (Chandrasekaran et al., "The
# natural statistics of audiovisual speech", PLoS Computational Biology 5(7), 2009)
_PEAK_LEAD_S = 0.10  # of the peak of their correlation: a vowel is loud before the mouth is widest
_PARTED_MM, _PARTED_SHARE = 0.8, 0.27  # an opening as likely of a talker as of a listener: at least, of the widest
_STILL_MM_S = 6.0  # a mouth at rest moves about as fast as this
# Seconds around the moment at which each signal is read.
_MOTION_S = (-0.5, -0.36, -0.24, -0.12, 0.0, 0.12, 0.24, 0.36, 0.5)
_TOGETHER_S = (-0.36, -0.18, 0.0, 0.18, 0.36)
_VOICE_S = (-1.0, -0.6, -0.3, -0.12, 0.0, 0.12, 0.3, 0.6, 1.0)
_OTHER_S = (-0.36, -0.12, 0.0, 0.12, 0.36)
_OTHER_TOGETHER_S = (-0.18, 0.0, 0.18)
N_INPUTS = 2 * (len(_MOTION_S) + len(_OTHER_S) + 5) + len(_TOGETHER_S) + len(_OTHER_TOGETHER_S) + 3 * len(_VOICE_S)


@dataclass(frozen=True)
class Mouth:
    """What a mouth does, on a uniform clock of ``lips.RATE`` Hz.

    Attributes:
        times: [N] seconds on the picture's clock.
        parted: [N] logarithm of the opening over that as likely of a talker as of a listener.
        lively: [N] logarithm of the lips' speed over that of a mouth at rest.
        together: [N] correlation of opening and loudness over half a second, at the lips' lead.
        noise: logarithms of the landmarks' noise, still and moving, of the widest opening, of the least speed.
        seen: [N] landmarks were measured.
    """

    times: Float64
    parted: Float64
    lively: Float64
    together: Float64
    noise: tuple[float, float, float, float]
    seen: Bool


def mouth_of(lips: LipSignal, sound: Float64) -> Mouth:
    """What the lips do, by themselves and with the sound.

    Args:
        sound: [N] 1-8 Hz part of the loudness at ``lips.times``, on the picture's clock (:func:`lips.syllables`).
    """
    n, seen = len(lips.times), lips.valid
    if not seen.any():
        nothing = np.zeros(n)
        return Mouth(lips.times, nothing, nothing, nothing, (0.0, 0.0, 0.0, 0.0), seen)
    aperture = lips.aperture_mm.astype(np.float64)
    slow, fast = opening(aperture), gaussian_filter1d(aperture, 0.03 * RATE)
    rest = float(np.percentile(slow[seen], REST_PERCENTILE))
    widest = max(float(np.percentile(slow[seen], 95)) - rest, 0.0)
    even, noise = max(_PARTED_MM, _PARTED_SHARE * widest), lips.noise_mm
    parted = np.log((np.maximum(fast - rest, 0.0) + 0.5 + noise) / (even + 0.5 + noise))
    rate = np.gradient(gaussian_filter1d(aperture, 0.025 * RATE)) * RATE
    speed = np.sqrt(gaussian_filter1d(rate**2, 0.06 * RATE) + 1.0)
    still = float(np.hypot(_STILL_MM_S, lips.noise_mm_s))
    moving, heard = syllables(aperture), np.roll(sound, -round(_PEAK_LEAD_S * RATE))
    quarter = 0.25 * RATE
    power = gaussian_filter1d(heard**2, quarter) + 0.05 * float(np.mean(heard**2)) + 1e-9
    motion = gaussian_filter1d(moving**2, quarter) + 0.3
    together = gaussian_filter1d(moving * heard, quarter) / np.sqrt(motion * power)
    least = float(np.log(np.percentile(speed[seen], 10) / still))
    levels = (float(np.log(noise + 0.05)), float(np.log(lips.noise_mm_s + 1.0)), float(np.log(widest + 0.5)), least)
    return Mouth(lips.times, parted, np.log(speed / still), together, levels, seen)


def voices_of(turns: Sequence[Turn], faces: Mapping[str, str], times: Float64) -> dict[str, Float64]:
    """[T, len(_VOICE_S)] for "a", "b" and "" (nobody in the picture): how much their voices are heard around ``times``.

    Args:
        times: [T] on the sound's clock.
        faces: voice id -> "a", "b", "ab" (one of the two: half of each) or "".
    """
    around = times[:, None] + np.array(_VOICE_S)
    owned = {face: np.zeros(around.shape, bool) for face in ("a", "b", "", "ab")}
    for turn in turns:
        owned[faces.get(turn.speaker, "")] |= (around >= turn.start_s) & (around < turn.end_s)
    half = 0.5 * owned["ab"]
    return {"a": np.maximum(owned["a"], half), "b": np.maximum(owned["b"], half), "": owned[""].astype(np.float64)}


def inputs_of(own: Mouth, other: Mouth, voices: tuple[Float64, Float64, Float64], times: Float64) -> Float64:
    """[T, N_INPUTS] of one person; a mouth that is not seen is all zeros.

    Args:
        voices: own, the other's, nobody's (:func:`voices_of`). times: [T] on the picture's clock.
    """
    return np.concatenate(
        (_read(own, times, _MOTION_S, _TOGETHER_S), _read(other, times, _OTHER_S, _OTHER_TOGETHER_S), *voices), axis=1
    )


def _read(mouth: Mouth, times: Float64, motion_s: tuple[float, ...], together_s: tuple[float, ...]) -> Float64:
    last = len(mouth.times) - 1
    at = np.clip(np.searchsorted(mouth.times, times - LIP_LEAD_S - 1e-6), 0, last)
    seen = mouth.seen[at].astype(np.float64)
    columns = [
        signal[np.clip(at + round(lag * RATE), 0, last)]
        for signal, lags in ((mouth.parted, motion_s), (mouth.lively, motion_s), (mouth.together, together_s))
        for lag in lags
    ]
    levels = [np.full(len(times), value) for value in mouth.noise]
    return np.stack([np.ones(len(times)), *columns, *levels], axis=1) * seen[:, None]


@dataclass(frozen=True)
class Fusion:
    """One hidden layer.

    Attributes:
        mean, scale: [D] of the inputs. hidden: [D, H], hidden_bias: [H]; out: [H], out_bias: [].
    """

    mean: Float32
    scale: Float32
    hidden: Float32
    hidden_bias: Float32
    out: Float32
    out_bias: Float32

    def log_odds(self, inputs: Float64) -> Float64:
        """[T, D] -> [T] log odds of speaking while somebody is heard."""
        units = np.tanh((inputs - self.mean) / self.scale @ self.hidden + self.hidden_bias)
        return np.asarray(units @ self.out + self.out_bias, np.float64)


@lru_cache(maxsize=1)
def load_fusion() -> Fusion:
    """The committed weights."""
    with np.load(PATH, allow_pickle=False) as archive:
        return Fusion(**{name: archive[name] for name in Fusion.__dataclass_fields__})
