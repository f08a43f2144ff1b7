"""All frames of a track in overlapping windows, identity held: windows join where both are far from their ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .compiled_model import CompiledModel
from .residuals import Observations, State
from .solver import LMOptions, solve
from .temporal import MotionPrior

_PER_FRAME = ("expression", "jaw", "rotation", "place", "velocity")


def solve_windows(
    model: CompiledModel,
    data: Observations,
    state: State,
    prior_of: Callable[[Observations, Tensor], MotionPrior],
    depth: Tensor,
    options: LMOptions,
    window: int,
    overlap: int,
) -> State:
    """Pose, expression and jaw of every frame from ``state``, whose identity is kept.

    Args:
        prior_of: the motion prior for frames at a typical ``depth`` [B].
        window, overlap: frames solved together and shared by neighbouring windows.
    """
    total = data.mask.shape[1]
    if total <= window:
        return solve(model, data, state, prior_of(data, depth), options).state
    starts = list(range(0, max(total - overlap, 1), window - overlap))
    pieces: dict[str, list[Tensor]] = {name: [] for name in _PER_FRAME}
    for number, start in enumerate(starts):
        end = min(start + window, total)
        rows = slice(start, end)
        part = Observations(data.points[:, rows], data.inv_sigma[:, rows], data.mask[:, rows], data.times[:, rows])
        sub = replace(state, **{name: getattr(state, name)[:, rows] for name in _PER_FRAME})
        solved = solve(model, part, sub, prior_of(part, depth), options).state
        low = 0 if number == 0 else overlap // 2
        high = end - start if number == len(starts) - 1 else end - start - (overlap - overlap // 2)
        for name, values in pieces.items():
            values.append(getattr(solved, name)[:, low:high])
    return replace(state, **{name: torch.cat(values, 1) for name, values in pieces.items()})
