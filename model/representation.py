"""What the network sees of a head: named numbers per frame and person, local to the dyad, of unit variance.

Each person gets a *partner frame*: upright in the camera's sense, turned about the vertical so that a head of rotation
zero faces the partner where both stood at the anchor frame. Rotation and translation are written in it, so that they do
not depend on where the camera stood, and "looking at you" is near zero. The head's rotation, which may turn all the way
round, is six continuous numbers (Zhou et al. 2019, "On the continuity of rotation representations": the first two
columns of its matrix) less those of the anchor frame: how people sit is given, and would drown how they move; jaw and
neck turn little and stay axis-angle. Eyes are written as where they look, both optical axes in the partner frame, so
that meeting the partner's eyes is one place whatever the head does meanwhile; as joint angles it would be a sum of head
and eyes that has to come out right to a few degrees. Translation, too, is relative to the anchor frame, the first one
unless a window goes on from an earlier one (Talking Together, Shan et al., CVPR 2026, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..fitting.rotations import exp_so3, log_so3
from ..schemas.errors import UsageError
from .data import Batch

PARTS: tuple[tuple[str, int], ...] = (("jaw", 3), ("neck", 3), ("rotation", 6), ("eyes", 6), ("translation", 3))
LAYOUT_DIM = 13  # distance, height, camera [3], facing [6], whether facing is known, whether the layout is
STEADY = 1e-4  # a number that varies less than this is held at its mean
STILL = 0.05  # the least `Statistics.change`: what hardly moves must not outweigh everything
EYE_REACH = 1.05  # radians: no eye turns further in its head, whatever is predicted
_FLIP = (1.0, -1.0, -1.0)


def flip(like: Tensor) -> Tensor:
    """diag(1, -1, -1): model axes to those of a camera that the head faces."""
    return torch.diag(torch.tensor(_FLIP, dtype=like.dtype, device=like.device))


def part_slices(expression: int) -> dict[str, slice]:
    """Where each part lies in a frame's vector, expression first."""
    out, start = {"expression": slice(0, expression)}, expression
    for name, size in PARTS:
        out[name] = slice(start, start + size)
        start += size
    return out


def dim_names(expression: int) -> tuple[str, ...]:
    """A name for every number, such as "rotation.4"."""
    return tuple(f"{name}.{k}" for name, part in part_slices(expression).items() for k in range(part.stop - part.start))


def dim_count(expression: int) -> int:
    """D: numbers a frame and person."""
    return expression + sum(size for _, size in PARTS)


def to_six(rotation: Tensor) -> Tensor:
    """Matrix [..., 3, 3] to its first two columns, [..., 6]."""
    return rotation[..., :2].transpose(-1, -2).flatten(-2)


def from_six(six: Tensor) -> Tensor:
    """Any [..., 6] that is not degenerate to the rotation matrix of its Gram-Schmidt basis, [..., 3, 3]."""
    x = functional.normalize(six[..., :3], dim=-1)
    y = functional.normalize(six[..., 3:] - (x * six[..., 3:]).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def axes_of(eyes: Tensor, head: Tensor) -> Tensor:
    """Optical axes, unit, in the frame of ``head``.

    Args:
        eyes: [..., 2, 3] axis-angle in the head, zero looks along the model's +z; torsion is lost.
        head: [..., 3, 3] the head's rotation, zero facing a camera.
    """
    return torch.einsum("...ij,...ej->...ei", head @ flip(head), exp_so3(eyes)[..., 2])


def eyes_of(axes: Tensor, head: Tensor) -> Tensor:
    """The inverse of :func:`axes_of`: torsion-free axis-angle [..., 2, 3], at most :data:`EYE_REACH`, of [..., 2, 3]
    axes of any length."""
    local = functional.normalize(torch.einsum("...ji,...ej->...ei", head @ flip(head), axes), dim=-1)
    across = torch.stack([-local[..., 1], local[..., 0], torch.zeros_like(local[..., 0])], -1)  # z x axis
    sine = across.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, local[..., 2:3]).clamp_max(EYE_REACH)
    return across * (angle / sine.clamp_min(1e-12))


@dataclass(frozen=True)
class Scene:
    """Where both people stand at the anchor frame, camera frame; P = 2.

    Attributes:
        frame: [B, P, 3, 3] partner frames: rotation of an upright head that faces the partner.
        centre: [B, P, 3] head centres, metres. translation: [B, P, 3] root joints.
        facing: [B, P, 3, 3] head rotations at the anchor, in the partner frame.
        known: [B] bool: both were measured. facing_known: [B, P] bool.
    """

    frame: Tensor
    centre: Tensor
    translation: Tensor
    facing: Tensor
    known: Tensor
    facing_known: Tensor

    def layout(self) -> Tensor:
        """[B, P, LAYOUT_DIM] the condition: horizontal distance and height of the partner, the camera's place as seen
        from the head, the head's turn; zeros where unknown. Metres."""
        apart = self.centre.flip(1) - self.centre
        level = apart[..., [0, 2]].norm(dim=-1, keepdim=True)
        camera = torch.einsum("bpji,bpj->bpi", self.frame, -self.centre)
        seen = self.facing_known[..., None].to(apart.dtype)
        facing = to_six(self.facing) * seen
        known = self.known[:, None, None].to(apart.dtype).expand(-1, 2, 1)
        return torch.cat([level, -apart[..., 1:2], camera, facing, seen, torch.ones_like(seen)], -1) * known


def partner_frames(centre: Tensor) -> Tensor:
    """[B, 2, 3] head centres -> [B, 2, 3, 3]; people one above the other face the camera."""
    apart = centre.flip(-2) - centre
    x, z = apart[..., 0], apart[..., 2]
    yaw = torch.where(x * x + z * z > 1e-12, torch.atan2(-x, -z), torch.zeros_like(x))
    zero = torch.zeros_like(yaw)
    return exp_so3(torch.stack([zero, yaw, zero], -1))


def scene_of(batch: Batch, anchor: Tensor | None = None) -> Scene:
    """The scene at a batch's anchor frames.

    Args:
        anchor: [B] wished frames; the nearest at which both people are valid is taken (each person's own first valid
            frame where there is no common one, and the layout then counts as unknown). None: the first.
    """
    both = batch.valid.all(dim=1)  # [B, W]
    index = torch.arange(both.shape[1], device=both.device)
    wished = torch.zeros(len(both), device=both.device) if anchor is None else anchor
    far = (index[None] - wished[:, None]).abs().float()
    common = torch.where(both, far, torch.inf).argmin(dim=1)
    known = both.any(dim=1)
    own = batch.valid.float().argmax(dim=-1)  # [B, 2]
    at = torch.where(known[:, None], common[:, None], own)

    def pick(values: Tensor) -> Tensor:
        return torch.take_along_dim(values, at[..., None, None], dim=2).squeeze(2)

    centre = pick(batch.head_centre)
    frame = partner_frames(centre)
    frame = torch.where(known[:, None, None, None], frame, torch.eye(3, device=frame.device, dtype=frame.dtype))
    facing = frame.transpose(-1, -2) @ exp_so3(pick(batch.rotation))
    seen = known[:, None].expand(-1, 2)
    return Scene(frame, centre, pick(batch.translation), facing, known, seen)


@dataclass(frozen=True)
class Poses:
    """What of a batch :func:`encode` reads: camera-frame arrays [B, 2, W, ...] by name of the pair row."""

    expression: Tensor
    jaw: Tensor
    neck: Tensor
    rotation: Tensor
    eyes: Tensor
    translation: Tensor


def encode(batch: Batch | Poses, scene: Scene) -> Tensor:
    """[B, 2, W, D] raw numbers of a batch; where not valid they mean nothing."""
    turned = scene.frame.transpose(-1, -2)[:, :, None] @ exp_so3(batch.rotation)
    moved = torch.einsum("bpji,bpwj->bpwi", scene.frame, batch.translation - scene.translation[:, :, None])
    axes = axes_of(batch.eyes, turned).flatten(-2)
    since = to_six(turned) - to_six(scene.facing)[:, :, None]
    parts = [batch.expression, batch.jaw, batch.neck, since, axes, moved]
    return torch.cat(parts, -1)


def decode(raw: Tensor, scene: Scene) -> dict[str, Tensor]:
    """The inverse of :func:`encode`: camera-frame arrays [B, 2, W, ...] by name of the pair row."""
    where = part_slices(raw.shape[-1] - dim_count(0))
    turned = from_six(raw[..., where["rotation"]] + to_six(scene.facing)[:, :, None])
    moved = torch.einsum("bpij,bpwj->bpwi", scene.frame, raw[..., where["translation"]])
    return {
        "expression": raw[..., where["expression"]],
        "jaw": raw[..., where["jaw"]],
        "neck": raw[..., where["neck"]],
        "rotation": log_so3(scene.frame[:, :, None] @ turned),
        "eyes": eyes_of(raw[..., where["eyes"]].unflatten(-1, (2, 3)), turned),
        "translation": moved + scene.translation[:, :, None],
    }


def eye_directions(raw: Tensor) -> Tensor:
    """[..., D] raw numbers -> [..., 3] unit mean of both eyes' axes in the partner frame.

    Differentiable. The partner frame is a fixed rotation of the shared one, so cosines between two such directions of
    one person are those of the shared frame.
    """
    axes = raw[..., part_slices(raw.shape[-1] - dim_count(0))["eyes"]].unflatten(-1, (2, 3))
    return functional.normalize(functional.normalize(axes, dim=-1).sum(-2), dim=-1)


@dataclass(frozen=True)
class Statistics:
    """What normalises a data set's numbers; of one head model.

    Attributes:
        head_model_id: whose coefficients. expression: E. shape: S.
        mean, sd: [D]; numbers that never vary have sd 1 and ``varies`` False.
        change: [D] root mean square of the change from a frame to the next, in units of ``sd``, at least :data:`STILL`.
        varies: [D] bool.
        centre_offset: [3] metres, head centre minus root joint, model axes (mean over people).
        rotation_variance_80: 80th percentile over samples of the head rotation's variance (see :func:`sway`).
        samples: how many windows it was computed from.
    """

    head_model_id: str
    expression: int
    shape: int
    mean: Tensor
    sd: Tensor
    change: Tensor
    varies: Tensor
    centre_offset: Tensor
    rotation_variance_80: float
    samples: int

    @property
    def dims(self) -> int:
        """D."""
        return dim_count(self.expression)

    def to(self, device: torch.device | str) -> Statistics:
        """On another device."""
        return Statistics(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(self).items()})

    def normalise(self, raw: Tensor) -> Tensor:
        """[..., D] to zero mean and unit variance."""
        return (raw - self.mean) / self.sd * self.varies

    def restore(self, x: Tensor) -> Tensor:
        """The inverse; numbers that never vary are their mean."""
        return x * self.sd * self.varies + self.mean

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return dict(vars(self))

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Statistics:
        """From a checkpoint."""
        return cls(**state)


def sway(raw: Tensor, valid: Tensor) -> Tensor:
    """[..., W, D], [..., W] -> [...] variance of the head rotation: summed over its six numbers, of valid frames."""
    six = raw[..., part_slices(raw.shape[-1] - dim_count(0))["rotation"]]
    weight = valid[..., None].to(raw.dtype)
    count = weight.sum(-2).clamp_min(1)
    mean = (six * weight).sum(-2) / count
    return (((six - mean[..., None, :]) ** 2 * weight).sum(-2) / count).sum(-1)


def statistics_of(batches: Iterable[Batch], head_model_id: str) -> Statistics:
    """Statistics of the train split, one pass; anchors at the first frame, valid frames only.

    Raises:
        UsageError: no valid frame.
    """
    total = square = offset = moved = torch.zeros(0)
    frames = steps = samples = 0
    sways = []
    expression = shape = 0
    for batch in batches:
        scene = scene_of(batch)
        raw, valid = encode(batch, scene), batch.valid
        good = valid & scene.known[:, None, None]
        kept = raw[good].double()
        if not frames:
            expression, shape = batch.expression.shape[-1], batch.shape.shape[-1]
            total = square = moved = torch.zeros(raw.shape[-1], dtype=torch.float64)
            offset = torch.zeros(3, dtype=torch.float64)
        total, square, frames = total + kept.sum(0), square + (kept**2).sum(0), frames + len(kept)
        both = good[..., 1:] & good[..., :-1]
        moved, steps = moved + (raw.diff(dim=2)[both].double() ** 2).sum(0), steps + int(both.sum())
        inward = (exp_so3(batch.rotation) @ flip(raw)).transpose(-1, -2)
        away = torch.einsum("bpwij,bpwj->bpwi", inward, batch.head_centre - batch.translation)
        offset = offset + away[good].double().sum(0)
        sways.append(sway(raw, good)[good.any(-1)])
        samples += len(raw)
    if not frames:
        raise UsageError("the training split has no frame in which both people were measured")
    mean = total / frames
    sd = (square / frames - mean**2).clamp_min(0).sqrt()
    varies = sd > STEADY
    sd = torch.where(varies, sd, torch.ones_like(sd))
    return Statistics(
        head_model_id=head_model_id,
        expression=expression,
        shape=shape,
        mean=mean.float(),
        sd=sd.float(),
        change=((moved / max(steps, 1)).sqrt() / sd).clamp_min(STILL).float(),
        varies=varies,
        centre_offset=(offset / frames).float(),
        rotation_variance_80=float(torch.cat(sways).quantile(0.8)),
        samples=samples,
    )
