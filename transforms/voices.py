"""How many voices a video has, and which of them is heard at each moment.

Windows of 1.6 s that are all speech are clustered (k-means on unit vectors); turns are then cut by
a Viterbi pass over the similarity of short windows to each voice, which is sharper in time. The
number of voices is decided on what the cut gives back: two voices whose moments are as alike as the
moments of one are one voice. People who sound alike may be parted later by their faces, so the best cut
of one more voice can be had as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Bool, Float32, Float64
from .k_means import k_means

GRID_S = 0.02
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VoiceOptions:
    """How voices are told apart.

    Attributes:
        min_voices, max_voices: bounds of the estimated number (equal: a given number).
        pure_coverage: share of a long window that must be speech for it to teach a voice.
        least_gap: voices are told apart where moments of one are more alike than moments of two by this much (cosine).
        gap_error: added to it, over the square root of the number of pairs of moments compared: little speech, and the
            halves of one voice, may differ by chance.
        gap_windows: moments of each voice compared at most.
        new_voice: beyond two voices, the means of each pair must also have a cosine below this: who repeats himself
            word by word is not several people.
        min_voice_s, min_voice_share: a voice beyond the second must speak this long, and this share of all speech.
        max_windows: long windows used for teaching; more are thinned evenly.
        smooth_s: Gaussian smoothing of similarities over time (sigma).
        gain, switch_cost: Viterbi: log-likelihood per unit of cosine and per change of voice.
    """

    min_voices: int = 1
    max_voices: int = 6
    pure_coverage: float = 0.7
    least_gap: float = 0.08
    gap_error: float = 0.25
    gap_windows: int = 300
    new_voice: float = 0.8
    min_voice_s: float = 3.0
    min_voice_share: float = 0.08
    max_windows: int = 2000
    smooth_s: float = 0.15
    gain: float = 20.0
    switch_cost: float = 3.0


def unit(vectors: Float32) -> Float32:
    """Vectors scaled to length one; zeros stay zeros."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, 1e-9), np.float32)


def viterbi(score: Float32, switch_cost: float, spans: Sequence[tuple[int, int]] | None = None) -> Labels:
    """Best label per step when every change of label costs ``switch_cost``.

    Args:
        score: [T, K].
        spans: (first, end) of stretches that know nothing of each other; all of it by default. They are stepped through
            side by side, so that time grows with the longest.

    Returns:
        [T]; 0 outside the spans.
    """
    path = np.zeros(len(score), np.int64)
    parts = np.array([(0, len(score))] if spans is None else spans, np.int64).reshape(-1, 2)
    lengths = parts[:, 1] - parts[:, 0]
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = parts[order, 0], lengths[order]
    if not len(starts) or lengths[0] <= 0:
        return path
    from_best = np.zeros(score.shape, bool)
    best = np.zeros(len(score), np.int8)
    active = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left")  # spans longer than t
    total = score[starts[: active[0]]].astype(np.float64)
    rows = np.arange(active[0])
    for t in range(1, int(lengths[0])):
        count = active[t]
        now, at_step = total[:count], starts[:count] + t
        at = now.argmax(axis=1)
        switched = now[rows[:count], at][:, None] - switch_cost
        best[at_step] = at
        from_best[at_step] = now < switched
        np.maximum(now, switched, out=now)
        now += score[at_step]
    label = total.argmax(axis=1)
    for t in range(int(lengths[0]) - 1, -1, -1):
        count = active[t]
        at_step, at = starts[:count] + t, label[:count]
        path[at_step] = at
        label[:count] = np.where(from_best[at_step, at], best[at_step], at)
    return path


class _Grid:
    """Speech regions and windows on one grid of 20 ms over the speech's extent."""

    def __init__(self, starts: Float64, windows_s: tuple[float, ...], regions: Sequence[tuple[float, float]]) -> None:
        self.start_s = regions[0][0]
        self.steps = int(np.ceil((regions[-1][1] - self.start_s) / GRID_S)) + 1
        self.speech: Bool = np.zeros(self.steps, bool)
        for lo, hi in regions:
            self.speech[self.step(lo) : self.step(hi)] = True
        self.windows = [
            (np.clip(self.steps_of(starts), 0, self.steps), np.clip(self.steps_of(starts + w), 0, self.steps), w)
            for w in windows_s
        ]

    def step(self, time: float) -> int:
        return min(self.steps, max(0, round((time - self.start_s) / GRID_S)))

    def steps_of(self, times: Float64) -> Labels:
        return np.round((times - self.start_s) / GRID_S).astype(np.int64)

    def coverage(self, mask: Bool, which: int) -> Float64:
        """Share of each window inside the mask."""
        lo, hi, length = self.windows[which]
        total = np.concatenate([[0], np.cumsum(mask)])
        return np.asarray((total[hi] - total[lo]) * (GRID_S / length), np.float64)


def _spread(values: Float32, centres: Labels, steps: int, sigma_s: float) -> Float32:
    """Gaussian-weighted mean of window values around each step. [W, K] at ``centres`` -> [steps, K]."""
    from scipy.ndimage import gaussian_filter1d, uniform_filter1d

    total = np.zeros((steps, values.shape[1] + 1), np.float32)
    inside = (centres >= 0) & (centres < steps)
    np.add.at(total, centres[inside], np.concatenate([values, np.ones((len(values), 1), np.float32)], 1)[inside])
    wide, size = total, 2 * round(6 * sigma_s / GRID_S) + 1  # three means in a row are a bell of that width
    for _ in range(3):
        wide = uniform_filter1d(wide, size, axis=0, mode="constant")
    near = gaussian_filter1d(total, sigma_s / GRID_S, axis=0, mode="constant", truncate=6) + 1e-6 * wide
    weight = near[:, -1:]
    return np.asarray(near[:, :-1] / np.maximum(weight, 1e-12), np.float32)


def _chunks(rows: Labels, size: int = 4096) -> Iterator[Labels]:
    """Parts of an index array (one empty part for an empty array): large arrays are widened a part at a time."""
    for first in range(0, max(len(rows), 1), size):
        yield rows[first : first + size]


def _assign(embedding: npt.NDArray[np.floating], grid: _Grid, voices: int, options: VoiceOptions) -> Labels | None:
    """Cut speech among a given number of voices: [steps] label."""
    last = embedding.shape[1] - 1
    pure = np.flatnonzero(grid.coverage(grid.speech, last) >= options.pure_coverage)
    if len(pure) < max(voices, 2):
        pure = np.arange(len(embedding))
    if len(pure) < voices:
        return None
    pure = pure[:: max(1, -(-len(pure) // options.max_windows))]
    long = np.asarray(embedding[pure, last], np.float32)
    label = k_means(long, voices)
    lo, hi, _ = grid.windows[last]
    share = _spread(np.eye(voices, dtype=np.float32)[label], (lo[pure] + hi[pure]) // 2, grid.steps, 0.1)
    lo, hi, _ = grid.windows[0]
    centre = np.clip((lo + hi) // 2, 0, grid.steps - 1)
    heard = np.flatnonzero(grid.coverage(grid.speech, 0) > 0.3)
    taught = np.zeros((voices, embedding.shape[2]), np.float32)
    for rows in _chunks(heard):
        taught += share[centre[rows]].T @ embedding[rows, 0].astype(np.float32)
    taught = unit(taught)
    alike = np.concatenate([embedding[rows, 0].astype(np.float32) @ taught.T for rows in _chunks(heard)])
    score = _spread(alike, centre[heard], grid.steps, options.smooth_s)
    edges = np.diff(np.concatenate([[0], grid.speech.astype(np.int8), [0]]))
    # a pause between regions is no evidence: the voice may change there at no cost
    regions = list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))
    return viterbi(score * options.gain, options.switch_cost, regions)


def _acceptable(
    path: Labels,
    embedding: npt.NDArray[np.floating],
    starts_s: Float64,
    grid: _Grid,
    voices: int,
    options: VoiceOptions,
) -> bool:
    seconds = np.bincount(path[grid.speech], minlength=voices) * GRID_S
    share = seconds.min() / max(seconds.sum(), 1e-9)
    if voices > 2 and (seconds.min() < options.min_voice_s or share < options.min_voice_share):
        return False
    if voices > 2 and _closest(path, embedding, grid, voices) >= options.new_voice:
        return False
    gap, pairs = voice_gap(path, embedding, starts_s, grid, voices, options)
    return gap >= options.least_gap + options.gap_error / np.sqrt(max(pairs, 1.0))


def _closest(path: Labels, embedding: npt.NDArray[np.floating], grid: _Grid, voices: int) -> float:
    """The largest cosine between two voices' mean embeddings; 1 where a voice has no moment of its own."""
    last = embedding.shape[1] - 1
    means = np.zeros((voices, embedding.shape[2]), np.float32)
    for voice in range(voices):
        weight = np.clip(grid.coverage(grid.speech & (path == voice), last) - 0.6, 0, None).astype(np.float32)
        for rows in _chunks(np.flatnonzero(weight)):
            means[voice] += weight[rows] @ embedding[rows, last].astype(np.float32)
    if not np.linalg.norm(means, axis=1).all():
        return 1.0
    means = unit(means)
    return float((means @ means.T)[np.triu_indices(voices, 1)].max())


def voice_gap(
    path: Labels,
    embedding: npt.NDArray[np.floating],
    starts_s: Float64,
    grid: _Grid,
    voices: int,
    options: VoiceOptions,
) -> tuple[float, float]:
    """How much more alike two moments of one voice are than moments of two: the smallest over pairs of voices.

    Clustering cuts any cloud in two, and the centres of the halves lie apart even where one person speaks; moments
    that share no sound are compared instead.

    Returns:
        (mean cosine within voices less mean cosine between them, number of pairs of moments behind it); -inf where
        a voice has no moment of its own or nothing can be compared.
    """
    last, length = embedding.shape[1] - 1, grid.windows[-1][2]
    own: list[Labels] = []
    for voice in range(voices):
        rows = np.flatnonzero(grid.coverage(grid.speech & (path == voice), last) >= 0.75)
        own.append(rows[:: max(1, -(-len(rows) // options.gap_windows))])

    def alike(one: Labels, other: Labels) -> tuple[float, int]:
        apart = np.abs(starts_s[one][:, None] - starts_s[other][None]) > 0.75 * length
        if not apart.any():
            return float("nan"), 0
        cosine = embedding[one, last].astype(np.float32) @ embedding[other, last].astype(np.float32).T
        return float(cosine[apart].mean()), int(apart.sum())

    inside = [alike(rows, rows)[0] for rows in own]
    worst, behind = np.inf, 0.0
    for i, one in enumerate(own):
        for j in range(i):
            between, pairs = alike(one, own[j])
            within = [x for x in (inside[i], inside[j]) if np.isfinite(x)]
            if not within or pairs == 0:
                return -np.inf, 0.0
            gap = float(np.mean(within)) - between
            if gap < worst:
                worst, behind = gap, float(pairs)
    return worst, behind


def label_voices(
    starts_s: Float64,
    embedding: npt.NDArray[np.floating],
    windows_s: tuple[float, ...],
    regions: Sequence[tuple[float, float]],
    options: VoiceOptions | None = None,
) -> list[tuple[float, float, int]]:
    """Which voice is heard in each part of the speech regions.

    Args:
        starts_s: [W] start of each run, seconds.
        embedding: [W, L, 256] unit vectors read after each of ``windows_s`` [L].
        regions: (start, end) of speech in order, disjoint.

    Returns:
        (start, end, voice number) in time order; consecutive pieces of a region differ in voice.
    """
    found = _solve(starts_s, embedding, windows_s, regions, options or VoiceOptions())
    return [] if found is None else _segments(found[0], found[2], regions)


def label_parts(
    starts_s: Float64,
    embedding: npt.NDArray[np.floating],
    windows_s: tuple[float, ...],
    regions: Sequence[tuple[float, float]],
    options: VoiceOptions | None = None,
) -> list[tuple[float, float, int, int]]:
    """As :func:`label_voices`, with the best cut of a voice that may be two people who sound alike.

    Returns:
        (start, end, voice number, part 0 or 1); part is 0 throughout a voice that was not cut.
    """
    found = _solve(starts_s, embedding, windows_s, regions, options or VoiceOptions())
    if found is None:
        return []
    path, parts, grid = found
    return [(s, e, label // 2, label % 2) for s, e, label in _segments(2 * path + parts, grid, regions)]


def _solve(
    starts_s: Float64,
    embedding: npt.NDArray[np.floating],
    windows_s: tuple[float, ...],
    regions: Sequence[tuple[float, float]],
    options: VoiceOptions,
) -> tuple[Labels, Labels, _Grid] | None:
    """[steps] voice, [steps] part of the voice, and their grid."""
    if not regions:
        return None
    grid = _Grid(starts_s, windows_s, regions)
    path, finer = np.zeros(grid.steps, np.int64), None
    for voices in range(options.max_voices, 1, -1):
        if voices < options.min_voices:
            break
        cut = _assign(embedding, grid, voices, options)
        if cut is None:
            continue
        if voices == options.min_voices or _acceptable(cut, embedding, starts_s, grid, voices, options):
            path = cut
            break
        finer = cut
    return path, _parts(path, finer, grid, options), grid


def _parts(path: Labels, finer: Labels | None, grid: _Grid, options: VoiceOptions) -> Labels:
    """[steps] 0 or 1: the one voice that a cut into one voice more divides, where both parts speak long enough."""
    parts = np.zeros(grid.steps, np.int64)
    if finer is None or finer.max() > path.max() + 1:
        return parts
    heard = grid.speech
    table = np.zeros((int(path.max()) + 1, int(finer.max()) + 1))
    np.add.at(table, (path[heard], finer[heard]), GRID_S)
    parent = table.argmax(axis=0)
    for voice in range(len(table)):
        children = np.flatnonzero(parent == voice)
        if len(children) == 2 and table[voice, children].min() >= options.min_voice_s:
            parts[(path == voice) & (finer == children[1])] = 1
    return parts


def _segments(path: Labels, grid: _Grid, regions: Sequence[tuple[float, float]]) -> list[tuple[float, float, int]]:
    segments = []
    for lo, hi in regions:
        first, end = grid.step(lo), max(grid.step(hi), grid.step(lo) + 1)
        changes = np.flatnonzero(np.diff(path[first:end])) + first + 1
        edges = [lo, *(grid.start_s + changes * GRID_S), hi]
        voice = [int(path[first]), *(int(path[c]) for c in changes)]
        segments += [(float(s), float(e), v) for s, e, v in zip(edges[:-1], edges[1:], voice, strict=True) if e > s]
    return segments
