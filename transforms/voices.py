"""How many voices a video has, and which of them is heard at each moment.

Windows of 1.6 s that are all speech are clustered (k-means on unit vectors); turns are then cut by
a Viterbi pass over the similarity of short windows to each voice, which is sharper in time. The
number of voices is decided on what the cut gives back: two voices whose own speech sounds alike
are one voice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..schemas.tracks import Bool, Float32, Float64

GRID_S = 0.02
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VoiceOptions:
    """How voices are told apart.

    Attributes:
        min_voices, max_voices: bounds of the estimated number (equal: a given number).
        pure_coverage: share of a long window that must be speech for it to teach a voice.
        same_voice: two voices with a cosine of mean embeddings above this are one.
        new_voice: beyond two voices, each pair must be below this.
        min_voice_s, min_voice_share: a voice beyond the second must speak this long, and this share of all speech.
        max_windows: long windows used for teaching; more are thinned evenly.
        smooth_s: Gaussian smoothing of similarities over time (sigma).
        gain, switch_cost: Viterbi: log-likelihood per unit of cosine and per change of voice.
    """

    min_voices: int = 1
    max_voices: int = 6
    pure_coverage: float = 0.7
    same_voice: float = 0.87
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


def viterbi(score: Float32, switch_cost: float) -> Labels:
    """Best label per step when every change of label costs ``switch_cost``. score [T, K] -> [T]."""
    steps, voices = score.shape
    from_best = np.zeros((steps, voices), bool)
    best = np.zeros(steps, np.int8)
    total = score[0].astype(np.float64)
    for t in range(1, steps):
        at = total.argmax()
        switched = total[at] - switch_cost
        best[t] = at
        np.less(total, switched, out=from_best[t])
        np.maximum(total, switched, out=total)
        total += score[t]
    path = np.zeros(steps, np.int64)
    path[-1] = at = int(total.argmax())
    for t in range(steps - 1, 0, -1):
        if from_best[t, at]:
            at = int(best[t])
        path[t - 1] = at
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
    from scipy.ndimage import gaussian_filter1d

    total = np.zeros((steps, values.shape[1] + 1), np.float32)
    inside = (centres >= 0) & (centres < steps)
    np.add.at(total, centres[inside], np.concatenate([values, np.ones((len(values), 1), np.float32)], 1)[inside])
    wide = gaussian_filter1d(total, 6 * sigma_s / GRID_S, axis=0, mode="constant", truncate=6)
    near = gaussian_filter1d(total, sigma_s / GRID_S, axis=0, mode="constant", truncate=6) + 1e-6 * wide
    weight = near[:, -1:]
    return np.asarray(near[:, :-1] / np.maximum(weight, 1e-12), np.float32)


def _chunks(rows: Labels, size: int = 4096) -> Iterator[Labels]:
    """Parts of an index array (one empty part for an empty array): large arrays are widened a part at a time."""
    for first in range(0, max(len(rows), 1), size):
        yield rows[first : first + size]


def _assign(
    embedding: npt.NDArray[np.floating], grid: _Grid, voices: int, options: VoiceOptions
) -> tuple[Labels, Float32] | None:
    """Cut speech among a given number of voices: ([steps] label, [voices, 256] mean of each voice's own speech)."""
    from sklearn.cluster import KMeans

    last = embedding.shape[1] - 1
    pure = np.flatnonzero(grid.coverage(grid.speech, last) >= options.pure_coverage)
    if len(pure) < max(voices, 2):
        pure = np.arange(len(embedding))
    if len(pure) < voices:
        return None
    pure = pure[:: max(1, -(-len(pure) // options.max_windows))]
    long = np.asarray(embedding[pure, last], np.float32)
    label = KMeans(voices, n_init=10, random_state=0).fit(long).labels_
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
    path = np.zeros(grid.steps, np.int64)
    edges = np.diff(np.concatenate([[0], grid.speech.astype(np.int8), [0]]))
    for first, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        # a pause between regions is no evidence: the voice may change there at no cost
        path[first:end] = viterbi(score[first:end] * options.gain, options.switch_cost)
    means = []
    for voice in range(voices):
        weight = np.clip(grid.coverage(grid.speech & (path == voice), last) - 0.6, 0, None).astype(np.float32)
        own = np.flatnonzero(weight)
        total = np.zeros(embedding.shape[2], np.float32)
        for rows in _chunks(own):
            total += weight[rows] @ embedding[rows, last].astype(np.float32)
        means.append(total)
    return path, unit(np.stack(means))


def _acceptable(path: Labels, means: Float32, grid: _Grid, options: VoiceOptions) -> bool:
    voices = len(means)
    cosine = means @ means.T
    alike = float(cosine[np.triu_indices(voices, 1)].max())
    seconds = np.bincount(path[grid.speech], minlength=voices) * GRID_S
    if voices == 2:
        return alike < options.same_voice and seconds.min() > 0
    share = seconds.min() / max(seconds.sum(), 1e-9)
    return (
        alike < options.new_voice
        and bool(np.all(np.linalg.norm(means, axis=1) > 0.5))
        and seconds.min() >= options.min_voice_s
        and share >= options.min_voice_share
    )


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
    options = options or VoiceOptions()
    if not regions:
        return []
    grid = _Grid(starts_s, windows_s, regions)
    path = np.zeros(grid.steps, np.int64)
    for voices in range(options.max_voices, 1, -1):
        if voices < options.min_voices:
            break
        cut = _assign(embedding, grid, voices, options)
        if cut is not None and (voices == options.min_voices or _acceptable(*cut, grid, options)):
            path = cut[0]
            break
    segments = []
    for lo, hi in regions:
        first, end = grid.step(lo), max(grid.step(hi), grid.step(lo) + 1)
        changes = np.flatnonzero(np.diff(path[first:end])) + first + 1
        edges = [lo, *(grid.start_s + changes * GRID_S), hi]
        voice = [int(path[first]), *(int(path[c]) for c in changes)]
        segments += [(float(s), float(e), v) for s, e, v in zip(edges[:-1], edges[1:], voice, strict=True) if e > s]
    return segments
