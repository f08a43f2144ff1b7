"""How the learning benchmark scores: samples of a network and motions without one, against unseen conversations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from duologue.fitting.gaze import ENTER_DEG, LEAVE_DEG, looking_at_partner
from duologue.fitting.rotations import exp_so3
from duologue.model.baselines import NearestNeighbour
from duologue.model.checkpoint import Trained
from duologue.model.data import Batch, LoaderOptions, PairLoader
from duologue.model.dyad_metrics import (
    gaze_directions,
    gaze_error_deg,
    mutual_gaze_ap,
    parameter_errors,
    space_errors,
)
from duologue.model.evaluate_pairs import as_partner
from duologue.model.given import Given, given
from duologue.model.representation import Scene, axes_of, decode, encode, flip, part_slices, scene_of
from duologue.model.sample import sample_motion
from duologue.schemas.dataset import Dataset
from duologue.schemas.heads import HeadTrack
from duologue.schemas.row import Pair
from torch import Tensor

from .data import BLINK, LIPS
from .redraw import redrawn

Heads = tuple[HeadTrack, HeadTrack]
DRAWS = 8
SHOWN = (
    "fd", "pfd", "sid_speaker", "sid_listener", "mse_full", "mse_lip", "mse_eye", "mse_rotation", "mse_translation",
    "rpcc", "gaze_deg", "distance_m", "position_m", "facing_deg", "mutual_gaze_ap", "blinks",
    "speed_m_s",
)  # fmt: skip


def heads_of(raw: Tensor, scene: Scene, net: Trained, pair: Pair) -> Heads:
    """[1, 2, T, D] raw numbers as head tracks, placed at the scene, with the truth's identity."""
    posed = decode(raw, scene)
    inward = exp_so3(posed["rotation"]) @ flip(raw) @ net.statistics.centre_offset
    posed["head_centre"] = posed["translation"] + inward
    out = []
    for index, truth in enumerate((pair.fitted.a, pair.fitted.b)):
        mine: dict[str, Any] = {name: value[0, index].numpy() for name, value in posed.items()}
        gaze = gaze_directions(mine["rotation"], mine["eyes"]).astype(np.float32)
        out.append(replace(truth, **mine, gaze=gaze, gaze_raw=gaze, valid=np.ones(len(gaze), bool)))
    return out[0], out[1]


def widest(shown: Heads) -> np.ndarray:
    """[T] radians: the larger of both people's angles between gaze and partner."""
    a, b = shown
    angles = (
        looking_at_partner(a.gaze, a.head_centre, b.head_centre),
        looking_at_partner(b.gaze, b.head_centre, a.head_centre),
    )
    return np.asarray(np.maximum(*angles))


def both_look(angle: np.ndarray) -> np.ndarray:
    """Mutual gaze, 0..1, of :func:`widest` angles: soft about the middle of the labels' own 12 and 16 degrees."""
    return np.asarray(1 / (1 + np.exp((np.degrees(angle) - (ENTER_DEG + LEAVE_DEG) / 2) / 2)))


def blinks(head: HeadTrack, fps: float) -> float:
    """How often the eyes close, in 10 s."""
    shut = head.expression[:, BLINK] > 0.5
    return float((shut[1:] & ~shut[:-1]).sum() * 10 * fps / len(shut))


def speed(head: HeadTrack, fps: float) -> float:
    """Metres a second that the head centre moves, mean over frames: trembling shows here."""
    return float(np.nanmean(np.linalg.norm(np.diff(head.head_centre, axis=0), axis=1))) * fps


def score(shown: Heads, pair: Pair) -> dict[str, float]:
    """Measures of one pair."""
    true = (pair.fitted.a, pair.fitted.b)
    people = []
    for index, speaking in enumerate((pair.voices.speaking_a, pair.voices.speaking_b)):
        got, wanted, partner = shown[index], true[index], true[1 - index]
        row = parameter_errors(got, wanted, partner, speaking, LIPS)
        row["gaze_deg"] = gaze_error_deg(got, wanted)
        row["blinks"] = blinks(got, pair.fitted.fps)
        row["speed_m_s"] = speed(got, pair.fitted.fps)
        people.append(row)
    means = {name: float(np.nanmean([person[name] for person in people])) for name in people[0]}
    return means | vars(space_errors(shown, true))


def motions(
    data: Path, net: Trained, split: str, most: int = 0, *, audio: bool = True
) -> list[tuple[Batch, Scene, Tensor]]:
    """Whole clips of a split, the first ``most`` in stored (random) order: batch of one, scene, normalised truth."""
    options = LoaderOptions(batch_size=1, split=split, shuffle=False, workers=1, drop_last=False, audio=audio)
    out = []
    for batch in islice(PairLoader(data, options), most or None):
        scene = scene_of(batch)
        out.append((batch, scene, net.statistics.normalise(encode(batch, scene))))
    return out


def library(data: Path, net: Trained) -> NearestNeighbour:
    """Both people of every training clip without gaps."""
    sides = []
    for batch, _, x in motions(data, net, "train", audio=False):
        if batch.valid.float().mean() > 0.9:
            one, two = (torch.where(batch.valid[0, p, :, None], x[0, p], 0.0).numpy() for p in (0, 1))
            sides += [(one, two), (two, one)]
    return NearestNeighbour.of(sides)


def change(now: list[dict[str, float]], before: list[dict[str, float]], measure: str) -> dict[str, float]:
    """Mean and standard error over pairs of a measure's difference; pairs where it is not finite are left out."""
    away = np.array([one[measure] - two[measure] for one, two in zip(now, before, strict=True)])
    away = away[np.isfinite(away)]
    return {
        "change": float(away.mean()) if len(away) else np.nan,
        "se": float(away.std(ddof=1) / len(away) ** 0.5) if len(away) > 1 else 0.0,
    }


@dataclass
class Scores:
    """What was found so far, one entry a pair.

    Attributes:
        tables: by system, measures of each pair. ranks: by system, each pair's [T] scores of mutual gaze.
        labels: each pair's [T] true probability of it.
    """

    tables: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    ranks: dict[str, list[np.ndarray]] = field(default_factory=dict)
    labels: list[np.ndarray] = field(default_factory=list)

    def add(self, name: str, heads: Heads, pair: Pair, rank: np.ndarray | None = None) -> None:
        """One system's motion for a pair; ranked by angle where no other scores are given."""
        self.tables.setdefault(name, []).append(score(heads, pair))
        self.ranks.setdefault(name, []).append(-widest(heads) if rank is None else rank)

    def means(self) -> dict[str, dict[str, float]]:
        """Means over pairs; average precision over all frames."""
        out = {}
        for name, rows in self.tables.items():
            out[name] = {m: float(np.nanmean([row[m] for row in rows])) for m in SHOWN if m in rows[0]}
            out[name]["mutual_gaze_ap"] = mutual_gaze_ap(self.ranks[name], self.labels)
        return out

    def changes(self, name: str, other: str) -> dict[str, dict[str, float]]:
        """By measure: how one system differs from another, mean over pairs and its standard error."""
        return {m: change(self.tables[name], self.tables[other], m) for m in SHOWN if m in self.tables[name][0]}

    def add_draws(self, one: str, eight: str, raw: Tensor, scene: Scene, net: Trained, pair: Pair) -> None:
        """The first of several motions [K, 2, T, D] (raw numbers) for a pair, and the mean of all."""
        each = [heads_of(raw[k : k + 1], scene, net, pair) for k in range(len(raw))]
        looking = np.mean([both_look(widest(heads)) for heads in each], axis=0)
        self.add(one, each[0], pair)
        self.add(eight, heads_of(raw.mean(0, keepdim=True), scene, net, pair), pair, looking)


def sampled(net: Trained, batch: Batch, scene: Scene, known: Given) -> Tensor:
    """[DRAWS, 2, T, D] normalised motions of the network for one pair; ``known`` of that pair alone. Each pair has
    noise of its own, the same for every network: with one noise for all, a table would tell of that draw."""
    options, seed = net.config.diffusion, int(batch.pair_ids[0][:8], 16)
    return sample_motion(
        net.model, net.front(batch.audio).repeat(DRAWS, 1, 1), batch.speaking.repeat(DRAWS, 1, 1),
        scene.layout().repeat(DRAWS, 1, 1), seed=seed, steps=options.steps, guidance=options.guidance,
        slow_noise=options.slow_noise, clip=options.clip, window=net.config.load.window, overlap=50,
        known=known.repeat(DRAWS),
    )[0]  # fmt: skip


def answered(net: Trained, batch: Batch, scene: Scene, x: Tensor) -> Tensor:
    """[DRAWS, 2, T, D] normalised motions: each person generated while the partner's true motion is given."""
    start, both = given(scene, net.statistics), []
    for person in (0, 1):
        seen = torch.tensor([[person == 1, person == 0]])
        both.append(sampled(net, batch, scene, start.seeing(seen, x))[:, person])
    return torch.stack(both, 1)


def add_baselines(
    scores: Scores, near: NearestNeighbour, net: Trained, batch: Batch, scene: Scene, x: Tensor, pair: Pair
) -> None:
    """Motions without a network; ``x`` is the normalised truth [1, 2, W, D], zero where not measured."""
    frames, statistics = int(batch.frames[0]), net.statistics
    known = x[:, :, :frames]
    where = part_slices(statistics.expression)
    zero = torch.zeros_like(known)
    straight = axes_of(torch.zeros(1, 2, 2, 3), scene.facing)
    zero[..., where["eyes"]] = straight.flatten(-2)[:, :, None]
    for name, motion in {
        "zero": zero,
        "mean": statistics.restore(torch.zeros_like(known)),
        "swapped": statistics.restore(known.flip(1)),
    }.items():
        scores.add(name, heads_of(motion, scene, net, pair), pair)
    a, b = pair.fitted.a, pair.fitted.b
    scores.add("copy_partner", (as_partner(a, b), as_partner(b, a)), pair)
    # Like a sample, these begin at the truth's first place and turn and fade into their own.
    start = given(scene, statistics).repeat(DRAWS)
    both = [torch.from_numpy(near.predict(known[0, 1 - p].numpy(), frames, DRAWS)) for p in (0, 1)]
    nearest = statistics.restore(start.lead(torch.stack(both, 1)))
    scores.add_draws("nearest_neighbour", "nearest_eight", nearest, scene, net, pair)
    again = statistics.restore(start.lead(statistics.normalise(redrawn(pair, batch, scene, DRAWS))))[:, :, :frames]
    scores.add_draws("redrawn", "redrawn_eight", again, scene, net, pair)


def evaluate(data: Path, net: Trained, most: int, baselines: bool, split: str = "test") -> Scores:
    """Every system's scores on ``most`` pairs of a split."""
    near = library(data, net) if baselines else None
    scores, dataset = Scores(), Dataset(data)
    for batch, scene, x in motions(data, net, split, most):
        pair = dataset.pair(batch.pair_ids[0])
        scores.labels.append(pair.relation.mutual_gaze)
        frames = int(batch.frames[0])
        raw = net.statistics.restore(sampled(net, batch, scene, given(scene, net.statistics)))[:, :, :frames]
        scores.add_draws("sample", "mean_of_eight", raw, scene, net, pair)
        x = torch.where(batch.valid[..., None], x, 0.0)
        if net.config.diffusion.partner_given and baselines:
            raw = net.statistics.restore(answered(net, batch, scene, x))[:, :, :frames]
            scores.add_draws("answer", "answer_of_eight", raw, scene, net, pair)
        if near is not None:
            add_baselines(scores, near, net, batch, scene, x, pair)
    return scores
