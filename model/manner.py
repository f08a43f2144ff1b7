"""How two people behave over a clip, in a few numbers: how much they look, how heads tilt, whether they come closer.

The first frame of a scene says where people are; a sentence may also say what happens later. In training these numbers
are read off the window itself, as :func:`..fitting.dyad.relate` defines them for a clip, and hidden at random, so that
any of them can be told or left to the network when sampling.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..fitting.rotations import exp_so3
from ..schemas.errors import UsageError
from .data import Batch
from .given import ENDS

# Scalars of the layout in the order of the columns, how each is scaled, and which column is the other person's.
MANNERS = ("look_a_share", "look_b_share", "mutual_share", "tilt_a_deg", "tilt_b_deg", "distance_change_m")
_MIDDLE, _UNIT = (0.5, 0.5, 0.25, 0.0, 0.0, 0.0), (0.25, 0.25, 0.25, 8.0, 8.0, 0.15)
_SWAPPED = (1, 0, 2, 4, 3, 5)
CHANGE = MANNERS.index("distance_change_m")
MANNER_DIM = 2 * len(MANNERS)
MOST = 2.5  # units: what is rarer is not worth telling apart
LOOKS_DEG = 14.0  # between those at which `fitting.gaze` lets a look begin and end
LEAST_FRAMES = 50  # 2 s: less of a window says little of how people behave


def manner_of(batch: Batch) -> Tensor:
    """[B, 6] of every window (:data:`MANNERS`; index 0 of the batch is a); NaN where too little was measured."""
    both = batch.valid.all(1)
    toward = batch.head_centre.flip(1) - batch.head_centre
    across = torch.linalg.cross(batch.gaze, toward, dim=-1).norm(dim=-1)
    angle = torch.rad2deg(torch.atan2(across, (batch.gaze * toward).sum(-1)))
    looks = torch.where(angle < LOOKS_DEG, 1.0, 0.0)
    seen = batch.gaze_valid & both[:, None]
    left = exp_so3(batch.rotation)[..., 0]
    tilt = torch.rad2deg(torch.atan2(left[..., 1], left[..., [0, 2]].norm(dim=-1)))
    tilt = torch.where(both[:, None], tilt, torch.nan).nanmedian(-1).values
    share = _mean(looks, seen)
    mutual = _mean(looks.prod(1), seen.all(1))
    count = both.cumsum(-1)
    distance = toward[:, 0].norm(dim=-1)
    late = both & (count > count[:, -1:] - ENDS)
    change = _mean(distance, late) - _mean(distance, both & (count <= ENDS))
    out = torch.stack([share[:, 0], share[:, 1], mutual, tilt[:, 0], tilt[:, 1], change], -1)
    enough = (both.sum(-1) >= LEAST_FRAMES) & ~batch.mouth_only
    few = (seen.sum(-1) < LEAST_FRAMES).any(-1)
    out = torch.where(enough[:, None], out, torch.nan)
    out[:, :3] = torch.where(few[:, None], torch.nan, out[:, :3])
    return out


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0.0).sum(-1) / known.sum(-1)


def hidden(manner: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """[B, 6] of which something is told in ``share`` of the samples, there each number in one half; NaN elsewhere."""
    samples = torch.rand(len(manner), 1, generator=draw) < share
    told = samples & (torch.rand(manner.shape, generator=draw) < 0.5)
    return torch.where(told.to(manner.device), manner, torch.nan)


def manner_from(layout: Mapping[str, float]) -> Tensor:
    """[1, 6] of layout scalars by name; NaN where one is not there.

    Raises:
        UsageError: a name that is none of :data:`MANNERS`.
    """
    unknown = sorted(set(layout) - set(MANNERS))
    if unknown:
        raise UsageError(f"{unknown[0]!r} cannot be told to a network; these can: {', '.join(MANNERS)}")
    return torch.tensor([[layout.get(name, torch.nan) for name in MANNERS]])


def tilts_of(manner: Tensor) -> Tensor:
    """[B, 2] radians of the heads of a and b; NaN where not told."""
    return torch.deg2rad(manner[:, [MANNERS.index("tilt_a_deg"), MANNERS.index("tilt_b_deg")]])


def manner_inputs(manner: Tensor) -> Tensor:
    """[B, 6] to what each person's network is told, [B, 2, MANNER_DIM]: one's own numbers, the partner's, which of them
    are known; zeros where they are not."""
    scaled = ((manner - manner.new_tensor(_MIDDLE)) / manner.new_tensor(_UNIT)).clamp(-MOST, MOST)
    each = torch.stack([scaled, scaled[:, list(_SWAPPED)]], 1)
    known = torch.isfinite(each)
    return torch.cat([torch.where(known, each, 0.0), known.to(each.dtype)], -1)
