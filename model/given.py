"""What of a motion is known before it is generated: where people begin, how they face, one person's whole motion."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from ..fitting.rotations import exp_so3
from ..schemas.heads import HeadTrack
from .representation import Poses, Scene, Statistics, encode, from_six, part_slices, to_six

HELD = 0.035  # radians: 2 degrees, so that a placement well inside the bin of a layout code stays there
NEAR = 0.02  # metres
ENDS = 12  # frames at either end whose distance counts, as `fitting.dyad` takes it
FADE = 25  # frames within which a given first place and turn pass into the network's own


@dataclass(frozen=True)
class Given:
    """What of the motion is known before it is generated.

    Attributes:
        values: [B, 2, D] normalised numbers at the first frame, NaN where free.
        facing: [B, 2, 6] of the anchor frame, to which rotations are relative.
        turn: [B, 2] radians about the vertical from the partner that a head's median lies within :data:`HELD` of; NaN
            where free. tilt: [B, 2] radians, likewise of the head's tilt (positive: toward the subject's left).
        change: [B] metres by which the distance between the two grows from beginning to end, within :data:`NEAR`; NaN
            where free. statistics: of the numbers.
        seen: [B, 2] bool: people whose whole motion is known. motion: [B, 2, T, D] normalised, theirs; None: nobody's.
    """

    values: Tensor
    facing: Tensor
    turn: Tensor
    tilt: Tensor
    change: Tensor
    statistics: Statistics
    seen: Tensor
    motion: Tensor | None = None

    def clean(self, x: Tensor) -> Tensor:
        """[B, 2, T, D] with the known people as they are."""
        return x if self.motion is None else torch.where(self.seen[..., None, None], self.motion, x)

    def seeing(self, seen: Tensor, motion: Tensor) -> Given:
        """The same with the motion of ``seen`` people known."""
        return replace(self, seen=seen, motion=motion)

    def lead(self, x: Tensor) -> Tensor:
        """[B, 2, T, D] moved so that it begins there, less and less within :data:`FADE` frames: nothing jumps; and
        turned so that it faces where it must, more and more within them.

        The known numbers of its own first frame are taken from the two after it, which lie less at the edge of what
        convolutions see.
        """
        if not bool((self.turn.isnan() & self.tilt.isnan()).all()):
            x = self._turned(x)
        if not bool(self.change.isnan().all()) and x.shape[2] > 4 * ENDS:
            x = self._moved(x)
        start = x[:, :, 0] if x.shape[2] < 3 else 2 * x[:, :, 1] - x[:, :, 2]
        start = torch.where(self.values.isnan(), x[:, :, 0], start)
        x = torch.cat([start[:, :, None], x[:, :, 1:]], dim=2)
        away = torch.where(self.values.isnan(), 0.0, self.values - start)
        return self.clean(x + away[:, :, None] * (1 - _ramp(x)))

    def _turned(self, x: Tensor) -> Tensor:
        where = part_slices(self.statistics.expression)["rotation"]
        raw = self.statistics.restore(x)
        anchor = self.facing[:, :, None]
        head = from_six(raw[..., where] + anchor)
        ramp = _ramp(x)[:, 0]
        yaw = torch.atan2(head[..., 0, 2], head[..., 2, 2])
        middle = torch.atan2(yaw.sin().median(-1).values, yaw.cos().median(-1).values)  # as layout codes take it
        head = exp_so3(_about(1, _wrong(self.turn, middle)[:, :, None] * ramp)) @ head
        left = head[..., 0]
        tilt = torch.atan2(left[..., 1], left[..., [0, 2]].norm(dim=-1)).median(-1).values
        head = head @ exp_so3(_about(2, _wrong(self.tilt, tilt)[:, :, None] * ramp))
        raw[..., where] = to_six(head) - anchor
        return self.statistics.normalise(raw)

    def _moved(self, x: Tensor) -> Tensor:
        """Both walk half of what is missing of the change. In a partner frame the partner lies along -z."""
        where = part_slices(self.statistics.expression)["translation"]
        raw = self.statistics.restore(x)
        away = raw[..., where.start + 2]
        grown = (away[:, :, -ENDS:].mean(-1) - away[:, :, :ENDS].mean(-1)).sum(-1)
        wrong = torch.where(self.change.isnan(), 0.0, self.change - grown)
        wrong = wrong.sign() * (wrong.abs() - NEAR).clamp_min(0)
        walk = torch.linspace(0, 1, x.shape[2] - 2 * ENDS, device=x.device)
        walk = torch.nn.functional.pad(walk * walk * (3 - 2 * walk), (ENDS, 0))
        walk = torch.nn.functional.pad(walk, (0, ENDS), value=1.0)
        raw[..., where.start + 2] = away + 0.5 * wrong[:, None, None] * walk
        return self.statistics.normalise(raw)

    def repeat(self, count: int) -> Given:
        """For ``count`` samples of each scene."""
        return Given(
            self.values.repeat(count, 1, 1),
            self.facing.repeat(count, 1, 1),
            self.turn.repeat(count, 1),
            self.tilt.repeat(count, 1),
            self.change.repeat(count),
            self.statistics,
            self.seen.repeat(count, 1),
            None if self.motion is None else self.motion.repeat(count, 1, 1, 1),
        )


def _wrong(wanted: Tensor, middle: Tensor) -> Tensor:
    """[B, 2] radians to turn by so that ``middle`` lies within :data:`HELD` of what is wanted; 0 where that is NaN."""
    away = torch.remainder(wanted - middle + torch.pi, 2 * torch.pi) - torch.pi
    return torch.where(wanted.isnan(), 0.0, away.sign() * (away.abs() - HELD).clamp_min(0))


def _about(axis: int, angle: Tensor) -> Tensor:
    """[...] radians to axis-angle [..., 3] about x, y or z."""
    return torch.stack([angle if k == axis else torch.zeros_like(angle) for k in range(3)], -1)


def _ramp(x: Tensor) -> Tensor:
    """[T, 1] from 0 at the first frame to 1 after :data:`FADE` frames, for x [B, 2, T, D]."""
    rise = 0.5 - 0.5 * torch.cos(torch.linspace(0, torch.pi, FADE, device=x.device))[: x.shape[2]]
    return torch.nn.functional.pad(rise, (0, x.shape[2] - len(rise)), value=1.0)[:, None]


def given(
    scene: Scene,
    statistics: Statistics,
    held: Tensor | None = None,
    tilt: Tensor | None = None,
    change: Tensor | None = None,
) -> Given:
    """What a scene fixes: people's places and, where known, which way their heads face; of those ``held`` [B, 2] bool
    throughout; how heads ``tilt`` [B, 2], radians, and by how much the distance is to ``change`` [B], metres; NaN where
    free."""
    where = part_slices(statistics.expression)
    raw = scene.centre.new_zeros((*scene.centre.shape[:2], statistics.dims))
    fixed = torch.zeros_like(raw, dtype=torch.bool)
    fixed[..., where["translation"]] = scene.known[:, None, None]
    fixed[..., where["rotation"]] = scene.facing_known[..., None]
    free = torch.full_like(scene.centre[..., 0], torch.nan)
    turn = torch.atan2(scene.facing[..., 0, 2], scene.facing[..., 2, 2])
    kept = free if held is None else torch.where(held & scene.facing_known, turn, free)
    values = torch.where(fixed, statistics.normalise(raw), torch.nan)
    tilted = free if tilt is None else tilt.to(free)
    changed = free[:, 0] if change is None else change.to(free)
    return Given(values, to_six(scene.facing), kept, tilted, changed, statistics, torch.zeros_like(scene.facing_known))


def motion_of(head: HeadTrack, who: int, scene: Scene, statistics: Statistics) -> Tensor:
    """[1, 2, T, D] normalised numbers of one measured person ``who``, 0 or 1 (the other's mean nothing).

    Args:
        head: without gaps (:func:`.gaps.bridged`). scene: of one pair; this person's place in it is that of one frame.
    """
    device = scene.centre.device
    away = np.linalg.norm(head.head_centre - scene.centre[0, who].cpu().numpy(), axis=-1)
    arrays = {f.name: torch.from_numpy(getattr(head, f.name)).float().to(device) for f in fields(Poses)}
    root = arrays["translation"][int(away.argmin())].expand(1, 2, 3)
    poses = Poses(**{name: value[None, None].expand(1, 2, *value.shape) for name, value in arrays.items()})
    return statistics.normalise(encode(poses, replace(scene, translation=root)))
