"""What one training step asks of the network: a batch is diffused to random times, and the clean motion wanted back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .data import Batch
from .diffusion import add_noise
from .losses import MotionLoss, mask_loss
from .manner import hidden, manner_of
from .network import DualStream
from .representation import Statistics, encode, scene_of
from .train_config import TrainConfig

FIRST_T = 1e-3  # the smallest diffusion time trained at


class Objective(nn.Module):
    """One step's losses of a batch; what data-parallel training wraps."""

    def __init__(self, model: DualStream, loss: MotionLoss, statistics: Statistics, config: TrainConfig) -> None:
        super().__init__()
        self.model, self.loss, self.statistics, self.config = model, loss, statistics, config

    def forward(self, batch: Batch, features: Tensor, seed: int) -> dict[str, Tensor]:
        """Terms by name and ``loss``; random numbers from ``seed`` alone."""
        draw = torch.Generator().manual_seed(seed)
        size, frames = batch.valid.shape[0], batch.valid.shape[2]
        device = batch.valid.device
        continues = torch.rand(size, generator=draw) < self.config.load.continues
        wished = torch.where(continues, torch.randint(frames, (size,), generator=draw), torch.tensor(0))
        t = (FIRST_T + (1 - FIRST_T) * torch.rand(size, generator=draw)).to(device)
        silent = torch.rand(size, generator=draw) < self.config.diffusion.audio_dropout
        silent = silent.to(device) | ~batch.audio_valid
        seen = self._seen(size, draw).to(device)  # [B, 2] people whose clean motion is given
        manner = hidden(manner_of(batch), self.config.diffusion.manner_told, draw)
        own = torch.Generator(device).manual_seed(seed)
        noise = torch.randn((size, 2, frames, self.statistics.dims), generator=own, device=device)
        scene = scene_of(batch, wished.to(device))
        truth = self.statistics.normalise(encode(batch, scene))
        # What was not measured is noise to the network too: it cannot copy it, and is not scored on it.
        truth = torch.where(batch.valid[..., None], truth, torch.zeros_like(truth))
        times = torch.where(seen, 0.0, t[:, None])
        noisy, layout, begins = add_noise(truth, times, noise), scene.layout(), (~continues).float().to(device)
        # Only the network runs in half precision: rounded targets would jitter more than heads move.
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            heard = self.model.hear(features)
            condition = self.model.condition_on(heard, batch.speaking, layout, begins, silent, manner)
            predicted = self.model(noisy, times, condition)
        wanted = batch.valid & ~seen[..., None]
        terms = self.loss(predicted, truth, wanted, batch.gaze_valid, batch.speaking, batch.mouth_only)
        if self.config.losses.masks:
            inside = torch.arange(frames, device=device)[None] < batch.frames[:, None]
            terms["masks"] = mask_loss(
                self.model.mask_predictor(heard.float()), batch.speaking, inside & batch.audio_valid[:, None]
            )
            terms["loss"] = terms["loss"] + self.config.losses.masks * terms["masks"]
        return terms

    def _seen(self, size: int, draw: torch.Generator) -> Tensor:
        """[size, 2] bool: nobody, or one of both, in ``diffusion.partner_given`` of the samples."""
        chosen = torch.rand(size, generator=draw) < self.config.diffusion.partner_given
        first = torch.rand(size, generator=draw) < 0.5
        return chosen[:, None] & torch.stack([first, ~first], 1)
