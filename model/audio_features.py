"""Mixed sound to one feature vector a video frame: log-mel (default) or a pretrained encoder, then a trained part.

A *front end* has no trained weights, so that what it gives can be stored: :func:`cache_features` keeps one file a pair.
The log-mel front end stacks the four 10 ms spectra of a 25 fps frame; wav2vec 2.0 and HuBERT come from a local folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..schemas.audio import decode_audio
from ..schemas.dataset import Dataset
from ..schemas.errors import UsageError
from ..schemas.pair import SAMPLE_RATE
from .wav2vec import load_folder, normalise_audio

MELS, WINDOW_S = 80, 0.025
STACK = 4  # spectra a video frame


@dataclass(frozen=True)
class AudioOptions:
    """Attributes:
    encoder: "logmel", or the folder of a wav2vec 2.0 or HuBERT model in the published layout
        (``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``).
    cache: folder in which front-end features are kept, one file a pair; "" computes them for every batch.
    width: of the trained encoder. layers: residual convolutions in it.
    """

    encoder: str = "logmel"
    cache: str = ""
    width: int = 128
    layers: int = 3

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2 or self.layers < 0:
            raise UsageError("audio.width must be a positive even number, audio.layers not negative")


class LogMel(nn.Module):
    """Log-mel spectra, 80 bands to 7.6 kHz, 25 ms windows, four a video frame (every 10 ms at 25 fps), stacked."""

    dims = MELS * STACK
    digest = ""  # of no weights
    mel: Tensor
    window: Tensor

    def __init__(self, fps: float = 25.0) -> None:
        super().__init__()
        self.hop = SAMPLE_RATE / fps / STACK  # samples; not whole at every frame rate
        size = round(SAMPLE_RATE * WINDOW_S)
        self.size = 1 << (size - 1).bit_length()
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        self.register_buffer("mel", mel_bands(MELS, self.size, 40.0, 7600.0), persistent=False)
        self.width = size
        self.key = f"logmel-{MELS}-{STACK}-{self.hop:g}"

    def forward(self, audio: Tensor) -> Tensor:
        """[B, N] samples -> [B, whole video frames in N, 320]; 0 is about -40 dBFS."""
        frames = int(audio.shape[-1] / (self.hop * STACK) + 0.01)  # N itself is a rounded number
        audio = audio.float()[..., : round(frames * STACK * self.hop)]
        before = int(self.width - self.hop) // 2
        padded = functional.pad(audio, (before, self.width - before))
        starts = (torch.arange(frames * STACK, device=audio.device, dtype=torch.float64) * self.hop).round().long()
        pieces = padded.unfold(-1, self.width, 1)[..., starts, :]
        power = torch.fft.rfft(pieces * self.window, n=self.size).abs().square()
        spectra = ((power @ self.mel + 1e-6).log() - math.log(1e-2)) / 4.0
        return spectra.reshape(*audio.shape[:-1], frames, self.dims)


class Pretrained(nn.Module):
    """A frozen wav2vec 2.0 or HuBERT, resampled to the video's frames before its transformer."""

    def __init__(self, folder: str, fps: float = 25.0) -> None:
        super().__init__()
        self.model, self.digest = load_folder(folder)
        self.model.requires_grad_(False)
        self.dims = self.model.options.width
        self.samples = SAMPLE_RATE / fps
        self.key = f"{Path(folder).name}-{self.digest[:16]}-{fps:g}"

    def forward(self, audio: Tensor) -> Tensor:
        """[B, N] -> [B, frames, width]."""
        self.model.eval()
        with torch.no_grad():
            out: Tensor = self.model(normalise_audio(audio.float()), round(audio.shape[-1] / self.samples))
        return out


FrontEnd = LogMel | Pretrained


def front_end(options: AudioOptions, fps: float) -> FrontEnd:
    """The front end that the options name.

    Raises:
        UsageError: no such folder, or not such a model.
    """
    return LogMel(fps) if options.encoder == "logmel" else Pretrained(options.encoder, fps)


def mel_bands(count: int, size: int, low: float, high: float) -> Tensor:
    """[size / 2 + 1, count] triangles, equally wide in mel (2595 log10(1 + f / 700)), each of unit sum."""
    ends = [2595 * math.log10(1 + f / 700) for f in (low, high)]
    hertz = 700 * (10 ** (torch.linspace(ends[0], ends[1], count + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, SAMPLE_RATE / 2, size // 2 + 1, dtype=torch.float64)[:, None]
    rise = (bins - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    fall = (hertz[2:] - bins) / (hertz[2:] - hertz[1:-1])
    bands = torch.minimum(rise, fall).clamp_min(0)
    # Low bands may be narrower than a bin: the nearest bin then stands for them.
    empty = bands.sum(0) <= 0
    nearest = (bins - hertz[1:-1]).abs().argmin(0)
    bands[nearest[empty], torch.nonzero(empty).squeeze(1)] = 1.0
    return (bands / bands.sum(0)).float()


class AudioEncoder(nn.Module):
    """The trained part: a projection, then residual dilated convolutions over time."""

    def __init__(self, dims: int, options: AudioOptions) -> None:
        super().__init__()
        self.project = nn.Linear(dims, options.width)
        self.blocks = nn.ModuleList(_Residual(options.width, 2**k) for k in range(options.layers))

    def forward(self, features: Tensor) -> Tensor:
        """[B, W, F] -> [B, W, width]."""
        x = self.project(features).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return x.transpose(1, 2)


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.wide = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.out(functional.silu(self.wide(functional.silu(self.norm(x)))))
        return y


class FeatureCache:
    """Front-end features of whole clips on disk, float16, one ``.npy`` a pair.

    Args:
        folder: holds a subfolder for each front end, so that two never mix.
    """

    def __init__(self, folder: str | Path, key: str, dims: int) -> None:
        self.folder, self.dims = Path(folder) / key, dims

    def path(self, pair_id: str) -> Path:
        """Where a pair's features lie."""
        return self.folder / pair_id[:2] / f"{pair_id}.npy"

    def read(self, pair_ids: Sequence[str], starts: Sequence[int], window: int) -> Tensor:
        """[B, window, F] float32, zeros beyond a clip's end and for a clip without sound (silence is not zero).

        Raises:
            UsageError: a pair was not cached.
        """
        out = np.zeros((len(pair_ids), window, self.dims), np.float32)
        for index, (key, start) in enumerate(zip(pair_ids, starts, strict=True)):
            try:
                stored = np.load(self.path(key), mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UsageError(f"no cached audio features of pair {key} in {self.folder}") from error
            piece = stored[start : start + window]
            out[index, : len(piece)] = piece
        return torch.from_numpy(out)


def cache_features(
    dataset: Dataset, front: FrontEnd, folder: str | Path, *, ids: Sequence[str] | None = None,
    device: torch.device | str = "cpu", progress: Callable[[int], None] | None = None,
) -> FeatureCache:  # fmt: skip
    """Compute what is missing of a data set's features, clip by clip; a clip without sound gets zeros.

    Raises:
        UsageError: sound that does not decode, or a folder that cannot be written to.
    """
    cache = FeatureCache(folder, front.key, front.dims)
    wanted = set(dataset.ids(selected=False) if ids is None else ids)
    missing = {key for key in wanted if not cache.path(key).exists()}
    front = front.to(device)
    rows = dataset.rows(["audio", "n_frames", "fps"], missing) if missing else iter(())
    for done, row in enumerate(rows, 1):
        samples = round(row["n_frames"] * SAMPLE_RATE / row["fps"])
        sound = np.zeros(samples, np.float32)
        features = torch.zeros(row["n_frames"], front.dims)
        if row["audio"] is not None:
            try:
                heard = decode_audio(row["audio"]["bytes"])[:samples]
            except ValueError as error:
                raise UsageError(f"pair {row['pair_id']}: {error}") from error
            sound[: len(heard)] = heard
            with torch.inference_mode():
                features = front(torch.from_numpy(sound)[None].to(device))[0]
        path = cache.path(row["pair_id"])
        half = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(half, "wb") as stream:
                np.save(stream, features.half().cpu().numpy())
            os.replace(half, path)
        except OSError as error:
            raise UsageError(f"audio.cache: cannot write to {folder}: {error.strerror}") from error
        finally:
            if half.exists():
                half.unlink()
        if progress is not None:
            progress(done)
    return cache
