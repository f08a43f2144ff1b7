"""One track of sound per person: a clip's mixture taken apart by a pyannote separation pipeline.

The pipeline (joint diarization and separation: Kalda et al., "PixIT", Odyssey 2024) gives one source per voice it
hears; each goes to the face in whose speech it is loud and outside whose speech it is not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import Float32, Float64
from .pyannote_turns import load_pipeline, weights_hash
from .voice_activity import SAMPLE_RATE

CONTEXT_S = 3.0  # of sound read on each side of a clip: a pipeline's levels fall towards the ends of its input
_STEP = 320  # 20 ms
_SHORTEST = 8000  # half a second: shorter sound is not taken apart


@dataclass(frozen=True)
class SeparationOptions:
    """How sources are given to faces.

    Attributes:
        least_correlation: of a source's level (square root of power, 20 ms) with a person's speaking probability.
    """

    least_correlation: float = 0.25


@dataclass(frozen=True)
class PersonTracks:
    """The sound of each person of a clip.

    Attributes:
        a, b: [n] 16 kHz, in the mixture's own level; None where no source is that person's.
        residual_share: share of the mixture's energy that is in neither track, 0..1.
    """

    a: Float32 | None
    b: Float32 | None
    residual_share: float


class PyannoteSeparator:
    """A loaded ``SpeechSeparation`` pipeline of pyannote.audio 4; build once per worker process. Telemetry is off.

    pyannote unpickles checkpoints without the weights-only guard: give only folders and ids you trust.

    Args:
        source: a folder with ``config.yaml``, or a hub id such as ``pyannote/speech-separation-ami-1.0``. The published
            network needs the packages asteroid and transformers besides.
        token: hub access token for gated pipelines.

    Raises:
        UsageError: a package is missing, the pipeline cannot be found, fetched or built, or it does not separate.
    """

    def __init__(self, source: str, token: str | None = None) -> None:
        if not source:
            raise UsageError("speech separation needs a pipeline: backends.separation_path=FOLDER or a hub id")
        self._pipeline = load_pipeline(source, token)
        from pyannote.audio.pipelines import SpeechSeparation

        if not isinstance(self._pipeline, SpeechSeparation):
            kind = type(self._pipeline).__name__
            raise UsageError(f"{source} is a pipeline of kind {kind}, not pyannote's SpeechSeparation")
        self.backend = Backend("separate", f"pyannote:{source}", weights_hash(source), "")

    def __call__(self, audio: Float32) -> Float32:
        """[K, n] sources of ``audio`` [n] 16 kHz mono; K = 0 for silence or less than half a second."""
        import torch

        clean = np.nan_to_num(np.asarray(audio, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        if len(clean) < _SHORTEST or not clean.any():
            return np.zeros((0, len(clean)), np.float32)
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            # pyannote averages the voices of whom it hears alone, also where it hears nobody alone
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            _, sources = self._pipeline({"waveform": torch.from_numpy(clean)[None], "sample_rate": SAMPLE_RATE})
        if sources is None:
            return np.zeros((0, len(clean)), np.float32)
        found = np.nan_to_num(np.asarray(sources.data, np.float32)).T
        out = np.zeros((len(found), len(clean)), np.float32)
        length = min(found.shape[1], len(clean))  # the last chunk is padded
        out[:, :length] = found[:, :length]
        return out[out.any(axis=1)]


def person_tracks(
    mixture: Float32,
    sources: Float32,
    speaking_a: Float32,
    speaking_b: Float32,
    fps: float,
    options: SeparationOptions | None = None,
) -> PersonTracks:
    """Give each source to a, to b or to nobody, and put it back at its level in the mixture.

    Sources of one person are added. Their scale is the pipeline's own: it is fitted to the mixture by least squares.

    Args:
        mixture: [n] 16 kHz. sources: [K, n].
        speaking_a, speaking_b: [T] probability at ``fps`` frames a second from the mixture's start.
    """
    options = options or SeparationOptions()
    energy = float(np.sum(mixture.astype(np.float64) ** 2))
    if len(sources) == 0 or energy == 0.0:
        return PersonTracks(None, None, 1.0 if energy else 0.0)
    gains = np.linalg.lstsq(sources.T.astype(np.float64), mixture.astype(np.float64), rcond=None)[0]
    count = -(-sources.shape[1] // _STEP)
    padded = np.pad(sources, ((0, 0), (0, count * _STEP - sources.shape[1])))
    level = np.sqrt(np.mean(padded.reshape(len(sources), count, _STEP).astype(np.float64) ** 2, axis=2))
    frame = np.clip(((np.arange(count) + 0.5) * _STEP / SAMPLE_RATE * fps).astype(np.int64), 0, len(speaking_a) - 1)
    masks = [np.nan_to_num(mask.astype(np.float64))[frame] for mask in (speaking_a, speaking_b)]
    tracks: list[Float32 | None] = [None, None]
    for source, gain, loud in zip(sources, gains, level, strict=True):
        alike = [_correlation(loud, mask) for mask in masks]
        best = int(alike[1] > alike[0])
        if alike[best] < options.least_correlation:
            continue
        scaled = (gain * source).astype(np.float32)
        known = tracks[best]
        tracks[best] = scaled if known is None else known + scaled
    left = mixture.astype(np.float64) - sum((t.astype(np.float64) for t in tracks if t is not None), np.zeros(1))
    return PersonTracks(tracks[0], tracks[1], float(np.clip(np.sum(left**2) / energy, 0.0, 1.0)))


def _correlation(one: Float64, other: Float64) -> float:
    if one.std() < 1e-9 or other.std() < 1e-9:
        return float(other.std() < 1e-9 and other.mean() > 0.5)  # who speaks all the time owns what is always there
    return float(np.corrcoef(one, other)[0, 1])
