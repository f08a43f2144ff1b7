"""What is asked of a prediction: parameters by part, velocity, gaze, and lips on the mesh; then mouths alone.

Weights are Talking Together's (Shan et al., CVPR 2026): expression 1, rotations 8, translation 1, velocity 1, gaze 5.
Parameter terms are squared errors of the normalised numbers. Its velocity is of vertices: with a head mesh ours is of
them too where ``losses.lips`` is set, and always of all numbers, each in units of its own usual change, or of a
twentieth of its spread where that is more: a head's place changes by a hundredth of its spread from frame to frame, and
would be left to tremble if it were weighed by the spread. Frames that were not measured count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..fitting.head_model import JAW, HeadModel
from ..fitting.rotations import exp_so3
from .dyad_metrics import SPEAKS, lip_modes
from .mesh_metrics import regions
from .representation import Statistics, eye_directions, part_slices, sway

VERTEX_SD = 2e-3  # metres: what a vertex error is measured in, about the spread of a talking lip


@dataclass(frozen=True)
class LossOptions:
    """Attributes:
    expression (with the jaw), rotation (neck, head, eyes), translation, velocity, gaze: the paper's weights.
    lips: squared error of lip vertices in units of (2 mm)^2; only with a head mesh.
    high_rotation: factor on the gaze loss of the fifth of samples whose heads turn most. The paper weights them
        "more heavily" and does not say how much.
    masks: weight of the speaking-mask predictor; 0 leaves it out, and sampling then needs masks.
    """

    expression: float = 1.0
    rotation: float = 8.0
    translation: float = 1.0
    velocity: float = 1.0
    gaze: float = 5.0
    lips: float = 0.0
    high_rotation: float = 2.0
    masks: float = 0.5


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over where ``mask`` is set; ``values`` of its shape, or one axis more. Zero where nothing is."""
    if values.ndim > mask.ndim:
        values = values.mean(-1) if values.shape[-1] else values.sum(-1)
    weight = mask.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1)


def gaze_loss(predicted: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """1 - cos between mean eye directions, head and eyes composed, in the shared frame.

    Args:
        predicted, truth: [B, 2, W, D] raw numbers (:func:`.representation.eye_directions`).
        weight: [B, 2, W], 0 where the gaze is not known.
    """
    cosine = (eye_directions(predicted) * eye_directions(truth)).sum(-1)
    return ((1 - cosine) * weight).sum() / (weight > 0).sum().clamp_min(1)


class MouthMesh:
    """Lip vertices of a head model as a differentiable function of expression and jaw; identity left out."""

    def __init__(self, head: HeadModel, device: torch.device | str = "cpu") -> None:
        lips = regions(head).lips

        def tensor(value: object) -> Tensor:
            return torch.as_tensor(value, dtype=torch.float32, device=device)

        self.rest, self.modes = tensor(head.vertices[lips]), tensor(head.expression_dirs[lips])
        self.weight, self.joint = tensor(head.weights[lips, JAW, None]), tensor(head.joints[JAW])

    def __call__(self, expression: Tensor, jaw: Tensor) -> Tensor:
        """[..., E], [..., 3] -> [..., lips, 3] metres, by linear blend skinning of the jaw."""
        still = self.rest + torch.einsum("vck,...k->...vc", self.modes, expression)
        turned = torch.einsum("...ij,...vj->...vi", exp_so3(jaw), still - self.joint) + self.joint
        return still + self.weight * (turned - still)


def mouth_dims(expression: int, head: HeadModel | None) -> list[int]:
    """Which of the D numbers move the mouth: the jaw, and expression modes by name.

    In a head model of unnamed modes those that move the lips more than the upper face (summed squares).
    """
    jaw = part_slices(expression)["jaw"]
    modes: list[int] = []
    if head is not None:
        modes = lip_modes(head.expression_names)
        if not modes:
            parts = regions(head)
            at_lips, above = ((head.expression_dirs[v] ** 2).sum((0, 1)) for v in (parts.lips, parts.upper))
            modes = [int(k) for k in (at_lips > above).nonzero()[0]]
    return [*modes, *range(jaw.start, jaw.stop)]


class MotionLoss:
    """The training loss of one network.

    Args:
        statistics: on the device of the batches. mouth: see :func:`mouth_dims`. mesh: for the lip term.
    """

    def __init__(
        self, options: LossOptions, statistics: Statistics, mouth: list[int], mesh: MouthMesh | None = None
    ) -> None:
        self.options, self.statistics, self.mesh = options, statistics, mesh
        self.parts = part_slices(statistics.expression)
        groups = {
            "expression": ("expression", "jaw"),
            "rotation": ("neck", "rotation", "eyes"),
            "translation": ("translation",),
        }
        vary = statistics.varies.cpu()

        def moving(dims: Iterable[int]) -> Tensor:
            return torch.tensor([k for k in dims if vary[k]], dtype=torch.long, device=statistics.varies.device)

        self.all, self.mouth = moving(range(len(vary))), moving(mouth)
        self.groups = {
            term: moving(k for name in names for k in range(self.parts[name].start, self.parts[name].stop))
            for term, names in groups.items()
        }

    def __call__(
        self, predicted: Tensor, truth: Tensor, valid: Tensor, gaze_valid: Tensor, speaking: Tensor, mouth_only: Tensor
    ) -> dict[str, Tensor]:
        """Terms by name, unweighted, and their weighted ``loss``.

        Args:
            predicted, truth: [B, 2, W, D] normalised. valid, gaze_valid: [B, 2, W] bool.
            speaking: [B, 2, W]. mouth_only: [B] bool: of these samples only the speaker's mouth is learned, where it is
                and how it moves (the second stage of the paper); every other term leaves them out.
        """
        options, parts = self.options, self.parts
        full = valid & ~mouth_only[:, None, None]
        square = (predicted - truth) ** 2
        quick = ((predicted.diff(dim=2) - truth.diff(dim=2)) / self.statistics.change) ** 2
        both = full[:, :, 1:] & full[:, :, :-1]
        raw, true = self.statistics.restore(predicted), self.statistics.restore(truth)
        known = full & gaze_valid
        with torch.no_grad():
            turning = sway(true, full) > self.statistics.rotation_variance_80
            weight = known * torch.where(turning, options.high_rotation, 1.0)[..., None]
        spoken = valid & mouth_only[:, None, None] & (speaking >= SPEAKS)
        terms = {
            **{term: masked_mean(square[..., dims], full) for term, dims in self.groups.items()},
            "velocity": masked_mean(quick[..., self.all], both),
            "gaze": gaze_loss(raw, true, weight),
            "mouth": masked_mean(square[..., self.mouth], spoken)
            + options.velocity * masked_mean(quick[..., self.mouth], spoken[:, :, 1:] & spoken[:, :, :-1]),
        }
        weights = {name: getattr(options, name, 1.0) for name in terms}
        if self.mesh is not None:
            lips, wanted = (
                self.mesh(v[..., parts["expression"]], v[..., parts["jaw"]]) / VERTEX_SD for v in (raw, true)
            )
            terms["lips"] = masked_mean((lips - wanted).square().mean(-1), full)
            terms["velocity"] = (
                masked_mean((lips.diff(dim=2) - wanted.diff(dim=2)).square().mean(-1), both) + terms["velocity"]
            )
            weights["lips"] = options.lips
        terms["loss"] = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        return terms


def mask_loss(logits: Tensor, speaking: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of predicted speaking masks under the better order of the two people (Fujita et al. 2019).

    Args:
        logits: [B, 2, W]. speaking: [B, 2, W] probabilities. known: [B, W] bool.
    """
    weight = known[:, None].to(logits.dtype)
    orders = [
        (functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).sum((1, 2))
        for target in (speaking, speaking.flip(1))
    ]
    return torch.minimum(*orders).sum() / (2 * known.sum()).clamp_min(1)
