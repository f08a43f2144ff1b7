"""What a training run is looked at by: gaze and jaw of a sampled clip over time, beside the truth."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..schemas.errors import UsageError
from .data import Batch
from .network import DualStream
from .representation import Statistics, encode, eye_directions, part_slices, scene_of
from .sample import sample_motion
from .train_config import TrainConfig


def sample_figure(
    model: DualStream, statistics: Statistics, features: Tensor, batch: Batch, config: TrainConfig
) -> Any:
    """A matplotlib figure of the batch's first sample: two people, each the angle between gaze and the partner's place
    (0: looks there) and the jaw's opening; truth grey, sample coloured, speech shaded.

    Raises:
        UsageError: matplotlib is absent.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots of samples need matplotlib (pip install matplotlib), or log.sample_every: 0") from error
    scene = scene_of(batch)
    options = config.diffusion
    x, _ = sample_motion(
        model, features[:1], batch.speaking[:1], scene.layout()[:1], seed=0, steps=options.steps,
        guidance=options.guidance, clip=options.clip, window=config.load.window, overlap=0,
    )  # fmt: skip
    made, true = statistics.restore(x)[0].cpu(), encode(batch, scene)[0].cpu()
    valid, speaking = batch.valid[0].cpu(), batch.speaking[0].cpu()
    seconds = torch.arange(true.shape[1]) / config.load.fps
    jaw = part_slices(statistics.expression)["jaw"].start
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    for person, colour in enumerate(("tab:blue", "tab:orange")):
        seen = valid[person]
        for row, unit, of in (
            (0, "gaze off partner, deg", _off_partner),
            (1, "jaw, deg", partial(_jaw, jaw)),
        ):
            axis = axes[2 * person + row]
            wanted = torch.where(seen, of(true[person]), torch.nan)
            axis.plot(seconds, wanted, color="0.55", label="truth")
            axis.plot(seconds, of(made[person]), color=colour, label="sample")
            axis.fill_between(
                seconds, 0, 1, where=(speaking[person] >= 0.5).numpy(), transform=axis.get_xaxis_transform(),
                color="0.92", zorder=0,
            )  # fmt: skip
            axis.set_ylabel(f"{'ab'[person]}: {unit}", fontsize=8)
    axes[0].legend(loc="upper right", fontsize=8)
    axes[-1].set_xlabel("s")
    return figure


def _off_partner(raw: Tensor) -> Tensor:
    angle: Tensor = torch.acos((-eye_directions(raw)[:, 2]).clamp(-1, 1)).rad2deg()
    return angle


def _jaw(dim: int, raw: Tensor) -> Tensor:
    return raw[:, dim].rad2deg()
