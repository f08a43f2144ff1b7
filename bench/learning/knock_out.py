"""What a trained network makes of each thing it is given: the same samples, from the same noise, without it.

Not an ablation (a network trained without it would learn to do without), but paired and of a network trained longer.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from duologue.model.checkpoint import Trained
from duologue.model.given import given
from duologue.model.layers import CrossPersonAttention
from duologue.schemas.dataset import Dataset

from .score import SHOWN, Scores, change, motions, sampled

WITHOUT = ("nothing", "partner", "roles", "sound")


def without(net: Trained, what: str) -> Trained:
    """The network with cross-person attention that takes nothing in, with one role for both, or deaf."""
    model = copy.deepcopy(net.model)
    with torch.no_grad():
        if what == "partner":
            for part in model.modules():
                if isinstance(part, CrossPersonAttention):
                    part.out.weight.zero_()
                    part.out.bias.zero_()  # type: ignore[union-attr]
        if what == "roles":
            model.role.copy_(model.role.mean(0).expand_as(model.role))
    config = net.config
    if what == "sound":  # the branch that guidance leans away from
        config = replace(config, diffusion=replace(config.diffusion, guidance=0.0))
    return replace(net, model=model, config=config)


def knock_outs(data: Path, net: Trained, most: int, split: str = "test") -> dict[str, Any]:
    """By what is left out: each measure of one sample and of eight, and how much worse it is, mean and standard error
    over pairs (average precision, pooled over all frames, has none)."""
    dataset, out = Dataset(data), {}
    pairs = [(batch, scene, dataset.pair(batch.pair_ids[0])) for batch, scene, _ in motions(data, net, split, most)]
    whole: dict[str, list[dict[str, float]]] = {}
    for what in WITHOUT:
        lesser, scores = without(net, what), Scores()
        for batch, scene, pair in pairs:
            scores.labels.append(pair.relation.mutual_gaze)
            raw = net.statistics.restore(sampled(lesser, batch, scene, given(scene, net.statistics)))[
                :, :, : int(batch.frames[0])
            ]
            scores.add_draws("sample", "mean_of_eight", raw, scene, net, pair)
        whole = whole or scores.tables
        row: dict[str, Any] = {}
        for system, means in scores.means().items():
            row[system] = {name: {"mean": value} for name, value in means.items()}
            for name in SHOWN:
                if name not in scores.tables[system][0]:
                    continue
                row[system][name] |= change(scores.tables[system], whole[system], name)
        out[what] = row
    return out
