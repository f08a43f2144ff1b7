"""A video's sound in the work folder: FLAC chunks of a minute, so that a clip reads seconds, not hours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from ..schemas.audio import decode_audio, encode_audio
from ..schemas.pair import SAMPLE_RATE
from ..schemas.records import Turn
from ..schemas.tracks import Float32
from .elements import SoundChunk
from .work import WorkStore

CHUNK_S = 60.0


def store_sound(work: WorkStore, stage: str, key: str, samples: Float32, start_s: float) -> tuple[SoundChunk, ...]:
    """Write sound that starts at ``start_s`` on the video clock; 16 kHz mono, -1..1."""
    chunks = []
    size = int(CHUNK_S * SAMPLE_RATE)
    for number, first in enumerate(range(0, len(samples), size)):
        part = samples[first : first + size]
        file = work.put(stage, f"{key}-{number:03d}", encode_audio(part), ".flac")
        begin = start_s + first / SAMPLE_RATE
        chunks.append(SoundChunk(begin, begin + len(part) / SAMPLE_RATE, file))
    return tuple(chunks)


def read_sound(work: WorkStore, chunks: Sequence[SoundChunk], start_s: float, end_s: float) -> Float32:
    """[round((end_s - start_s) * 16000)] samples from ``start_s`` on the video clock; zeros where there is no sound."""
    out = np.zeros(round((end_s - start_s) * SAMPLE_RATE), np.float32)
    for chunk in chunks:
        if chunk.end_s <= start_s or chunk.start_s >= end_s:
            continue
        samples = decode_audio(work.get(chunk.file))
        offset = round((chunk.start_s - start_s) * SAMPLE_RATE)
        lo, hi = max(0, offset), min(len(out), offset + len(samples))
        if hi > lo:
            out[lo:hi] = samples[lo - offset : hi - offset]
    return out


def turns_to_bytes(turns: Sequence[Turn]) -> bytes:
    return json.dumps([asdict(turn) for turn in turns], separators=(",", ":")).encode()


def turns_from_bytes(data: bytes) -> list[Turn]:
    return [Turn(**entry) for entry in json.loads(data)]
