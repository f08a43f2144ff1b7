"""What no network can beat on average: the behaviour that made the truth, drawn again for the same words and places.

Manners and everything random are new, so that it knows no more of the people than a network is told; it does know the
seats (how bodies are turned and whether somebody will move), which a network sees only through the first frame.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from duologue.fitting.reduce import reduce
from duologue.model.data import Batch
from duologue.model.representation import Scene, encode, scene_of
from duologue.schemas.heads import HeadTrack
from duologue.schemas.row import Pair
from duologue.synthesis.parameters import OUTLINE, Conversation, behave_again, make_conversation
from torch import Tensor

from .data import MODEL


@lru_cache(maxsize=2)
def _talks(seed: int, index: int, draws: int) -> tuple[Conversation, ...]:
    outline = reduce(MODEL, OUTLINE)
    talk = make_conversation(MODEL, outline, seed, index)
    return tuple(behave_again(MODEL, outline, talk, seed, draw) for draw in range(draws))


def redrawn(pair: Pair, batch: Batch, scene: Scene, draws: int) -> Tensor:
    """[draws, 2, W, D] raw numbers of other behaviours in the place of a synthetic pair's, each where it stands itself.

    Args:
        batch: of this pair alone, its whole clip. scene: its own; rotations are relative to this one's.
    """
    _, seed, index, first = pair.person_a.split("-")
    order = (int(first), 1 - int(first))
    start = round(pair.source.start_s * pair.fitted.fps)
    part = slice(start, start + len(pair.fitted.times))
    names = {field.name for field in fields(HeadTrack)}
    out = []
    for talk in _talks(int(seed), int(index), draws):
        arrays: dict[str, Any] = {}
        for name in vars(batch):
            if name in names and name not in ("shape", "valid"):
                both = np.stack([getattr(talk.heads[who], name)[part] for who in order])
                arrays[name] = torch.from_numpy(both.astype(np.float32))[None]
        other = replace(batch, **arrays)
        out.append(encode(other, replace(scene_of(other), facing=scene.facing)))
    return torch.cat(out)
