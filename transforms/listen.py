"""Who speaks when: one pass over a video's audio in bounded pieces, then voices over the whole video.

:func:`listen_piece` does the costly part (speech probabilities, speaker embeddings) on one piece of a
fixed grid; its result is small and does not depend on how many workers there are. :func:`cluster_turns`
meets all pieces of one video and decides how many voices there are and which of them speaks when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.records import Backend, Turn
from ..schemas.tracks import Bool, Float32, Float64
from .turn_edges import STEP_S, EdgeOptions, sharpen, sounding
from .voice_activity import (
    FRAME_S,
    FRAME_SAMPLES,
    SAMPLE_RATE,
    VoiceActivity,
    VoiceActivityOptions,
    mask_regions,
    speech_regions,
)
from .voice_embedding import EMBEDDING, MEL_HOP_S, VoiceEmbedding
from .voices import VoiceOptions, label_parts

_MEL_SAMPLES = round(MEL_HOP_S * SAMPLE_RATE)
_JUDGED_S = 0.5  # a stretch between pauses this long is speech or laughter by itself; shorter ones by those around


@dataclass(frozen=True)
class ListenOptions:
    """Settings of listening.

    Attributes:
        piece_s: length of a piece of the grid (a multiple of 0.032 and of ``hop_s``).
        context_s: audio read on each side of a piece so that its result does not depend on the cut.
        hop_s: distance between embedding windows.
        windows_s: lengths of the embedding windows, rising: the first places the borders of turns, the last
            tells voices apart.
        min_coverage: a window is embedded when at least this share of it is speech.
        least_mean_speech: turns whose mean speech probability is lower are dropped: a crowd's laughter or applause
            keeps the probability between the thresholds of ``activity`` for seconds, speech does not.
        level_db: speech level (dBFS RMS) a piece is scaled to before embedding.
        join_s: turns of one voice become one over a pause shorter than this.
    """

    piece_s: float = 600.0
    context_s: float = 3.2
    hop_s: float = 0.3
    windows_s: tuple[float, ...] = (0.6, 1.6)
    min_coverage: float = 0.3
    least_mean_speech: float = 0.7
    level_db: float = -24.0
    join_s: float = 0.3
    activity: VoiceActivityOptions = field(default_factory=VoiceActivityOptions)
    voices: VoiceOptions = field(default_factory=VoiceOptions)
    edges: EdgeOptions = field(default_factory=EdgeOptions)


@dataclass(frozen=True)
class ListenPiece:
    """What was heard in one piece; neighbours join without overlap.

    Attributes:
        start_s, end_s: extent on the video clock.
        speech: [F] speech probability per 32 ms, first frame at ``start_s``.
        sounds: [N] whether each moment of 10 ms sounds like speech rather than noise (``turn_edges.sounding``), first
            moment at ``start_s``.
        window_start_s: [W] start of each embedding run, seconds on the video clock.
        embedding: [W, len(windows_s), 256] unit vectors (float16); read after each of ``windows_s``.
    """

    start_s: float
    end_s: float
    speech: Float32
    sounds: Bool
    window_start_s: Float64
    embedding: npt.NDArray[np.float16]

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Plain arrays for a piece file (``np.savez``)."""
        return {
            "span": np.array([self.start_s, self.end_s], np.float64),
            "speech": self.speech.astype(np.float32),
            "sounds": self.sounds.astype(bool),
            "window_start_s": self.window_start_s.astype(np.float64),
            "embedding": self.embedding.astype(np.float16),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> ListenPiece:
        """The inverse of :meth:`to_arrays`."""
        start, end = (float(v) for v in arrays["span"])
        return cls(
            start,
            end,
            np.asarray(arrays["speech"], np.float32),
            np.asarray(arrays["sounds"], bool),
            np.asarray(arrays["window_start_s"], np.float64),
            np.asarray(arrays["embedding"], np.float16),
        )


@dataclass
class ListenModels:
    """The two networks of the default backend; build once per worker process."""

    activity: VoiceActivity = field(default_factory=VoiceActivity)
    embedding: VoiceEmbedding = field(default_factory=VoiceEmbedding)

    @property
    def backends(self) -> tuple[Backend, ...]:
        return (self.activity.backend, self.embedding.backend)


@dataclass(frozen=True)
class PieceSpan:
    """One piece of the grid: audio to read, and the part of it that the piece owns (seconds)."""

    read_start_s: float
    read_end_s: float
    start_s: float
    end_s: float


def listen_grid(start_s: float, end_s: float, options: ListenOptions | None = None) -> list[PieceSpan]:
    """Fixed pieces that cover start_s..end_s; borders are multiples of ``piece_s``, whatever the start."""
    options = options or ListenOptions()
    spans = []
    index = int(np.floor(start_s / options.piece_s))
    while index * options.piece_s < end_s:
        lo, hi = max(start_s, index * options.piece_s), min(end_s, (index + 1) * options.piece_s)
        if hi > lo:
            spans.append(PieceSpan(max(start_s, lo - options.context_s), min(end_s, hi + options.context_s), lo, hi))
        index += 1
    return spans


def listen_piece(
    audio: Float32,
    start_s: float,
    options: ListenOptions,
    models: ListenModels,
    keep: tuple[float, float] | None = None,
) -> ListenPiece:
    """Listen to one piece.

    Args:
        audio: [n] 16 kHz mono, -1..1, with context on both sides where there is any (:func:`listen_grid`).
            Empty or silent audio is fine and gives no speech.
        start_s: time of its first sample on the video clock.
        keep: (start, end) the piece owns; the whole of ``audio`` by default. Its distance from ``start_s`` is
            rounded to whole frames of 32 ms.

    Returns:
        The piece. Its memory grows with the piece, never with the video.
    """
    audio = np.nan_to_num(np.asarray(audio, np.float32).reshape(-1), nan=0.0, posinf=0.0, neginf=0.0)
    begin_s, end_s = keep or (start_s, start_s + len(audio) / SAMPLE_RATE)
    speech = models.activity(audio)
    padded = np.pad(audio, (0, len(speech) * FRAME_SAMPLES - len(audio))).reshape(len(speech), FRAME_SAMPLES)
    power = np.einsum("ij,ij->i", padded, padded, dtype=np.float64) / FRAME_SAMPLES

    first = round((begin_s - start_s) / FRAME_S)
    last = min(len(speech), int(np.ceil((end_s - start_s) / FRAME_S - 1e-6)))
    starts_s, embedding, sounds = _embed(audio, start_s, speech, power, options, models.embedding)
    longest = max(options.windows_s)
    own = (starts_s + longest / 2 >= begin_s) & (starts_s + longest / 2 < end_s)
    own |= (starts_s + longest / 2 >= end_s) & (end_s >= start_s + len(audio) / SAMPLE_RATE - 1e-6)  # the last piece
    own |= (starts_s + longest / 2 < begin_s) & (begin_s <= start_s + 1e-6)
    kept = np.zeros((last - first) * FRAME_SAMPLES // _MEL_SAMPLES, bool)  # of the same extent as the speech kept
    inside = sounds[first * FRAME_SAMPLES // _MEL_SAMPLES :][: len(kept)]
    kept[: len(inside)] = inside
    return ListenPiece(begin_s, end_s, speech[first:last], kept, starts_s[own], embedding[own].astype(np.float16))


def _embed(
    audio: Float32, start_s: float, speech: Float32, power: Float64, options: ListenOptions, model: VoiceEmbedding
) -> tuple[Float64, Float32, Bool]:
    """Embeddings of the runs (on the grid of ``hop_s`` in video time) that hold enough speech; which moments sound."""
    lengths = tuple(round(w / MEL_HOP_S) for w in options.windows_s)
    regions = speech_regions(speech, 0.0, options.activity)
    frame_times = (np.arange(len(speech)) + 0.5) * FRAME_S
    talking = mask_regions(regions, frame_times)
    if not talking.any():
        silent = np.zeros(len(audio) // _MEL_SAMPLES + 1, bool)
        return np.zeros(0), np.zeros((0, len(lengths), EMBEDDING), np.float32), silent
    index = np.arange(np.ceil((start_s) / options.hop_s - 1e-9), (start_s + len(audio) / SAMPLE_RATE) / options.hop_s)
    starts_s = index * options.hop_s
    covered = np.concatenate([[0.0], np.cumsum(talking)]) * FRAME_S
    edges = np.arange(len(covered)) * FRAME_S
    rel = starts_s - start_s
    shares = [(np.interp(rel + w, edges, covered) - np.interp(rel, edges, covered)) / w for w in options.windows_s]
    starts_s = starts_s[np.max(shares, axis=0) >= options.min_coverage]
    level = 10 * np.log10(max(float(power[talking].mean()), 1e-10))
    mel = model.mel(audio)
    sounds = sounding(mel.numpy(), mask_regions(regions, np.arange(len(mel)) * MEL_HOP_S), options.edges)
    mel *= float(10 ** ((options.level_db - level) / 10))
    frames = np.round((starts_s - start_s) / MEL_HOP_S).astype(np.int64)
    return starts_s, model(mel, frames, lengths), sounds


def cluster_turns(
    pieces: Sequence[ListenPiece], options: ListenOptions | None = None, parts: bool = False
) -> list[Turn]:
    """Turns of the whole video, voices named "v0", "v1", ... in order of first speech.

    Args:
        pieces: all pieces of one video, in time order. Iterated more than once: a lazy sequence that loads
            a piece at a time keeps memory flat.
        parts: also cut a voice that may be two people who sound alike, "v0" into "v0" and "v0b"; binding joins the
            two again unless they have different faces (``bind.join_parts``).

    Returns:
        Turns in time order; ``face`` is "". Two voices may overlap in time. Empty without speech.
    """
    options = options or ListenOptions()
    runs = _joined_speech(pieces)
    regions = [
        region
        for start, speech, sounds in runs
        for region in sharpen(speech_regions(speech, start, options.activity), sounds, start, options.edges)
    ]
    if not regions:
        return []
    starts = np.concatenate([p.window_start_s for p in pieces])
    embedding = np.concatenate([p.embedding for p in pieces])
    cut = label_parts(starts, embedding, options.windows_s, regions, options.voices)
    names: dict[int, str] = {}
    turns = []
    for group in _joined(sorted(cut), options.join_s, parts):
        if _mean_speech(runs, group[0][0], group[-1][1]) < options.least_mean_speech:
            continue
        group = [s for s in group if s[1] - s[0] < _JUDGED_S or _mean_speech(runs, *s[:2]) >= options.least_mean_speech]
        if not group:
            continue
        _, _, voice, part = group[0]
        name = names.setdefault(voice, f"v{len(names)}") + ("b" if parts and part else "")
        whole = group if parts else [(group[0][0], group[-1][1], voice, part)]
        turns += [Turn(round(start, 3), round(end, 3), name) for start, end, _, _ in whole]
    return turns


def _joined(
    segments: Sequence[tuple[float, float, int, int]], pause_s: float, parts: bool
) -> list[list[tuple[float, float, int, int]]]:
    """Segments in time order, in groups of one voice (and one part of it) over pauses shorter than ``pause_s``."""
    out: list[list[tuple[float, float, int, int]]] = []
    for segment in segments:
        last = out[-1][-1] if out else None
        same = last is not None and last[2] == segment[2] and (last[3] == segment[3] or not parts)
        if last is not None and same and segment[0] - last[1] < max(pause_s, 1e-6):
            out[-1].append(segment)
        else:
            out.append([segment])
    return out


def _mean_speech(runs: Sequence[tuple[float, Float32, Bool]], start_s: float, end_s: float) -> float:
    """Mean speech probability of start..end, which lies inside one run."""
    at = max((k for k, run in enumerate(runs) if run[0] <= start_s + 1e-6), default=0)
    first = int((start_s - runs[at][0]) / FRAME_S)
    last = max(first + 1, int((end_s - runs[at][0]) / FRAME_S))
    return float(runs[at][1][first:last].mean()) if first < len(runs[at][1]) else 0.0


def _joined_speech(pieces: Sequence[ListenPiece]) -> list[tuple[float, Float32, Bool]]:
    """(start, probabilities, what sounds) of runs of pieces without a gap, so that speech over a border stays one."""
    runs: list[tuple[float, list[Float32], list[Bool]]] = []
    at = -np.inf
    for piece in pieces:
        if abs(piece.start_s - at) > FRAME_S:
            runs.append((piece.start_s, [], []))
        runs[-1][1].append(piece.speech)
        runs[-1][2].append(_as_long(piece.sounds, round(len(piece.speech) * FRAME_S / STEP_S)))
        at = piece.start_s + len(piece.speech) * FRAME_S
    return [(start, np.concatenate(speech), np.concatenate(sounds)) for start, speech, sounds in runs]


def _as_long(sounds: Bool, count: int) -> Bool:
    out = np.zeros(count, bool)
    out[: min(count, len(sounds))] = sounds[:count]
    return out
