"""Turns from any ``pyannote.audio`` 4.x diarization pipeline, from a local folder or a hub id.

A pipeline hears one piece of the grid at a time, so memory stays flat; the speakers of different
pieces are joined by the pipeline's own speaker embeddings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..schemas.errors import UsageError
from ..schemas.records import Backend, Turn
from ..schemas.tracks import Float32
from . import torchaudio_shim
from .listen import ListenOptions, listen_grid
from .voice_activity import SAMPLE_RATE


@dataclass(frozen=True)
class PyannoteOptions:
    """Settings of a pyannote pipeline.

    Attributes:
        min_voices, max_voices: bounds of the number of speakers in a piece; 0 leaves it to the pipeline.
        same_voice: speakers of two pieces with at least this cosine of embeddings are one voice.
    """

    min_voices: int = 0
    max_voices: int = 0
    same_voice: float = 0.5


@dataclass(frozen=True)
class PyannotePiece:
    """What the pipeline heard in one piece.

    Attributes:
        segments: (start, end, speaker number) seconds on the video clock; may overlap.
        embedding: [speakers, D] one vector per speaker number; NaN where the pipeline gave none.
    """

    segments: tuple[tuple[float, float, int], ...]
    embedding: Float32

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {"segments": np.array(self.segments, np.float64).reshape(-1, 3), "embedding": self.embedding}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> PyannotePiece:
        segments = tuple((float(s), float(e), int(k)) for s, e, k in arrays["segments"])
        return cls(segments, np.asarray(arrays["embedding"], np.float32))


def load_pipeline(source: str, token: str | None = None) -> Any:
    """A pyannote pipeline from a folder with ``config.yaml`` or a hub id; telemetry is off.

    Raises:
        UsageError: pyannote.audio is not installed, or the pipeline cannot be found, fetched or built.
    """
    torchaudio_shim.install()
    try:
        from pyannote.audio import Pipeline
    except ImportError as error:
        raise UsageError(f"the pyannote backend needs pyannote.audio 4: {_line(error)}") from error
    path = Path(source)
    if path.is_dir() and not (path / "config.yaml").is_file():
        raise UsageError(f"{source} holds no config.yaml: not a pyannote pipeline folder")
    if not path.exists() and (source.startswith((".", "/", "~")) or source.count("/") != 1):
        raise UsageError(f"{source} is neither a folder nor a hub id of the form owner/name")
    try:
        pipeline: Any = Pipeline.from_pretrained(source, token=token)
    except Exception as error:
        raise UsageError(f"cannot load the pyannote pipeline {source}: {_line(error)}") from error
    if pipeline is None:
        raise UsageError(
            f"cannot fetch the pyannote pipeline {source}: no network, no such pipeline, or its conditions are not"
            " accepted for this token"
        )
    return pipeline


class PyannoteTurns:
    """A loaded pipeline; build once per worker process. Telemetry is off.

    pyannote unpickles checkpoints without the weights-only guard: give only folders and ids you trust.

    Args:
        source: a folder with ``config.yaml`` (or that file), or a hub id such as
            ``pyannote/speaker-diarization-community-1``.
        token: hub access token for gated pipelines.

    Raises:
        UsageError: pyannote.audio is not installed, or the pipeline cannot be found, fetched or built.
    """

    def __init__(self, source: str, token: str | None = None) -> None:
        self._pipeline = load_pipeline(source, token)
        self.backend = Backend("listen", f"pyannote:{source}", weights_hash(source), "")

    def __call__(
        self, audio: Float32, start_s: float, grid: ListenOptions | None = None, options: PyannoteOptions | None = None
    ) -> list[Turn]:
        """Turns of a whole video from all of its sound ([n] 16 kHz mono from ``start_s``), a piece at a time."""
        pieces = []
        for span in listen_grid(start_s, start_s + len(audio) / SAMPLE_RATE, grid):
            lo, hi = (round((t - start_s) * SAMPLE_RATE) for t in (span.read_start_s, span.read_end_s))
            pieces.append(self.piece(audio[lo:hi], span.read_start_s, (span.start_s, span.end_s), options))
        return join_pieces(pieces, options)

    def piece(
        self,
        audio: Float32,
        start_s: float,
        keep: tuple[float, float] | None = None,
        options: PyannoteOptions | None = None,
    ) -> PyannotePiece:
        """Diarize one piece.

        Args:
            audio: [n] 16 kHz mono with context on both sides where there is any.
            start_s: time of its first sample on the video clock.
            keep: (start, end) that the piece owns; the whole by default.
        """
        import torch

        options = options or PyannoteOptions()
        begin_s, end_s = keep or (start_s, start_s + len(audio) / SAMPLE_RATE)
        clean = np.nan_to_num(np.asarray(audio, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if len(clean) < SAMPLE_RATE // 10 or not clean.any():
            return PyannotePiece((), np.zeros((0, 0), np.float32))
        bounds = {"min_speakers": options.min_voices, "max_speakers": options.max_voices}
        output = self._pipeline(
            {"waveform": torch.from_numpy(clean)[None], "sample_rate": SAMPLE_RATE},
            **{name: value for name, value in bounds.items() if value > 0},
        )
        if isinstance(output, tuple):  # of a separation pipeline: (turns, sources)
            output = output[0]
        annotation = getattr(output, "speaker_diarization", output)
        vectors = getattr(output, "speaker_embeddings", None)
        labels = list(annotation.labels())
        segments = []
        for segment, _, label in annotation.itertracks(yield_label=True):
            lo, hi = max(begin_s, start_s + float(segment.start)), min(end_s, start_s + float(segment.end))
            if hi > lo:
                segments.append((lo, hi, labels.index(label)))
        embedding = np.full((len(labels), 1), np.nan) if vectors is None else np.asarray(vectors)[: len(labels)]
        return PyannotePiece(tuple(sorted(segments)), embedding.astype(np.float32))


def join_pieces(pieces: Sequence[PyannotePiece], options: PyannoteOptions | None = None) -> list[Turn]:
    """Turns of the whole video: speakers of the pieces joined by embedding, named in order of first speech.

    Each piece's speakers are matched one to one with the voices known so far (Hungarian, highest total
    cosine); what stays under ``same_voice`` is a new voice. Segments that meet across a border become one turn.
    """
    from scipy.optimize import linear_sum_assignment

    options = options or PyannoteOptions()
    sums: list[np.ndarray] = []
    merged: dict[int, list[list[float]]] = {}
    for piece in pieces:
        known = np.zeros((len(piece.embedding), len(sums)))
        vectors = [v / n if (n := float(np.linalg.norm(v))) > 0 else v for v in np.nan_to_num(piece.embedding)]
        for i, vector in enumerate(vectors):
            for j, total in enumerate(sums):
                if len(total) == len(vector) and total.any():
                    known[i, j] = float(vector @ total) / float(np.linalg.norm(total))
        rows, columns = linear_sum_assignment(-known) if known.size else ([], [])
        voice = {int(i): int(j) for i, j in zip(rows, columns, strict=True) if known[i, j] >= options.same_voice}
        for start, end, speaker in piece.segments:
            if speaker not in voice:
                voice[speaker] = len(sums)
                sums.append(np.zeros_like(vectors[speaker]))
            spans = merged.setdefault(voice[speaker], [])
            if spans and start - spans[-1][1] < 0.02:
                spans[-1][1] = max(spans[-1][1], end)
            else:
                spans.append([start, end])
        for speaker, number in voice.items():
            sums[number] = sums[number] + vectors[speaker]
    rows_out = sorted((s, e, v) for v, spans in merged.items() for s, e in spans)
    names: dict[int, str] = {}
    return [Turn(round(s, 3), round(e, 3), names.setdefault(v, f"v{len(names)}")) for s, e, v in rows_out]


def weights_hash(source: str) -> str:
    """sha256 over names and contents of a local pipeline's files; "" for a hub id."""
    path = Path(source)
    if not path.exists():
        return ""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    names = [(str(p.relative_to(path)), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
