"""Who sounds like whom: d-vectors of short windows from the Resemblyzer weights.

The network is the speaker encoder of Wan et al., "Generalized End-to-End Loss for Speaker
Verification" (ICASSP 2018): three LSTM layers of 256 over 40 mel bands, the last state through a
linear layer, ReLU, unit length. The cost is the LSTM, so each run of 1.6 s is read more than once
on its way: early (sharp in time) and at its end (sharp in identity).
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import torch

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import Float32

MEL_BANDS = 40
MEL_HOP_S = 0.01
_HOP = 160
_FFT = 400
EMBEDDING = 256


def mel_filters(n_fft: int = _FFT, sample_rate: int = 16000, bands: int = MEL_BANDS) -> Float32:
    """Area-normalised triangular filters on Slaney's mel scale (linear below 1 kHz, logarithmic above).

    Returns:
        [n_fft // 2 + 1, bands].
    """
    step, log_step = 200.0 / 3, np.log(6.4) / 27

    def to_hz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15.0, mel * step, 1000.0 * np.exp(log_step * (np.maximum(mel, 15.0) - 15.0)))

    top = 15.0 + np.log(sample_rate / 2 / 1000.0) / log_step
    edges = to_hz(np.linspace(0.0, top, bands + 2))
    freqs = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    rise = (freqs[:, None] - edges[None, :-2]) / np.diff(edges)[:-1]
    fall = (edges[None, 2:] - freqs[:, None]) / np.diff(edges)[1:]
    weights = np.clip(np.minimum(rise, fall), 0, None) * (2.0 / (edges[2:] - edges[:-2]))
    return np.asarray(weights, np.float32)


class VoiceEmbedding:
    """Speaker embeddings of short windows; one per worker process, deterministic for a thread count and processor type.

    Args:
        bfloat16: run the LSTM in bfloat16, in half the time where the processor multiplies it; the embeddings then
            move by up to 0.005 (one less cosine). By default: where it does.

    Raises:
        UsageError: the ``Resemblyzer`` package (for its weights) is not installed.
    """

    def __init__(self, bfloat16: bool | None = None) -> None:
        spec = importlib.util.find_spec("resemblyzer")
        if spec is None or spec.origin is None:
            raise UsageError("speaker embeddings need the package Resemblyzer: pip install --no-deps Resemblyzer")
        path = Path(spec.origin).parent / "pretrained.pt"
        if not path.is_file():
            raise UsageError("the installed Resemblyzer has no pretrained.pt")
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        self._lstm = torch.nn.LSTM(MEL_BANDS, EMBEDDING, 3, batch_first=True)
        self._linear = torch.nn.Linear(EMBEDDING, EMBEDDING)
        for name, module in (("lstm", self._lstm), ("linear", self._linear)):
            own = {k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")}
            module.load_state_dict(own)
            module.eval()
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported() if bfloat16 is None else bfloat16
        self._type = torch.bfloat16 if fast else torch.float32
        self._lstm.to(self._type)
        self._filters = torch.from_numpy(mel_filters())
        self._window = torch.hann_window(_FFT)
        self.backend = Backend("listen", "resemblyzer", hashlib.sha256(path.read_bytes()).hexdigest(), "Apache-2.0")

    def mel(self, audio: Float32) -> torch.Tensor:
        """Mel power spectrogram (not logarithmic): [n // 160 + 1, 40], frame i centred on sample 160 i."""
        wave = torch.from_numpy(np.ascontiguousarray(audio, np.float32))
        padded = torch.nn.functional.pad(wave, (_FFT // 2, _FFT // 2))
        blocks = []
        with torch.inference_mode():
            for first in range(0, len(wave) // _HOP + 1, 6000):  # a minute at a time: bounded memory
                part = padded[first * _HOP : (first + 5999) * _HOP + _FFT]
                spectrum = torch.stft(part, _FFT, _HOP, window=self._window, center=False, return_complex=True)
                blocks.append((spectrum.real.square() + spectrum.imag.square()).T @ self._filters)
        return torch.cat(blocks)

    def __call__(self, mel: torch.Tensor, starts: np.ndarray, lengths: tuple[int, ...], batch: int = 64) -> Float32:
        """Embed windows that share a start in one run of the network.

        Args:
            mel: [F, 40] from :meth:`mel`, already scaled to a common level.
            starts: [W] first mel frame of each run.
            lengths: frames after which the run is read, rising.

        Returns:
            [W, len(lengths), 256], each of unit length.
        """
        out = np.zeros((len(starts), len(lengths), EMBEDDING), np.float32)
        longest = max(lengths)
        padded = torch.nn.functional.pad(mel, (0, 0, 0, longest)).to(self._type)
        offsets = torch.arange(longest)
        with torch.inference_mode():
            for i in range(0, len(starts), batch):
                index = torch.from_numpy(np.ascontiguousarray(starts[i : i + batch])).long()[:, None] + offsets
                states, _ = self._lstm(padded[index])
                read = torch.relu(self._linear(states[:, [n - 1 for n in lengths]].float()))
                out[i : i + batch] = torch.nn.functional.normalize(read, dim=-1).numpy()
        return out
