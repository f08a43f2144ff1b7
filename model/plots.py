"""What a training run is looked at by: gaze and lips of a sampled clip over time, and its heads, beside the truth."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..fitting.head_model import HeadModel, rotation_matrix
from .data import Batch
from .dyad_metrics import FLIP
from .given import given
from .losses import MouthMesh
from .mesh_metrics import inner_lips, regions
from .network import DualStream
from .representation import Scene, Statistics, decode, dim_count, encode, eye_directions, part_slices, scene_of
from .sample import sample_motion
from .train_config import TrainConfig

Array = npt.NDArray[np.float64]


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained")


def sample_of(model: DualStream, statistics: Statistics, features: Tensor, batch: Batch, config: TrainConfig) -> Tensor:
    """[2, W, D] raw numbers of one sample for the batch's first pair, always from the same noise."""
    scene = scene_of(batch)
    options = config.diffusion
    x, _ = sample_motion(
        model, features[:1], batch.speaking[:1], scene.layout()[:1], seed=0, steps=options.steps,
        guidance=options.guidance, slow_noise=options.slow_noise, clip=options.clip, window=config.load.window,
        overlap=0, known=given(_first(scene), statistics),
    )  # fmt: skip
    return statistics.restore(x)[0].cpu()


def sample_figure(made: Tensor, batch: Batch, config: TrainConfig, head: HeadModel | None = None) -> Any:
    """A matplotlib figure of a sample: two people, each the angle between gaze and the partner's place (0: looks there)
    and how far the lips are apart; truth grey, sample coloured, speech shaded.

    Args:
        made: :func:`sample_of` the batch's first pair.
        head: the data set's head model; without it the jaw's opening stands for the lips.
    """
    figure = _figure((10, 7))
    true = encode(batch, scene_of(batch))[0].cpu()
    valid, speaking = batch.valid[0].cpu(), batch.speaking[0].cpu()
    seconds = torch.arange(true.shape[1]) / config.load.fps
    axes = figure.subplots(4, 1, sharex=True)
    mouth = (
        ("lips apart\nmm", partial(_lips, head, MouthMesh(head)))
        if head is not None
        else ("jaw open\ndeg", partial(_jaw, part_slices(batch.expression.shape[-1])["jaw"].start))
    )
    for person, colour in enumerate(("tab:blue", "tab:orange")):
        seen = valid[person]
        for row, unit, of in (
            (0, "gaze off partner\ndeg", _off_partner),
            (1, *mouth),
        ):
            axis = axes[2 * person + row]
            wanted = torch.where(seen, of(true[person]), torch.nan)
            axis.plot(seconds, wanted, color="0.55", label="truth")
            axis.plot(seconds, of(made[person]), color=colour, label="sample")
            axis.fill_between(
                seconds, 0, 1, where=(speaking[person] >= 0.5).numpy(), transform=axis.get_xaxis_transform(),
                color="0.92", zorder=0,
            )  # fmt: skip
            axis.set_ylabel(f"{'ab'[person]}: {unit}", fontsize=9)
        axes[2 * person].lines[1].set_label(f"sample, {'ab'[person]}")
    figure.suptitle(f"Validation pair {batch.pair_ids[0]}: where they look, how mouths open", fontsize=10)
    lines = [*axes[0].lines, axes[2].lines[1], *axes[0].collections]
    names = [*(str(line.get_label()) for line in lines[:3]), "speaks"]
    figure.legend(lines, names, loc="outside lower center", ncols=4, fontsize=9)
    axes[-1].set_xlabel("s")
    return figure


def _off_partner(raw: Tensor) -> Tensor:
    angle: Tensor = torch.acos((-eye_directions(raw)[:, 2]).clamp(-1, 1)).rad2deg()
    return angle


def _jaw(dim: int, raw: Tensor) -> Tensor:
    return raw[:, dim].rad2deg()


def _lips(head: HeadModel, mesh: MouthMesh, raw: Tensor) -> Tensor:
    """[W] millimetres between the middles of the inner lips."""
    parts = part_slices(raw.shape[-1] - dim_count(0))
    upper, lower = np.searchsorted(regions(head).lips, inner_lips(head))
    points = mesh(raw[:, parts["expression"]], raw[:, parts["jaw"]])
    return 1e3 * (points[:, upper] - points[:, lower]).norm(dim=-1)


def heads_figure(made: Tensor, batch: Batch, head: HeadModel, fps: float, moments: int = 6) -> Any:
    """Both heads of a sample as the camera sees them, shaded, at evenly spaced moments; each one's truth below it.

    Args:
        made: :func:`sample_of` the batch's first pair. head: the data set's head model.
    """
    figure = _figure((1.7 * moments, 6.8))
    from matplotlib.collections import PolyCollection

    axes = figure.subplots(4, moments, squeeze=False)
    scene = scene_of(batch)
    first = _first(scene, "cpu")
    shape = batch.shape[0].cpu().numpy()
    frames = np.linspace(0, int(batch.frames[0]) - 1, moments).round().astype(int)
    figure.suptitle(f"Validation pair {batch.pair_ids[0]}: heads as the camera sees them", fontsize=10)
    for row, (name, raw) in enumerate((("sample", made), ("truth", encode(batch, scene)[0].cpu()))):
        posed = {key: value[0].numpy().astype(np.float64) for key, value in decode(raw[None], first).items()}
        for who in (0, 1):
            for axis, frame in zip(axes[2 * who + row], frames, strict=True):
                axis.set_axis_off()
                axis.set_aspect("equal")
                axis.set_title(f"{'ab'[who]}, {name}, {frame / fps:.1f} s", fontsize=8)
                if name == "truth" and not bool(batch.valid[0, who, frame]):
                    continue
                outline, light = _seen(head, shape[who], {key: value[who, frame] for key, value in posed.items()})
                # Edges in the colours of their faces: smoothed outlines would leave light seams.
                axis.add_collection(PolyCollection(list(outline), facecolors=light, edgecolors="face", linewidths=0.4))
                middle = posed["translation"][who, frame]
                axis.set_xlim(*((middle[0] + np.array([-0.17, 0.17])) / middle[2]))
                axis.set_ylim(*((middle[1] + np.array([0.12, -0.22])) / middle[2]))
    return figure


def _first(scene: Scene, device: str | None = None) -> Scene:
    return Scene(**{name: value[:1].to(device or value.device) for name, value in vars(scene).items()})


def _seen(head: HeadModel, shape: Array, posed: dict[str, Array]) -> tuple[Array, Array]:
    """Triangles that face the camera, far ones first: outlines [N, 3, 2] on the plane at 1 m, greys [N, 3]."""
    points = head.pose(shape, posed["expression"], posed["jaw"], posed["neck"], posed["eyes"])
    turn = rotation_matrix(posed["rotation"]) @ FLIP
    points = (points - head.posed_joints(shape)[0]) @ turn.T + posed["translation"]
    corners = points[head.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    middle = corners.mean(1)
    towards = -(normal * middle).sum(1) / np.linalg.norm(middle, axis=1)
    front = np.flatnonzero(towards > 0)
    front = front[np.argsort(-middle[front, 2])]
    grey = 0.25 + 0.65 * towards[front, None]
    return corners[front][..., :2] / corners[front][..., 2:], np.repeat(np.clip(grey, 0, 1), 3, axis=1)
