"""Who says what, when, in a conversation of any length: turns of several sentences, overlaps, silences, back-channels.

Unlike :mod:`.script`, which tells a few written stories for films, this draws endless small talk for data sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..schemas.tracks import Float32
from .script import Line
from .smalltalk import ANSWERS, BACKCHANNELS, sentence
from .voices import SAMPLE_RATE, Utterance, Voice, speak

_PER_SENTENCE_S = 2.4  # fewer seconds than a sentence with its share of the pauses takes


@dataclass(frozen=True)
class Talker:
    """How one person takes part.

    Attributes:
        voice: espeak-ng voice. gain: of the voice in the mix, 1 for full scale.
        hold: chance to go on after a sentence instead of yielding the floor.
        backchannels: chance of one in a sentence of the other that is long enough.
    """

    voice: Voice
    gain: float = 0.8
    hold: float = 0.4
    backchannels: float = 0.45


def exchange(seconds: float, talkers: tuple[Talker, Talker], rng: np.random.Generator) -> tuple[Line, ...]:
    """A conversation that fills ``seconds``.

    Gaps between turns are drawn around 0.2 s (the mode of human conversation, Stivers et al., PNAS 106, 2009), a fifth
    of them negative (overlaps); some turns are followed by a silence of 1 to 2.5 s. No person overlaps with themselves.

    Raises:
        UsageError: espeak-ng is absent, or lacks a voice.
    """
    count = int(seconds / _PER_SENTENCE_S) + 3
    said, replies = _speak(count, talkers, rng)
    lines: list[Line] = []
    free = [0.0, 0.0]  # when each person has said everything so far
    who, clock = int(rng.integers(2)), float(rng.uniform(0.1, 0.8))
    for k in range(count):
        utterance = said[who][k]
        start = max(clock, free[who] + 0.15, 0.0)
        if start + utterance.duration_s > seconds - 0.1:
            break
        lines.append(Line(who, start, utterance, "turn"))
        end = free[who] = start + utterance.duration_s
        reply = replies[1 - who][k]
        if rng.random() < talkers[1 - who].backchannels and utterance.duration_s > reply.duration_s + 1.6:
            at = start + float(rng.uniform(0.4, 0.75)) * utterance.duration_s
            if at > free[1 - who] + 0.3 and at + reply.duration_s < seconds - 0.1:
                lines.append(Line(1 - who, at, reply, "backchannel"))
                free[1 - who] = at + reply.duration_s
        if rng.random() < talkers[who].hold:
            clock = end + float(rng.uniform(0.15, 0.6))
            continue
        who = 1 - who
        gap = float(np.clip(rng.normal(0.22, 0.27), -0.7, 1.0))
        clock = end + (float(rng.uniform(1.0, 2.5)) if rng.random() < 0.08 else gap)
    return tuple(sorted(lines, key=lambda line: line.start_s))


def _speak(
    count: int, talkers: tuple[Talker, Talker], rng: np.random.Generator
) -> tuple[list[list[Utterance]], list[list[Utterance]]]:
    """``count`` sentences and as many back-channels of each person; texts of both come from one stream of draws."""
    jobs: list[tuple[str, Voice]] = []
    for talker in talkers:
        for _ in range(count):
            text = str(rng.choice(ANSWERS)) if rng.random() < 0.12 else sentence(rng)
            jobs.append((text, talker.voice))
    heard: list[list[int]] = []
    for talker in talkers:
        heard.append(rng.integers(len(BACKCHANNELS), size=count).tolist())
        jobs += [(text, talker.voice) for text in BACKCHANNELS]
    done = speak(jobs)
    said = [done[:count], done[count : 2 * count]]
    n = len(BACKCHANNELS)
    replies = [[done[2 * count + who * n + k] for k in heard[who]] for who in (0, 1)]
    return said, replies


def mix(
    lines: tuple[Line, ...], gains: tuple[float, float], seconds: float, snr_db: float, rng: np.random.Generator
) -> Float32:
    """[N] mono 16 kHz: both voices in one room with its noise, ``snr_db`` under the mean power of the speech."""
    n = round(seconds * SAMPLE_RATE)
    sound = np.zeros(n)
    for line in lines:
        first = round(line.start_s * SAMPLE_RATE)
        samples = line.utterance.samples[: n - first]
        loud = gains[line.speaker] * (0.7 if line.kind == "backchannel" else 1.0)
        sound[first : first + len(samples)] += loud * samples
    speech = sound[np.abs(sound) > 1e-4]
    power = float(np.mean(speech**2)) if len(speech) else 1e-3
    room = np.convolve(rng.normal(size=n), np.exp(-np.arange(64) / 6.0), mode="same")  # a low hiss
    sound += room * np.sqrt(power / 10 ** (snr_db / 10.0) / np.mean(room**2))
    peak = float(np.abs(sound).max())
    return (sound * (0.97 / peak if peak > 0.97 else 1.0)).astype(np.float32)
