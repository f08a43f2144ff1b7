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


@dataclass(frozen=True)
class DiffusionOptions:
    """Attributes:
    audio_dropout: share of samples trained without sound, so that guidance has something to lean away from.
    partner_given: share of samples in which one person is seen as they are (time 0) and only the other is wanted back,
        so that a network can also answer a partner whose motion is known; 0 leaves it out.
    manner_told: share of samples that are told something of how people behave (:mod:`.manner`); 0 leaves it out.
    steps: of the sampler. guidance: weight of the sound, 1 is none. manner_guidance: of what is told of how people
        behave.
    clip: predictions are kept within so many standard deviations while sampling.
    """

    audio_dropout: float = 0.1
    partner_given: float = 0.2
    manner_told: float = 0.5
    steps: int = 6
    guidance: float = 2.5
    manner_guidance: float = 6.0
    clip: float = 10.0

    def __post_init__(self) -> None:
        for name in ("audio_dropout", "partner_given", "manner_told"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"diffusion.{name} is {getattr(self, name):g}; it must lie in 0..1")
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


def multistep(predict: Callable[[Tensor, float], Tensor], noise: Tensor, steps: int, clip: float) -> Tensor:
    """Deterministic sampling of second order (DPM-Solver++(2M), Lu et al. 2022), for clean-data predictions.

    Each step extrapolates the last two predictions in log signal-to-noise; the first step and the last, to time 0, are
    of first order (DDIM's). Times lie closer towards the clean end: evenly spaced, ten would leave out the last tenth,
    in which whatever varies by less than a sixth of its unit is decided.

    Args:
        predict: (x_t, t) -> clean data, shapes of ``noise``.
        noise: of unit variance.
        steps: evaluations of ``predict``.
    """
    times = 1 - torch.sin(torch.arange(steps, dtype=torch.float64) / steps * (math.pi / 2))
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
