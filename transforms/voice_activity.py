"""Where is speech: silero-vad probabilities every 32 ms, and speech regions from them."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import Bool, Float32

SAMPLE_RATE = 16000
FRAME_SAMPLES = 512
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE  # 32 ms
_CONTEXT, _FFT, _STATE = 64, 256, 128
_STRIDES = (1, 2, 2, 1)
_BLOCK = 1024  # frames in one pass, 33 s


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
    """silero-vad 6, with the weights of the installed wheel run by torch in large blocks.

    The network is the published one: a windowed Fourier transform as a matrix, four convolutions, one LSTM of 128 whose
    state goes from frame to frame. The wheel's own forms call it frame by frame or leave the convolutions of many short
    frames to onnxruntime, which takes twice the time.

    Raises:
        UsageError: the ``silero-vad`` package or its weights are not installed, or are of another network.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec("silero_vad")
        if spec is None or spec.origin is None:
            raise UsageError("voice activity needs the package silero-vad: pip install silero-vad")
        path = Path(spec.origin).parent / "data" / "silero_vad.jit"
        if not path.is_file():
            raise UsageError(f"the installed silero-vad has no {path.name}: version 6 is needed")
        with warnings.catch_warnings():  # torch deprecates the format the wheel ships
            warnings.simplefilter("ignore", DeprecationWarning)
            weights = torch.jit.load(str(path), map_location="cpu").state_dict()
        own = {k.removeprefix("_model."): v for k, v in weights.items() if k.startswith("_model.")}
        self._lstm = torch.nn.LSTM(_STATE, _STATE)
        try:
            self._basis = own["stft.forward_basis_buffer"][:, 0].T.contiguous()
            names = [f"encoder.{i}.reparam_conv" for i in range(len(_STRIDES))]
            self._encoder = [(own[f"{name}.weight"], own[f"{name}.bias"]) for name in names]
            rnn = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            self._lstm.load_state_dict({f"{name}_l0": own[f"decoder.rnn.{name}"] for name in rnn})
            self._head = own["decoder.decoder.2.weight"][0, :, 0], own["decoder.decoder.2.bias"]
        except (KeyError, RuntimeError) as error:
            raise UsageError(f"the installed silero-vad holds another network than version 6: {error}") from error
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
        count = -(-len(audio) // FRAME_SAMPLES)
        clean = torch.zeros(_CONTEXT + count * FRAME_SAMPLES)  # each frame is read with the end of the one before
        sound = np.nan_to_num(np.asarray(audio, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        clean[_CONTEXT : _CONTEXT + len(audio)] = torch.from_numpy(np.ascontiguousarray(sound))
        frames = clean.unfold(0, _CONTEXT + FRAME_SAMPLES, FRAME_SAMPLES)
        out, state = [], None
        with torch.inference_mode():
            for first in range(0, count, _BLOCK):
                speech, state = self._block(frames[first : first + _BLOCK], state)
                out.append(speech)
        return np.asarray(torch.cat(out).numpy(), np.float32)

    def _block(self, frames: Any, state: Any) -> tuple[Any, Any]:
        """Probabilities of frames [B, 576], and the state after them."""
        mirrored = torch.cat([frames, frames[:, -_CONTEXT - 1 : -1].flip(1)], 1)
        windows = mirrored.unfold(1, _FFT, _FFT // 2)  # [B, 4, 256]
        spectrum = windows.reshape(-1, _FFT) @ self._basis
        half = spectrum.shape[1] // 2
        size = (spectrum[:, :half].square() + spectrum[:, half:].square()).sqrt()
        seen = size.reshape(len(frames), -1, half).transpose(1, 2)
        for (weight, bias), stride in zip(self._encoder, _STRIDES, strict=True):
            seen = torch.relu(torch.nn.functional.conv1d(seen, weight, bias, stride=stride, padding=1))
        hidden, state = self._lstm(seen.reshape(len(frames), 1, _STATE), state)
        weight, bias = self._head
        return torch.sigmoid(torch.relu(hidden[:, 0]) @ weight + bias), state


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
