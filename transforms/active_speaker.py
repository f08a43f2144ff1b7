"""Who speaks, by a learned network: Light-ASD on crops of the mouth and the sound around them.

The network of Liao et al., "A Light Weight Model for Active Speaker Detection" (CVPR 2023), with weights from a
path. Its scores can stand in for lip speed in binding and in the speaking masks; they need pixels, so the track pass
must keep the crops (``backends.speaker``).
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..schemas.errors import UsageError
from ..schemas.records import Backend
from ..schemas.tracks import Bool, FaceTrack, Float32, Float64
from .mouth_crop import UInt8

FPS = 25.0
SAMPLE_RATE = 16000
MFCC = 13
MFCC_PER_FRAME = 4

_PIXEL_MEAN, _PIXEL_SD = 0.4161, 0.1688
_EPS = 1e-3
_OVERLAP_S = 2.0


class _Block(nn.Module):
    """Two branches (kernels 3 and 5), each over space or frequency and then over time; their sum is mixed."""

    def __init__(self, inputs: int, outputs: int, video: bool, stride: int = 1) -> None:
        super().__init__()
        self.first = "s" if video else "m"
        for k in (3, 5):
            if video:
                over: nn.Module = nn.Conv3d(
                    inputs, outputs, (1, k, k), (1, stride, stride), (0, k // 2, k // 2), bias=False
                )
                time: nn.Module = nn.Conv3d(outputs, outputs, (k, 1, 1), padding=(k // 2, 0, 0), bias=False)
            else:
                over = nn.Conv2d(inputs, outputs, (k, 1), padding=(k // 2, 0), bias=False)
                time = nn.Conv2d(outputs, outputs, (1, k), padding=(0, k // 2), bias=False)
            self.add_module(f"{self.first}_{k}", over)
            self.add_module(f"bn_{self.first}_{k}", _norm(outputs, video))
            self.add_module(f"t_{k}", time)
            self.add_module(f"bn_t_{k}", _norm(outputs, video))
        self.last = nn.Conv3d(outputs, outputs, 1, bias=False) if video else nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_last = _norm(outputs, video)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = []
        for k in (3, 5):
            y = x
            for name in (f"{self.first}_{k}", f"t_{k}"):
                y = torch.relu(self.get_submodule(f"bn_{name}")(self.get_submodule(name)(y)))
            branches.append(y)
        return torch.relu(self.bn_last(self.last(branches[0] + branches[1])))


def _norm(channels: int, video: bool) -> nn.Module:
    return nn.BatchNorm3d(channels, eps=_EPS) if video else nn.BatchNorm2d(channels, eps=_EPS)


class _VisualEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = _Block(1, 32, True, stride=2)
        self.block2 = _Block(32, 64, True)
        self.block3 = _Block(64, 128, True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[1, 1, T, 112, 112] -> [T, 128]."""
        x = functional.max_pool3d(self.block1(x), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        x = functional.max_pool3d(self.block2(x), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        return self.block3(x).amax(dim=(3, 4))[0].T


class _AudioEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = _Block(1, 32, False)
        self.block2 = _Block(32, 64, False)
        self.block3 = _Block(64, 128, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[1, 1, 13, 4 T] -> [T, 128]."""
        x = functional.max_pool2d(self.block1(x), (1, 3), (1, 2), (0, 1))
        x = functional.max_pool2d(self.block2(x), (1, 3), (1, 2), (0, 1))
        return self.block3(x).mean(dim=2)[0].T


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru_forward = nn.GRU(128, 128, batch_first=True)
        self.gru_backward = nn.GRU(128, 128, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[T, 128] -> [T, 128]."""
        ahead = functional.gelu(self.gru_forward(x[None])[0])
        back = self.gru_backward(ahead.flip(1))[0].flip(1)
        return functional.gelu(back)[0]


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.FC = nn.Linear(128, 2)


class _Streams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.visualEncoder = _VisualEncoder()
        self.audioEncoder = _AudioEncoder()
        self.GRU = _Recurrent()


class LightAsd(nn.Module):
    """The network; tensor names are those of the published weights (``lossV`` is its training-time second head)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _Streams()
        self.lossAV = _Head()
        self.lossV = _Head()

    def embed_video(self, gray: torch.Tensor) -> torch.Tensor:
        """[T, 112, 112] grey values 0..255 -> [T, 128]."""
        pixels = (gray.float() / 255.0 - _PIXEL_MEAN) / _PIXEL_SD
        out: torch.Tensor = self.model.visualEncoder(pixels[None, None])
        return out

    def embed_audio(self, mfcc: torch.Tensor) -> torch.Tensor:
        """[4 T, 13] -> [T, 128]."""
        out: torch.Tensor = self.model.audioEncoder(mfcc.T[None, None])
        return out

    def fuse(self, audio: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
        """[T, 128] each -> [T, 128]."""
        out: torch.Tensor = self.model.GRU(audio + video)
        return out

    def forward(self, mfcc: torch.Tensor, gray: torch.Tensor) -> torch.Tensor:
        """[4 T, 13], [T, 112, 112] -> [T, 2] logits: silent, speaking."""
        out: torch.Tensor = self.lossAV.FC(self.fuse(self.embed_audio(mfcc), self.embed_video(gray)))
        return out


class ActiveSpeaker:
    """Light-ASD with weights from a file; one per worker process.

    Args:
        path: a checkpoint (``torch.save`` of its tensors), read weights-only and strictly.

    Raises:
        UsageError: no such file, or not these weights.
    """

    def __init__(self, path: str) -> None:
        file = Path(path)
        if not path or not file.is_file():
            raise UsageError(f"active speaker weights not found: {path or 'give backends.speaker_path'}")
        self.network = LightAsd()
        try:
            self.network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        except (RuntimeError, pickle.UnpicklingError, TypeError, AttributeError, EOFError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{path} does not hold Light-ASD's tensors: {reason}") from error
        self.network.eval()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.backend = Backend("bind", "light-asd", digest, "MIT (weights by their own licence)")

    def __call__(self, crops: UInt8, audio: Float32, window_s: float = 12.0) -> Float32:
        """Log odds that this face is speaking, in every frame.

        Args:
            crops: [T, 112, 112] grey crops (``mouth_crop.mouth_crop``) at 25 fps.
            audio: 16 kHz mono from the first frame's time on, -1..1; cut or filled with silence to T frames.
            window_s: longer input is read in windows that share 2 s, so that memory is bounded.

        Returns:
            [T]; positive: speaking.
        """
        frames = len(crops)
        if frames == 0:
            return np.zeros(0, np.float32)
        features = mfcc(audio, frames * MFCC_PER_FRAME)
        size, step = round(window_s * FPS), round((window_s - _OVERLAP_S) * FPS)
        total, weight = np.zeros(frames), np.zeros(frames)
        for first in range(0, max(frames - round(_OVERLAP_S * FPS), 1), step):
            last = min(first + size, frames)
            with torch.inference_mode():
                sound = torch.from_numpy(features[first * MFCC_PER_FRAME : last * MFCC_PER_FRAME])
                picture = torch.from_numpy(np.ascontiguousarray(crops[first:last]))
                logits = self.network(sound, picture).numpy().astype(np.float64)
            edge = np.minimum(np.arange(last - first), np.arange(last - first)[::-1]) + 1.0
            share = np.minimum(edge, round(_OVERLAP_S * FPS))
            total[first:last] += share * (logits[:, 1] - logits[:, 0])
            weight[first:last] += share
        return (total / weight).astype(np.float32)


def mfcc(audio: Float32, frames: int) -> Float32:
    """Cepstra as the network was trained on, 100 a second.

    Pre-emphasis 0.97; 25 ms windows without a taper, 10 ms apart; 26 mel filters over 512 points; orthonormal DCT,
    13 coefficients, sine lifter of 22; the first coefficient is the logarithm of the window's energy. Levels are
    those of 16-bit samples.

    Args:
        audio: [n] 16 kHz mono, -1..1.
        frames: number of windows to return; missing sound is silence.

    Returns:
        [frames, 13].
    """
    from scipy.fft import dct

    need = (frames - 1) * 160 + 400
    wave = np.zeros(max(need, 1))
    known = np.nan_to_num(np.asarray(audio, np.float64).reshape(-1), nan=0.0, posinf=0.0, neginf=0.0)[:need]
    wave[: len(known)] = known * 32768.0
    wave[1:] -= 0.97 * wave[:-1].copy()
    windows = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160][:frames]
    power = np.abs(np.fft.rfft(windows, 512)) ** 2 / 512
    tiny = np.finfo(np.float64).eps
    bands = np.log(np.maximum(power @ _mel_triangles().T, tiny))
    cepstra = dct(bands, type=2, axis=1, norm="ortho")[:, :MFCC]
    cepstra *= 1.0 + 11.0 * np.sin(np.pi * np.arange(MFCC) / 22.0)
    cepstra[:, 0] = np.log(np.maximum(power.sum(axis=1), tiny))
    return np.asarray(cepstra, np.float32)


def _mel_triangles(bands: int = 26, n_fft: int = 512) -> Float64:
    """[bands, 257] triangles between bins evenly spaced in mel (2595 log10(1 + f / 700))."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, bands + 2) / 2595.0) - 1.0)
    edges = np.floor((n_fft + 1) * hertz / SAMPLE_RATE)
    bins = np.arange(n_fft // 2 + 1)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.clip(np.minimum(rise, fall), 0.0, None))


def clip_scores(
    track: FaceTrack, times: Float64, audio: Float32, audio_start_s: float, clock_s: Float64, network: ActiveSpeaker
) -> Float32:
    """Log odds that the face of a track speaks at each time of a 25 fps clock.

    Args:
        track: with crops, at ``times`` [T]. The nearest crop stands for a time of the clock.
        audio: [n] 16 kHz mono from ``audio_start_s``; silence where there is none.
        clock_s: [N] times 1 / 25 s apart.

    Returns:
        [N]; 0 where no crop lies within 50 ms.

    Raises:
        ValueError: the track has no crops.
    """
    if track.crops is None:
        raise ValueError(f"track {track.track_id} has no crops: the track pass was not asked to keep them")
    if len(clock_s) == 0 or not track.valid.any():
        return np.zeros(len(clock_s), np.float32)
    known = np.flatnonzero(track.valid)
    after = np.clip(np.searchsorted(times[known], clock_s), 1, max(len(known) - 1, 1))
    before, later = known[after - 1], known[np.minimum(after, len(known) - 1)]
    nearest = np.where(clock_s - times[before] <= times[later] - clock_s, before, later)
    seen: Bool = np.abs(times[nearest] - clock_s) <= 0.05
    first = round((float(clock_s[0]) - audio_start_s) * SAMPLE_RATE)
    sound = np.asarray(audio, np.float32)
    sound = sound[first:] if first >= 0 else np.concatenate([np.zeros(-first, np.float32), sound])
    return np.where(seen, network(track.crops[nearest], sound), np.float32(0.0)).astype(np.float32)
