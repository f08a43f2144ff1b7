"""Where is speech: silero-vad probabilities every 32 ms, and speech regions from them."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import Bool, Float32

SAMPLE_RATE = 16000
FRAME_SAMPLES = 512
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE  # 32 ms


@dataclass(frozen=True)
class VoiceActivityOptions:
    """Hysteresis that turns speech probabilities into regions.

    Attributes:
        onset, offset: a region starts at a probability >= onset and ends below offset.
        min_speech_s: shorter regions are dropped.
        min_silence_s: shorter gaps are closed.
        pad_s: added to both sides of a region.
    """

    onset: float = 0.5
    offset: float = 0.35
    min_speech_s: float = 0.1
    min_silence_s: float = 0.1
    pad_s: float = 0.03


class VoiceActivity:
    """silero-vad 6 in its sequence form (one ONNX call per 16 s), weights from the installed wheel.

    Raises:
        UsageError: the ``silero-vad`` package or its weights are not installed.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec("silero_vad")
        if spec is None or spec.origin is None:
            raise UsageError("voice activity needs the package silero-vad: pip install silero-vad")
        path = Path(spec.origin).parent / "data" / "silero_vad_16k_sequence.onnx"
        if not path.is_file():
            raise UsageError(f"the installed silero-vad has no {path.name}: version 6.2.3 or later is needed")
        from silero_vad.sequence_vad import SileroVADSequence

        self._model = SileroVADSequence(str(path), sampling_rate=SAMPLE_RATE)
        self.backend = Backend("listen", "silero-vad", hashlib.sha256(path.read_bytes()).hexdigest(), "MIT")

    def __call__(self, audio: Float32) -> Float32:
        """Speech probability per frame of 32 ms.

        Args:
            audio: [n] 16 kHz mono, -1..1.

        Returns:
            [ceil(n / 512)] probabilities; frame i covers samples 512 i .. 512 (i + 1).
        """
        if len(audio) == 0:
            return np.zeros(0, np.float32)
        clean = np.nan_to_num(np.asarray(audio, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        return np.asarray(self._model.audio_forward(clean), np.float32)


def speech_regions(
    probability: Float32, start_s: float = 0.0, options: VoiceActivityOptions | None = None
) -> list[tuple[float, float]]:
    """Speech regions, in order and disjoint.

    Args:
        probability: [F] one value per 32 ms.
        start_s: time of the first frame's start, seconds.

    Returns:
        (start, end) in seconds on the same clock as ``start_s``, clamped to the frames' extent.
    """
    options = options or VoiceActivityOptions()
    raw: list[tuple[float, float]] = []
    begin = -1
    for i, p in enumerate(probability):
        if begin < 0 and p >= options.onset:
            begin = i
        elif begin >= 0 and p < options.offset:
            raw.append((begin * FRAME_S, i * FRAME_S))
            begin = -1
    extent = len(probability) * FRAME_S
    if begin >= 0:
        raw.append((begin * FRAME_S, extent))
    joined: list[tuple[float, float]] = []
    for lo, hi in raw:
        lo, hi = max(0.0, lo - options.pad_s), min(extent, hi + options.pad_s)
        if joined and lo - joined[-1][1] < options.min_silence_s:
            joined[-1] = (joined[-1][0], hi)
        else:
            joined.append((lo, hi))
    shortest = options.min_speech_s + 2 * options.pad_s
    return [(start_s + lo, start_s + hi) for lo, hi in joined if hi - lo >= min(shortest, extent)]


def mask_regions(regions: Sequence[tuple[float, float]], times: np.ndarray) -> Bool:
    """[T] whether each time lies inside a region (start <= t < end). Regions may overlap."""
    mask = np.zeros(len(times), bool)
    for lo, hi in regions:
        mask |= (times >= lo) & (times < hi)
    return mask
