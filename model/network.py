"""Two people, one network: a temporal U-Net with shared weights, joined by attention between them at each frame.

Follows Talking Together (Shan et al., CVPR 2026): both noisy sequences run through the same 1-D convolutional U-Net;
its decoder lets each person attend to the other at the same frame; sound, roles, masks and layout enter beside the
input and through FiLM (Perez et al. 2018) in every block. Channel counts are not published; ours are options. Every
ingredient is a switch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .audio_features import AudioEncoder, AudioOptions
from .layers import CrossPersonAttention, Film, NetworkOptions, Told, enter_noisy, enter_told, time_embedding
from .manner import MANNER_DIM, MANNERS, manner_inputs
from .representation import LAYOUT_DIM
from .transformer import DyadTransformer


class ResidualBlock(nn.Module):
    """Two convolutions over time with FiLM between."""

    def __init__(self, inside: int, outside: int, options: NetworkOptions) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, inside), nn.SiLU(), nn.Conv1d(inside, outside, 3, padding=1))
        self.norm = nn.GroupNorm(8, outside)
        self.film = Film(options.condition, outside)
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(options.dropout), nn.Conv1d(outside, outside, 3, padding=1))
        self.skip = nn.Conv1d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, h: Tensor, told: Tensor, when: Tensor) -> Tensor:
        y: Tensor = self.skip(h) + self.second(self.film(self.norm(self.first(h)), told, when))
        return y


class UNet(nn.Module):
    """One person's sequence through the levels; both people are rows of one batch."""

    def __init__(self, inside: int, outside: int, options: NetworkOptions) -> None:
        super().__init__()
        widths = [options.width * min(2**level, 2) for level in range(options.levels)]
        self.enter = nn.Conv1d(inside, widths[0], 3, padding=1)
        self.down, self.up, self.join = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = widths[0]
        for width in widths:
            blocks = nn.ModuleList()
            for _ in range(options.blocks):
                blocks.append(ResidualBlock(channels, width, options))
                channels = width
            self.down.append(blocks)
        self.middle = ResidualBlock(channels, channels, options)
        for width in reversed(widths):
            blocks = nn.ModuleList()
            for _ in range(options.blocks):
                blocks.append(ResidualBlock(channels + (width if len(blocks) == 0 else 0), width, options))
                channels = width
            self.up.append(blocks)
            wanted = options.cross_attention
            self.join.append(CrossPersonAttention(width, options.heads) if wanted else nn.Identity())
        self.leave = nn.Sequential(nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv1d(channels, outside, 3, padding=1))

    def _blocks(self) -> Iterator[tuple[int, ResidualBlock]]:
        """Level and block in the order of use."""
        for level, blocks in enumerate(self.down):
            yield from ((level, block) for block in cast(nn.ModuleList, blocks))
        yield len(self.down) - 1, self.middle
        for turn, blocks in enumerate(self.up):
            yield from ((len(self.down) - 1 - turn, block) for block in cast(nn.ModuleList, blocks))

    def told(self, beside: Tensor, c: Tensor) -> Told:
        """[2 B, K, W] what enters beside the input, and what modulates; W a multiple of the stride."""
        levels = [c]
        for _ in self.down[1:]:
            levels.append(functional.avg_pool1d(levels[-1], 2))
        films = tuple(block.film.of(levels[level]) for level, block in self._blocks())
        return Told(enter_told(self.enter, beside), films)

    def forward(self, x: Tensor, told: Told, when: Tensor) -> Tensor:
        """[2 B, D, W], [2 B, K] diffusion time -> [2 B, outside, W]."""
        h = enter_noisy(self.enter, x) + told.enter
        films = iter(told.films)
        skips = []
        for level, blocks in enumerate(self.down):
            if level:
                h = functional.avg_pool1d(h, 2)
            for block in blocks:
                h = block(h, next(films), when)
            skips.append(h)
        h = self.middle(h, next(films), when)
        for turn, (blocks, join) in enumerate(zip(self.up, self.join, strict=True)):
            if turn:
                h = functional.interpolate(h, scale_factor=2.0, mode="nearest")
            h = torch.cat([h, skips.pop()], 1)
            for block in blocks:
                h = block(h, next(films), when)
            h = join(h)
        out: Tensor = self.leave(h)
        return out


class MaskPredictor(nn.Module):
    """Who speaks when, from the mixed sound alone: a two-speaker diarizer (EEND, Fujita et al. 2019).

    Which output is which person is arbitrary; training takes the better permutation of each sample.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recurrent = nn.GRU(width, width // 2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(width, 2)

    def forward(self, heard: Tensor) -> Tensor:
        """[B, W, width] encoded sound -> [B, 2, W] logits."""
        logits: Tensor = self.out(self.recurrent(heard)[0])
        return logits.transpose(1, 2)


class DualStream(nn.Module):
    """The denoiser: noisy motion of both people and the condition to clean motion.

    Args:
        dims: D, numbers a frame and person. features: of the audio front end.
    """

    def __init__(self, dims: int, features: int, options: NetworkOptions, audio: AudioOptions) -> None:
        super().__init__()
        self.options, self.dims = options, dims
        self.audio_encoder = AudioEncoder(features, audio)
        self.no_sound = nn.Parameter(torch.zeros(audio.width))
        self.mask_predictor = MaskPredictor(audio.width)
        self.role = nn.Parameter(torch.randn(2, audio.width) * 0.1)  # speaks, listens
        self.layout = nn.Sequential(
            nn.Linear(LAYOUT_DIM + 1 + MANNER_DIM, audio.width), nn.SiLU(), nn.Linear(audio.width, audio.width)
        )
        seen = 4 * audio.width + 2
        self.condition = nn.Conv1d(seen, options.condition, 1)
        self.time = nn.Sequential(
            nn.Linear(options.condition, options.condition), nn.SiLU(), nn.Linear(options.condition, options.condition)
        )
        self.backbone: nn.Module
        if options.backbone == "unet":
            self.backbone = UNet(dims + options.condition, dims, options)
        else:
            self.backbone = DyadTransformer(dims + options.condition, dims, options)

    def hear(self, features: Tensor) -> Tensor:
        """[B, W, F] front-end features -> [B, W, A] encoded sound; zero where the network has no ears."""
        heard: Tensor = self.audio_encoder(features)
        return heard if self.options.audio else heard * 0.0

    def condition_on(
        self,
        heard: Tensor,
        speaking: Tensor,
        layout: Tensor,
        begins: Tensor,
        silent: Tensor | None = None,
        manner: Tensor | None = None,
    ) -> Tensor:
        """What every frame and person is told, before the diffusion time.

        Args:
            heard: [B, W, A] from :meth:`hear`. speaking: [B, 2, W] probabilities.
            layout: [B, 2, L] (:meth:`.representation.Scene.layout`).
            begins: [B] 1 where the first frame is the layout's, 0 where the window goes on from earlier.
            silent: [B] bool, samples whose sound is hidden.
            manner: [B, 6] how they behave (:mod:`.manner`), NaN where not told; None tells nothing.

        Returns:
            [B, 2, K, W].
        """
        batch, frames, _ = heard.shape
        if silent is not None:
            heard = torch.where(silent[:, None, None], self.no_sound.to(heard.dtype), heard)
        mask = speaking.to(heard.dtype)
        role = mask[..., None] * self.role[0] + (1 - mask[..., None]) * self.role[1]
        role = role if self.options.roles else role * 0.0
        mask = mask if self.options.masks else mask * 0.0
        place = layout.to(heard.dtype) if self.options.layout else layout.to(heard.dtype) * 0.0
        start = begins.to(heard.dtype)[:, None, None].expand(-1, 2, 1)
        manner = layout.new_full((batch, len(MANNERS)), torch.nan) if manner is None else manner
        behave = manner_inputs(manner).to(heard.dtype)
        placed = self.layout(torch.cat([place, start, behave], -1))[:, :, None].expand(-1, -1, frames, -1)
        told = torch.cat(
            [
                heard[:, None].expand(-1, 2, -1, -1),
                role,
                role.flip(1),
                placed,
                mask[..., None],
                mask.flip(1)[..., None],
            ],
            -1,
        )
        out: Tensor = self.condition(told.flatten(0, 1).transpose(1, 2))
        return out.unflatten(0, (batch, 2))

    def told(self, condition: Tensor) -> Told:
        """[B, 2, K, W] of :meth:`condition_on` as the layers take it."""
        c = condition.flatten(0, 1)
        extra = -c.shape[-1] % self.options.stride
        if extra:
            c = functional.pad(c, (0, extra), mode="replicate")
        # Without FiLM only the diffusion time modulates: it still has to reach every block.
        out: Told = self.backbone.told(c, c if self.options.film else torch.zeros_like(c))
        return out

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | Told) -> Tensor:
        """Clean motion.

        Args:
            x: [B, 2, W, D] noisy. t: [B] times in 0..1, or [B, 2] of each person; 0 is a person as they are.
            condition: [B, 2, K, W], or :meth:`told` of it.

        Returns:
            [B, 2, W, D].
        """
        told = condition if isinstance(condition, Told) else self.told(condition)
        batch, people, frames, _ = x.shape
        kind = told.enter.dtype
        each = (t if t.ndim == 2 else t[:, None].expand(-1, people)).flatten()
        when = self.time(time_embedding(each, self.options.condition).to(kind))
        h = x.flatten(0, 1).transpose(1, 2).to(kind)
        extra = told.enter.shape[-1] - frames
        if extra:
            h = functional.pad(h, (0, extra), mode="replicate")
        out = self.backbone(h, told, when)[..., :frames]
        return out.transpose(1, 2).unflatten(0, (batch, people)).float()
