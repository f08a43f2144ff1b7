"""What is heard: both voices and what lies under them; and whose turn it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..schemas.records import Turn
from .beds import LAUGH_S, laughter, music
from .scenario import Scenario
from .script import Line, speech_segments
from .voices import SAMPLE_RATE


def laughs(scenario: Scenario) -> tuple[tuple[float, float], ...]:
    """(start_s, end_s) of the audience's laughter as heard."""
    return tuple((at, min(at + LAUGH_S, scenario.seconds)) for at in scenario.laughs if 0.0 <= at < scenario.seconds)


def mix_audio(lines: tuple[Line, ...], scenario: Scenario) -> npt.NDArray[np.float32]:
    """[N] mono 16 kHz: both voices, shifted by the A/V offset, with room noise at the asked SNR over the speech,
    music and laughter."""
    n = round(scenario.seconds * SAMPLE_RATE)
    shift = round(scenario.av_offset_s * SAMPLE_RATE)
    mix = np.zeros(n, dtype=np.float64)
    for line in lines:
        samples = line.utterance.samples
        start = round(line.start_s * SAMPLE_RATE) + shift
        first, last = max(start, 0), min(start + len(samples), n)
        if first < last:
            gain = 0.9 if line.kind == "turn" else 0.6
            mix[first:last] += gain * samples[first - start : last - start]
    if scenario.noise_snr_db is not None:
        rng = np.random.default_rng([scenario.seed, 41])
        white = rng.normal(size=n)
        hum = np.convolve(white, np.exp(-np.arange(64) / 6.0), mode="same")  # a low hiss, as of a room
        speech = mix[np.abs(mix) > 1e-4]
        power = float(np.mean(speech**2)) if len(speech) else 1e-3
        mix += hum * np.sqrt(power / 10 ** (scenario.noise_snr_db / 10.0) / np.mean(hum**2))
    level = np.sqrt(np.mean(mix[np.abs(mix) > 1e-4] ** 2)) if np.any(np.abs(mix) > 1e-4) else 0.03
    if scenario.music_snr_db is not None:
        mix += music(n / SAMPLE_RATE, scenario.seed)[:n] * level * 10 ** (-scenario.music_snr_db / 20.0)
    for number, (begin, end) in enumerate(laughs(scenario)):
        first, last = round(begin * SAMPLE_RATE), round(end * SAMPLE_RATE)
        mix[first:last] += 0.8 * level * laughter(scenario.seed, number)[: last - first]
    peak = float(np.abs(mix).max()) if n else 0.0
    if peak > 0.97:
        mix *= 0.97 / peak
    return mix.astype(np.float32)


def turns_of(lines: tuple[Line, ...], scenario: Scenario) -> tuple[Turn, ...]:
    """Turns as they sound in the file, the A/V offset included."""
    segments = [(s, e, who) for who in (0, 1) for s, e in speech_segments(lines, who)]
    segments.sort()
    voices: dict[int, str] = {}
    for _, _, who in segments:
        voices.setdefault(who, f"v{len(voices)}")
    shift = scenario.av_offset_s
    return tuple(
        Turn(max(s + shift, 0.0), min(e + shift, scenario.seconds), voices[who], "ab"[who])
        for s, e, who in segments
        if e + shift > 0.0 and s + shift < scenario.seconds
    )
