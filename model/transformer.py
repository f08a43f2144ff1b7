"""The alternative backbone: a transformer over time for each person, joined at every frame as the U-Net is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layers import CrossPersonAttention, Film, NetworkOptions, Told, enter_noisy, enter_told


class DyadTransformer(nn.Module):
    """Pre-norm blocks: self-attention over time, cross-person attention, feed-forward; FiLM per frame in each."""

    def __init__(self, inside: int, outside: int, options: NetworkOptions) -> None:
        super().__init__()
        self.enter = nn.Conv1d(inside, options.width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(options) for _ in range(options.layers))
        self.norm = nn.GroupNorm(1, options.width)
        self.leave = nn.Conv1d(options.width, outside, 1)

    def told(self, beside: Tensor, c: Tensor) -> Told:
        """[2 B, K, W] what enters beside the input, and what modulates."""
        blocks = cast("Iterable[_Block]", self.blocks)
        return Told(
            enter_told(self.enter, beside), tuple(film.of(c) for block in blocks for film in (block.film1, block.film2))
        )

    def forward(self, x: Tensor, told: Told, when: Tensor) -> Tensor:
        """[2 B, D, W], [2 B, K] diffusion time -> [2 B, outside, W]; people of one sample are adjacent rows."""
        h = enter_noisy(self.enter, x) + told.enter
        for k, block in enumerate(self.blocks):
            h = block(h, told.films[2 * k], told.films[2 * k + 1], when)
        out: Tensor = self.leave(self.norm(h))
        return out


class _Block(nn.Module):
    def __init__(self, options: NetworkOptions) -> None:
        super().__init__()
        width = options.width
        self.heads = options.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.film1, self.film2 = Film(options.condition, width), Film(options.condition, width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.join = CrossPersonAttention(width, options.heads) if options.cross_attention else nn.Identity()
        self.wide = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(options.dropout), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor, told1: Tensor, told2: Tensor, when: Tensor) -> Tensor:
        x = self.film1(self.norm1(h.transpose(1, 2)).transpose(1, 2), told1, when).transpose(1, 2)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(rotary(q), rotary(k), v)
        h = h + self.mix(mixed.transpose(1, 2).flatten(-2)).transpose(1, 2)
        h = self.join(h)
        x = self.film2(self.norm2(h.transpose(1, 2)).transpose(1, 2), told2, when).transpose(1, 2)
        out: Tensor = h + self.wide(x).transpose(1, 2)
        return out


def rotary(x: Tensor) -> Tensor:
    """Relative positions by rotating pairs of channels (Su et al. 2021, RoFormer): [..., W, C], C even."""
    half = x.shape[-1] // 2
    rates = torch.exp(torch.arange(half, device=x.device, dtype=torch.float32) * (-math.log(1e4) / half))
    angle = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * rates
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
