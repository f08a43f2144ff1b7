"""Dissolves: where one picture slowly becomes another, which no change between neighbouring frames shows.

In a dissolve every picture is a mixture of the same two, so that small pictures of it lie on a straight line from the
first to the last, and move along it one way (Lienhart, Int. J. Image and Graphics 1(3), 2001, reviews such models).
Cameras and people that move leave that line; a change of light keeps the pattern of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Float32

UInt8 = npt.NDArray[np.uint8]

GRID_S = 0.1  # pictures are compared this far apart, on a grid that does not depend on where a piece begins
HALVES = (2, 4, 8)  # half of the windows looked at, in steps of the grid
SIZE = (64, 36)
LEAST_CHANGE, LEAST_MEDIAN = 8.0, 4.0  # mean and median change over the window, 0..255: a whole other picture
LEAST_CONTRAST = 8.0  # standard deviation of both ends: fades to black or white are told by brightness
MOST_OFF_LINE = 0.28  # largest distance from the line, as a share of its length
MOST_STEP, MOST_BACK = 0.45, 0.08  # of the way in one step of the grid: a cut does it all in one
MOST_ALIKE = 0.9  # correlation of both ends: more is one scene in another light, or one that a camera pans over
REACH = (10, 5)  # pixels of the small picture, across and down, that it may have panned
JOIN_S = 0.45  # hits closer than this are one dissolve
_KEPT = 2 * HALVES[-1] + 1  # pictures of the widest window


@dataclass(frozen=True)
class _Hit:
    time_s: float
    off_middle: float
    change: float


class DissolveFinder:
    """Takes the frames of one piece in order of time; :meth:`finish` gives its dissolves and makes it ready again."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # The last so many pictures are the rows that end at the last time; a window is a view of them.
        self._pictures = np.empty((4 * _KEPT, 3 * SIZE[0] * SIZE[1]), np.float32)
        self._times: list[float] = []
        self._end = 0
        self._step: int | None = None
        self._hits: list[_Hit] = []

    def push(self, time_s: float, rgb: UInt8) -> None:
        """Take the next frame. ``rgb``: [H, W, 3] uint8, small already."""
        step = int(np.floor(time_s / GRID_S + 1e-6))
        if step == self._step:
            return
        self._step = step
        if self._end == len(self._pictures):
            self._pictures[: _KEPT - 1] = self._pictures[1 - _KEPT :]
            self._end = _KEPT - 1
        picture = cv2.resize(rgb, SIZE, interpolation=cv2.INTER_AREA).reshape(-1)
        np.subtract(picture, 128, out=self._pictures[self._end], dtype=np.float32)
        self._end += 1
        self._times = [*self._times[1 - _KEPT :], time_s]
        if len(self._times) == _KEPT:
            self._look(HALVES[-1])

    def finish(self) -> list[tuple[float, float]]:
        """(time of the middle, mean change 0..255) of every dissolve, in order of time."""
        for centre in range(max(len(self._times) - HALVES[-1], 0), len(self._times)):
            self._look(centre)
        found: list[list[_Hit]] = []
        for hit in self._hits:
            if found and hit.time_s - found[-1][-1].time_s <= JOIN_S:
                found[-1].append(hit)
            else:
                found.append([hit])
        self._reset()
        return [_middle(hits) for hits in found]

    def _look(self, centre: int) -> None:
        for half in reversed(HALVES):  # the widest window that lies in a dissolve tells its middle best
            first, last = centre - half, centre + half
            if first < 0 or last >= len(self._times):
                continue
            begin = self._end - len(self._times)
            hit = _dissolves(self._times[first : last + 1], self._pictures[begin + first : begin + last + 1])
            if hit is not None:
                self._hits.append(hit)
                return


def _middle(hits: list[_Hit]) -> tuple[float, float]:
    """Time and change of the hit that sees (nearly) all of the change and the most even halves of it."""
    most = max(hit.change for hit in hits)
    best = min((hit for hit in hits if hit.change >= 0.9 * most), key=lambda hit: (hit.off_middle, hit.time_s))
    return best.time_s, best.change


def _dissolves(times: Sequence[float], pictures: Float32) -> _Hit | None:
    """Whether these pictures [2 K + 1, 36 * 64 * 3] lie in one dissolve whose middle is near theirs.

    Most windows are no dissolve: what turns them away most cheaply is asked first.
    """
    half = len(times) // 2
    first, last = pictures[0], pictures[-1]
    whole = last - first
    change = float(cv2.norm(whole, cv2.NORM_L1)) / len(whole)
    if change < LEAST_CHANGE or times[-1] - times[0] > 3.2 * half * GRID_S:  # too few frames to say
        return None
    along = pictures @ whole
    length = float(along[-1] - along[0])
    way = (along - along[0]) / length
    steps = np.diff(way)
    if not 0.3 <= way[half] <= 0.7 or steps.max() > MOST_STEP or steps.min() < -MOST_BACK:
        return None
    if min(float(first.std()), float(last.std())) < LEAST_CONTRAST or np.median(np.abs(whole)) < LEAST_MEDIAN:
        return None
    moved = pictures - first
    off = np.sqrt(np.sum((moved - way[:, None] * whole) ** 2, axis=1) / length)
    if off.max() > MOST_OFF_LINE or _alike(first, last) > MOST_ALIKE:
        return None
    return _Hit(times[half], abs(float(way[half]) - 0.5), change)


def _alike(first: Float32, last: Float32) -> float:
    """Largest correlation of two pictures over shifts of one against the other."""
    one, other = (picture.reshape(SIZE[1], SIZE[0], 3) for picture in (first, last))
    best = -1.0
    for down in range(-REACH[1], REACH[1] + 1):
        for across in range(-REACH[0], REACH[0] + 1):
            a = one[max(down, 0) : SIZE[1] + min(down, 0), max(across, 0) : SIZE[0] + min(across, 0)]
            b = other[max(-down, 0) : SIZE[1] + min(-down, 0), max(-across, 0) : SIZE[0] + min(-across, 0)]
            best = max(best, float(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]))
    return best
