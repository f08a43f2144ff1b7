"""Where exactly speech starts, pauses and ends: the edges of speech regions, to 10 ms.

A speech network answers every 32 ms, and falls silent 60 to 150 ms after the voice does. What is speech is its
decision; where it begins and ends is read off the sound here: the level over the noise in each mel band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import uniform_filter1d

from ..schemas.records import Turn
from ..schemas.tracks import Bool, Float32

STEP_S = 0.01
_FLOOR = 1e-10


@dataclass(frozen=True)
class EdgeOptions:
    """How edges are found.

    Attributes:
        floor_percentile: the noise of a band is this percentile of its level.
        most_db: a band counts at most this far over its noise.
        share: a moment sounds where its mean level over the noise passes this share of the way from a moment
            without speech to one with it.
        earlier_s, later_s: how far an edge may move out of a region, and into it.
        pause_s: silence this long inside a region parts it.
        shortest_s: a region is not cut to less.
    """

    floor_percentile: float = 10.0
    most_db: float = 15.0
    share: float = 0.25
    earlier_s: float = 0.1
    later_s: float = 0.25
    pause_s: float = 0.1
    shortest_s: float = 0.05


def sounding(mel: Float32, speech: Bool, options: EdgeOptions | None = None) -> Bool:
    """[N] whether each moment of 10 ms sounds like the speech of the piece rather than like its noise.

    Args:
        mel: [N, bands] power, every 10 ms.
        speech: [N] moments inside speech regions.
    """
    options = options or EdgeOptions()
    if not speech.any():
        return np.zeros(len(mel), bool)
    level = 10 * np.log10(mel + np.float32(_FLOOR))
    thinned = level[:: max(1, len(level) // 6000)]  # thousands of moments tell a percentile
    floor = np.percentile(thinned, options.floor_percentile, axis=0).astype(np.float32)
    over = np.clip(level - floor, 0, options.most_db).mean(axis=1)
    silent, spoken = over[~speech], over[speech]
    # the noise under the speech: outside it where that is quieter, else its own quietest moments (laughter outside)
    low = min(float(np.median(silent)) if len(silent) > 20 else np.inf, float(np.percentile(spoken, 10)))
    loud = over >= low + options.share * (float(np.median(spoken)) - low)
    return np.asarray(uniform_filter1d(loud.astype(np.float32), 3) > 0.5)  # two of three: no clicks, no holes


def sharpen(
    regions: Sequence[tuple[float, float]], sounds: Bool, start_s: float, options: EdgeOptions | None = None
) -> list[tuple[float, float]]:
    """Speech regions with their edges where the sound begins and ends, parted at pauses.

    Args:
        regions: (start, end) in seconds, in order, disjoint.
        sounds: [N] from :func:`sounding`. start_s: time of its first moment.

    Returns:
        (start, end) in order, disjoint. An edge stays where it is if nothing sounds within its reach.
    """
    options = options or EdgeOptions()
    out: list[tuple[float, float]] = []
    out_of, into = round(options.earlier_s / STEP_S), round(options.later_s / STEP_S)

    def step(time: float) -> int:
        return min(len(sounds), max(0, round((time - start_s) / STEP_S)))

    for number, (start, end) in enumerate(regions):
        # What sounds between two regions is the first one's if it took it.
        least = max(step(regions[number - 1][1]), step(out[-1][1])) if number else 0
        most = step(regions[number + 1][0]) if number + 1 < len(regions) else len(sounds)
        first, last = step(start), step(end)
        lo, hi = max(least, first - out_of), min(last, first + into)
        found = np.flatnonzero(sounds[lo:hi])
        begin = lo + int(found[0]) if len(found) and not (found[0] == 0 and lo < first) else first
        lo, hi = max(first, last - into), min(most, last + out_of)
        found = np.flatnonzero(sounds[lo:hi])
        finish = lo + int(found[-1]) + 1 if len(found) and not (lo + found[-1] + 1 == hi and hi > last) else last
        if (finish - begin) * STEP_S < options.shortest_s:
            out.append((start, end))
            continue
        edges = np.diff(np.concatenate([[0], ~sounds[begin:finish], [0]]).astype(np.int8))
        pauses = [
            (begin + int(a), begin + int(b))
            for a, b in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
            if (b - a) * STEP_S >= options.pause_s - 1e-9 and a > 0 and begin + b < finish
        ]
        borders = [begin, *(edge for pause in pauses for edge in pause), finish]
        times = [start_s + k * STEP_S for k in borders]
        times[0] = start if begin == first else times[0]  # off the grid of 10 ms where nothing was found
        times[-1] = end if finish == last else times[-1]
        out += list(zip(times[::2], times[1::2], strict=True))
    return out


def pauses_of(turns: Sequence[Turn]) -> list[tuple[float, float]]:
    """(start, end) between turns in which nobody is heard, in order."""
    ordered = sorted(turns, key=lambda t: t.start_s)
    ends = np.maximum.accumulate([t.end_s for t in ordered]) if ordered else np.zeros(0)
    return [(float(e), t.start_s) for e, t in zip(ends[:-1], ordered[1:], strict=True) if t.start_s > e]


def snap(
    turns: Sequence[Turn], heard: Sequence[Turn], reach_s: float, start_s: float = -np.inf, end_s: float = np.inf
) -> list[Turn]:
    """Turns read frame by frame, with their edges on what was heard.

    An end that lies within ``reach_s`` of a silence, or inside it, moves to where the silence begins, a start to where
    it ends.

    Args:
        turns: as the frames have them. heard: as the sound has them, pauses left out.
        start_s, end_s: bounds of the frames: a turn that reaches them goes on beyond, and stays.
    """
    if not heard:
        return list(turns)
    first, last = min(t.start_s for t in heard), max(t.end_s for t in heard)
    silences = np.array([(-np.inf, first), *pauses_of(heard), (last, np.inf)])
    out = []
    for turn in turns:
        begin, finish = turn.start_s, turn.end_s
        away = np.maximum(np.maximum(silences[:, 0] - begin, begin - silences[:, 1]), 0.0)
        if begin > start_s and away.min() <= reach_s and np.isfinite(silences[away.argmin(), 1]):
            begin = float(silences[away.argmin(), 1])
        away = np.maximum(np.maximum(silences[:, 0] - finish, finish - silences[:, 1]), 0.0)
        if finish < end_s and away.min() <= reach_s and np.isfinite(silences[away.argmin(), 0]):
            finish = float(silences[away.argmin(), 0])
        out.append(replace(turn, start_s=round(begin, 3), end_s=round(finish, 3)) if finish > begin else turn)
    return out
