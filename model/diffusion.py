"""Denoising diffusion that predicts clean data: cosine schedule, guidance, a deterministic sampler of few steps.

Ho et al. 2020 (DDPM); Nichol & Dhariwal 2021 (cosine schedule); Ho & Salimans 2022 (classifier-free guidance); Lu et
al. 2022 (DPM-Solver++). Time is continuous in 0..1: 0 is clean, 1 is noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..schemas.errors import UsageError

LAST = 0.02  # the sampler's last diffusion time
SLOW = 100  # frames: motion slower than this is where people rest, not what they do


@dataclass(frozen=True)
class DiffusionOptions:
    """Attributes:
    audio_dropout: share of samples trained without sound, so that guidance has something to lean away from.
    partner_given: share of samples in which one person is seen as they are (time 0) and only the other is wanted back,
        so that a network can also answer a partner whose motion is known; 0 leaves it out.
    manner_told: share of samples that are told something of how people behave (:mod:`.manner`); 0 leaves it out.
    steps: of the sampler. guidance: weight of the sound, 1 is none. manner_guidance: of what is told of how people
        behave.
    slow_noise: deviation of the slow part of the noise that a sample begins from (:func:`calmed`), 1 is all of it.
        Smaller, people rest nearer to where they are likeliest to and samples differ less; what is quick stays.
    clip: predictions are kept within so many standard deviations while sampling.
    """

    audio_dropout: float = 0.1
    partner_given: float = 0.2
    manner_told: float = 0.5
    steps: int = 6
    guidance: float = 2.5
    manner_guidance: float = 11.0
    slow_noise: float = 0.5
    clip: float = 10.0

    def __post_init__(self) -> None:
        for name in ("audio_dropout", "partner_given", "manner_told"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"diffusion.{name} is {getattr(self, name):g}; it must lie in 0..1")
        if not 0 <= self.slow_noise <= 1:
            raise UsageError(f"diffusion.slow_noise is {self.slow_noise:g}; it must lie in 0..1")
        if self.steps < 1:
            raise UsageError(f"diffusion.steps is {self.steps}; it must be positive")


def signal_and_noise(t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar), sqrt(1 - alpha_bar) at times in 0..1 (Nichol & Dhariwal, eq. 17, s = 0.008)."""
    s = 0.008
    angle = (t + s) / (1 + s) * (math.pi / 2)
    signal = (angle.cos() / math.cos(s / (1 + s) * math.pi / 2)).clamp(1e-4, 1.0)
    return signal, (1 - signal**2).clamp_min(0).sqrt()


def add_noise(x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Diffuse [B, ...] to times [B], or [B, P, ...] to times [B, P]."""
    signal, spread = (v.view(*t.shape, *[1] * (x.ndim - t.ndim)) for v in signal_and_noise(t))
    return signal * x + spread * noise


def sampler_times(steps: int) -> Tensor:
    """[steps] diffusion times from 1 to :data:`LAST`, close together at both ends.

    Rare events (blinks) are decided near noise, and a sampler that hurries there draws their mean; whatever varies by
    little is decided near the clean end.
    """
    ahead = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
    return LAST + (1 - LAST) * (1 + (ahead * math.pi).cos()) / 2


def calmed(noise: Tensor, share: float) -> Tensor:
    """White noise [B, P, T, D] with its slow part, waves over time longer than :data:`SLOW` frames, times ``share``."""
    frames = noise.shape[2]
    both = torch.cat([noise, noise.flip(2)], 2)  # mirrored, so that the ends need not meet: the cosines of a DCT
    waves = torch.fft.rfft(both, dim=2)
    slow = torch.arange(waves.shape[2]) * SLOW <= 2 * frames
    waves = torch.where(slow[:, None], waves * share, waves)
    return torch.fft.irfft(waves, n=2 * frames, dim=2)[:, :, :frames]


def multistep(predict: Callable[[Tensor, float], Tensor], noise: Tensor, steps: int, clip: float) -> Tensor:
    """Deterministic sampling of second order (DPM-Solver++(2M), Lu et al. 2022), for clean-data predictions.

    Each step extrapolates the last two predictions in log signal-to-noise; the first step and the last, to time 0, are
    of first order (DDIM's). Times are :func:`sampler_times`.

    Args:
        predict: (x_t, t) -> clean data, shapes of ``noise``.
        noise: of unit variance.
        steps: evaluations of ``predict``.
    """
    times = sampler_times(steps)
    signal, spread = (values.tolist() for values in signal_and_noise(times))
    x, before, width = noise, noise, 0.0
    for k in range(steps):
        clean = predict(x, float(times[k])).clamp(-clip, clip)
        if k + 1 == steps:
            return clean
        now = math.log(signal[k + 1] / spread[k + 1]) - math.log(signal[k] / spread[k])
        ahead = clean if k == 0 else clean + (clean - before) * (0.5 * now / width)
        x = spread[k + 1] / spread[k] * x - signal[k + 1] * math.expm1(-now) * ahead
        before, width = clean, now
    raise AssertionError("no step")
