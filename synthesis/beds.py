"""Sound that is nobody's speech: a bed of music, and the laughter of an unseen audience. Seeded, made from scratch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from .voices import SAMPLE_RATE

Array = npt.NDArray[np.float64]
LAUGH_S = 2.2
_CHORDS = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))  # semitones over the key: I vi IV V


def music(seconds: float, seed: int) -> Array:
    """[N] 16 kHz: plucked chords, a bass and a soft beat; unit root mean square."""
    rng = np.random.default_rng([seed, 53])
    n = round(seconds * SAMPLE_RATE)
    out = np.zeros(n + SAMPLE_RATE * 4)
    beat = 60.0 / float(rng.uniform(84, 118))
    key = 196.0 * 2.0 ** (int(rng.integers(-4, 5)) / 12.0)

    def pluck(at: float, frequency: float, gain: float, decay: float) -> None:
        t = np.arange(round(2.5 * SAMPLE_RATE)) / SAMPLE_RATE
        tone = sum(np.sin(2 * np.pi * frequency * h * t) * np.exp(-t * decay * h) / h**1.4 for h in range(1, 7))
        first = round(at * SAMPLE_RATE)
        out[first : first + len(t)] += gain * np.asarray(tone)[: len(out) - first]

    for k in range(int(seconds / beat) + 1):
        chord = _CHORDS[(k // 4) % 4]
        pluck(k * beat, key / 2 * 2 ** (chord[0] / 12), 0.5 if k % 4 else 0.9, 1.2)
        pluck(k * beat, key * 2 ** (chord[k % 3] / 12), 0.5, 2.2)
        pluck((k + 0.5) * beat, key * 2 ** (chord[int(rng.integers(3))] / 12), 0.3, 2.6)
        hat = rng.normal(size=1200) * np.exp(-np.arange(1200) / 200.0) * 0.12
        first = round((k + 0.5) * beat * SAMPLE_RATE)
        out[first : first + 1200] += hat[: max(0, len(out) - first)]
    out = out[:n]
    return np.asarray(out / np.sqrt(np.mean(out**2) + 1e-12))


def laughter(seed: int, number: int, people: int = 14) -> Array:
    """[N] 16 kHz, LAUGH_S long: many voices saying ha-ha at their own pitch and pace; unit root mean square."""
    rng = np.random.default_rng([seed, 59, number])
    n = round(LAUGH_S * SAMPLE_RATE)
    t = np.arange(n) / SAMPLE_RATE
    out = np.zeros(n)
    for _ in range(people):
        pitch = float(rng.uniform(130, 420)) * (1.0 + 0.1 * np.exp(-t))
        rate, start = float(rng.uniform(4.2, 6.2)), float(rng.uniform(0.0, 0.5))
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
        voiced = np.sign(np.sin(phase)) * np.abs(np.sin(phase)) ** 4
        breath = rng.normal(size=n) * 0.25
        pulse = np.clip(np.sin(2 * np.pi * rate * (t - start)), 0.0, 1.0) ** 1.5
        source = (voiced + breath) * pulse * np.clip((t - start) / 0.1, 0.0, 1.0)
        for formant in (rng.uniform(650, 850), rng.uniform(1100, 1400), rng.uniform(2300, 2700)):
            r = np.exp(-np.pi * 110.0 / SAMPLE_RATE)
            c = 2 * r * np.cos(2 * np.pi * formant / SAMPLE_RATE)
            out += lfilter([1.0 - r], [1.0, -c, r * r], source) * rng.uniform(0.5, 1.0)
    out *= np.clip(t / 0.15, 0.0, 1.0) * np.clip((LAUGH_S - t) / 0.9, 0.0, 1.0)
    return np.asarray(out / np.sqrt(np.mean(out**2) + 1e-12))
