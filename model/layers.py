"""What both backbones are made of, and the options that say how."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..schemas.errors import UsageError


@dataclass(frozen=True)
class NetworkOptions:
    """Attributes:
    backbone: "unet" or "transformer".
    width: channels of the first level (of every token in a transformer). levels: of the U-Net, each halves the rate.
    blocks: residual blocks a level and way. layers: of the transformer.
    heads: of attention. condition: width of the condition. dropout: inside residual blocks.
    cross_attention: between the two people at the same frame.
    roles: role embeddings from the speaking masks.
    masks: the speaking masks themselves are seen.
    film: the condition modulates every block; without it only enters beside the input.
    audio: the mixed sound is heard. layout: the first-frame layout is known.
    """

    backbone: str = "unet"
    width: int = 256
    levels: int = 3
    blocks: int = 2
    layers: int = 8
    heads: int = 4
    condition: int = 256
    dropout: float = 0.0
    cross_attention: bool = True
    roles: bool = True
    masks: bool = True
    film: bool = True
    audio: bool = True
    layout: bool = True

    def __post_init__(self) -> None:
        if self.backbone not in ("unet", "transformer"):
            raise UsageError(f"network.backbone is {self.backbone!r}: unet or transformer")
        low = [n for n in ("width", "levels", "blocks", "layers", "heads", "condition") if getattr(self, n) < 1]
        if low:
            raise UsageError(f"network.{low[0]} must be positive")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"network.dropout is {self.dropout:g}; it must lie in 0..1, below 1")
        if self.condition % 2:
            raise UsageError(f"network.condition is {self.condition}; it must be even")
        if self.width % (2 * self.heads) or self.width % 8:
            raise UsageError(f"network.width is {self.width}; it must be a multiple of 8 and of twice the heads")

    @property
    def stride(self) -> int:
        """Windows are padded to a multiple of this."""
        return 2 ** (self.levels - 1) if self.backbone == "unet" else 1


def time_embedding(t: Tensor, width: int) -> Tensor:
    """[N] diffusion times in 0..1 to [N, width] sines and cosines."""
    rates = torch.exp(torch.arange(width // 2, device=t.device) * (-math.log(1e4) / max(width // 2 - 1, 1)))
    angles = 1000.0 * t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)


@dataclass(frozen=True)
class Told:
    """A condition as the backbone's layers take it: the same at every step of the sampler, and so computed once.

    Attributes:
        enter: [2 B, C, W] beside the input. films: [2 B, 2 C, W'] of each :class:`Film` in the order of use.
    """

    enter: Tensor
    films: tuple[Tensor, ...]


def enter_told(enter: nn.Conv1d, c: Tensor) -> Tensor:
    """What the last channels of ``enter``'s input, the condition, add to its output."""
    return functional.conv1d(c, enter.weight[:, -c.shape[1] :], enter.bias, padding=1)


def enter_noisy(enter: nn.Conv1d, x: Tensor) -> Tensor:
    """What its first channels, the noisy motion, add."""
    return functional.conv1d(x, enter.weight[:, : x.shape[1]], padding=1)


class Film(nn.Module):
    """h -> (gamma(c + t) + 1) h + beta(c + t), per frame, of condition c and diffusion time t; begins as the identity.

    Both are linear in c + t: :meth:`of` is the part of c.
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv1d(condition, 2 * channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def of(self, c: Tensor) -> Tensor:
        """[N, K, W] -> [N, 2 C, W]."""
        out: Tensor = self.project(c)
        return out

    def forward(self, h: Tensor, told: Tensor, when: Tensor) -> Tensor:
        """[N, C, W], [N, 2 C, W], [N, K] -> [N, C, W]."""
        timed = functional.linear(when, self.project.weight.squeeze(-1))
        gamma, beta = (told + timed[..., None]).chunk(2, 1)
        return (gamma + 1) * h + beta


class CrossPersonAttention(nn.Module):
    """Each person attends to the partner at the same frame, both ways at once (h'_A = Attn(Q_A, K_B, V_B)).

    With the partner's key alone a softmax over one key is always 1. The person's own frame is therefore a second key
    (of zero value): what the weights decide is how much of the partner to take in. Starts as the identity.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> Tensor:
        """[2 B, C, W], people of one sample adjacent -> the same."""
        q, k, v = (
            part.reshape(h.shape[0] // 2, 2, self.heads, -1, h.shape[-1]) for part in self.qkv(self.norm(h)).chunk(3, 1)
        )
        scale = q.shape[3] ** -0.5
        own = (q * k).sum(3, keepdim=True) * scale
        other = (q * k.flip(1)).sum(3, keepdim=True) * scale
        taken = torch.sigmoid(other - own) * v.flip(1)  # softmax over the two keys
        return h + self.out(taken.reshape(h.shape))
